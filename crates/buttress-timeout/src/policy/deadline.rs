//! When a call has to be over, of all who have a say in it.

use std::time::Duration;

use buttress_core::Timestamp;

/// What a deadline layer itself demands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Terms {
    /// The longest that a call may take; [`Duration::MAX`] is no limit.
    pub(crate) at_most: Duration,
    /// The least that must be left to begin.
    pub(crate) floor: Duration,
    /// What is kept back of the time that is passed on.
    pub(crate) margin: Duration,
}

/// What comes of a call's deadlines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meeting {
    /// Nobody set one.
    Endless,
    /// There is time: until `deadline` here, and for `onward` further down.
    Begin { deadline: Timestamp, onward: Duration },
    /// There is too little time: only `left` further down.
    TooLate { left: Duration },
}

impl Terms {
    /// The defaults: no limit of its own; a floor of one millisecond, which is as fine as timers and fields
    /// are.
    pub(crate) const DEFAULT: Self =
        Self { at_most: Duration::MAX, floor: Duration::from_millis(1), margin: Duration::ZERO };

    /// Whether they set no deadline of their own.
    pub(crate) fn is_endless(&self) -> bool {
        self.at_most == Duration::MAX
    }

    /// Whether any call could ever pass.
    pub(crate) fn can_be_met(&self) -> bool {
        let onward = self.at_most.saturating_sub(self.margin);
        !onward.is_zero() && onward >= self.floor
    }

    /// Takes the earliest of what the caller `asked` for, what is `known` of the call, and the layer's own
    /// limit.
    pub(crate) fn meet(&self, now: Timestamp, asked: Option<Duration>, known: Option<Timestamp>) -> Meeting {
        let asked = now + asked.unwrap_or(Duration::MAX).min(self.at_most);
        let deadline = known.map_or(asked, |known| known.min(asked));
        if deadline == Timestamp::MAX {
            return Meeting::Endless;
        }
        let onward = (deadline - now).saturating_sub(self.margin);
        if onward.is_zero() || onward < self.floor {
            Meeting::TooLate { left: onward }
        } else {
            Meeting::Begin { deadline, onward }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn nothing_asked_and_nothing_known_is_endless() {
        assert_eq!(Terms::DEFAULT.meet(Timestamp::ZERO, None, None), Meeting::Endless);
        assert_eq!(Terms::DEFAULT.meet(Timestamp::ZERO, Some(Duration::MAX), None), Meeting::Endless);
    }

    #[test]
    fn what_is_left_after_the_margin_must_reach_the_floor() {
        let terms = Terms { floor: SECOND, margin: SECOND, ..Terms::DEFAULT };
        let now = Timestamp::from_nanos(9);

        let meeting = terms.meet(now, Some(2 * SECOND), None);
        assert_eq!(meeting, Meeting::Begin { deadline: now + 2 * SECOND, onward: SECOND });
        let meeting = terms.meet(now, Some(2 * SECOND - Duration::from_nanos(1)), None);
        assert_eq!(meeting, Meeting::TooLate { left: SECOND - Duration::from_nanos(1) });
    }

    #[test]
    fn with_no_floor_a_call_still_needs_time() {
        let terms = Terms { floor: Duration::ZERO, ..Terms::DEFAULT };

        assert_eq!(
            terms.meet(Timestamp::ZERO, Some(Duration::ZERO), None),
            Meeting::TooLate { left: Duration::ZERO }
        );
    }

    #[test]
    fn terms_that_no_call_meets_are_known_beforehand() {
        assert!(Terms::DEFAULT.can_be_met());
        assert!(!Terms { at_most: SECOND, floor: 2 * SECOND, ..Terms::DEFAULT }.can_be_met());
        assert!(!Terms { at_most: SECOND, margin: SECOND, ..Terms::DEFAULT }.can_be_met());
    }

    fn durations() -> impl Strategy<Value = Duration> {
        prop_oneof![Just(Duration::ZERO), Just(Duration::MAX), any::<u64>().prop_map(Duration::from_nanos)]
    }

    proptest! {
        #[test]
        fn the_deadline_is_the_earliest_of_all(
            now: u64,
            at_most in durations(),
            floor in durations(),
            margin in durations(),
            asked in proptest::option::of(durations()),
            known in proptest::option::of(any::<u64>()),
        ) {
            let now = Timestamp::from_nanos(now);
            let known = known.map(Timestamp::from_nanos);
            let terms = Terms { at_most, floor, margin };
            let asked_for = asked.map_or(Timestamp::MAX, |asked| now + asked);
            let earliest = (now + at_most).min(asked_for).min(known.unwrap_or(Timestamp::MAX));

            match terms.meet(now, asked, known) {
                Meeting::Endless => prop_assert_eq!(earliest, Timestamp::MAX),
                Meeting::Begin { deadline, onward } => {
                    prop_assert_eq!(deadline, earliest);
                    prop_assert_eq!(now + onward + margin, deadline);
                    prop_assert!(onward >= floor && !onward.is_zero());
                }
                Meeting::TooLate { left } => {
                    prop_assert!(left < floor || left.is_zero());
                    prop_assert_eq!(left, (earliest - now).saturating_sub(margin));
                }
            }
        }
    }
}
