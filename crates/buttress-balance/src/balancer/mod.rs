//! The balancer: a service over many.

mod choose;
mod future;
mod handle;
mod layer;
#[cfg(feature = "http")]
mod mark;
mod members;
mod ready;
mod service;
mod settings;
mod shared;
mod snapshot;
mod station;

use choose::Without;

use crate::Policy;

pub use future::BalanceFuture;
pub use handle::{Handle, View};
pub use layer::BalanceLayer;
#[cfg(feature = "http")]
pub use mark::MarkEndpoint;
pub use members::Members;
pub use service::Balancer;
pub use settings::Settings;
pub use station::Flight;

/// An endpoint that was chosen, at which a place is taken for the call.
pub(crate) struct Placed<S, P: Policy, C> {
    flight: Flight<P, C>,
    service: S,
}
