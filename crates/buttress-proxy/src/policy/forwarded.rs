use std::fmt::Write;
use std::net::IpAddr;

use buttress_http::Scheme;
use http::header::{FORWARDED, HOST, HeaderMap, HeaderName, HeaderValue};

use super::names::Names;
use crate::fields::{ForwardedFields, XForwarded};

const FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

/// On whose behalf a request is sent on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hop<'a> {
    /// A peer that is not known is `unknown`: were it left out, a recipient that trusts this proxy would take the last
    /// entry that the client wrote itself for the peer.
    pub(crate) peer: Option<IpAddr>,
    pub(crate) scheme: Scheme,
    /// The interface that the request came in by, in the words of RFC 7239, quoted where it must be.
    pub(crate) by: Option<&'a str>,
}

/// The fields that say so, each with its mark among those that a request has.
const ALL: [(Names, HeaderName); 5] = [
    (Names::FORWARDED, FORWARDED),
    (Names::X_REAL_IP, REAL_IP),
    (Names::X_FORWARDED_FOR, FOR),
    (Names::X_FORWARDED_PROTO, PROTO),
    (Names::X_FORWARDED_HOST, FORWARDED_HOST),
];

/// Says so. `Host` must still be the one that the client asked for; `names` are those of the fields that came.
pub(crate) fn set_forwarded(
    mode: XForwarded,
    written: ForwardedFields,
    hop: Hop<'_>,
    fields: &mut HeaderMap,
    names: Names,
) {
    if mode == XForwarded::Keep {
        return;
    }
    let mut there = names;
    if mode != XForwarded::Append {
        // They say the same in other words, and an upstream may read them first.
        for (name, field) in ALL {
            if names.any(name) {
                fields.remove(field);
            }
        }
        there = Names::default();
    }
    let host = fields.get(HOST).cloned();
    // One growth of the map in the place of several: three of ours, and `Via`.
    fields.reserve(4);
    if written != ForwardedFields::Forwarded {
        let peer = hop.peer.map_or(HeaderValue::from_static("unknown"), |peer| address(peer.to_canonical()));
        put(fields, there.any(Names::X_FORWARDED_FOR), FOR, peer);
        let scheme = HeaderValue::from_static(hop.scheme.as_str());
        put(fields, there.any(Names::X_FORWARDED_PROTO), PROTO, scheme);
        if let Some(host) = host.clone() {
            put(fields, there.any(Names::X_FORWARDED_HOST), FORWARDED_HOST, host);
        }
    }
    if written != ForwardedFields::XForwarded {
        put(fields, there.any(Names::FORWARDED), FORWARDED, value(element(hop, host.as_ref())));
    }
}

/// What comes is added to what is there. All entries end up on one line: many recipients read the first line alone.
fn put(fields: &mut HeaderMap, is_there: bool, name: HeaderName, value: HeaderValue) {
    let value = if is_there {
        let mut list = Vec::with_capacity(64);
        for line in fields.get_all(&name) {
            list.extend_from_slice(line.as_bytes());
            list.extend_from_slice(b", ");
        }
        list.extend_from_slice(value.as_bytes());
        HeaderValue::from_maybe_shared(bytes::Bytes::from(list)).unwrap_or(value)
    } else {
        value
    };
    fields.insert(name, value);
}

/// An address in its usual form. For IPv4 `fmt` would be most of what a request costs here.
fn address(address: IpAddr) -> HeaderValue {
    let IpAddr::V4(address) = address else { return value(address.to_string()) };
    let (mut text, mut length) = ([0; 15], 0);
    for (place, octet) in address.octets().into_iter().enumerate() {
        let digits = [octet / 100, octet / 10 % 10, octet % 10];
        let zeros = digits.iter().take(2).take_while(|&&digit| digit == 0).count();
        if place > 0 {
            text[length] = b'.';
            length += 1;
        }
        for digit in &digits[zeros..] {
            text[length] = b'0' + digit;
            length += 1;
        }
    }
    HeaderValue::from_bytes(&text[..length]).expect("digits and dots")
}

