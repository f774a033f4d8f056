use std::time::Duration;

use buttress_core::{Timestamp, nanos};

use super::SettingError;

/// Billionths in a whole. They count attempts by the ratio, and by the rate: attempts per second times nanoseconds.
const WHOLE: u64 = 1_000_000_000;

/// How many buckets make up a window. Loom sees two, to have few enough interleavings.
pub(crate) const BUCKETS: u64 = if cfg!(buttress_loom) { 2 } else { 20 };

const SUBJECT: &str = "retry budget";

/// What a window of originals pays for, and how time falls into buckets.
///
/// ```text
///                        t − W          start of the open bucket   t
///    ─────┬──────────┬─────┼────┬──────────┬─ … ─┬──────────┬──────┼───
///         │  extra   │     │    │          │     │          │ open │
///    ─────┴──────────┴─────┼────┴──────────┴─ … ─┴──────────┴──────┼───
///         ├──────────────── extra attempts counted ────────────────┤     W and what is open
///                    ├────────── originals counted ────────────────┤     W less what is not open yet
/// ```
///
/// Of the two spans the one holds all of `(t − W, t]` and the other none but it. So whoever keeps the rule over the
/// buckets keeps it over the window itself, to the nanosecond, and gives away at most one bucket's worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BudgetRule {
    /// Extra attempts for each original, in billionths.
    ratio: u64,
    min_per_second: u32,
    /// The length of a bucket in nanoseconds.
    bucket: u64,
}

impl BudgetRule {
    /// Extra attempts for `ratio` of the originals in 10 s.
    pub(crate) fn ratio(ratio: f64) -> Result<Self, SettingError> {
        let billionths = (ratio * WHOLE as f64).round();
        // Not a number is in no range.
        if !(ratio > 0.0 && ratio <= 1.0) {
            return Err(SettingError::new(SUBJECT, "ratio", ratio, "must be above 0 and at most 1"));
        }
        if billionths < 1.0 {
            return Err(SettingError::new(SUBJECT, "ratio", ratio, "must be a billionth at least"));
        }
        Ok(Self { ratio: billionths as u64, min_per_second: 0, bucket: 10 * WHOLE / BUCKETS })
    }

    pub(crate) const fn min_per_second(self, min_per_second: u32) -> Self {
        Self { min_per_second, ..self }
    }

    pub(crate) fn window(self, window: Duration) -> Result<Self, SettingError> {
        if window < Duration::from_secs(1) || window > Duration::from_secs(3600) {
            return Err(SettingError::new(SUBJECT, "window", window, "must be from 1 s to 1 h"));
        }
        Ok(Self { bucket: nanos(window).div_ceil(BUCKETS), ..self })
    }

    /// The window: a whole number of buckets.
    pub(crate) const fn whole_window(&self) -> Duration {
        Duration::from_nanos(self.bucket * BUCKETS)
    }

    /// The bucket that holds `now`. The first is [`BUCKETS`], so that there is a window before it.
    pub(crate) const fn bucket(&self, now: Timestamp) -> u64 {
        now.as_nanos() / self.bucket + BUCKETS
    }

    /// Whether `bucket` is over at `now`, without a division.
    #[inline]
    pub(crate) const fn is_over(&self, bucket: u64, now: Timestamp) -> bool {
        now.as_nanos() >= (bucket - BUCKETS + 1).saturating_mul(self.bucket)
    }

    /// Whether one more than `extras` extra attempts is within what `originals` pay for.
    #[inline]
    pub(crate) const fn allows(&self, originals: u64, extras: u64) -> bool {
        (extras as u128 + 1) * WHOLE as u128 <= self.pays(originals)
    }

    /// How many extra attempts `originals` pay for beyond `extras`.
    pub(crate) fn left(&self, originals: u64, extras: u64) -> u64 {
        let whole = self.pays(originals) / u128::from(WHOLE);
        u64::try_from(whole).unwrap_or(u64::MAX).saturating_sub(extras)
    }

    /// The extra attempts that `originals` and the window's minimum pay for, in billionths.
    #[inline]
    const fn pays(&self, originals: u64) -> u128 {
        self.ratio as u128 * originals as u128 + self.min_per_second as u128 * (self.bucket * BUCKETS) as u128
    }

    pub(crate) fn ratio_as_given(&self) -> f64 {
        self.ratio as f64 / WHOLE as f64
    }

    pub(crate) const fn min_rate(&self) -> u32 {
        self.min_per_second
    }
}
