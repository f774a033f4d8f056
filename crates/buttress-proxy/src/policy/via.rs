use http::Version;
use http::header::{HeaderMap, HeaderValue, VIA};

/// The `Via` that says who received a message, and in which version of HTTP (RFC 9110 §7.6.3).
#[derive(Clone, Debug)]
pub(crate) struct Via {
    http_10: HeaderValue,
    http_11: HeaderValue,
    http_2: HeaderValue,
}

impl Via {
    /// `None` when `name` is neither a token nor a host with a port.
    pub(crate) fn new(name: &str) -> Option<Self> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~:[]".contains(&byte);
        if name.is_empty() || !name.bytes().all(allowed) {
            return None;
        }
        let value = |version| HeaderValue::from_str(&format!("{version} {name}")).ok();
        Some(Self { http_10: value("1.0")?, http_11: value("1.1")?, http_2: value("2")? })
    }

    /// Appends the entry for a message received in `version`.
    pub(crate) fn append(&self, fields: &mut HeaderMap, version: Version) {
        let value = match version {
            Version::HTTP_10 | Version::HTTP_09 => &self.http_10,
            Version::HTTP_2 => &self.http_2,
            _ => &self.http_11,
        };
        fields.append(VIA, value.clone());
    }
}
