use std::sync::Arc;
use std::time::Duration;

use buttress_core::Clock;

use super::Event;

pub(super) type Observe = Arc<dyn Fn(&Event<'_>) + Send + Sync>;

/// What the builder collects.
#[derive(Clone)]
pub(super) struct Options {
    pub(super) clock: Clock,
    pub(super) observe: Option<Observe>,
    pub(super) head_timeout: Duration,
    pub(super) keep_alive: Duration,
    #[cfg(feature = "tls")]
    pub(super) handshake_timeout: Duration,
    #[cfg(feature = "tls")]
    pub(super) max_handshakes: usize,
    pub(super) body_timeout: Duration,
    pub(super) send_timeout: Duration,
    pub(super) drain: Duration,
    pub(super) max_head: usize,
    pub(super) max_fields: usize,
    pub(super) max_buffer: usize,
    pub(super) normalize_paths: bool,
    pub(super) max_connections: usize,
    pub(super) max_per_client: Option<usize>,
    pub(super) accept_rate: Option<(u32, u32)>,
    #[cfg(feature = "http2")]
    pub(super) http2: super::http2::Http2,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            clock: Clock::default(),
            observe: None,
            head_timeout: Duration::from_secs(10),
            keep_alive: Duration::from_secs(75),
            #[cfg(feature = "tls")]
            handshake_timeout: Duration::from_secs(10),
            #[cfg(feature = "tls")]
            max_handshakes: 1000,
            body_timeout: Duration::from_secs(30),
            send_timeout: Duration::from_secs(30),
            drain: Duration::from_secs(30),
            max_head: 16 * 1024,
            max_fields: 100,
            max_buffer: 64 * 1024,
            normalize_paths: false,
            max_connections: 10_000,
            max_per_client: Some(1000),
            accept_rate: None,
            #[cfg(feature = "http2")]
            http2: super::http2::Http2::default(),
        }
    }
}

impl Options {
    pub(super) fn tell(&self, event: &Event<'_>) {
        if let Some(observe) = &self.observe {
            observe(event);
        }
    }
}
