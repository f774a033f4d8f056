//! What a request wants to reach.

use http::uri::Scheme;
use http::{Method, Uri};

use super::hosts::{is_sound, normal};

/// The server that a client names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// In one spelling.
    pub(super) host: String,
    pub(super) port: u16,
}

impl Target {
    /// Reads it from a request; why not, else.
    pub(super) fn of(method: &Method, uri: &Uri) -> Result<Self, &'static str> {
        let authority =
            uri.authority().ok_or("this is a proxy: the target must be http://host/ or CONNECT host:port")?;
        if authority.as_str().contains('@') {
            return Err("the target must not have a user name in it");
        }
        let host = authority.host();
        let written = authority.as_str()[host.len()..].strip_prefix(':');
        let port = match written {
            Some(text) => Some(text.parse().map_err(|_| "the target's port must be from 1 to 65535")?),
            None => None,
        };
        let port = if *method == Method::CONNECT {
            port.ok_or("the target of CONNECT must have a port")?
        } else if uri.scheme() == Some(&Scheme::HTTP) {
            port.unwrap_or(80)
        } else {
            return Err("the target must be http://host/; other schemes go through CONNECT");
        };
        let host = normal(host);
        if host.is_empty() || port == 0 {
            return Err("the target must have a host, and a port from 1 to 65535");
        }
        if !is_sound(&host) {
            return Err("the target's host must be a name or an address");
        }
        Ok(Self { host, port })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(method: &Method, uri: &str) -> Result<(String, u16), &'static str> {
        Target::of(method, &uri.parse().unwrap()).map(|target| (target.host, target.port))
    }

    #[test]
    fn it_is_the_authority_of_an_absolute_form_or_of_connect() {
        let found = |host: &str, port| Ok((host.to_owned(), port));
        assert_eq!(of(&Method::GET, "http://Shop.Example./a?b"), found("shop.example", 80));
        assert_eq!(of(&Method::GET, "http://shop.example:8080/"), found("shop.example", 8080));
        assert_eq!(of(&Method::GET, "http://[2001:db8::1]/"), found("2001:db8::1", 80));
        assert_eq!(of(&Method::CONNECT, "shop.example:443"), found("shop.example", 443));
        assert_eq!(of(&Method::CONNECT, "[::1]:443"), found("::1", 443));
        assert_eq!(of(&Method::CONNECT, "[0:0::FFFF:7f00:1]:443"), found("127.0.0.1", 443));
        assert_eq!(of(&Method::CONNECT, "[2001:DB8:0::0001]:443"), found("2001:db8::1", 443));
    }

    #[test]
    fn what_names_no_server_says_why() {
        for (method, uri, why) in [
            (Method::GET, "/", "this is a proxy: the target must be http://host/ or CONNECT host:port"),
            (Method::OPTIONS, "*", "this is a proxy: the target must be http://host/ or CONNECT host:port"),
            (
                Method::GET,
                "https://shop.example/",
                "the target must be http://host/; other schemes go through CONNECT",
            ),
            (
                Method::GET,
                "ftp://shop.example/",
                "the target must be http://host/; other schemes go through CONNECT",
            ),
            (Method::GET, "http://ada@shop.example/", "the target must not have a user name in it"),
            (
                Method::GET,
                "http://shop.example:0/",
                "the target must have a host, and a port from 1 to 65535",
            ),
            (Method::GET, "http://shop.example../", "the target's host must be a name or an address"),
            (Method::GET, "http://.shop.example/", "the target's host must be a name or an address"),
            (Method::CONNECT, "shop!example:443", "the target's host must be a name or an address"),
            (Method::GET, "http://shop.example:70000/", "the target's port must be from 1 to 65535"),
            (Method::GET, "http://shop.example:/", "the target's port must be from 1 to 65535"),
            (Method::CONNECT, "shop.example", "the target of CONNECT must have a port"),
        ] {
            assert_eq!(of(&method, uri), Err(why), "{method} {uri}");
        }
    }
}
