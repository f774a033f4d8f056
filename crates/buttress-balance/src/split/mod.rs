//! One of several services for each request, by weight and by key.

mod chosen;
mod error;
mod event;
mod handle;
mod service;
mod side;
mod state;

pub use chosen::Chosen;
pub use error::SplitError;
pub use event::SplitEvent;
pub use handle::{SplitCounts, SplitHandle};
pub use service::Split;
#[cfg(feature = "http")]
pub use side::ByHeader;
pub use side::{NoOverride, Override};
