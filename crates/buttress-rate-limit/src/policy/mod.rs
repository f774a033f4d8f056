//! The algorithms: pure functions of a state, a time and a cost.

mod error;
mod fixed_window;
mod gcra;
mod limit;

use std::time::Duration;

use buttress_core::{Decision, Timestamp};

pub use error::LimitError;
pub use fixed_window::FixedWindow;
pub use gcra::Gcra;
pub use limit::Limit;

/// An algorithm that says whether a call may pass: a pure state machine, one [`State`](Self::State) per key.
///
/// There is no clock, lock or random source inside. `Default::default()` is the state of a key that was never
/// seen. Times may come in any order: a clock that goes back never admits more.
///
/// ```
/// use buttress_core::Timestamp;
/// use buttress_rate_limit::{Limit, Policy};
///
/// let limit = Limit::per_second(1);
/// let (state, decision) = limit.decide(0, Timestamp::ZERO, 1);
/// assert!(decision.admitted());
/// let (_, decision) = limit.decide(state, Timestamp::ZERO, 1);
/// assert!(!decision.admitted());
/// ```
pub trait Policy {
    /// What one key needs remembered. A policy whose state is one `u64` fits [`Memory`](crate::Memory).
    type State: Copy + Default;

    /// Decides on a call of `cost` units, and gives the state that follows.
    ///
    /// A refused call leaves the state as it was. A cost of 0 is always admitted and only looks (a peek).
    fn decide(&self, state: Self::State, now: Timestamp, cost: u32) -> (Self::State, Decision);

    /// Gives `cost` units back that were charged before.
    fn refund(&self, state: Self::State, now: Timestamp, cost: u32) -> Self::State;

    /// How much `state` still holds against its key, in a measure of the policy's own.
    ///
    /// At zero the state cannot be told from that of a key never seen, so it may be forgotten at no loss.
    fn debt(&self, state: Self::State, now: Timestamp) -> u64;

    /// How far the times of the key with this hash are shifted, for policies whose keys do not all start anew
    /// at the same moment. The caller adds it to `now`.
    fn shift(&self, hash: u64) -> Duration {
        let _ = hash;
        Duration::ZERO
    }
}
