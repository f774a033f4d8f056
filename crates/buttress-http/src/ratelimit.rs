//! `RateLimit` and `RateLimit-Policy`, draft-ietf-httpapi-ratelimit-headers-11.

use std::borrow::Cow;
use std::time::Duration;

use buttress_core::Quota;
use http::{HeaderMap, HeaderName, HeaderValue};
use sfv::{Integer, KeyRef, ListSerializer, StringRef};

use crate::field;

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// Adds a line to each of the two fields. Several lines are one list, so layers add up.
pub(crate) fn write(quotas: &[Quota], headers: &mut HeaderMap) {
    append(headers, RATE_LIMIT, quotas, |quota| {
        [("r", clamped(quota.remaining)), ("t", seconds(quota.reset))]
    });
    append(headers, RATE_LIMIT_POLICY, quotas, |quota| {
        // The draft knows no window of 0.
        [("q", clamped(quota.limit)), ("w", seconds(quota.window).max(Integer::constant(1)))]
    });
}

fn append(
    headers: &mut HeaderMap,
    name: HeaderName,
    quotas: &[Quota],
    parameters: impl Fn(&Quota) -> [(&'static str, Integer); 2],
) {
    let mut list = ListSerializer::new();
    for quota in quotas {
        let policy = printable(&quota.name);
        let policy = StringRef::from_str(&policy).expect("printable ASCII is a string");
        let mut member = list.bare_item(policy);
        for (key, value) in parameters(quota) {
            member = member.parameter(KeyRef::from_str(key).expect("lower-case letters are a key"), value);
        }
    }
    if let Some(list) = list.finish() {
        headers.append(name, HeaderValue::try_from(list).expect("a structured field is ASCII"));
    }
}

/// Structured strings are printable ASCII: what is not becomes `?`.
fn printable(name: &str) -> Cow<'_, str> {
    let fits = |char: char| char.is_ascii_graphic() || char == ' ';
    if name.chars().all(fits) {
        return Cow::Borrowed(name);
    }
    name.chars().map(|char| if fits(char) { char } else { '?' }).collect()
}

fn seconds(duration: Duration) -> Integer {
    clamped(field::whole_seconds(duration))
}

/// The number, or the greatest that structured fields can carry: 15 digits.
fn clamped(number: u64) -> Integer {
    Integer::try_from(number).unwrap_or(Integer::MAX)
}
