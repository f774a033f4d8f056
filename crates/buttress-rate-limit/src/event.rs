use buttress_core::{Decided, Name};

use crate::MissingKey;

/// What a rate limit tells its observer, once per call.
///
/// It is given to the closure of [`RateLimitLayer::observe`](crate::RateLimitLayer::observe), outside every lock.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum RateLimitEvent<'a> {
    /// The call passes.
    #[non_exhaustive]
    Allowed {
        /// The limit's name.
        policy: &'a Name,
        /// What the call was charged.
        cost: u32,
        /// The decision.
        decision: &'a dyn Decided,
    },
    /// The call is refused.
    #[non_exhaustive]
    Refused {
        /// The limit's name.
        policy: &'a Name,
        /// What the call would have cost.
        cost: u32,
        /// Which limit refuses, and when the call may come again.
        decision: &'a dyn Decided,
    },
    /// The request has no key, and was allowed or refused for that. Under [`MissingKey::Shared`] the call is
    /// charged, and reported, like any other.
    #[non_exhaustive]
    Unkeyed {
        /// The limit's name.
        policy: &'a Name,
        /// What is done with such calls.
        rule: MissingKey,
    },
}
