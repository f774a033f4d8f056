//! What is pure: which limit stands at a moment, and which deadline a call has.

mod limits;

pub(crate) use limits::{Limits, Phase};
