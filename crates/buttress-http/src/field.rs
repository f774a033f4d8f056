//! Header fields that Buttress reads and writes: `Retry-After`, `grpc-timeout`, and what the content type tells.

use std::time::Duration;

use http::header::{CONTENT_TYPE, DATE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Response, StatusCode};

use crate::grpc;

/// Reads how long `Retry-After` asks to wait.
///
/// A date counts from the response's own `Date`, so that the two clocks need not agree; a date without `Date` beside
/// it says nothing, as does anything malformed. A date in the past is no wait. Of several fields the longest wait counts.
///
/// ```
/// use buttress_http::field;
/// use http::{HeaderMap, HeaderValue};
/// use std::time::Duration;
///
/// let mut headers = HeaderMap::new();
/// headers.insert("retry-after", HeaderValue::from_static("3"));
/// assert_eq!(field::retry_after(&headers), Some(Duration::from_secs(3)));
/// ```
#[must_use]
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let wait = |value: &HeaderValue| {
        let value = text(value)?;
        if let Some(seconds) = digits(value) {
            return Some(Duration::from_secs(seconds));
        }
        let date = httpdate::parse_http_date(value).ok()?;
        let now = httpdate::parse_http_date(text(headers.get(DATE)?)?).ok()?;
        Some(date.duration_since(now).unwrap_or_default())
    };
    headers.get_all(RETRY_AFTER).iter().filter_map(wait).max()
}

/// Whether a `Retry-After` is neither a number of seconds nor a date. A date without `Date` beside it is no mistake,
/// although [`retry_after`] makes nothing of it.
#[must_use]
pub fn is_retry_after_malformed(headers: &HeaderMap) -> bool {
    let is_wait = |value: &str| digits(value).is_some() || httpdate::parse_http_date(value).is_ok();
    headers.get_all(RETRY_AFTER).iter().any(|value| !text(value).is_some_and(is_wait))
}

/// What a server says of another try of a gRPC call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Pushback {
    /// Exactly after this time.
    After(Duration),
    /// Not at all.
    Never,
    /// It is not understood, which means not at all as well.
    Malformed,
}

/// Reads `grpc-retry-pushback-ms`, in the head of a reply that is nothing but its head, or in trailers. What is no number
/// of 32 bits asks not to try again, as a negative one does, and as several of them do
/// ([gRFC A6](https://github.com/grpc/proposal/blob/master/A6-client-retries.md#pushback)).
///
/// ```
/// use buttress_http::field::{self, Pushback};
/// use http::{HeaderMap, HeaderValue};
/// use std::time::Duration;
///
/// let mut headers = HeaderMap::new();
/// headers.insert("grpc-retry-pushback-ms", HeaderValue::from_static("1500"));
/// assert_eq!(field::grpc_pushback(&headers), Some(Pushback::After(Duration::from_millis(1500))));
/// ```
#[must_use]
pub fn grpc_pushback(headers: &HeaderMap) -> Option<Pushback> {
    let mut values = headers.get_all(grpc::PUSHBACK).iter();
    let value = values.next()?;
    if values.next().is_some() {
        return Some(Pushback::Malformed);
    }
    let millis = value.to_str().ok().and_then(|text| text.trim().parse::<i32>().ok());
    Some(match millis.map(u64::try_from) {
        Some(Ok(millis)) => Pushback::After(Duration::from_millis(millis)),
        Some(Err(_)) => Pushback::Never,
        None => Pushback::Malformed,
    })
}

/// Marks a response as one that no layer may ask for again, so that retries in several layers do not multiply: a layer
/// below has tried as often as it may.
///
/// It stands in the extensions. The classifiers pass it on as [`Outcome::no_retry`](buttress_core::Outcome).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a mark: there is nothing to add to it")]
pub struct NoRetry;

/// Writes a wait for `Retry-After`: whole seconds, rounded up, and never 0.
///
/// Rounded down, a client would come back too early and be refused again.
///
/// ```
/// use buttress_http::field;
/// use std::time::Duration;
///
/// assert_eq!(field::retry_after_value(Duration::from_millis(1200)), "2");
/// assert_eq!(field::retry_after_value(Duration::ZERO), "1");
/// ```
#[must_use]
pub fn retry_after_value(wait: Duration) -> HeaderValue {
    const PAIRS: &[u8; 200] = b"\
        0001020304050607080910111213141516171819202122232425262728293031323334353637383940414243444546474849\
        5051525354555657585960616263646566676869707172737475767778798081828384858687888990919293949596979899";
    let seconds = whole_seconds(wait).max(1);
    let pair = usize::try_from(seconds).ok().and_then(|at| PAIRS.as_chunks::<2>().0.get(at));
    // Waits of less than 100 seconds are the usual ones, and allocate nothing.
    match pair.map(|pair| if seconds < 10 { &pair[1..] } else { pair }).map(str::from_utf8) {
        Some(Ok(digits)) => HeaderValue::from_static(digits),
        _ => HeaderValue::from(seconds),
    }
}

/// `duration` in seconds, rounded up.
pub(crate) fn whole_seconds(duration: Duration) -> u64 {
    duration.as_secs().saturating_add(u64::from(duration.subsec_nanos() > 0))
}

