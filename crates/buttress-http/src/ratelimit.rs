//! `RateLimit` and `RateLimit-Policy`, draft-ietf-httpapi-ratelimit-headers-11.

use std::borrow::Cow;
use std::time::Duration;

use buttress_core::Quota;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use sfv::{Integer, KeyRef, ListSerializer, StringRef};

use crate::field;

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// Adds a line to each of the two fields. Several lines are one list, so layers add up.
pub(crate) fn write(quotas: &[Quota], headers: &mut HeaderMap) {
    if quotas.is_empty() {
        return;
    }
    // One buffer holds both.
    let mut text = String::with_capacity(quotas.iter().map(|quota| 2 * quota.name.len() + 48).sum());
    list(&mut text, quotas, |quota| [("r", clamped(quota.remaining)), ("t", seconds(quota.reset))]);
    let end_of_first = text.len();
    list(&mut text, quotas, |quota| {
        // The draft knows no window of 0.
        [("q", clamped(quota.limit)), ("w", seconds(quota.window).max(Integer::constant(1)))]
    });

    let mut policy = Bytes::from(text);
    let limit = policy.split_to(end_of_first);
    headers.append(RATE_LIMIT, value(limit));
    headers.append(RATE_LIMIT_POLICY, value(policy));
}

/// Writes one member for each quota.
fn list(text: &mut String, quotas: &[Quota], parameters: impl Fn(&Quota) -> [(&'static str, Integer); 2]) {
    let mut list = ListSerializer::with_buffer(text);
    for quota in quotas {
        let policy = printable(&quota.name);
        let policy = StringRef::from_str(&policy).expect("printable ASCII is a string");
        let mut member = list.bare_item(policy);
        for (key, value) in parameters(quota) {
            member = member.parameter(KeyRef::from_str(key).expect("lower-case letters are a key"), value);
        }
    }
}

fn value(text: Bytes) -> HeaderValue {
    HeaderValue::from_maybe_shared(text).expect("a structured field is printable ASCII")
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
