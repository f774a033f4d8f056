//! The older sets: three fields, of one limit.

use std::time::{SystemTime, UNIX_EPOCH};

use buttress_core::Quota;
use http::{HeaderMap, HeaderName};

use super::text;
use crate::field::{digits, whole_seconds};

/// The names of limit, remaining and reset.
type Names = [HeaderName; 3];

pub(super) static DRAFT_06: Names = [
    HeaderName::from_static("ratelimit-limit"),
    HeaderName::from_static("ratelimit-remaining"),
    HeaderName::from_static("ratelimit-reset"),
];

pub(super) static X: Names = [
    HeaderName::from_static("x-ratelimit-limit"),
    HeaderName::from_static("x-ratelimit-remaining"),
    HeaderName::from_static("x-ratelimit-reset"),
];

/// In how many seconds there is more.
pub(super) fn delta(quota: &Quota) -> u64 {
    whole_seconds(quota.reset)
}

/// The date at which there is more, in seconds since 1970.
pub(super) fn epoch(quota: &Quota, now: SystemTime) -> u64 {
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    whole_seconds(now.saturating_add(quota.reset))
}

/// Writes all three, unless those that are there leave as little.
pub(super) fn write(names: &'static Names, quota: &Quota, reset: u64, headers: &mut HeaderMap) {
    let there = headers.get(&names[1]).and_then(|value| digits(value.to_str().ok()?));
    if there.is_some_and(|there| there <= quota.remaining) {
        return;
    }
    let values = text::numbers([quota.limit, quota.remaining, reset]);
    for (name, value) in names.iter().zip(values) {
        headers.insert(name, value);
    }
}
