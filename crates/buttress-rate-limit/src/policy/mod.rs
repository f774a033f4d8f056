//! The algorithms: pure functions of a state, a time and a cost.

mod carry;
mod check;
mod error;
mod fixed_window;
mod gcra;
mod leaky_bucket;
mod ledger;
mod limit;
mod ruling;
mod sliding_log;
mod sliding_strict;
mod sliding_window;
mod state;

use std::time::Duration;

use buttress_core::Timestamp;

pub use carry::CarryOver;
pub use error::LimitError;
pub use fixed_window::FixedWindow;
pub use gcra::Gcra;
pub use leaky_bucket::LeakyBucket;
pub use limit::Limit;
pub use ruling::{Left, Ruling};
pub use sliding_log::{SlidingLog, SlidingLogState};
pub use sliding_strict::{SlidingStrict, SlidingStrictState};
pub use sliding_window::{SlidingWindow, SlidingWindowState};
pub use state::LimitState;

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
/// let mut state = Default::default();
/// assert!(limit.charge(&mut state, Timestamp::ZERO, 1));
/// assert!(!limit.charge(&mut state, Timestamp::ZERO, 1));
/// ```
pub trait Policy {
    /// What one key needs remembered.
    type State: Default;

    /// Takes `cost` units and says `true`; or says `false` and leaves the state as it was.
    ///
    /// A cost of 0 always passes and changes nothing.
    fn charge(&self, state: &mut Self::State, now: Timestamp, cost: u32) -> bool;

    /// Gives back `cost` units that were charged at the time `at`, as far as they were not earned again since.
    ///
    /// Windows and logs know which units those are. A bucket whose state is one word does not: what it gives back is
    /// bounded by what could be left of a charge of that age, and may have been left of a later one instead.
    /// [`Memory`](crate::Memory) tells them apart for calls that are settled.
    ///
    /// For a call that had to wait, `at` is when it was to go: the time of its charge and its [delay](Self::delay).
    fn refund(&self, state: &mut Self::State, at: Timestamp, now: Timestamp, cost: u32);

    /// Takes `cost` units that are spent already, beyond the limit if need be: into debt, which ends at one more
    /// full limit.
    fn force(&self, state: &mut Self::State, now: Timestamp, cost: u32);

    /// How many units are left, and when there are more.
    fn left(&self, state: &Self::State, now: Timestamp) -> Left;

    /// After how long a call of `cost` units passes if nothing else comes in between, rounded up to a nanosecond.
    /// `None` when its cost is above the limit; zero when it passes at once.
    fn retry_after(&self, state: &Self::State, now: Timestamp, cost: u32) -> Option<Duration>;

    /// How long a call that has just been charged `cost` at `now` has to wait before it goes: the shaping policies
    /// admit calls for later. Zero for all others.
    fn delay(&self, state: &Self::State, now: Timestamp, cost: u32) -> Duration {
        let _ = (state, now, cost);
        Duration::ZERO
    }

    /// How much `state` still holds against its key, in a measure of the policy's own.
    ///
    /// At zero the state cannot be told from that of a key never seen, so it may be forgotten at no loss.
    fn debt(&self, state: &Self::State, now: Timestamp) -> u64;

    /// After how long `state` holds nothing any more if nothing comes in between, rounded up to a nanosecond.
    fn clear_after(&self, state: &Self::State, now: Timestamp) -> Duration {
        let all = u32::try_from(self.limit()).unwrap_or(u32::MAX);
        self.retry_after(state, now, all).unwrap_or_default()
    }

    /// The most units that may pass at once.
    fn limit(&self) -> u64;

    /// The time that [`limit`](Self::limit) is counted over.
    fn window(&self) -> Duration;

    /// How far the times of the key with this hash are shifted, for policies whose keys do not all start anew
    /// at the same moment. The caller adds it to `now`.
    fn shift(&self, hash: u64) -> Duration {
        let _ = hash;
        Duration::ZERO
    }

    /// Charges a call and reports all there is to know of the outcome.
    fn decide(&self, state: &mut Self::State, now: Timestamp, cost: u32) -> Ruling {
        let admitted = self.charge(state, now, cost);
        let Left { remaining, reset } = self.left(state, now);
        let ruling = Ruling::new(admitted, self.limit(), remaining).with_reset(reset, self.window());
        if admitted { ruling } else { ruling.with_retry_after(self.retry_after(state, now, cost)) }
    }
}
