use buttress_core::Name;

use crate::Chosen;

/// What a split tells its observer, outside every lock.
///
/// ```
/// use buttress_balance::{Split, SplitEvent};
///
/// # let (stable, canary) = ((), ());
/// let split = Split::new([(95, stable), (5, canary)]).named("checkout").observe(|event| {
///     if let SplitEvent::Weights { policy, from, to, .. } = event {
///         eprintln!("{policy}: {from:?} -> {to:?}");
///     }
/// });
/// # let _ = split;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SplitEvent<'a> {
    /// A request goes to a side.
    #[non_exhaustive]
    Chose {
        /// The split's name.
        policy: &'a Name,
        /// The side, counted from 0 in the order in which they were given.
        side: usize,
        /// What chose it.
        by: Chosen,
    },
    /// The override said a side that there is not; the request is treated as if it had said nothing.
    #[non_exhaustive]
    NoSuchSide {
        /// The split's name.
        policy: &'a Name,
        /// The side that it said.
        side: usize,
    },
    /// The weights were changed.
    #[non_exhaustive]
    Weights {
        /// The split's name.
        policy: &'a Name,
        /// The weights before.
        from: &'a [u32],
        /// The weights now.
        to: &'a [u32],
    },
}
