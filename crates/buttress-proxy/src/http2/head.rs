use http::header::{CONNECTION, HOST, TRANSFER_ENCODING, UPGRADE};
use http::uri::{Authority, Parts, Scheme};
use http::{HeaderValue, Request, Uri, Version};

use crate::error::Unusable;

/// The head as HTTP/2 has it, of one that was made for HTTP/1.1 (RFC 9113 §8.2.2, §8.3.1).
///
/// The authority of the request takes the place of `Host`, and nothing concerns the connection. `TE: trailers` stays.
/// With `keep` the request keeps its fields and can be begun once more.
pub(super) fn to_http2<B>(
    request: &mut Request<B>,
    scheme: Scheme,
    upstream: &HeaderValue,
    keep: bool,
) -> Result<Request<()>, Unusable> {
    let mut fields = if keep { request.headers().clone() } else { std::mem::take(request.headers_mut()) };
    fields.remove(CONNECTION);
    fields.remove(TRANSFER_ENCODING);
    fields.remove(UPGRADE);
    let host = fields.remove(HOST).filter(|host| !host.is_empty());
    let host = host.as_ref().unwrap_or(upstream);

    let mut parts = Parts::default();
    parts.scheme = Some(scheme);
    parts.authority = Some(Authority::try_from(host.as_bytes()).map_err(|_| Unusable::Authority)?);
    parts.path_and_query = request.uri().path_and_query().cloned();
    let mut head = Request::new(());
    *head.method_mut() = request.method().clone();
    *head.uri_mut() = Uri::from_parts(parts).map_err(|_| Unusable::Authority)?;
    *head.version_mut() = Version::HTTP_2;
    *head.headers_mut() = fields;
    Ok(head)
}
