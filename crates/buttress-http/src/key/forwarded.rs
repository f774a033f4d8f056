//! Reads `X-Forwarded-For` and `Forwarded` (RFC 7239), from the right.
//!
//! Each proxy adds its entry at the right, so what stands left of the last entry of ours is whatever the client
//! sent. That is why nothing is parsed from the left: an unclosed quote at the left must not swallow an entry
//! of our own proxy.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use http::HeaderMap;
use http::header::{FORWARDED, HeaderName};

/// The field that the proxies write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    Forwarded,
    XForwardedFor,
}

/// One entry: who sent the request to the proxy that wrote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hop {
    Address(IpAddr),
    /// `unknown`, or an obfuscated name.
    Hidden,
    Malformed,
}

/// The longest address with port that is read: 45 characters of IPv6, brackets, a port, and room for a zone.
const LONGEST_NODE: usize = 96;

impl Field {
    /// The entries of all field lines, the nearest to us first.
    pub(super) fn hops(self, headers: &HeaderMap) -> impl Iterator<Item = Hop> {
        let name = match self {
            Self::Forwarded => FORWARDED,
            Self::XForwardedFor => HeaderName::from_static("x-forwarded-for"),
        };
        headers
            .get_all(name)
            .into_iter()
            .rev()
            .flat_map(move |line| Entries { rest: Some(line.as_bytes()), quotes: self == Self::Forwarded })
            .map(<[u8]>::trim_ascii)
            // RFC 9110 section 5.6.1.2: empty list elements do not count.
            .filter(|entry| !entry.is_empty())
            .map(move |entry| match self {
                Self::Forwarded => forwarded_element(entry),
                Self::XForwardedFor => node(entry),
            })
    }
}

/// Splits a field line at its commas, from the right.
struct Entries<'a> {
    rest: Option<&'a [u8]>,
    /// Whether a comma may stand in a quoted string.
    quotes: bool,
}

impl<'a> Iterator for Entries<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let line = self.rest.take()?;
        let mut quoted = false;
        for at in (0..line.len()).rev() {
            match line[at] {
                b'"' if self.quotes && !escaped(&line[..at]) => quoted = !quoted,
                b',' if !quoted => {
                    self.rest = Some(&line[..at]);
                    return Some(&line[at + 1..]);
                }
                _ => {}
            }
        }
        Some(line)
    }
}

/// Whether what follows `before` is escaped: an odd number of backslashes stands before it.
fn escaped(before: &[u8]) -> bool {
    before.iter().rev().take_while(|&&byte| byte == b'\\').count() % 2 == 1
}

/// `for=192.0.2.60;proto=http;by=203.0.113.43`
fn forwarded_element(element: &[u8]) -> Hop {
    let mut hop = None;
    let mut rest = element;
    while !rest.is_empty() {
        let Some((name, value, after)) = pair(rest) else { return Hop::Malformed };
        rest = after;
        if name.eq_ignore_ascii_case(b"for") {
            // A parameter stands at most once in an element.
            if hop.is_some() {
                return Hop::Malformed;
            }
            hop = Some(match value {
                Value::Token(text) => node(text),
                Value::Quoted(text) => quoted_node(text),
            });
        }
    }
    // An element without `for` does not tell who sent the request.
    hop.unwrap_or(Hop::Hidden)
}

enum Value<'a> {
    Token(&'a [u8]),
    /// What stands between the quotes, escapes and all.
    Quoted(&'a [u8]),
}

/// Reads one `name=value` and the semicolon after it. An empty pair reads as an empty name.
fn pair(text: &[u8]) -> Option<(&[u8], Value<'_>, &[u8])> {
    let text = text.trim_ascii_start();
    let end = text.iter().position(|&byte| byte == b'=' || byte == b';').unwrap_or(text.len());
    let (name, rest) = (text[..end].trim_ascii(), &text[end..]);
    let Some(value) = rest.strip_prefix(b"=") else {
        // No `=` before the semicolon: only nothing at all may stand there.
        return name.is_empty().then(|| (name, Value::Token(name), rest.get(1..).unwrap_or_default()));
    };
    if !is_token(name) {
        return None;
    }
    let value = value.trim_ascii_start();
    let (value, after) = match value.strip_prefix(b"\"") {
        Some(quoted) => {
            let end = closing_quote(quoted)?;
            (Value::Quoted(&quoted[..end]), &quoted[end + 1..])
        }
        None => {
            let end = value.iter().position(|&byte| byte == b';').unwrap_or(value.len());
            let token = value[..end].trim_ascii_end();
            // Colons and brackets should have been quoted, but proxies forget it and they are no danger.
            if token.iter().any(|byte| b"\"\\ \t".contains(byte)) {
                return None;
            }
            (Value::Token(token), &value[end..])
        }
    };
    let after = after.trim_ascii_start();
    match after.strip_prefix(b";") {
        Some(after) => Some((name, value, after)),
        None => after.is_empty().then_some((name, value, after)),
    }
}

/// RFC 9110 section 5.6.2.
fn is_token(name: &[u8]) -> bool {
    !name.is_empty()
        && name.iter().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte))
}

fn closing_quote(text: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        match text.get(at)? {
            b'"' => return Some(at),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

/// Takes the escapes out of a quoted node.
fn quoted_node(text: &[u8]) -> Hop {
    let mut plain = [0; LONGEST_NODE];
    let mut length = 0;
    let mut bytes = text.iter();
    while let Some(mut byte) = bytes.next() {
        if *byte == b'\\' {
            let Some(next) = bytes.next() else { return Hop::Malformed };
            byte = next;
        }
        let Some(place) = plain.get_mut(length) else { return Hop::Malformed };
        *place = *byte;
        length += 1;
    }
    node(&plain[..length])
}

/// `192.0.2.43`, `192.0.2.43:47011`, `[2001:db8::17]:47011`, `2001:db8::17`, `unknown`, `_hidden`
fn node(text: &[u8]) -> Hop {
    let Ok(text) = str::from_utf8(text) else { return Hop::Malformed };
    if let Some(rest) = text.strip_prefix('[') {
        return match rest.split_once(']') {
            Some((address, "")) => ipv6(address),
            Some((address, port)) if port.strip_prefix(':').is_some_and(is_port) => ipv6(address),
            _ => Hop::Malformed,
        };
    }
    let (name, port) = match text.split_once(':') {
        // A second colon: IPv6 without brackets, so without a port.
        Some((_, rest)) if rest.contains(':') => return ipv6(text),
        Some((name, port)) => (name, Some(port)),
        None => (text, None),
    };
    if !port.is_none_or(is_port) {
        return Hop::Malformed;
    }
    if name.eq_ignore_ascii_case("unknown") || is_obfuscated(name) {
        return Hop::Hidden;
    }
    name.parse::<Ipv4Addr>().map_or(Hop::Malformed, |address| Hop::Address(address.into()))
}

fn ipv6(text: &str) -> Hop {
    // The zone says something to the machine that wrote it alone.
    let address = text.split_once('%').map_or(text, |(address, _zone)| address);
    address
        .parse::<Ipv6Addr>()
        .map_or(Hop::Malformed, |address| Hop::Address(IpAddr::from(address).to_canonical()))
}

fn is_port(port: &str) -> bool {
    is_obfuscated(port) || (1..=5).contains(&port.len()) && port.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_obfuscated(name: &str) -> bool {
    name.strip_prefix('_').is_some_and(|rest| {
        !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
    })
}
