//! The service's own health, for those who ask.

mod phase;

pub use phase::Phase;
