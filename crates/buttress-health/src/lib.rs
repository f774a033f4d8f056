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
mod event;
mod future;
mod layer;
mod outlier;
mod policy;
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
