//! What hyper lets an HTTP/2 head say, and a gateway must not: who is meant has to be certain.
//!
//! HTTP/1 heads are looked at as bytes, before hyper reads them (`wire`).

use http::header::HOST;
use http::{Method, Request};

/// Why the request cannot be served (RFC 9113 §8.3.1), in words.
pub(super) fn unclear<B>(request: &Request<B>) -> Option<&'static str> {
    let mut hosts = request.headers().get_all(HOST).iter();
    let (host, more) = (hosts.next(), hosts.next());
    if more.is_some() {
        return Some("there is more than one Host");
    }
    match (request.uri().authority(), host) {
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
    }
}
