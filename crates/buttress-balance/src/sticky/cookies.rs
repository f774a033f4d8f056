use http::HeaderMap;
use http::header::COOKIE;

/// The values of all cookies of this name, in all `Cookie` fields, in order.
///
/// Browsers write `name=value` with `; ` between (RFC 6265, section 5.4), HTTP/2 may take that apart into several fields
/// (RFC 9113, section 8.2.3), and others do as they like: spaces and tabs around anything are left out, as are the double
/// quotes around a value, and what is no pair is passed over.
pub(crate) fn values<'a>(fields: &'a HeaderMap, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
    let pairs = fields.get_all(COOKIE).iter().flat_map(|field| field.as_bytes().split(|byte| *byte == b';'));
    pairs.filter_map(move |pair| {
        let equals = pair.iter().position(|byte| *byte == b'=')?;
        let value = pair[equals + 1..].trim_ascii();
        let quoted = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\""));
        (pair[..equals].trim_ascii() == name.as_bytes()).then_some(quoted.unwrap_or(value))
    })
}
