//! The algorithms: pure, with the time as an argument.

mod budget;
mod error;

pub(crate) use budget::{BUCKETS, BudgetRule};
pub use error::SettingError;
