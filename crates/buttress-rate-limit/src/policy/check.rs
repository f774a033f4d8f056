//! What every window asks of its numbers.

use std::time::Duration;

use buttress_core::nanos;

use super::LimitError;

/// The most units that the counts of a window hold.
const MOST: u64 = u32::MAX as u64;

/// A limit whose counts fit 32 bits.
pub(super) fn limit(limit: u64) -> Result<u64, LimitError> {
    if limit == 0 {
        return Err(LimitError::new("limit", limit, "must be at least 1"));
    }
    if limit > MOST {
        return Err(LimitError::new("limit", limit, "must be at most 4294967295"));
    }
    Ok(limit)
}

/// The nanoseconds of a window, far enough from the end of a `u64` that a few of them can be added.
pub(super) fn window(window: Duration) -> Result<u64, LimitError> {
    if window.is_zero() {
        return Err(LimitError::new("window", window, "must be longer than zero"));
    }
    let nanos = nanos(window);
    if Duration::from_nanos(nanos) != window || nanos > 1 << 62 {
        return Err(LimitError::new("window", window, "must be at most 146 years"));
    }
    Ok(nanos)
}

/// How far the grid of the key with this hash is moved, when it repeats every `nanos`.
#[inline]
pub(super) fn spread(hash: u64, nanos: u64) -> Duration {
    Duration::from_nanos(((u128::from(hash) * u128::from(nanos)) >> u64::BITS) as u64)
}

/// From `now` to `then`, which may lie past the end of the clock.
#[inline]
pub(super) fn until(then: u128, now: u64) -> Duration {
    let wait = then.saturating_sub(u128::from(now));
    Duration::from_nanos(u64::try_from(wait).unwrap_or(u64::MAX))
}
