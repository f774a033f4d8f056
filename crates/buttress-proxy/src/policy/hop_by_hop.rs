use http::header::{CONNECTION, HeaderMap, HeaderName, HeaderValue};
use http::header::{PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING, UPGRADE};

use super::names::Names;

/// The fields that concern one connection only, whether or not `Connection` names them.
const ALWAYS: [(Names, HeaderName); 8] = [
    (Names::KEEP_ALIVE, HeaderName::from_static("keep-alive")),
    (Names::PROXY_CONNECTION, HeaderName::from_static("proxy-connection")),
    (Names::PROXY_AUTHENTICATE, PROXY_AUTHENTICATE),
    (Names::PROXY_AUTHENTICATION_INFO, HeaderName::from_static("proxy-authentication-info")),
    (Names::PROXY_AUTHORIZATION, PROXY_AUTHORIZATION),
    (Names::TE, TE),
    (Names::TRANSFER_ENCODING, TRANSFER_ENCODING),
    (Names::UPGRADE, UPGRADE),
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
    /// `Connection` held `upgrade`, and there was an `Upgrade`: the sender would go on in another protocol.
    pub upgrade: bool,
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
    let names = Names::of(fields);
    remove(fields, names)
}

/// The same, where the names have been looked at before.
pub(super) fn remove(fields: &mut HeaderMap, names: Names) -> HopByHop {
    let mut said = HopByHop::default();
    if !names.any(Names::HOP_BY_HOP) {
        return said;
    }
    if names.any(Names::TE) {
        said.te_trailers = tokens(fields, &TE).any(|token| token.eq_ignore_ascii_case(b"trailers"));
    }
    if names.any(Names::TRANSFER_ENCODING) {
        said.transfer_encoding = true;
        let mut codings = tokens(fields, &TRANSFER_ENCODING);
        said.other_coding = codings.next().is_none_or(|coding| !coding.eq_ignore_ascii_case(b"chunked"))
            || codings.next().is_some();
    }
    if names.any(Names::CONNECTION) {
        remove_named(fields, &mut said);
        said.upgrade &= names.any(Names::UPGRADE);
    }
    for (bit, name) in ALWAYS {
        if names.any(bit) {
            fields.remove(name);
        }
    }
    said
}

/// Removes `Connection` and what it names.
fn remove_named(fields: &mut HeaderMap, said: &mut HopByHop) {
    // More than one line is rare, so the usual message costs no allocation.
    let more: Vec<HeaderValue> = fields.get_all(CONNECTION).iter().skip(1).cloned().collect();
    let first = fields.remove(CONNECTION);
    for value in first.iter().chain(&more) {
        for token in split(value) {
            said.close |= token.eq_ignore_ascii_case(b"close");
            said.upgrade |= token.eq_ignore_ascii_case(b"upgrade");
            // `Keep-Alive` goes in any case, and is what most messages name.
            let stays = token.eq_ignore_ascii_case(b"keep-alive") || is_essential(token);
            if let (false, Ok(name)) = (stays, std::str::from_utf8(token)) {
                fields.remove(name);
            }
        }
    }
}

/// Whether a message without the field would be another message.
pub(crate) fn is_essential(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"host") || name.eq_ignore_ascii_case(b"content-length")
}

fn tokens<'a>(fields: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> {
    fields.get_all(name).into_iter().flat_map(split)
}

pub(crate) fn split(value: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    value.as_bytes().split(|&byte| byte == b',').map(<[u8]>::trim_ascii).filter(|token| !token.is_empty())
}
