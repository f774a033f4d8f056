//! Deadlines that travel with a request from hop to hop.

mod fields;
mod future;
mod layer;
mod service;

pub use future::DeadlineFuture;
pub use layer::DeadlineLayer;
pub use service::Deadline;
