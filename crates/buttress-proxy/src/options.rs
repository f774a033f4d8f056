use std::time::Duration;

use buttress_core::Clock;

use crate::fields::Fields;

#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) clock: Clock,
    pub(crate) connect_timeout: Duration,
    pub(crate) idle_timeout: Duration,
    pub(crate) max_idle: usize,
    pub(crate) max_connections: usize,
    pub(crate) max_buffer: usize,
    pub(crate) receive_buffer: Option<u32>,
    pub(crate) fields: Fields,
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
            fields: Fields::default(),
        }
    }
}
