//! `grpc-status-details-bin`: what a refusal tells beyond its code, as a `google.rpc.Status`.
//!
//! The few messages that it takes ([`status.proto`], [`error_details.proto`]) are written by hand, in the binary form of
//! protocol buffers:
//!
//! ```text
//! Status       { int32 code = 1; string message = 2; repeated Any details = 3; }
//! Any          { string type_url = 1; bytes value = 2; }
//! RetryInfo    { Duration retry_delay = 1; }
//! Duration     { int64 seconds = 1; int32 nanos = 2; }
//! QuotaFailure { repeated Violation violations = 1; }
//! Violation    { string subject = 1; string description = 2; … }
//! ```
//!
//! [`status.proto`]: https://github.com/googleapis/googleapis/blob/master/google/rpc/status.proto
//! [`error_details.proto`]: https://github.com/googleapis/googleapis/blob/master/google/rpc/error_details.proto

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use http::HeaderValue;

use crate::grpc::Code;

pub(crate) const DETAILS: &str = "grpc-status-details-bin";

/// The longest that a `google.protobuf.Duration` can be: about 10 000 years.
const LONGEST: Duration = Duration::from_secs(315_576_000_000);

/// Tells when to try again, and which policies refused; none where there is nothing to tell.
///
/// A violation's `subject` is whose budget it is: that is never told.
pub(crate) fn details<'a>(
    code: Code,
    message: &str,
    wait: Option<Duration>,
    violated: impl Iterator<Item = &'a str>,
) -> Option<HeaderValue> {
    let mut details = Message::default();
    if let Some(wait) = wait {
        let wait = wait.min(LONGEST);
        let delay = Message::default().number(1, wait.as_secs()).number(2, wait.subsec_nanos().into());
        details = details
            .detail("type.googleapis.com/google.rpc.RetryInfo", &Message::default().bytes(1, &delay.0));
    }
    let violations = violated.fold(Message::default(), |violations, policy| {
        violations.bytes(1, &Message::default().bytes(2, policy.as_bytes()).0)
    });
    if !violations.0.is_empty() {
        details = details.detail("type.googleapis.com/google.rpc.QuotaFailure", &violations);
    }
    if details.0.is_empty() {
        return None;
    }
    let mut status = Message::default().number(1, code.number().into()).bytes(2, message.as_bytes());
    status.0.extend_from_slice(&details.0);
    Some(HeaderValue::try_from(STANDARD_NO_PAD.encode(status.0)).expect("base64 is ASCII"))
}

/// The bytes of a message. Those of two, one after the other, are those of the message with the fields of both.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    /// Adds a number that is not negative. 0 is what an absent one is.
    fn number(mut self, field: u8, number: u64) -> Self {
        if number > 0 {
            self.0.push(field << 3);
            self.varint(number);
        }
        self
    }

    /// Adds a string, bytes or a message.
    fn bytes(mut self, field: u8, bytes: &[u8]) -> Self {
        self.0.push(field << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
        self
    }

    /// Adds to the `details` of a status.
    fn detail(self, type_url: &str, detail: &Self) -> Self {
        self.bytes(3, &Self::default().bytes(1, type_url.as_bytes()).bytes(2, &detail.0).0)
    }

    /// Seven bits a byte, the lowest first; all but the last have the eighth bit.
    fn varint(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.0.push(number as u8);
    }
}
