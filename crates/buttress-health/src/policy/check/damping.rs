//! What keeps an endpoint that comes and goes from being used each time that it comes.

use std::time::Duration;

use buttress_core::{Timestamp, nanos};

use super::CheckRules;

/// In this time a flip counts for half.
const HALF: Duration = Duration::from_secs(600);
/// More flips than this count as so many: nothing grows any more, and two hours without one forget them all.
const MOST: u32 = 10;
/// The passes that are asked for at most, unless more are configured.
const MOST_PASSES: u32 = 16;
/// The longest time for which passes do not count.
const LONGEST: Duration = Duration::from_secs(300);

/// The flips from healthy to unhealthy, those of the past counting for less.
///
/// The first flip costs nothing. Each further one within ten minutes doubles the passes that are asked for, up to 16, and
/// the time in which they do not suffice: twice the interval, four times, up to five minutes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Damping {
    /// Flips, halved for each [`HALF`] that has passed until `at`.
    flips: u32,
    at: Timestamp,
    /// How many flips before the last one count now.
    before: u32,
    flipped: Timestamp,
}

impl Damping {
    /// Healthy -> Unhealthy.
    pub(super) fn flip(&mut self, now: Timestamp) {
        self.decay(now);
        self.before = self.flips;
        self.flips = (self.flips + 1).min(MOST);
        self.flipped = now;
    }

    fn decay(&mut self, now: Timestamp) {
        if self.flips == 0 || now < self.at {
            // Nothing to halve, or the clock went back: ten minutes begin anew.
            self.at = now;
            return;
        }
        let halvings = (now - self.at).as_nanos() / HALF.as_nanos();
        self.flips = self.flips.checked_shr(u32::try_from(halvings).unwrap_or(u32::MAX)).unwrap_or(0);
        let past =
            Duration::from_nanos(nanos(HALF)).saturating_mul(u32::try_from(halvings).unwrap_or(u32::MAX));
        self.at += past;
    }

    /// How many passes in a row are asked for, where `passes` would be without damping.
    pub(super) fn passes(&self, passes: u32) -> u32 {
        let most = MOST_PASSES.max(passes);
        passes.saturating_mul(1 << self.before.min(MOST)).min(most)
    }

    /// For how long passes do not suffice yet.
    pub(super) fn held_for(&self, rules: &CheckRules, now: Timestamp) -> Duration {
        // A clock that went back ends it: nobody knows how long it was.
        if self.before == 0 || now < self.flipped {
            return Duration::ZERO;
        }
        let hold = rules.interval.saturating_mul(1 << self.before.min(MOST)).min(LONGEST);
        (self.flipped + hold) - now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Timestamp {
        Timestamp::from_nanos(seconds * 1_000_000_000)
    }

    #[test]
    fn each_flip_within_ten_minutes_doubles_the_passes_up_to_sixteen_and_the_hold_up_to_five_minutes() {
        let (mut damping, rules) = (Damping::default(), CheckRules::default());

        let asked: Vec<_> = (0..8)
            .map(|flip| {
                damping.flip(at(60 * flip));
                (damping.passes(2), damping.held_for(&rules, at(60 * flip)).as_secs())
            })
            .collect();

        assert_eq!(asked, [(2, 0), (4, 10), (8, 20), (16, 40), (16, 80), (16, 160), (16, 300), (16, 300)]);
    }

    #[test]
    fn every_ten_minutes_flips_count_for_half() {
        let mut damping = Damping::default();
        for _ in 0..4 {
            damping.flip(at(0));
        }

        damping.flip(at(599));
        assert_eq!(damping.before, 4);
        damping.flip(at(600));
        assert_eq!(damping.before, 2);
        damping.flip(at(1_799));
        assert_eq!(damping.before, 1, "not yet twenty minutes since they were halved");
        damping.flip(at(100_000_000));
        assert_eq!(damping.before, 0);
    }

    #[test]
    fn a_clock_that_goes_back_ends_the_hold_and_halves_nothing() {
        let (mut damping, rules) = (Damping::default(), CheckRules::default());
        damping.flip(at(1_000));
        damping.flip(at(1_000));
        assert_eq!(damping.held_for(&rules, at(1_000)), Duration::from_secs(10));

        assert_eq!(damping.held_for(&rules, at(5)), Duration::ZERO);
        damping.flip(at(5));
        assert_eq!(damping.before, 2);
        assert_eq!(damping.held_for(&rules, Timestamp::MAX), Duration::ZERO);
    }

    #[test]
    fn where_more_passes_are_configured_than_damping_asks_for_they_are_asked_for() {
        let mut damping = Damping::default();
        damping.flip(at(0));
        damping.flip(at(0));

        assert_eq!(damping.passes(20), 20);
    }
}
