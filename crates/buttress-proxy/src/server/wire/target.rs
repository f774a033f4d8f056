use std::net::Ipv6Addr;

use super::bytes::{host, path_and_query};

/// Whether the target has one of the forms of RFC 9112 §3.2 for its method.
pub(super) fn is_target(method: &[u8], target: &[u8]) -> bool {
    match (method, target) {
        (b"CONNECT", _) => is_authority(target, true),
        (_, [b'/', ..]) => is_path_and_query(target),
        (b"OPTIONS", b"*") => true,
        _ => is_absolute(target),
    }
}

fn is_path_and_query(bytes: &[u8]) -> bool {
    path_and_query(bytes) == bytes.len() && std::str::from_utf8(bytes).is_ok()
}

/// Only `http` and `https` are ours to serve; userinfo is not to be taken (RFC 9110 §4.2.4).
fn is_absolute(target: &[u8]) -> bool {
    let after = |scheme: &[u8]| {
        let (head, rest) = target.split_at_checked(scheme.len())?;
        head.eq_ignore_ascii_case(scheme).then_some(rest)
    };
    let Some(rest) = after(b"http://").or_else(|| after(b"https://")) else {
        return false;
    };
    let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    is_authority(authority, false) && is_path_and_query(path)
}

/// Whether this is one host with or without a port. An empty port is a port that is not said (RFC 3986 §3.2.3), but
/// for `CONNECT`, which needs one.
#[inline]
pub(in crate::server) fn is_authority(bytes: &[u8], needs_port: bool) -> bool {
    let end = match bytes {
        [b'[', rest @ ..] => {
            let Some(end) = rest.iter().position(|&byte| byte == b']') else {
                return false;
            };
            let address = std::str::from_utf8(&rest[..end]).ok();
            if address.and_then(|address| address.parse::<Ipv6Addr>().ok()).is_none() {
                return false;
            }
            end + 2
        }
        _ => host(bytes),
    };
    match &bytes[end..] {
        _ if end == 0 => false,
        [] => !needs_port,
        [b':'] => !needs_port,
        [b':', port @ ..] => is_port(port),
        _ => false,
    }
}

fn is_port(digits: &[u8]) -> bool {
    let number = digits.iter().try_fold(0_u16, |port, &byte| {
        let digit = byte.is_ascii_digit().then(|| u16::from(byte - b'0'))?;
        port.checked_mul(10)?.checked_add(digit)
    });
    number.is_some()
}
