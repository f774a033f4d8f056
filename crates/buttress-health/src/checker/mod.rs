//! What probes the endpoints of a list, each in its time, and says what it finds.

mod check;
mod handle;
mod run;
mod running;
mod target;

pub use check::HealthCheck;
pub use handle::{CheckCounts, CheckHandle, CheckView};
pub use run::{CheckGuard, Checker};
