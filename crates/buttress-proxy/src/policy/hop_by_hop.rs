use http::header::{CONNECTION, HeaderMap, HeaderName, HeaderValue};
use http::header::{PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING, UPGRADE};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const PROXY_AUTHENTICATION_INFO: HeaderName = HeaderName::from_static("proxy-authentication-info");

/// The fields that concern one connection only, whether or not `Connection` names them.
const ALWAYS: [HeaderName; 8] = [
    KEEP_ALIVE,
    PROXY_CONNECTION,
    PROXY_AUTHENTICATE,
    PROXY_AUTHENTICATION_INFO,
    PROXY_AUTHORIZATION,
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// What the fields that [`remove_hop_by_hop`] took out had to say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct HopByHop {
    /// `Connection` held `close`: the sender ends the connection after this message.
    pub close: bool,
    /// There was a `Transfer-Encoding`, which is what framed the message.
    pub transfer_encoding: bool,
    /// The `Transfer-Encoding` was something else than one `chunked`: the body is not what it seems without the field.
    pub other_coding: bool,
    /// `TE` held `trailers`: the sender reads trailers.
    pub te_trailers: bool,
}

/// Removes the fields of a message that concern one connection only, and must not be sent on (RFC 9110 §7.6.1).
///
/// These are `Connection` and every field that it names, `Keep-Alive`, `Proxy-Connection`, `Proxy-Authenticate`,
/// `Proxy-Authentication-Info`, `Proxy-Authorization`, `TE`, `Transfer-Encoding` and `Upgrade`. All others stay,
/// each with its values in their order. `Trailer` stays: it announces trailers, which are sent on. `Host` and
/// `Content-Length` stay even where `Connection` names them, since a message without them is another message.
///
/// ```
/// use http::HeaderMap;
///
/// let mut fields = HeaderMap::new();
/// fields.insert("connection", "close, x-secret".parse()?);
/// fields.insert("x-secret", "1".parse()?);
/// fields.insert("accept", "*/*".parse()?);
///
/// assert!(buttress_proxy::remove_hop_by_hop(&mut fields).close);
/// assert_eq!(fields.len(), 1);
/// # Ok::<(), http::header::InvalidHeaderValue>(())
/// ```
pub fn remove_hop_by_hop(fields: &mut HeaderMap) -> HopByHop {
    let mut said = HopByHop::default();
    // One pass over the names, since most messages have one of these fields or none.
    let seen = fields.keys().fold(0, |seen, name| seen | bit(name));
    if seen == 0 {
        return said;
    }
    if seen & bit(&TE) != 0 {
        said.te_trailers = tokens(fields, &TE).any(|token| token.eq_ignore_ascii_case(b"trailers"));
    }
    if seen & bit(&TRANSFER_ENCODING) != 0 {
        said.transfer_encoding = true;
        let mut codings = tokens(fields, &TRANSFER_ENCODING);
        said.other_coding = codings.next().is_none_or(|coding| !coding.eq_ignore_ascii_case(b"chunked"))
            || codings.next().is_some();
    }
    if seen & bit(&CONNECTION) != 0 {
        said.close = remove_named(fields);
    }
    for name in ALWAYS {
        if seen & bit(&name) != 0 {
            fields.remove(name);
        }
    }
    said
}

/// Removes `Connection` and what it names; whether it held `close`.
fn remove_named(fields: &mut HeaderMap) -> bool {
    let mut close = false;
    // More than one line is rare, so the usual message costs no allocation.
    let more: Vec<HeaderValue> = fields.get_all(CONNECTION).iter().skip(1).cloned().collect();
    let first = fields.remove(CONNECTION);
    for value in first.iter().chain(&more) {
        for token in split(value) {
            close |= token.eq_ignore_ascii_case(b"close");
            let essential =
                token.eq_ignore_ascii_case(b"host") || token.eq_ignore_ascii_case(b"content-length");
            if let (false, Ok(name)) = (essential, std::str::from_utf8(token)) {
                fields.remove(name);
            }
        }
    }
    close
}

fn bit(name: &HeaderName) -> u16 {
    match name.as_str() {
        "connection" => 1,
        "keep-alive" => 1 << 1,
        "proxy-connection" => 1 << 2,
        "proxy-authenticate" => 1 << 3,
        "proxy-authentication-info" => 1 << 4,
        "proxy-authorization" => 1 << 5,
        "te" => 1 << 6,
        "transfer-encoding" => 1 << 7,
        "upgrade" => 1 << 8,
        _ => 0,
    }
}

fn tokens<'a>(fields: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> {
    fields.get_all(name).into_iter().flat_map(split)
}

fn split(value: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    value.as_bytes().split(|&byte| byte == b',').map(<[u8]>::trim_ascii).filter(|token| !token.is_empty())
}
