use buttress_http::{Peer, Scheme};
use http::header::{CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, HOST, MAX_FORWARDS, TE, TRANSFER_ENCODING};
use http::header::{HeaderMap, HeaderValue};
use http::uri::PathAndQuery;
use http::{Method, Request, Uri, Version};
use http_body::Body;

use super::forwarded::{Hop, set_forwarded};
use super::hop_by_hop::remove;
use super::length::settle_content_length;
use super::names::Names;
use crate::Upgrades;
use crate::XForwarded;
use crate::error::Unusable;
use crate::fields::{Fields, Forwarding, Host};
use crate::upgrade::{Wish, make_get};

/// What a client asks for besides an answer.
#[derive(Debug, Default)]
pub(crate) struct Wishes {
    /// To go on in another protocol.
    pub(crate) upgrade: Option<Wish>,
    /// The upstream's word before the body is sent.
    pub(crate) go_ahead: bool,
}

/// Makes of a request as it was received the request as an HTTP/1.1 upstream gets it.
pub(crate) fn forward_request<B: Body>(
    request: &mut Request<B>,
    options: &Fields,
    upgrades: Upgrades,
    upstream_host: &HeaderValue,
) -> Result<Wishes, Unusable> {
    let extended = request.method() == Method::CONNECT;
    if extended && !make_get(request, upgrades) {
        return Err(Unusable::Connect);
    }
    let received = std::mem::replace(request.version_mut(), Version::HTTP_11);
    let names = Names::of(request.headers());
    if names.any(Names::HOST) && request.headers().get_all(HOST).iter().nth(1).is_some() {
        return Err(Unusable::Hosts);
    }
    if names.any(Names::VIA)
        && let Some(via) = &options.via
        && via.passes(request.headers()) >= options.max_passes.get()
    {
        return Err(Unusable::Loop);
    }
    if matches!(*request.method(), Method::OPTIONS | Method::TRACE) {
        count_forward(request.headers_mut())?;
    }
    let has_host = if request.uri().scheme().is_some() || request.uri().authority().is_some() {
        take_authority(request)? || names.any(Names::HOST)
    } else {
        names.any(Names::HOST)
    };

    let offered = if extended {
        Some(HeaderValue::from_static("websocket"))
    } else if names.any(Names::UPGRADE) && received == Version::HTTP_11 {
        // With a body on its way there is no telling where the other protocol begins.
        let bare = request.body().is_end_stream();
        upgrades.offered(request.method(), request.headers()).filter(|_| bare)
    } else {
        None
    };

    let said = remove(request.headers_mut(), names);
    if said.other_coding {
        return Err(Unusable::Coding);
    }
    if names.any(Names::CONTENT_LENGTH) {
        settle_content_length(request.headers_mut(), said.transfer_encoding)?;
    }
    frame(request);
    forwarded(request, options, names);

    let go_ahead = names.any(Names::EXPECT) && expects(request, received, options);
    let fields = request.headers_mut();
    if received == Version::HTTP_2 && names.any(Names::COOKIE) {
        join_cookies(fields);
    }
    match &options.host {
        Host::Clients if has_host => {}
        Host::Clients | Host::Upstreams => drop(fields.insert(HOST, upstream_host.clone())),
        Host::Fixed(host) => drop(fields.insert(HOST, host.clone())),
    }
    if said.te_trailers {
        fields.insert(TE, HeaderValue::from_static("trailers"));
        fields.insert(CONNECTION, HeaderValue::from_static("te"));
    }
    if let Some(via) = &options.via {
        via.append(fields, received);
    }
    Ok(Wishes {
        upgrade: offered.filter(|_| said.upgrade || extended).map(|offered| Wish { offered, extended }),
        go_ahead,
    })
}

/// Whether the client waits for the upstream's word. Where it does not, or is not to, nothing of it is sent on.
fn expects<B: Body>(request: &mut Request<B>, received: Version, options: &Fields) -> bool {
    let waits = request
        .headers()
        .get_all(EXPECT)
        .iter()
        .all(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    if !waits {
        // What we do not know, the upstream may: if not, 417 is its answer to give.
        return false;
    }
    let waits = !options.expect_timeout.is_zero()
        && !matches!(received, Version::HTTP_09 | Version::HTTP_10)
        && !request.body().is_end_stream();
    if !waits {
        request.headers_mut().remove(EXPECT);
    }
    waits
}

/// Says on whose behalf the request comes, where that is asked for.
fn forwarded<B>(request: &mut Request<B>, options: &Fields, names: Names) {
    if matches!(options.x_forwarded, Forwarding::Same(XForwarded::Keep)) {
        return;
    }
    let peer = Peer::of(request).map(|peer| peer.0.ip());
    let hop = Hop { peer, scheme: Scheme::of(request.extensions()), by: options.forwarded_by.as_deref() };
    set_forwarded(options.x_forwarded.of(peer), options.forwarded_fields, hop, request.headers_mut(), names);
}

/// The authority of an absolute-form target, and of every HTTP/2 request, is the host whatever `Host` says
/// (RFC 9112 §3.2.2); what is sent on is the origin-form. Whether there was one.
fn take_authority<B>(request: &mut Request<B>) -> Result<bool, Unusable> {
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    let authority = parts.authority.take();
    if let Some(authority) = &authority {
        let host = authority.as_str().rsplit('@').next().unwrap_or_default();
        if request.headers().get(HOST).is_none_or(|given| given.as_bytes() != host.as_bytes()) {
            let host = HeaderValue::from_str(host).map_err(|_| Unusable::Authority)?;
            request.headers_mut().insert(HOST, host);
        }
    }
    // Of a path that is nothing but a fragment (`http://host#a`) `http` keeps an empty one, and writes nothing of it.
    let path = parts.path_and_query.filter(|path| path != "/");
    let path = path.unwrap_or_else(|| PathAndQuery::from_static("/"));
    *request.uri_mut() = Uri::from(path);
    Ok(authority.is_some())
}

/// Takes one from `Max-Forwards`, which counts for OPTIONS and TRACE alone (RFC 9110 §7.6.2).
fn count_forward(fields: &mut HeaderMap) -> Result<(), Unusable> {
    let left = fields.get(MAX_FORWARDS).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    match left {
        Some(0) => Err(Unusable::MaxForwards),
        Some(left) => {
            fields.insert(MAX_FORWARDS, HeaderValue::from(left - 1));
            Ok(())
        }
        None => Ok(()),
    }
}

/// Says how the body is framed where hyper would guess otherwise.
fn frame<B: Body>(request: &mut Request<B>) {
    let ended = request.body().is_end_stream();
    let unknown = request.body().size_hint().exact().is_none();
    let fields = request.headers_mut();
    let length = fields.get(CONTENT_LENGTH);
    if ended {
        // A layer above has read the body: an upstream told of a length would wait for it.
        if length.is_some_and(|length| length != "0") {
            fields.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
    } else if unknown && length.is_none() {
        // Hyper takes a GET without a length for one without a body.
        fields.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
}

/// HTTP/2 may split `Cookie` over several lines, HTTP/1.1 may not (RFC 9113 §8.2.3).
fn join_cookies(fields: &mut HeaderMap) {
    if fields.get_all(COOKIE).iter().nth(1).is_none() {
        return;
    }
    let mut all = Vec::new();
    for line in fields.get_all(COOKIE) {
        if !all.is_empty() {
            all.extend_from_slice(b"; ");
        }
        all.extend_from_slice(line.as_bytes());
    }
    if let Ok(all) = HeaderValue::from_maybe_shared(bytes::Bytes::from(all)) {
        fields.insert(COOKIE, all);
    }
}
