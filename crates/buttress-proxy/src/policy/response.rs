use http::header::{CONTENT_LENGTH, HeaderMap, HeaderValue, UPGRADE};
use http::{Response, StatusCode, Version};
use http_body::Body;

use super::hide::hide_upstream;
use super::hop_by_hop::{remove, remove_hop_by_hop};
use super::length::settle_content_length;
use super::names::Names;
use crate::error::Unusable;
use crate::fields::Fields;

/// Makes of an upstream's answer the answer that is handed on; whether the connection may serve another request.
pub(crate) fn forward_response<B: Body>(
    response: &mut Response<B>,
    options: &Fields,
    upstream_host: &HeaderValue,
) -> Result<bool, Unusable> {
    let status = response.status();
    if status == StatusCode::SWITCHING_PROTOCOLS {
        return Err(Unusable::Upgrade);
    }
    let received = std::mem::replace(response.version_mut(), Version::HTTP_11);
    let ended = response.body().is_end_stream();

    let fields = response.headers_mut();
    let names = Names::of(fields);
    let said = remove(fields, names);
    if said.other_coding {
        return Err(Unusable::Coding);
    }
    let mut length = names.any(Names::CONTENT_LENGTH);
    if length {
        settle_content_length(fields, said.transfer_encoding)?;
    }
    if status == StatusCode::NO_CONTENT {
        if said.transfer_encoding
            || (length && fields.get(CONTENT_LENGTH).is_some_and(|length| length != "0"))
        {
            return Err(Unusable::NoContent);
        }
        if length {
            fields.remove(CONTENT_LENGTH);
            length = false;
        }
    }
    end_to_end(fields, received, options, upstream_host);
    // An upstream of HTTP/1.0 cannot take a body whose length is not known, so it gets one request only.
    Ok(match received {
        Version::HTTP_2 => true,
        Version::HTTP_11 => !said.close && (ended || said.transfer_encoding || length),
        _ => false,
    })
}

/// Makes of a 101 that was asked for the one that is handed on; the protocol that it names.
pub(crate) fn forward_switch<B>(
    response: &mut Response<B>,
    options: &Fields,
    upstream_host: &HeaderValue,
) -> Option<HeaderValue> {
    let received = response.version();
    let fields = response.headers_mut();
    let protocol = fields.get(UPGRADE).cloned();
    let said = remove_hop_by_hop(fields);
    // It has no body, whatever it says (RFC 9110 §8.6).
    fields.remove(CONTENT_LENGTH);
    end_to_end(fields, received, options, upstream_host);
    protocol.filter(|_| said.upgrade)
}

fn end_to_end(fields: &mut HeaderMap, received: Version, options: &Fields, upstream_host: &HeaderValue) {
    for name in &*options.hidden {
        fields.remove(name);
    }
    if options.hide_upstream {
        hide_upstream(fields, upstream_host);
    }
    if let Some(via) = &options.via {
        via.append(fields, received);
    }
}
