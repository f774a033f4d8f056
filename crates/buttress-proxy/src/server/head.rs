//! What hyper lets an HTTP/2 head say, and a gateway must not: who is meant has to be certain.
//!
//! HTTP/1 heads are looked at as bytes, before hyper reads them (`wire`).

use http::header::HOST;
use http::{Method, Request};

use super::wire::is_authority;

/// Why the request cannot be served (RFC 9113 §8.3.1), in words.
pub(super) fn unclear<B>(request: &Request<B>) -> Option<&'static str> {
    let mut hosts = request.headers().get_all(HOST).iter();
    let (host, more) = (hosts.next(), hosts.next());
    if more.is_some() {
        return Some("there is more than one Host");
    }
    let uri = request.uri();
    if uri.path() == "*" && request.method() != Method::OPTIONS {
        return Some("only OPTIONS may ask for `*`");
    }
    let said = uri.authority().map(|authority| authority.as_str().as_bytes());
    let said = said.or_else(|| host.map(|host| host.as_bytes()));
    // A CONNECT with a scheme is one of RFC 8441: its authority is that of a request.
    let needs_port = request.method() == Method::CONNECT && uri.scheme().is_none();
    match (uri.authority(), host) {
        (None, None) => Some("there is neither an authority nor a Host"),
        (None, Some(_)) if request.method() == Method::CONNECT => Some("CONNECT needs an authority"),
        (Some(authority), _) if authority.as_str().contains('@') => {
            Some("the authority has user information")
        }
        (Some(authority), Some(host))
            if !host.as_bytes().eq_ignore_ascii_case(authority.as_str().as_bytes()) =>
        {
            Some("the authority and Host differ")
        }
        _ if !said.is_some_and(|said| is_authority(said, needs_port)) => {
            Some("the authority, or Host, is no host with or without a port")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(method: Method, uri: &str, hosts: &[&str]) -> Option<&'static str> {
        let mut request = Request::builder().method(method).uri(uri);
        for host in hosts {
            request = request.header(HOST, *host);
        }
        unclear(&request.body(()).unwrap())
    }

    #[test]
    fn one_host_said_once_or_twice_alike_is_clear() {
        assert_eq!(said(Method::GET, "http://a.example/", &[]), None);
        assert_eq!(said(Method::GET, "http://a.example/", &["A.example"]), None);
        assert_eq!(said(Method::GET, "/", &["a.example"]), None);
        assert_eq!(said(Method::CONNECT, "a.example:443", &[]), None);
    }

    #[test]
    fn no_host_two_hosts_and_different_hosts_are_not() {
        assert!(said(Method::GET, "/", &[]).is_some());
        assert!(said(Method::GET, "http://a.example/", &["b.example"]).is_some());
        assert!(said(Method::GET, "http://a.example/", &["a.example", "a.example"]).is_some());
        assert!(said(Method::GET, "http://me@a.example/", &[]).is_some());
        assert!(said(Method::CONNECT, "/", &["a.example"]).is_some());
        assert!(said(Method::CONNECT, "a.example", &[]).is_some());
    }

    #[test]
    fn what_http1_would_not_let_through_http2_does_not() {
        for host in ["a_b c", "a.example:http", "a.example:99999", "a.example, b.example", "a/b"] {
            assert!(said(Method::GET, "/", &[host]).is_some(), "{host}");
        }
        assert!(said(Method::GET, "*", &["a.example"]).is_some());
        assert_eq!(said(Method::OPTIONS, "*", &["a.example"]), None);
        assert_eq!(said(Method::GET, "/", &["[2001:db8::1]:8443"]), None);
    }
}
