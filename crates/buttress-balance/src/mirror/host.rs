use http::header::HOST;
use http::request::Parts;
use http::uri::Authority;
use http::{HeaderValue, Uri};

/// Appends `-shadow` to the host that is asked for, in the URI and in `Host`, as Envoy does.
pub(super) fn mark(head: &mut Parts) {
    if let Some(host) = head.headers.get(HOST).and_then(|host| shadow(host.to_str().ok()?))
        && let Ok(host) = HeaderValue::try_from(host)
    {
        head.headers.insert(HOST, host);
    }
    if let Some(authority) = head.uri.authority().and_then(|authority| shadow(authority.as_str()))
        && let Ok(authority) = authority.parse::<Authority>()
    {
        let mut parts = head.uri.clone().into_parts();
        parts.authority = Some(authority);
        if let Ok(uri) = Uri::from_parts(parts) {
            head.uri = uri;
        }
    }
}

/// `host:port` as `host-shadow:port`. An IPv6 address takes no suffix.
fn shadow(authority: &str) -> Option<String> {
    if authority.is_empty() || authority.contains('[') {
        return None;
    }
    let user = authority.rfind('@').map_or(0, |at| at + 1);
    let port = authority[user..].rfind(':').map_or(authority.len(), |colon| user + colon);
    let (host, port) = authority.split_at(port);
    Some(format!("{host}-shadow{port}"))
}
