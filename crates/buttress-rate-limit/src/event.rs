use std::time::Duration;

use buttress_core::{Decided, Name};

use crate::MissingKey;

/// What a rate limit tells its observer.
///
/// Each call is told once as what became of it, and may add a word on what came after: that it waited, or was settled.
///
/// It is given to the closure of [`RateLimitLayer::observe`](crate::RateLimitLayer::observe), outside every lock.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum RateLimitEvent<'a> {
    /// The call passes: at once, or after the [`delay`](Decided::delay) that the decision says.
    #[non_exhaustive]
    Allowed {
        /// The layer's name.
        policy: &'a Name,
        /// What the call was charged.
        cost: u32,
        /// The decision.
        decision: &'a dyn Decided,
    },
    /// The call is refused.
    #[non_exhaustive]
    Refused {
        /// The name of the limit that binds; the first, where the key found no place
        /// ([`WhenFull::Refuse`](crate::WhenFull::Refuse)).
        policy: &'a Name,
        /// What the call would have cost.
        cost: u32,
        /// Which limits refuse, and when the call may come again.
        decision: &'a dyn Decided,
    },
    /// The call has waited for its turn and goes on.
    #[non_exhaustive]
    Waited {
        /// The layer's name.
        policy: &'a Name,
        /// For how long: less than the decision said, if others gave up meanwhile.
        waited: Duration,
    },
    /// The charge of a call was corrected after its answer.
    #[non_exhaustive]
    Settled {
        /// The layer's name.
        policy: &'a Name,
        /// What it was charged before.
        held: u32,
        /// What it is charged now.
        actual: u32,
    },
    /// Keys had to make way for others although something was held against them. It is told before the call that
    /// shows it, which need not be the one that evicted them.
    #[non_exhaustive]
    Evicted {
        /// The layer's name.
        policy: &'a Name,
        /// How many they are.
        keys: u64,
    },
    /// A limit that only watches would have refused the call, which goes on.
    #[non_exhaustive]
    Shadow {
        /// The name of that limit, the first of them where there are several.
        policy: &'a Name,
        /// What the call costs.
        cost: u32,
        /// Which limits would have refused, and when the call would have passed.
        decision: &'a dyn Decided,
    },
    /// The call is on the allow list and passes uncounted.
    #[non_exhaustive]
    Allowlisted {
        /// The layer's name.
        policy: &'a Name,
    },
    /// The call is on the deny list and refused.
    #[non_exhaustive]
    Denied {
        /// The layer's name.
        policy: &'a Name,
    },
    /// The request has no key, and was allowed or refused for that. Under [`MissingKey::Shared`] the call is
    /// charged, and reported, like any other.
    #[non_exhaustive]
    Unkeyed {
        /// The layer's name.
        policy: &'a Name,
        /// What is done with such calls.
        rule: MissingKey,
    },
    /// The closure named a plan that is not there; the call is held to the first one, which is told next.
    #[non_exhaustive]
    UnknownPlan {
        /// The layer's name.
        policy: &'a Name,
    },
}
