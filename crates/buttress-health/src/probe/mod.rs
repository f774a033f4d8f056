//! What asks an endpoint whether it serves.

mod agent;
mod custom;
mod dial;
#[cfg(feature = "probe-grpc")]
mod grpc;
#[cfg(feature = "probe-http")]
mod http;
mod lookup;
mod tcp;

use std::any::Any;
use std::pin::Pin;
use std::time::Duration;

use buttress_core::{Clock, Endpoint};
use futures_core::Stream;

use crate::{CheckError, ProbeReport};

pub use agent::Agent;
pub use custom::Custom;
pub(crate) use dial::dialing;
#[cfg(feature = "probe-grpc")]
pub use grpc::Grpc;
#[cfg(feature = "probe-http")]
pub use http::Http;
pub use tcp::Tcp;

/// What is kept from one probe of an endpoint to the next: a connection, most often.
pub(crate) type Kept = Option<Box<dyn Any + Send>>;

/// What an endpoint tells by itself, as it changes. It ends when that is to be asked for again.
pub(crate) type Reports = Pin<Box<dyn Stream<Item = ProbeReport> + Send>>;

pub(crate) type Probing = Pin<Box<dyn Future<Output = Probed> + Send>>;

/// What one probe has brought.
pub(crate) struct Probed {
    pub(crate) report: ProbeReport,
    pub(crate) kept: Kept,
    pub(crate) then: Then,
}

/// How it goes on.
pub(crate) enum Then {
    /// By the next probe.
    Again,
    /// Not at all: the endpoint cannot be asked.
    #[cfg_attr(not(feature = "probe-grpc"), expect(dead_code, reason = "gRPC alone says so"))]
    Never,
    /// By what it tells by itself.
    #[cfg_attr(not(feature = "probe-grpc"), expect(dead_code, reason = "gRPC alone tells"))]
    Told(Reports),
}

impl From<ProbeReport> for Probed {
    fn from(report: ProbeReport) -> Self {
        Self { report, kept: None, then: Then::Again }
    }
}

/// When a probe that stays with its endpoint asks whether that is alive.
#[derive(Clone)]
#[cfg_attr(not(feature = "probe-grpc"), expect(dead_code, reason = "gRPC alone stays with it"))]
pub(crate) struct Beat {
    pub(crate) clock: Clock,
    pub(crate) interval: Duration,
    pub(crate) timeout: Duration,
}

/// One kind of probe, as the checker sees it.
pub(crate) trait Probe: Send + Sync {
    /// Asks `endpoint`. Who drops the future ends the probe; the time is for the caller to watch.
    fn probe(&self, endpoint: &Endpoint, kept: Kept, beat: &Beat) -> Probing;
}

/// Kinds that can be configured wrongly say so when the checker is made.
pub(crate) trait Kind: Sized {
    /// Whether it speaks as the endpoint's agent, beside other checks.
    const IS_AGENT: bool = false;

    fn into_probe(self) -> Result<std::sync::Arc<dyn Probe>, CheckError>;
}
