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
use http::{HeaderName, HeaderValue};

use crate::grpc::Code;

pub(crate) const DETAILS: HeaderName = HeaderName::from_static("grpc-status-details-bin");

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
    let mut violated = violated.peekable();
    if wait.is_none() && violated.peek().is_none() {
        return None;
    }
    let mut status = Message(Vec::with_capacity(256));
    status.number(1, code.number().into());
    status.bytes(2, message.as_bytes());
    if let Some(wait) = wait {
        let wait = wait.min(LONGEST);
        status.detail(b"type.googleapis.com/google.rpc.RetryInfo", |info| {
            info.message(1, |delay| {
                delay.number(1, wait.as_secs());
                delay.number(2, wait.subsec_nanos().into());
            });
        });
    }
    if violated.peek().is_some() {
        status.detail(b"type.googleapis.com/google.rpc.QuotaFailure", |failure| {
            for policy in violated {
                failure.message(1, |violation| violation.bytes(2, policy.as_bytes()));
            }
        });
    }
    Some(HeaderValue::try_from(STANDARD_NO_PAD.encode(status.0)).expect("base64 is ASCII"))
}

/// A message, and the messages inside.
struct Message(Vec<u8>);

impl Message {
    /// Writes a number that is not negative. 0 is what an absent one is.
    fn number(&mut self, field: u8, number: u64) {
        if number > 0 {
            self.0.push(field << 3);
            self.varint(number);
        }
    }

    /// Writes a string or bytes.
    fn bytes(&mut self, field: u8, bytes: &[u8]) {
        self.message(field, |message| message.0.extend_from_slice(bytes));
    }

    /// Writes a message inside.
    fn message(&mut self, field: u8, write: impl FnOnce(&mut Self)) {
        self.0.push(field << 3 | 2);
        let start = self.0.len();
        write(self);
        let end = self.0.len();
        self.varint((end - start) as u64);
        // The length goes before what it counts.
        let length = self.0.len() - end;
        self.0[start..].rotate_right(length);
    }

    /// Writes one of the `details` of a status.
    fn detail(&mut self, type_url: &[u8], write: impl FnOnce(&mut Self)) {
        self.message(3, |any| {
            any.bytes(1, type_url);
            any.message(2, write);
        });
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
