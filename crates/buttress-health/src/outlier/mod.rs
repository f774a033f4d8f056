//! Ejects the endpoints whose calls fail.

mod core;
mod detection;
mod error;
mod fault;
mod future;
mod guard;
mod handle;
mod host;
mod layer;
mod members;
mod outliers;
mod service;

pub use detection::OutlierDetection;
pub use error::OutlierSettingsError;
#[cfg(feature = "http")]
pub use fault::ByStatus;
pub use fault::{ByResult, FindFault};
pub use future::OutlierFuture;
pub use guard::OutlierCall;
pub use handle::{Ejected, OutlierCounts, OutlierHandle, OutlierView};
pub use layer::OutlierLayer;
pub use members::{SkipReason, UnejectionReason};
pub use outliers::Outliers;
pub use service::Outlier;
