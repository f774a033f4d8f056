//! The service's own health, for those who ask.

mod dependency;
#[cfg(feature = "http")]
mod endpoints;
#[cfg(feature = "grpc")]
mod grpc;
#[cfg(feature = "http")]
mod page;
#[cfg(feature = "http")]
mod paths;
mod phase;
mod readiness;
mod report;
mod runner;
mod traffic;
mod window;

pub use dependency::Dependency;
#[cfg(feature = "http")]
pub use endpoints::{
    HealthEndpoints, HealthEndpointsFuture, HealthEndpointsLayer, WithHealthEndpoints,
    WithHealthEndpointsFuture,
};
#[cfg(feature = "grpc")]
pub use grpc::{GrpcHealth, GrpcWatch};
#[cfg(feature = "http")]
pub use page::HealthPage;
pub use phase::Phase;
pub(crate) use readiness::Inner;
pub use readiness::Readiness;
pub use report::{DependencyReport, DependencyState, Report, Status, TrafficReport};
pub use traffic::Traffic;
