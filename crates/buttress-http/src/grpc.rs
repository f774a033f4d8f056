//! The codes of gRPC, and the head of a reply that is nothing but its head ("trailers-only").

use std::time::Duration;

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use crate::field;

pub(crate) const STATUS: HeaderName = HeaderName::from_static("grpc-status");
pub(crate) const PUSHBACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// What `grpc-message` encodes besides what is not ASCII.
const ENCODED: &AsciiSet = &CONTROLS.add(b'%');

/// A `grpc-status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Code(u8);

impl Code {
    pub(crate) const OK: Self = Self(0);
    pub(crate) const UNKNOWN: Self = Self(2);
    const INVALID_ARGUMENT: Self = Self(3);
    pub(crate) const DEADLINE_EXCEEDED: Self = Self(4);
    const PERMISSION_DENIED: Self = Self(7);
    pub(crate) const RESOURCE_EXHAUSTED: Self = Self(8);
    const UNIMPLEMENTED: Self = Self(12);
    pub(crate) const INTERNAL: Self = Self(13);
    pub(crate) const UNAVAILABLE: Self = Self(14);
    pub(crate) const DATA_LOSS: Self = Self(15);
    const UNAUTHENTICATED: Self = Self(16);

    /// The code of headers or trailers. One that no version of gRPC knows is unknown.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        let value = headers.get(STATUS)?;
        let code = value.to_str().ok().and_then(|text| text.parse().ok()).filter(|code| *code <= 16);
        Some(code.map_or(Self::UNKNOWN, Self))
    }

    pub(crate) const fn number(self) -> u8 {
        self.0
    }

    /// The code that says what an HTTP status says.
    pub(crate) fn of_status(status: StatusCode) -> Self {
        match status {
            StatusCode::BAD_REQUEST => Self::INVALID_ARGUMENT,
            StatusCode::UNAUTHORIZED => Self::UNAUTHENTICATED,
            StatusCode::FORBIDDEN => Self::PERMISSION_DENIED,
            // A path is a method.
            StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED => {
                Self::UNIMPLEMENTED
            }
            StatusCode::REQUEST_TIMEOUT | StatusCode::GATEWAY_TIMEOUT => Self::DEADLINE_EXCEEDED,
            StatusCode::PAYLOAD_TOO_LARGE | StatusCode::TOO_MANY_REQUESTS => Self::RESOURCE_EXHAUSTED,
            StatusCode::INTERNAL_SERVER_ERROR => Self::INTERNAL,
            StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE => Self::UNAVAILABLE,
            _ => Self::UNKNOWN,
        }
    }
}

/// When a client may try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pushback {
    Unknown,
    After(Duration),
    Never,
}

/// Writes the head of a reply without messages.
pub(crate) fn write_reply(code: Code, message: &str, pushback: Pushback, headers: &mut HeaderMap) {
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(STATUS, HeaderValue::from(u16::from(code.0)));
    let message = utf8_percent_encode(message, ENCODED).to_string();
    headers.insert(
        MESSAGE,
        HeaderValue::try_from(message).expect("percent-encoded text is ASCII without controls"),
    );
    match pushback {
        Pushback::Unknown => {}
        Pushback::After(wait) => {
            let millis = wait.as_nanos().div_ceil(1_000_000);
            // Clients read 32 bits.
            let millis = i32::try_from(millis).unwrap_or(i32::MAX);
            headers.insert(PUSHBACK, HeaderValue::from(millis));
        }
        Pushback::Never => {
            headers.insert(PUSHBACK, HeaderValue::from_static("-1"));
        }
    }
}

/// Reads what the server says of another try.
pub(crate) fn pushback(headers: &HeaderMap) -> Pushback {
    match field::grpc_pushback(headers) {
        None => Pushback::Unknown,
        Some(field::Pushback::After(wait)) => Pushback::After(wait),
        Some(field::Pushback::Never | field::Pushback::Malformed) => Pushback::Never,
    }
}
