//! Hosts: of routes, and of requests.

use http::header::HOST;
use http::{HeaderMap, HeaderValue, Uri};

/// The longest name of the DNS; what is longer is no host.
pub(crate) const LONGEST: usize = 253;

/// The host of a route, in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum HostPattern {
    Any,
    Exact(String),
    /// What stands behind `*.`.
    Below(String),
}

impl HostPattern {
    pub(crate) fn parse(host: &str) -> Result<Self, &'static str> {
        match host.strip_prefix("*.") {
            Some(suffix) if suffix.starts_with('[') => Err("an address has no names below it"),
            Some(suffix) => Ok(Self::Below(check_name(suffix)?)),
            None => Ok(Self::Exact(check_name(host)?)),
        }
    }
}

/// The name without its last dot and in lower case, if it is a name or an address.
pub(crate) fn check_name(host: &str) -> Result<String, &'static str> {
    let name = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    if let Some(address) = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')) {
        return match address.parse::<std::net::Ipv6Addr>() {
            Ok(_) => Ok(name),
            Err(_) => Err("what stands in brackets is an IPv6 address"),
        };
    }
    if name.contains(':') {
        return Err("it has no port (an IPv6 address stands in brackets)");
    }
    if !name.is_ascii() {
        return Err("a name that is not ASCII is written as the DNS has it (`xn--…`)");
    }
    if name.contains('*') {
        return Err("a `*` is the whole first label, as in `*.example.com`");
    }
    let good = |label: &str| {
        !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    if name.len() > LONGEST || !name.split('.').all(good) {
        return Err("it is a name of labels of letters, digits, `-` and `_`, or an address");
    }
    Ok(name)
}

/// The host that a request asks for: in lower case, without user, port and last dot.
pub(crate) struct RequestHost {
    lower: [u8; LONGEST],
    length: usize,
}

impl RequestHost {
    /// `None` where there is none, where two fields leave it open which, and where it is longer than any name.
    pub(crate) fn of(uri: &Uri, headers: &HeaderMap) -> Option<Self> {
        let authority = match uri.authority() {
            Some(authority) => authority.as_str().as_bytes(),
            None => {
                let mut fields = headers.get_all(HOST).iter().map(HeaderValue::as_bytes);
                let first = fields.next()?;
                if fields.next().is_some() {
                    return None;
                }
                first
            }
        };
        let host = authority.rsplit(|&byte| byte == b'@').next()?;
        let end = match host.first()? {
            b'[' => host.iter().position(|&byte| byte == b']')? + 1,
            _ => host.iter().position(|&byte| byte == b':').unwrap_or(host.len()),
        };
        let host = &host[..end];
        let host = host.strip_suffix(b".").unwrap_or(host);
        let mut lower = [0; LONGEST];
        let space = lower.get_mut(..host.len())?;
        space.copy_from_slice(host);
        space.make_ascii_lowercase();
        Some(Self { lower, length: host.len() })
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.lower[..self.length]
    }
}
