//! Active health checks: when endpoints are probed, what is believed, and what is told.

#![cfg(feature = "probe")]

mod config;
mod detection;
mod list;
mod properties;
mod schedule;
#[cfg(all(feature = "probe-http", feature = "probe-grpc"))]
mod sockets;
mod state;

use std::time::Duration;

use buttress_core::{Endpoint, Endpoints, Health, Timestamp};

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

const fn at(seconds: u64) -> Timestamp {
    Timestamp::from_nanos(seconds * 1_000_000_000)
}

fn endpoints<const N: usize>(names: [&'static str; N]) -> Endpoints {
    Endpoints::new(names.map(Endpoint::new)).expect("the names differ")
}

fn health(endpoints: &Endpoints, name: &str) -> Health {
    endpoints.get(name).expect("it is in the list").condition().health()
}
