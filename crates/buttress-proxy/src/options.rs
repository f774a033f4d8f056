use std::time::Duration;

use buttress_core::Clock;

use crate::policy::Via;

/// What happens to `X-Forwarded-For`, `X-Forwarded-Proto` and `X-Forwarded-Host`.
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
    /// What the client sent is removed first. For the outermost proxy.
    Replace,
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
    pub(crate) x_forwarded: XForwarded,
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
            x_forwarded: XForwarded::Keep,
            via: Some(Via::new("buttress").expect("the name is a token")),
        }
    }
}
