//! The algorithms: what a breaker counts, when it opens and how it comes back, as pure functions.
//!
//! ```text
//!              rate, slow rate or row reached, or asked to
//!    ┌────────┐ ───────────────────────────────────────► ┌──────┐
//!    │ Closed │                                          │ Open │ ◄──┐
//!    └────────┘ ◄──┐                                     └──────┘    │ too many failed,
//!         ▲        │ probes passed, no ramp                 │        │ or probes overdue:
//!         │        └───────────────────┐  the wait is over, │        │ for longer than
//!    ramp │                            │  and a call comes  ▼        │ before
//!    over │                            └──────────────── ┌──────────┐│
//!         │                                              │ HalfOpen │┤
//!    ┌─────────┐ ◄────────────────────────────────────── └──────────┘│
//!    │ Ramping │         probes passed                               │
//!    └─────────┘ ────────────────────────────────────────────────────┘
//!
//!    by hand, from any state and to any:  MetricsOnly  Disabled  ForcedOpen  Isolated  (and Closed: reset)
//! ```
//!
//! No clock, lock or random source is inside: the time and the numbers drawn are arguments.

mod last;
mod rules;
mod settings;
mod slices;
mod state;
mod wait;
mod word;

pub(crate) use last::{Cell, Header, bits};
pub use rules::Rules;
pub(crate) use rules::{SLICES, Span};
pub use settings::{OnDrop, Ramp, Settings, Window};
pub(crate) use slices::{Latest, Slice};
pub(crate) use state::Marks;
pub use state::{Judged, Mode, Reason, State, Sums, Transition};
pub(crate) use word::{Step, Until, Word};