const GRPC_TIMEOUT: &str = "grpc-timeout";

/// The units of `grpc-timeout` in nanoseconds, the finest first.
const GRPC_UNITS: [(u8, u64); 6] = [
    (b'n', 1),
    (b'u', 1_000),
    (b'm', 1_000_000),
    (b'S', 1_000_000_000),
    (b'M', 60_000_000_000),
    (b'H', 3_600_000_000_000),
];

/// The greatest number that `grpc-timeout` can carry: eight digits.
const GRPC_MOST: u128 = 99_999_999;

/// Reads `grpc-timeout`: one to eight digits and a unit, as in `1500m`. Anything else says nothing.
///
/// ```
/// use buttress_http::field;
/// use http::{HeaderMap, HeaderValue};
/// use std::time::Duration;
///
/// let mut headers = HeaderMap::new();
/// headers.insert("grpc-timeout", HeaderValue::from_static("1500m"));
/// assert_eq!(field::grpc_timeout(&headers), Some(Duration::from_millis(1500)));
/// ```
#[must_use]
pub fn grpc_timeout(headers: &HeaderMap) -> Option<Duration> {
    let (unit, number) = text(headers.get(GRPC_TIMEOUT)?)?.as_bytes().split_last()?;
    let &(_, nanos) = GRPC_UNITS.iter().find(|(letter, _)| letter == unit)?;
    if number.len() > 8 {
        return None;
    }
    let number = digits(str::from_utf8(number).ok()?)?;
    let (seconds, nanos) = (nanos / 1_000_000_000, nanos % 1_000_000_000);
    Some(Duration::from_secs(number * seconds) + Duration::from_nanos(number * nanos))
}

/// Writes a `grpc-timeout`, in the finest unit that fits into eight digits.
///
/// What does not fit is rounded down, so that no hop lengthens a deadline; but never to 0, which is not allowed.
///
/// ```
/// use buttress_http::field;
/// use std::time::Duration;
///
/// assert_eq!(field::grpc_timeout_value(Duration::from_millis(1500)), "1500000u");
/// ```
#[must_use]
#[expect(clippy::missing_panics_doc, reason = "digits and a letter are always a field value")]
pub fn grpc_timeout_value(timeout: Duration) -> HeaderValue {
    let nanos = timeout.as_nanos().max(1);
    let (number, unit) = GRPC_UNITS
        .iter()
        .map(|&(letter, unit)| (nanos / u128::from(unit), letter))
        .find(|(number, _)| *number <= GRPC_MOST)
        .unwrap_or((GRPC_MOST, b'H'));
    HeaderValue::try_from(format!("{number}{}", char::from(unit))).expect("digits and a letter")
}

/// Whether the content type is gRPC's: `application/grpc`, `application/grpc+proto`, but not `application/grpc-web`.
#[must_use]
pub fn is_grpc(headers: &HeaderMap) -> bool {
    const GRPC: &[u8] = b"application/grpc";
    headers.get(CONTENT_TYPE).is_some_and(|value| {
        let value = value.as_bytes();
        value.get(..GRPC.len()).is_some_and(|start| start.eq_ignore_ascii_case(GRPC))
            && value.get(GRPC.len()).is_none_or(|next| b"+; \t".contains(next))
    })
}

/// Marks a request or a response whose body comes as things happen: server-sent events, a long poll, a feed.
///
/// Insert it into the extensions. What is marked has idle timeouts only, is not cached, is not retried after its first
/// byte, and never counts as slow. See [`is_streaming`] for responses that need no mark.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a mark: there is nothing to add to it")]
pub struct Streaming;

/// Whether a response streams: it is marked [`Streaming`], it is server-sent events or gRPC by its content type, or it
/// switches protocols.
///
/// The head of a gRPC response does not tell a stream from a single message; only one that ends with its head is
/// known to be none.
///
/// ```
/// use buttress_http::field;
///
/// let events = http::Response::builder().header("content-type", "text/event-stream").body(()).unwrap();
/// assert!(field::is_streaming(&events));
/// ```
pub fn is_streaming<B>(response: &Response<B>) -> bool {
    let headers = response.headers();
    response.status() == StatusCode::SWITCHING_PROTOCOLS
        || response.extensions().get::<Streaming>().is_some()
        || is_event_stream(headers)
        || is_grpc(headers) && !headers.contains_key(grpc::STATUS)
}

fn is_event_stream(headers: &HeaderMap) -> bool {
    let essence = |value: &HeaderValue| {
        let essence = value.as_bytes().split(|&byte| byte == b';').next().unwrap_or_default();
        essence.trim_ascii().eq_ignore_ascii_case(b"text/event-stream")
    };
    headers.get(CONTENT_TYPE).is_some_and(essence)
}

fn text(value: &HeaderValue) -> Option<&str> {
    value.to_str().ok().map(str::trim)
}

/// A number of digits alone; one too great for 64 bits is the greatest.
pub(crate) fn digits(text: &str) -> Option<u64> {
    let only_digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    only_digits.then(|| text.parse().unwrap_or(u64::MAX))
}
