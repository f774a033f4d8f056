#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![cfg_attr(
    not(feature = "http"),
    allow(
        rustdoc::broken_intra_doc_links,
        reason = "the pages are of the whole crate, and some of it needs `http`"
    )
)]

mod call;
#[cfg(feature = "probe")]
mod checker;
mod event;
mod future;
mod layer;
mod outlier;
mod policy;
#[cfg(feature = "probe")]
mod probe;
mod serve;
mod service;
mod shutdown;
mod sync;

pub use call::HealthCall;
pub use event::HealthEvent;
pub use future::HealthFuture;
pub use layer::HealthLayer;
pub use outlier::{
    ByResult, Ejected, FindFault, Outlier, OutlierCall, OutlierCounts, OutlierDetection, OutlierFuture,
    OutlierHandle, OutlierLayer, OutlierSettingsError, OutlierView, Outliers, SkipReason, UnejectionReason,
};
pub use policy::outlier::{EjectionReason, Fault};
pub use serve::{
    Dependency, DependencyReport, DependencyState, Phase, Readiness, Report, Status, Traffic, TrafficReport,
};
pub use service::Health;
pub use shutdown::{
    Aborted, Aborting, Connection, ConnectionGuard, Ended, Finished, Shutdown, Stage, Stopping,
};

/// What a health check says of an endpoint: `Health` of core, where that name is the service of [`HealthLayer`].
#[cfg(feature = "probe")]
#[cfg_attr(docsrs, doc(cfg(feature = "probe")))]
pub use buttress_core::Health as EndpointHealth;
#[cfg(feature = "probe")]
#[cfg_attr(docsrs, doc(cfg(feature = "probe")))]
pub use checker::{CheckCounts, CheckGuard, CheckHandle, CheckView, Checker, HealthCheck};
#[cfg(feature = "probe")]
#[cfg_attr(docsrs, doc(cfg(feature = "probe")))]
pub use policy::check::{Admin, Check, CheckError, CheckRules, Failure, Finding, ProbeReport, Recorded};
#[cfg(feature = "probe-grpc")]
#[cfg_attr(docsrs, doc(cfg(feature = "probe-grpc")))]
pub use probe::Grpc;
#[cfg(feature = "probe-http")]
#[cfg_attr(docsrs, doc(cfg(feature = "probe-http")))]
pub use probe::Http;
#[cfg(feature = "probe")]
#[cfg_attr(docsrs, doc(cfg(feature = "probe")))]
pub use probe::{Agent, Custom, Tcp};

#[cfg(feature = "http")]
#[cfg_attr(docsrs, doc(cfg(feature = "http")))]
pub use outlier::ByStatus;
#[cfg(feature = "http")]
#[cfg_attr(docsrs, doc(cfg(feature = "http")))]
pub use serve::{
    HealthEndpoints, HealthEndpointsFuture, HealthEndpointsLayer, HealthPage, WithHealthEndpoints,
    WithHealthEndpointsFuture,
};

#[cfg(feature = "grpc")]
#[cfg_attr(docsrs, doc(cfg(feature = "grpc")))]
pub use serve::{GrpcHealth, GrpcWatch};

#[cfg(feature = "http")]
#[cfg_attr(docsrs, doc(cfg(feature = "http")))]
pub use buttress_http::{classify, reject};
