//! What is pure: which limit stands at a moment, and which deadline a call has.

#[cfg(feature = "http")]
mod deadline;
mod limits;

#[cfg(feature = "http")]
pub(crate) use deadline::{Meeting, Terms};
pub(crate) use limits::{Due, Limits, Phase, Stage};
