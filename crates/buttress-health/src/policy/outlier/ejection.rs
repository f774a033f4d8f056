use std::time::Duration;

use buttress_core::{Timestamp, nanos};

use super::Rules;

/// How many of `hosts` may be ejected at a time: this share of them, and one in any case.
///
/// Envoy took the share before the ejection, which let two of three go at 50 %, and then the share after it, which let
/// none of nine go at 10 %.
pub(crate) fn max_ejected(hosts: usize, percent: u32) -> usize {
    let share = hosts as u128 * u128::from(percent) / 100;
    usize::try_from(share).unwrap_or(usize::MAX).max(1)
}

/// How often an endpoint was ejected in a row, which makes its ejections longer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Term {
    multiplier: u32,
}

impl Term {
    /// It is ejected once more. Returns the moment at which that ends: `random` spreads it over the jitter.
    ///
    /// The multiplier grows no further than to the longest time, so that it takes no more good intervals than that to
    /// come down again.
    pub(crate) fn eject(&mut self, rules: &Rules, now: Timestamp, random: u64) -> Timestamp {
        let (base, longest) = (rules.base_ejection_time, rules.longest());
        if nanos(base.saturating_mul(self.multiplier)) < nanos(longest) {
            self.multiplier = self.multiplier.saturating_add(1);
        }
        let time = base.saturating_mul(self.multiplier).min(longest);
        now + time + below(rules.max_ejection_time_jitter, random)
    }

    /// It was not ejected for so many whole intervals.
    pub(crate) fn forgive(&mut self, intervals: u32) {
        self.multiplier = self.multiplier.saturating_sub(intervals);
    }

    pub(crate) const fn multiplier(self) -> u32 {
        self.multiplier
    }
}

/// A time by chance, from none to all of `most`.
fn below(most: Duration, random: u64) -> Duration {
    let share = (u128::from(random) * (u128::from(nanos(most)) + 1)) >> 64;
    Duration::from_nanos(u64::try_from(share).unwrap_or(u64::MAX))
}

/// Whether what happens in `percent` of all cases happens in this one.
pub(crate) fn chance(percent: u32, random: u64) -> bool {
    (u128::from(random) * 100) >> 64 < u128::from(percent)
}

#[cfg(test)]
mod tests {
    use buttress_core::Chance;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_share_of_the_endpoints_may_go_and_one_in_any_case() {
        let tenth = [1, 2, 3, 9, 10, 19, 20, 100].map(|hosts| max_ejected(hosts, 10));
        assert_eq!(tenth, [1, 1, 1, 1, 1, 1, 2, 10]);
        assert_eq!(max_ejected(3, 50), 1, "not two of three");
        assert_eq!(max_ejected(usize::MAX, 100), usize::MAX);
    }

    #[test]
    fn each_ejection_is_longer_up_to_the_longest_and_each_good_interval_takes_one_back() {
        let rules = Rules { max_ejection_time_jitter: Duration::ZERO, ..Rules::default() };
        let mut term = Term::default();
        let eject = |term: &mut Term| term.eject(&rules, Timestamp::ZERO, u64::MAX).since(Timestamp::ZERO);

        let times: Vec<_> = (0..12).map(|_| eject(&mut term).as_secs()).collect();
        assert_eq!(times, [30, 60, 90, 120, 150, 180, 210, 240, 270, 300, 300, 300]);
        assert_eq!(term.multiplier(), 10);

        term.forgive(1);
        term.forgive(1);
        assert_eq!(eject(&mut term).as_secs(), 270);
    }

    #[test]
    fn the_end_is_spread_over_the_jitter_and_no_further() {
        let rules = Rules { max_ejection_time_jitter: 3 * SECOND, ..Rules::default() };
        let end = |random| Term::default().eject(&rules, Timestamp::ZERO, random).since(Timestamp::ZERO);

        assert_eq!(end(0), 30 * SECOND);
        assert_eq!(end(u64::MAX / 2), Duration::from_millis(31_500));
        assert_eq!(end(u64::MAX), 33 * SECOND);
    }

    #[test]
    fn times_without_end_do_not_wrap() {
        let rules = Rules {
            base_ejection_time: Duration::MAX,
            max_ejection_time_jitter: Duration::MAX,
            ..Rules::default()
        };
        let mut term = Term::default();

        for _ in 0..3 {
            assert_eq!(term.eject(&rules, Timestamp::from_nanos(7), u64::MAX), Timestamp::MAX);
        }
        assert_eq!(term.multiplier(), 1);
    }

    #[test]
    fn what_is_never_enforced_never_happens_and_what_always_is_always_does() {
        for number in [0, 1, u64::MAX / 2, u64::MAX] {
            assert!(!chance(0, number));
            assert!(chance(100, number));
        }
        let numbers = Chance::new(Some(1));
        let happened = (0..10_000).filter(|_| chance(30, numbers.draw())).count();
        assert!((2_800..3_200).contains(&happened), "{happened} of 10000 at 30 percent");
    }
}
