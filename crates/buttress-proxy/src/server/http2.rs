//! What one HTTP/2 connection may do.

use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http2::Builder;

use super::options::Options;
use super::streams::Streams;
use super::timer::ClockTimer;

/// How often a client is asked whether it is still there, and how long it has to answer.
const PING: Duration = Duration::from_secs(30);
pub(super) const PONG: Duration = Duration::from_secs(20);

#[derive(Clone)]
pub(super) struct Http2 {
    pub(super) max_streams: u32,
    pub(super) extended_connect: bool,
    pub(super) stream_window: u32,
    pub(super) connection_window: u32,
    /// Per second, and at once.
    pub(super) reset_rate: (u32, u32),
    pub(super) control_rate: (u32, u32),
}

impl Default for Http2 {
    fn default() -> Self {
        Self {
            max_streams: 128,
            extended_connect: false,
            stream_window: 256 * 1024,
            connection_window: 1024 * 1024,
            reset_rate: (33, 1000),
            control_rate: (330, 10_000),
        }
    }
}

pub(super) fn builder(options: &Arc<Options>) -> Builder<Streams> {
    let http2 = &options.http2;
    let mut builder = Builder::new(Streams(Arc::clone(options)));
    builder
        .timer(ClockTimer::new(options.clock.clone()))
        .keep_alive_interval(PING)
        .keep_alive_timeout(PONG)
        .max_concurrent_streams(http2.max_streams)
        .initial_stream_window_size(http2.stream_window)
        .initial_connection_window_size(http2.connection_window)
        .max_header_list_size(options.max_head.try_into().unwrap_or(u32::MAX))
        .max_send_buf_size(options.max_buffer);
    if http2.extended_connect {
        builder.enable_connect_protocol();
    }
    builder
}
