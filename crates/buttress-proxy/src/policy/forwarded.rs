use std::net::IpAddr;

use http::header::{FORWARDED, HOST, HeaderMap, HeaderName, HeaderValue};

use crate::XForwarded;

const FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

/// Says on behalf of whom the request is sent on. `Host` must still be the one that the client asked for.
///
/// A peer that is not known is `unknown`: were it left out, a recipient that trusts this proxy would take the last
/// entry that the client wrote itself for the peer.
pub(crate) fn set_x_forwarded(mode: XForwarded, fields: &mut HeaderMap, peer: Option<IpAddr>) {
    if mode == XForwarded::Keep {
        return;
    }
    let keep = mode == XForwarded::Append;
    if !keep {
        // They say the same in other words, and an upstream may read them first.
        fields.remove(FORWARDED);
        fields.remove(REAL_IP);
    }
    let peer = match peer {
        Some(peer) => {
            HeaderValue::try_from(peer.to_canonical().to_string()).expect("an address is visible ASCII")
        }
        None => HeaderValue::from_static("unknown"),
    };
    put(fields, FOR, peer, keep);
    put(fields, PROTO, HeaderValue::from_static("http"), keep);
    match fields.get(HOST).cloned() {
        Some(host) => put(fields, FORWARDED_HOST, host, keep),
        None if !keep => drop(fields.remove(FORWARDED_HOST)),
        None => {}
    }
}

/// All entries end up on one line: many recipients read the first line alone.
fn put(fields: &mut HeaderMap, name: HeaderName, value: HeaderValue, keep: bool) {
    let value = if keep && fields.contains_key(&name) {
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
