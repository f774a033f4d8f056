//! The algorithms: pure, with `now` and randomness as values.

pub(crate) mod outlier;
