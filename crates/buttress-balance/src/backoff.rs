use std::time::Duration;

/// How long to wait after so many failures in a row: `first`, and twice as long each time, up to `most`.
pub(crate) fn backoff(first: Duration, most: Duration, failures: u32) -> Duration {
    first.saturating_mul(1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX)).min(most)
}
