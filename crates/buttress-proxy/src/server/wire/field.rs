use super::Violation;
use super::bytes::{token, trimmed};

/// The name and the value of a field line; the value with the white space around it.
#[inline]
pub(super) fn split(line: &[u8]) -> Result<(&[u8], &[u8]), Violation> {
    let end = token(line);
    match &line[end..] {
        [b':', value @ ..] if end > 0 => Ok((&line[..end], value)),
        [b' ' | b'\t', ..] if end == 0 => Err(Violation::Folding),
        [b' ' | b'\t', rest @ ..] if trimmed(rest).first() == Some(&b':') => Err(Violation::SpaceBeforeColon),
        _ => Err(Violation::FieldName),
    }
}

/// A `Content-Length`: RFC 9110 §8.6 says 1*DIGIT, and readers with signed numbers say that 2⁶³ - 1 is the most.
pub(super) fn length(value: &[u8]) -> Result<u64, Violation> {
    let value = trimmed(value);
    if value.contains(&b',') {
        return Err(Violation::LengthRepeated);
    }
    if value.is_empty() {
        return Err(Violation::LengthInvalid);
    }
    let digits = value.iter().try_fold(0_u64, |length, &byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        length.checked_mul(10)?.checked_add(digit).filter(|&length| i64::try_from(length).is_ok())
    });
    digits.ok_or(Violation::LengthInvalid)
}

/// A `Transfer-Encoding`: `chunked`, once.
///
/// RFC 9112 §6.3: a request whose last coding is not `chunked` is 400, as its end is not known; §6.1: one with a coding
/// that is not understood, which ends in `chunked`, is 501. Twice `chunked` is against §6.1.
pub(super) fn transfer_encoding(value: &[u8]) -> Result<(), Violation> {
    let value = trimmed(value);
    if value.eq_ignore_ascii_case(b"chunked") {
        return Ok(());
    }
    let is_chunked = |coding: &[u8]| trimmed(coding).eq_ignore_ascii_case(b"chunked");
    let mut codings = value.rsplit(|&byte| byte == b',');
    let ends = codings.next().is_some_and(is_chunked);
    let others = codings.all(|coding| !trimmed(coding).is_empty() && !is_chunked(coding));
    Err(if ends && others { Violation::TransferCoding } else { Violation::TransferEncodingInvalid })
}

/// Whether a field may come after the body.
///
/// RFC 9110 §6.5.1 forbids those that a recipient needs before the body: framing, routing, authentication, request
/// modifiers, and what says how the content is to be read.
pub(super) fn may_be_trailer(name: &[u8]) -> bool {
    const FORBIDDEN: [&str; 27] = [
        "authorization",
        "cache-control",
        "connection",
        "content-encoding",
        "content-length",
        "content-location",
        "content-range",
        "content-type",
        "cookie",
        "expect",
        "forwarded",
        "host",
        "if-match",
        "if-modified-since",
        "if-none-match",
        "if-range",
        "if-unmodified-since",
        "keep-alive",
        "max-forwards",
        "pragma",
        "proxy-authorization",
        "proxy-connection",
        "range",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ];
    !FORBIDDEN.iter().any(|forbidden| name.eq_ignore_ascii_case(forbidden.as_bytes()))
}
