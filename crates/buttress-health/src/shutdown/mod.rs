//! The end of a service, in order.

mod connection;
mod futures;
mod order;
mod schedule;
#[cfg(feature = "signal")]
mod signal;

pub use connection::{Connection, ConnectionGuard};
pub use futures::{Aborted, Aborting, Ended, Finished, Stopping};
pub use order::Shutdown;
pub use schedule::Stage;