fn value(text: String) -> HeaderValue {
    HeaderValue::try_from(text).expect("only visible ASCII was written")
}

/// One `forwarded-element` (RFC 7239 §4).
fn element(hop: Hop<'_>, host: Option<&HeaderValue>) -> String {
    let mut text = String::with_capacity(96);
    // To a string nothing fails to be written.
    let _ = match hop.peer.map(|peer| peer.to_canonical()) {
        Some(IpAddr::V4(peer)) => write!(text, "for={peer}"),
        // The brackets and colons are none of a token (§6).
        Some(IpAddr::V6(peer)) => write!(text, "for=\"[{peer}]\""),
        None => write!(text, "for=unknown"),
    };
    if let Some(by) = hop.by {
        text.push_str(";by=");
        text.push_str(by);
    }
    // What is no text cannot be quoted, and is no host.
    if let Some(host) = host.and_then(|host| host.to_str().ok()).filter(|host| !host.is_empty()) {
        text.push_str(";host=");
        quote_into(&mut text, host);
    }
    text.push_str(";proto=");
    text.push_str(hop.scheme.as_str());
    text
}

/// Writes a value as a token where it is one, else as a quoted string (RFC 9110 §5.6.4).
pub(crate) fn quote_into(text: &mut String, value: &str) {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if value.bytes().all(token) {
        text.push_str(value);
        return;
    }
    text.push('"');
    for letter in value.chars() {
        if matches!(letter, '"' | '\\') {
            text.push('\\');
        }
        text.push(letter);
    }
    text.push('"');
}

/// Whether `text` is a node of RFC 7239 §6: an address with or without a port, `unknown`, or a name that begins with
/// `_` and tells nobody else anything.
pub(crate) fn is_node(text: &str) -> bool {
    let obfuscated = |text: &str| {
        text.strip_prefix('_').is_some_and(|rest| {
            !rest.is_empty()
                && rest.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
        })
    };
    let name =
        |text: &str| text == "unknown" || obfuscated(text) || text.parse::<std::net::Ipv4Addr>().is_ok();
    let port = |text: &str| obfuscated(text) || text.parse::<u16>().is_ok();
    if let Some((address, rest)) = text.strip_prefix('[').and_then(|text| text.split_once(']')) {
        return address.parse::<std::net::Ipv6Addr>().is_ok()
            && (rest.is_empty() || rest.strip_prefix(':').is_some_and(port));
    }
    match text.split_once(':') {
        Some((node, after)) => name(node) && port(after),
        None => name(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_written_as_they_display() {
        for text in ["0.0.0.0", "127.0.0.1", "10.20.100.9", "255.255.255.255", "192.0.2.101", "2001:db8::1"] {
            let parsed: IpAddr = text.parse().expect("an address");
            assert_eq!(address(parsed), text);
        }
        for octet in 0..=u8::MAX {
            let one = IpAddr::from([octet, 0, octet, octet]);
            assert_eq!(address(one), one.to_string().as_str());
        }
    }

    #[test]
    fn what_is_no_token_is_quoted_and_quotes_in_it_are_escaped() {
        for (value, written) in [
            ("shop.example", "shop.example"),
            ("_edge", "_edge"),
            ("shop.example:80", r#""shop.example:80""#),
            ("[::1]", r#""[::1]""#),
            (r#"a";for="b\"#, r#""a\";for=\"b\\""#),
        ] {
            let mut text = String::new();
            quote_into(&mut text, value);
            assert_eq!(text, written);
        }
    }

    #[test]
    fn nodes_are_addresses_unknown_and_names_that_begin_with_an_underscore() {
        for node in [
            "192.0.2.1",
            "192.0.2.1:80",
            "[2001:db8::1]",
            "[2001:db8::1]:_p",
            "unknown",
            "_edge-1.a",
            "_a:_b",
        ] {
            assert!(is_node(node), "{node}");
        }
        for other in
            ["", "edge", "_", "_a b", "2001:db8::1", "[2001:db8::1", "192.0.2.1:", "192.0.2.1:99999", "[_a]"]
        {
            assert!(!is_node(other), "{other}");
        }
    }
}
