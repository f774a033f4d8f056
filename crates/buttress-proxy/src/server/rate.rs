use std::time::Duration;

use buttress_core::Timestamp;

/// A token bucket: `per_second` on average, `burst` at once.
///
/// It keeps one moment, that at which the bucket would be full again (the "theoretical arrival time" of GCRA).
#[derive(Clone, Copy, Debug)]
pub(super) struct Rate {
    /// Nanoseconds that one token takes.
    each: u64,
    room: Duration,
    full_at: Timestamp,
}

impl Rate {
    pub(super) fn new(per_second: u32, burst: u32) -> Self {
        let each = 1_000_000_000 / u64::from(per_second.max(1));
        Self {
            each,
            room: Duration::from_nanos(each.saturating_mul(burst.max(1).into())),
            full_at: Timestamp::ZERO,
        }
    }

    /// Takes a token, or says when there is one.
    pub(super) fn take(&mut self, now: Timestamp) -> Result<(), Timestamp> {
        // A clock that was set back leaves no longer wait than an empty bucket does.
        let full_at = self.full_at.max(now).min(now + self.room) + Duration::from_nanos(self.each);
        if full_at > now + self.room {
            return Err(Timestamp::from_nanos(full_at.as_nanos() - self.room.as_nanos() as u64));
        }
        self.full_at = full_at;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_then_one_for_each_interval() {
        let mut rate = Rate::new(10, 3);
        let at = |milliseconds: u64| Timestamp::from_nanos(milliseconds * 1_000_000);

        assert_eq!([0; 3].map(|_| rate.take(at(5000))), [Ok(()); 3]);
        assert_eq!(rate.take(at(5000)), Err(at(5100)));
        assert_eq!(rate.take(at(5099)), Err(at(5100)));
        assert_eq!(rate.take(at(5100)), Ok(()));
        assert_eq!(rate.take(at(5150)), Err(at(5200)));
        assert_eq!([0; 4].map(|_| rate.take(at(9000)).is_ok()), [true, true, true, false]);
    }

    #[test]
    fn a_clock_that_is_set_back_holds_nobody_up_for_longer_than_an_empty_bucket() {
        let mut rate = Rate::new(1, 2);
        rate.take(Timestamp::from_nanos(u64::MAX / 2)).unwrap();

        let now = Timestamp::from_nanos(1);
        assert_eq!(rate.take(now), Err(now + Duration::from_secs(1)));
    }
}
