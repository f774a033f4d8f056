//! Hedges: further attempts of calls that take long, while the first goes on.

mod call;
mod delay;
mod event;
mod future;
mod handle;
mod layer;
mod service;

pub use event::HedgeEvent;
pub use future::HedgeFuture;
pub use handle::{HedgeHandle, HedgeSnapshot};
pub use layer::HedgeLayer;
pub use service::Hedge;
