use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use buttress_core::Clock;
use buttress_http::key::Net;

use crate::policy::Via;

/// What happens to the fields that say on whose behalf a request comes.
///
/// | | `X-Forwarded-For`, `-Proto`, `-Host` | `Forwarded`, `X-Real-IP` |
/// |---|---|---|
/// | [`Keep`](Self::Keep) | sent on | sent on |
/// | [`Append`](Self::Append) | our entry is added at the end | sent on: the proxy in front answers for them |
/// | [`Replace`](Self::Replace) | ours alone | removed |
///
/// An upstream reads one of them: the one that the outermost proxy writes. `Forwarded` is never written here, so
/// behind `Append` its last entry names the client of the proxy in front, not that proxy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum XForwarded {
    /// They are end-to-end fields like any other: what the client sent is sent on. The default, since only the
    /// operator knows whether a trusted proxy stands in front.
    #[default]
    Keep,
    /// The peer's address, scheme and host are appended to what the client sent. For a proxy behind another one;
    /// upstreams read the lists from the right.
    Append,
    /// What the client sent is removed first, `Forwarded` and `X-Real-IP` too. For the outermost proxy.
    Replace,
}

/// Which [`XForwarded`] a request gets.
#[derive(Clone, Debug)]
pub(crate) enum Forwarding {
    Same(XForwarded),
    /// `Append` for a peer in one of these networks, `Replace` for all others.
    Behind(Arc<[Net]>),
}

impl Forwarding {
    pub(crate) fn of(&self, peer: Option<IpAddr>) -> XForwarded {
        match self {
            Self::Same(mode) => *mode,
            Self::Behind(nets) => {
                let trusted = peer.is_some_and(|peer| nets.iter().any(|net| net.contains(peer)));
                if trusted { XForwarded::Append } else { XForwarded::Replace }
            }
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) clock: Clock,
    pub(crate) connect_timeout: Duration,
    pub(crate) idle_timeout: Duration,
    pub(crate) max_idle: usize,
    pub(crate) max_connections: usize,
    pub(crate) max_buffer: usize,
    pub(crate) receive_buffer: Option<u32>,
    pub(crate) preserve_host: bool,
    pub(crate) x_forwarded: Forwarding,
    pub(crate) via: Option<Via>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            clock: Clock::default(),
            connect_timeout: Duration::from_secs(1),
            idle_timeout: Duration::from_secs(4),
            max_idle: 1024,
            max_connections: 10_000,
            max_buffer: 64 * 1024,
            receive_buffer: Some(128 * 1024),
            preserve_host: true,
            x_forwarded: Forwarding::Same(XForwarded::Keep),
            via: Some(Via::new("buttress").expect("the name is a token")),
        }
    }
}
