//! When the next attempt may begin.

use std::time::Duration;

use buttress_core::Timestamp;

use super::Skip;
use super::backoff::between;

/// What the service asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    Nothing,
    /// Not to come back sooner (RFC 9110, section 10.2.3).
    RetryAfter(Duration),
    /// To come back exactly then
    /// ([gRFC A6](https://github.com/grpc/proposal/blob/master/A6-client-retries.md#pushback)).
    Pushback(Duration),
}

/// The longest that a wait which was asked for is drawn out, so that those who were asked together do not come together.
const SPREAD: Duration = Duration::from_secs(1);

/// What there is to say about the next attempt besides what the service asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// The wait by backoff.
    pub(crate) backoff: Duration,
    /// Draws out waits that were asked for; `None` leaves them.
    pub(crate) random: Option<u64>,
    /// The longest wait that may be asked for.
    pub(crate) cap: Duration,
    pub(crate) now: Timestamp,
    pub(crate) deadline: Timestamp,
}

impl Pace {
    /// How long to wait before the next attempt, if there is to be one.
    ///
    /// Whoever would have to wait longer than it may is told now, and does not wait first: the wait that was asked for is
    /// never cut short.
    pub(crate) fn delay(&self, asked: Asked) -> Result<Duration, Skip> {
        let delay = match asked {
            Asked::Nothing => self.backoff,
            Asked::RetryAfter(wait) | Asked::Pushback(wait) if wait > self.cap => {
                return Err(Skip::RetryAfter);
            }
            Asked::RetryAfter(wait) => {
                let spread =
                    self.random.map(|random| between(Duration::ZERO, self.longest_spread(wait), random));
                self.backoff.max(wait.saturating_add(spread.unwrap_or_default()))
            }
            Asked::Pushback(wait) => wait,
        };
        // At the end of time nothing is later than it.
        let fits = self.deadline == Timestamp::MAX || self.now + delay < self.deadline;
        if fits { Ok(delay) } else { Err(Skip::Deadline) }
    }

    /// How far a wait that was asked for may be drawn out: not past the cap, and by no more than half of what it leaves
    /// until the deadline, so that chance does not end a call that has time.
    fn longest_spread(&self, wait: Duration) -> Duration {
        let spread = (wait / 10).min(SPREAD).min(self.cap.saturating_sub(wait));
        if self.deadline == Timestamp::MAX {
            return spread;
        }
        spread.min((self.deadline - self.now).saturating_sub(wait) / 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn pace() -> Pace {
        Pace {
            backoff: s(1),
            random: None,
            cap: s(10),
            now: Timestamp::ZERO + s(100),
            deadline: Timestamp::MAX,
        }
    }

    #[test]
    fn the_longer_of_backoff_and_retry_after_is_waited() {
        assert_eq!(pace().delay(Asked::Nothing), Ok(s(1)));
        assert_eq!(pace().delay(Asked::RetryAfter(s(0))), Ok(s(1)));
        assert_eq!(pace().delay(Asked::RetryAfter(s(3))), Ok(s(3)));
    }

    #[test]
    fn what_was_asked_for_is_drawn_out_by_a_tenth_and_a_second_at_most() {
        let drawn = Pace { random: Some(u64::MAX), cap: s(1000), ..pace() };
        assert_eq!(drawn.delay(Asked::RetryAfter(s(4))), Ok(Duration::from_millis(4400)));
        assert_eq!(drawn.delay(Asked::RetryAfter(s(500))), Ok(s(501)));
        assert_eq!(Pace { random: Some(0), ..drawn }.delay(Asked::RetryAfter(s(4))), Ok(s(4)));
    }

    #[test]
    fn what_was_asked_for_is_drawn_out_neither_past_the_cap_nor_into_what_the_attempt_needs() {
        let drawn = Pace { random: Some(u64::MAX), ..pace() };
        assert_eq!(drawn.delay(Asked::RetryAfter(s(10))), Ok(s(10)), "the cap is 10 s");
        let ms = Duration::from_millis;
        assert_eq!(drawn.delay(Asked::RetryAfter(ms(9500))), Ok(s(10)));
        let short = Pace { deadline: drawn.now + ms(8600), ..drawn };
        assert_eq!(short.delay(Asked::RetryAfter(s(8))), Ok(ms(8300)), "half of what is left");
        assert_eq!(
            Pace { deadline: drawn.now + s(8), ..drawn }.delay(Asked::RetryAfter(s(8))),
            Err(Skip::Deadline)
        );
        let at_the_end = Pace { now: Timestamp::MAX, ..drawn };
        assert_eq!(at_the_end.delay(Asked::RetryAfter(s(4))), Ok(ms(4400)));
    }

    #[test]
    fn a_pushback_is_kept_exactly_even_when_it_is_shorter_than_the_backoff() {
        let drawn = Pace { random: Some(u64::MAX), ..pace() };
        assert_eq!(drawn.delay(Asked::Pushback(s(0))), Ok(s(0)));
        assert_eq!(drawn.delay(Asked::Pushback(s(7))), Ok(s(7)));
    }

    #[test]
    fn a_wait_above_the_cap_is_not_cut_short_but_refused() {
        assert_eq!(pace().delay(Asked::RetryAfter(s(10))), Ok(s(10)));
        assert_eq!(pace().delay(Asked::RetryAfter(s(11))), Err(Skip::RetryAfter));
        assert_eq!(pace().delay(Asked::Pushback(s(11))), Err(Skip::RetryAfter));
        assert_eq!(pace().delay(Asked::RetryAfter(Duration::MAX)), Err(Skip::RetryAfter));
    }

    #[test]
    fn a_wait_up_to_the_deadline_leaves_no_time_to_try() {
        let pace = Pace { deadline: Timestamp::ZERO + s(103), ..pace() };
        assert_eq!(pace.delay(Asked::RetryAfter(s(2))), Ok(s(2)));
        assert_eq!(pace.delay(Asked::RetryAfter(s(3))), Err(Skip::Deadline));
        let late = Pace { deadline: Timestamp::ZERO, backoff: s(0), ..pace };
        assert_eq!(late.delay(Asked::Nothing), Err(Skip::Deadline));
    }

    #[test]
    fn the_end_of_time_is_no_deadline() {
        let pace = Pace { now: Timestamp::MAX, ..pace() };
        assert_eq!(pace.delay(Asked::Nothing), Ok(s(1)));
    }
}
