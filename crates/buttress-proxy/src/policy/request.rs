use buttress_http::Peer;
use http::header::{CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, HOST, MAX_FORWARDS, TE, TRANSFER_ENCODING};
use http::header::{HeaderMap, HeaderValue};
use http::uri::PathAndQuery;
use http::{Method, Request, Uri, Version};
use http_body::Body;

use super::forwarded::set_x_forwarded;
use super::hop_by_hop::remove_hop_by_hop;
use super::length::settle_content_length;
use crate::XForwarded;
use crate::error::Unusable;
use crate::fields::{Fields, Forwarding};

/// Makes of a request as it was received the request as an HTTP/1.1 upstream gets it.
pub(crate) fn forward_request<B: Body>(
    request: &mut Request<B>,
    options: &Fields,
    upstream_host: &HeaderValue,
) -> Result<(), Unusable> {
    if request.method() == Method::CONNECT {
        return Err(Unusable::Connect);
    }
    let received = std::mem::replace(request.version_mut(), Version::HTTP_11);
    if request.headers().get_all(HOST).iter().nth(1).is_some() {
        return Err(Unusable::Hosts);
    }
    if matches!(*request.method(), Method::OPTIONS | Method::TRACE) {
        count_forward(request.headers_mut())?;
    }
    if request.uri().scheme().is_some() || request.uri().authority().is_some() {
        take_authority(request)?;
    }

    let said = remove_hop_by_hop(request.headers_mut());
    if said.other_coding {
        return Err(Unusable::Coding);
    }
    settle_content_length(request.headers_mut(), said.transfer_encoding);
    frame(request);
    let peer = match options.x_forwarded {
        Forwarding::Same(XForwarded::Keep) => None,
        _ => Peer::of(request).map(|peer| peer.0.ip()),
    };

    let fields = request.headers_mut();
    // The expectation is met by this hop: the client is asked for its body when the upstream is there to take it.
    fields.remove(EXPECT);
    if received == Version::HTTP_2 {
        join_cookies(fields);
    }
    set_x_forwarded(options.x_forwarded.of(peer), fields, peer);
    if !options.preserve_host || !fields.contains_key(HOST) {
        fields.insert(HOST, upstream_host.clone());
    }
    if said.te_trailers {
        fields.insert(TE, HeaderValue::from_static("trailers"));
        fields.insert(CONNECTION, HeaderValue::from_static("te"));
    }
    if let Some(via) = &options.via {
        via.append(fields, received);
    }
    Ok(())
}

/// The authority of an absolute-form target, and of every HTTP/2 request, is the host whatever `Host` says
/// (RFC 9112 §3.2.2); what is sent on is the origin-form.
fn take_authority<B>(request: &mut Request<B>) -> Result<(), Unusable> {
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    if let Some(authority) = parts.authority.take() {
        let host = authority.as_str().rsplit('@').next().unwrap_or_default();
        if request.headers().get(HOST).is_none_or(|given| given.as_bytes() != host.as_bytes()) {
            let host = HeaderValue::from_str(host).map_err(|_| Unusable::Authority)?;
            request.headers_mut().insert(HOST, host);
        }
    }
    let path = parts.path_and_query.unwrap_or_else(|| PathAndQuery::from_static("/"));
    *request.uri_mut() = Uri::from(path);
    Ok(())
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
