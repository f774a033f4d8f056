//! The two header fields a deadline travels in: `grpc-timeout`, and one with a number of milliseconds.

use std::time::Duration;

use buttress_http::field;
use http::header::{HeaderMap, HeaderName, HeaderValue};

const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// The fields of a layer.
#[derive(Clone, Debug)]
pub(super) struct Fields {
    /// The one with milliseconds.
    pub(super) millis: HeaderName,
}

impl Fields {
    /// Envoy's name, which the proxies and meshes built on it send and understand.
    pub(super) const DEFAULT: Self =
        Self { millis: HeaderName::from_static("x-envoy-expected-rq-timeout-ms") };

    pub(super) fn are_in(&self, headers: &HeaderMap) -> bool {
        headers.contains_key(GRPC_TIMEOUT) || headers.contains_key(&self.millis)
    }

    /// The shortest time that the fields ask for. Each malformed one is reported and left out.
    pub(super) fn read(
        &self,
        headers: &HeaderMap,
        mut malformed: impl FnMut(&HeaderName),
    ) -> Option<Duration> {
        let mut shortest: Option<Duration> = None;
        let mut take = |name: &HeaderName, read: fn(&HeaderMap, &HeaderName) -> Option<Duration>| {
            if headers.contains_key(name) {
                match read(headers, name) {
                    Some(asked) => shortest = Some(shortest.map_or(asked, |shortest| shortest.min(asked))),
                    None => malformed(name),
                }
            }
        };
        take(&GRPC_TIMEOUT, |headers, _| field::grpc_timeout(headers));
        take(&self.millis, millis);
        shortest
    }

    /// Writes `left` for the next hop: in the field that belongs to the request's kind, and in those that are
    /// there.
    pub(super) fn write(&self, headers: &mut HeaderMap, left: Duration) {
        let grpc = field::is_grpc(headers);
        if grpc || headers.contains_key(GRPC_TIMEOUT) {
            headers.insert(GRPC_TIMEOUT, field::grpc_timeout_value(left));
        }
        if !grpc || headers.contains_key(&self.millis) {
            // Rounded down: no hop lengthens a deadline.
            let millis = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
            headers.insert(self.millis.clone(), HeaderValue::from(millis));
        }
    }

    /// Removes both.
    pub(super) fn remove(&self, headers: &mut HeaderMap) {
        headers.remove(GRPC_TIMEOUT);
        headers.remove(&self.millis);
    }
}

/// Digits alone, of which more than fit are the greatest number.
fn millis(headers: &HeaderMap, name: &HeaderName) -> Option<Duration> {
    let digits = headers.get(name)?.as_bytes().trim_ascii();
    let number = digits.iter().try_fold(0_u64, |number, digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        Some(number.saturating_mul(10).saturating_add(digit))
    })?;
    (!digits.is_empty()).then(|| Duration::from_millis(number))
}
