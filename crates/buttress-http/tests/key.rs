//! What of a request the keys write.

use buttress_core::Key;
use buttress_http::key;
use http::Request;

fn written<R>(key: &impl Key<R>, request: &R) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    key.key(request, &mut bytes).then_some(bytes)
}

/// One part, as the sink that keeps bytes writes it.
fn part(text: &str) -> Option<Vec<u8>> {
    let length = u32::try_from(text.len()).unwrap().to_be_bytes();
    Some([&length, text.as_bytes()].concat())
}

fn request(uri: &str) -> http::request::Builder {
    Request::builder().uri(uri)
}

#[test]
fn a_header_counts_by_its_first_line_and_its_absence_is_no_key() {
    let by_key = key::header("X-Api-Key");
    let both = request("/").header("x-api-key", "a").header("x-api-key", "b").body(()).unwrap();
    let none = request("/").body(()).unwrap();

    assert_eq!(written(&by_key, &both), part("a"));
    assert_eq!(written(&by_key, &none), None);
}

#[test]
#[should_panic(expected = "key::header")]
fn a_name_that_no_field_can_have_is_refused_when_the_key_is_built() {
    let _ = key::header("x api key");
}

#[test]
fn the_authority_is_the_uris_or_else_the_host_field_in_lower_case() {
    for (uri, host, authority) in [
        ("http://EXAMPLE.com:8080/a", None, part("example.com:8080")),
        ("http://example.com/a", Some("other.example"), part("example.com")),
        ("http://me:secret@example.com/", None, part("example.com")),
        ("/a", Some("Example.COM"), part("example.com")),
        ("/a", None, None),
    ] {
        let mut builder = request(uri);
        if let Some(host) = host {
            builder = builder.header("host", host);
        }

        assert_eq!(written(&key::authority(), &builder.body(()).unwrap()), authority, "{uri} {host:?}");
    }
}

#[test]
fn a_host_longer_than_any_is_a_key_all_the_same() {
    let long = "A".repeat(300);
    let request = request("/").header("host", &long).body(()).unwrap();

    assert_eq!(written(&key::authority(), &request), part(&long));
}

#[test]
fn path_and_method_count_as_sent() {
    let request = request("/a%20b?c=d").method("POST").body(()).unwrap();

    assert_eq!(written(&key::path(), &request), part("/a%20b"));
    assert_eq!(written(&key::method(), &request), part("POST"));
}

#[test]
fn a_tuple_of_keys_is_the_key_of_all_of_them() {
    let both = (key::header("x-tenant"), key::method());
    let with = request("/").header("x-tenant", "t").body(()).unwrap();
    let without = request("/").body(()).unwrap();

    assert_eq!(written(&both, &with), Some([part("t").unwrap(), part("GET").unwrap()].concat()));
    assert_eq!(written(&both, &without), None);
}
