//! The algorithms: pure, with the time as an argument.

mod backoff;
mod budget;
mod delay;
mod error;
mod quantile;
mod rule;

pub use backoff::{Backoff, Jitter};
pub(crate) use budget::{BUCKETS, BudgetRule};
pub(crate) use delay::{Asked, Pace};
pub use error::SettingError;
pub(crate) use quantile::Latencies;
#[expect(unreachable_pub, reason = "the sealed trait of the ways to repeat passes it on")]
pub use rule::Sent;
pub use rule::Skip;
pub(crate) use rule::{Elsewhere, Failed};
