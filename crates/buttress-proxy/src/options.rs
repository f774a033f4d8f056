use std::time::Duration;

use buttress_core::{Clock, Timestamp, draw, nanos};

use crate::fields::Fields;
#[cfg(feature = "tls")]
use crate::tls::ClientTls;
use crate::upgrade;

#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) clock: Clock,
    pub(crate) connect_timeout: Duration,
    pub(crate) idle_timeout: Duration,
    pub(crate) max_idle: usize,
    pub(crate) max_connections: usize,
    pub(crate) preconnect: usize,
    pub(crate) max_age: Duration,
    #[cfg(feature = "http2")]
    pub(crate) max_streams: usize,
    #[cfg(feature = "http2")]
    pub(crate) stream_window: u32,
    pub(crate) max_buffer: usize,
    pub(crate) receive_buffer: Option<u32>,
    /// `None` is HTTP/1.1, and over TLS what both sides prefer.
    pub(crate) protocol: Option<Protocol>,
    #[cfg(feature = "tls")]
    pub(crate) tls: Option<ClientTls>,
    pub(crate) fields: Fields,
    pub(crate) upgrade: upgrade::Options,
}

/// Which version of HTTP the upstream is spoken to in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http1,
    #[cfg(feature = "http2")]
    Http2,
    /// What TLS agrees on.
    #[cfg(all(feature = "http2", feature = "tls"))]
    Either,
}

impl Options {
    /// Until when a connection that is opened `now` may be used. Those that were opened together end apart, each within
    /// the last tenth of its time.
    pub(crate) fn until(&self, now: Timestamp) -> Timestamp {
        let tenth = nanos(self.max_age) / 10;
        let earlier = (u128::from(tenth) * u128::from(draw())) >> 64;
        now + self.max_age - Duration::from_nanos(earlier as u64)
    }

    pub(crate) fn protocol(&self) -> Protocol {
        #[cfg(all(feature = "http2", feature = "tls"))]
        if self.protocol.is_none() && self.tls.is_some() {
            return Protocol::Either;
        }
        self.protocol.unwrap_or(Protocol::Http1)
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            clock: Clock::default(),
            connect_timeout: Duration::from_secs(1),
            idle_timeout: Duration::from_secs(4),
            max_idle: 1024,
            max_connections: 10_000,
            preconnect: 0,
            max_age: Duration::from_secs(60 * 60),
            #[cfg(feature = "http2")]
            max_streams: 100,
            #[cfg(feature = "http2")]
            stream_window: 128 * 1024,
            max_buffer: 64 * 1024,
            receive_buffer: Some(128 * 1024),
            protocol: None,
            #[cfg(feature = "tls")]
            tls: None,
            fields: Fields::default(),
            upgrade: upgrade::Options::default(),
        }
    }
}
