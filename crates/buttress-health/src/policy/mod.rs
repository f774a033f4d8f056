//! The algorithms: pure, with `now` and randomness as values.

#[cfg(feature = "probe")]
pub(crate) mod check;
pub(crate) mod outlier;
