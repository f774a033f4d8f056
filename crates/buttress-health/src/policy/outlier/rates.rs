use super::Rules;

/// The results of one endpoint in one interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) succeeded: u64,
    /// What is soft among them.
    pub(crate) failed: u64,
}

impl Tally {
    const fn total(self) -> u64 {
        self.succeeded.saturating_add(self.failed)
    }

    fn success_rate(self) -> f64 {
        self.succeeded as f64 / self.total() as f64
    }

    /// Whether fewer than `percent` of its calls succeed.
    fn is_below(self, percent: u32) -> bool {
        u128::from(self.succeeded) * 100 < u128::from(self.total()) * u128::from(percent)
    }

    /// Whether `percent` of its calls fail, or more.
    fn fails_at(self, percent: u32) -> bool {
        u128::from(self.failed) * 100 >= u128::from(self.total()) * u128::from(percent)
    }
}

/// Which of the endpoints succeed far more seldom than the others, worst first: below the mean of all rates by more than
/// so many standard deviations, and below the floor.
///
/// The floor is not Envoy's: where all succeed alike the deviation is next to nothing, and the least bad of good
/// endpoints would be an outlier.
pub(crate) fn below_success_rate(rules: &Rules, tallies: &[(usize, Tally)]) -> Vec<usize> {
    let judged = with_volume(tallies, rules.success_rate.request_volume);
    if judged.is_empty() || judged.len() < rules.success_rate.minimum_hosts as usize {
        return Vec::new();
    }
    let count = judged.len() as f64;
    let mean = judged.iter().map(|(_, tally)| tally.success_rate()).sum::<f64>() / count;
    let variance = judged.iter().map(|(_, tally)| (tally.success_rate() - mean).powi(2)).sum::<f64>() / count;
    let threshold = mean - variance.sqrt() * f64::from(rules.success_rate_stdev_factor) / 1000.0;
    worst_first(judged, |tally| tally.success_rate() < threshold && tally.is_below(rules.success_rate_floor))
}

/// Which of the endpoints fail in too many of their calls, worst first.
pub(crate) fn above_failure_percentage(rules: &Rules, tallies: &[(usize, Tally)]) -> Vec<usize> {
    let judged = with_volume(tallies, rules.failure_percentage.request_volume);
    if judged.len() < rules.failure_percentage.minimum_hosts as usize {
        return Vec::new();
    }
    worst_first(judged, |tally| tally.fails_at(rules.failure_percentage_threshold))
}

fn with_volume(tallies: &[(usize, Tally)], volume: u32) -> Vec<(usize, Tally)> {
    tallies.iter().copied().filter(|(_, tally)| tally.total() >= u64::from(volume.max(1))).collect()
}

fn worst_first(mut judged: Vec<(usize, Tally)>, stands_out: impl Fn(Tally) -> bool) -> Vec<usize> {
    judged.retain(|(_, tally)| stands_out(*tally));
    // The sort is stable: of two alike the first of the list goes.
    judged.sort_by(|(_, one), (_, other)| one.success_rate().total_cmp(&other.success_rate()));
    judged.into_iter().map(|(index, _)| index).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: [usize; 0] = [];

    /// Of a thousand calls each, so many succeed.
    fn tallies(succeeded: &[u64]) -> Vec<(usize, Tally)> {
        let tally = |succeeded| Tally { succeeded, failed: 1000 - succeeded };
        succeeded.iter().map(|&succeeded| tally(succeeded)).enumerate().collect()
    }

    fn outliers(succeeded: &[u64]) -> Vec<usize> {
        below_success_rate(&Rules::default(), &tallies(succeeded))
    }

    #[test]
    fn the_one_that_is_far_below_the_others_stands_out() {
        // Mean 0.98, deviation 0.04: 1.9 of these below it is 0.904.
        assert_eq!(outliers(&[1000, 1000, 1000, 1000, 900]), [4]);
        assert_eq!(outliers(&[1000, 1000, 1000, 900, 900]), NONE, "two of five are no outliers: 0.867");
    }

    #[test]
    fn where_all_fail_alike_none_stands_out() {
        assert_eq!(outliers(&[0; 10]), NONE);
        assert_eq!(outliers(&[500; 10]), NONE);
    }

    #[test]
    fn nobody_above_the_floor_stands_out_however_alike_the_others_are() {
        assert_eq!(outliers(&[1000, 1000, 1000, 1000, 1000, 999]), NONE);
        assert_eq!(outliers(&[1000, 1000, 1000, 1000, 1000, 950]), NONE, "at the floor");
        assert_eq!(outliers(&[1000, 1000, 1000, 1000, 1000, 949]), [5]);

        let as_envoy = Rules { success_rate_floor: 100, ..Rules::default() };
        let alike = tallies(&[1000, 1000, 1000, 1000, 1000, 999]);
        assert_eq!(below_success_rate(&as_envoy, &alike), [5], "without the floor it is ejected");
    }

    #[test]
    fn few_endpoints_and_few_calls_make_no_rate() {
        assert_eq!(outliers(&[1000, 1000, 1000, 0]), NONE, "four endpoints");

        let few = |calls| {
            let mut tallies = tallies(&[1000; 5]);
            tallies.push((5, Tally { succeeded: 0, failed: calls }));
            tallies
        };
        assert_eq!(below_success_rate(&Rules::default(), &few(99)), NONE);
        assert_eq!(below_success_rate(&Rules::default(), &few(100)), [5]);
        assert_eq!(above_failure_percentage(&Rules::default(), &few(49)), NONE);
        assert_eq!(above_failure_percentage(&Rules::default(), &few(50)), [5]);
    }

    #[test]
    fn the_failure_percentage_looks_at_no_other_endpoint_and_the_worst_goes_first() {
        let all_alike = tallies(&[0; 5]);
        assert_eq!(above_failure_percentage(&Rules::default(), &all_alike), [0, 1, 2, 3, 4]);

        let mixed = tallies(&[151, 150, 0, 1000, 100]);
        assert_eq!(above_failure_percentage(&Rules::default(), &mixed), [2, 4, 1], "85 percent is enough");
    }

    #[test]
    fn no_count_is_too_large() {
        let large = vec![(0, Tally { succeeded: u64::MAX, failed: u64::MAX }); 5];
        assert_eq!(below_success_rate(&Rules::default(), &large), NONE);
        assert_eq!(above_failure_percentage(&Rules::default(), &large).len(), 5);
    }
}
