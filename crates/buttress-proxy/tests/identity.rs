//! What a client says of who it is does not come through.

use std::convert::Infallible;
use std::net::SocketAddr;

use buttress_http::Peer;
use buttress_proxy::{ClientCert, ClientCertificate, IdentityLayer};
use http::{HeaderMap, HeaderName, HeaderValue, Request};
use proptest::prelude::*;
use tower::{ServiceBuilder, ServiceExt};

/// The fields that the service below the layer sees.
async fn below(layer: IdentityLayer, request: Request<()>) -> HeaderMap {
    let service = ServiceBuilder::new()
        .layer(layer)
        .service_fn(|request: Request<()>| async move { Ok::<_, Infallible>(request.headers().clone()) });
    service.oneshot(request).await.unwrap()
}

fn request(fields: &[(&'static str, &'static str)]) -> Request<()> {
    let mut request = Request::new(());
    for (name, value) in fields {
        request.headers_mut().append(*name, HeaderValue::from_static(value));
    }
    request
}

fn names(fields: &HeaderMap) -> Vec<&str> {
    let mut names: Vec<_> = fields.keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    names
}

fn certificate() -> ClientCertificate {
    ClientCertificate::new([b"leaf", b"next", b"root"]).unwrap()
}

#[tokio::test]
async fn fields_of_identity_are_gone_in_each_of_their_spellings_and_all_others_stay() {
    let layer = IdentityLayer::new().field("X-User-Id").prefix("x-envoy-");
    let sent = request(&[
        ("x-user-id", "admin"),
        ("x-user-id", "again"),
        ("x_user_id", "admin"),
        ("x-user_id", "admin"),
        ("x-envoy-internal", "true"),
        ("x_envoy_peer", "a"),
        ("client-cert", ":AAAA:"),
        ("client_cert", ":AAAA:"),
        ("client-cert-chain", ":AAAA:"),
        ("x-user-ids", "1"),
        ("x-envoy", "1"),
        ("x", "1"),
        ("cookie", "a"),
    ]);

    let seen = below(layer, sent).await;

    assert_eq!(names(&seen), ["cookie", "x", "x-envoy", "x-user-ids"]);
}

#[tokio::test]
async fn a_verified_certificate_is_presented_and_what_the_client_wrote_is_not() {
    let sent = || {
        let mut sent = request(&[("client-cert", ":AAAA:"), ("client-cert-chain", ":AAAA:")]);
        sent.extensions_mut().insert(certificate());
        sent
    };

    let leaf = below(IdentityLayer::new(), sent()).await;
    assert_eq!(names(&leaf), ["client-cert"]);
    assert_eq!(leaf.get_all("client-cert").iter().collect::<Vec<_>>(), [":bGVhZg==:"]);

    let chain = below(IdentityLayer::new().client_cert(ClientCert::Chain), sent()).await;
    assert_eq!(names(&chain), ["client-cert", "client-cert-chain"]);
    assert_eq!(chain["client-cert-chain"], ":bmV4dA==:, :cm9vdA==:");

    let none = below(IdentityLayer::new().client_cert(ClientCert::Remove), sent()).await;
    assert_eq!(names(&none), [""; 0]);
}

#[tokio::test]
async fn a_gateway_in_front_is_believed_and_nobody_else() {
    let layer = IdentityLayer::new().field("x-user-id").behind(["198.51.100.0/24"]);
    let from = |peer: Option<&str>| {
        let mut sent = request(&[("x-user-id", "7"), ("client-cert", ":AAAA:")]);
        if let Some(peer) = peer {
            sent.extensions_mut().insert(Peer(peer.parse::<SocketAddr>().unwrap()));
        }
        // The certificate of the gateway in front is not that of the client.
        sent.extensions_mut().insert(certificate());
        sent
    };

    let trusted = below(layer.clone(), from(Some("198.51.100.7:5000"))).await;
    assert_eq!(names(&trusted), ["client-cert", "x-user-id"]);
    assert_eq!(trusted["client-cert"], ":AAAA:");
    for other in [Some("203.0.113.7:5000"), None] {
        let seen = below(layer.clone(), from(other)).await;
        assert_eq!(names(&seen), ["client-cert"], "{other:?}");
        assert_eq!(seen["client-cert"], ":bGVhZg==:");
    }
}

#[tokio::test]
async fn a_client_cannot_name_in_connection_what_a_layer_below_sets() {
    let sent = request(&[
        ("connection", "keep-alive, X-User-Id, x-own"),
        ("connection", "TE, host, Upgrade"),
        ("x-own", "1"),
        ("host", "shop.example"),
        ("te", "trailers"),
    ]);

    let mut seen = below(IdentityLayer::new().field("x-user-id"), sent).await;

    assert_eq!(names(&seen), ["connection", "host", "te"]);
    let named: Vec<_> = seen.get_all("connection").iter().collect();
    assert_eq!(named, ["keep-alive", "TE", "host", "Upgrade"]);
    // What authentication sets is still there when the proxy has done its part.
    seen.insert("x-user-id", HeaderValue::from_static("7"));
    buttress_proxy::remove_hop_by_hop(&mut seen);
    assert_eq!(names(&seen), ["host", "x-user-id"]);
}

#[test]
fn no_certificate_at_all_is_none() {
    assert!(ClientCertificate::new([b""; 0]).is_none());
}

#[test]
#[should_panic(expected = "`host` cannot be left out of a request")]
fn a_field_that_a_request_needs_cannot_be_one_of_identity() {
    let _ = IdentityLayer::new().field("Host");
}

#[test]
#[should_panic(expected = "prefix: `con` would remove `content-length`")]
fn nor_can_it_by_its_prefix() {
    let _ = IdentityLayer::new().prefix("con");
}

#[test]
#[should_panic(expected = "`x user` is no name of a field")]
fn what_is_no_name_is_refused_when_it_is_set() {
    let _ = IdentityLayer::new().field("x user");
}

proptest! {
    #[test]
    fn no_spelling_of_a_name_comes_through(
        name in "[a-z]{1,4}([-_][a-z]{1,3}){0,3}",
        spelling in proptest::collection::vec(any::<bool>(), 20),
    ) {
        let written: String = name.chars().zip(&spelling).map(|(letter, &other)| match letter {
            '-' | '_' => if other { '_' } else { '-' },
            letter if other => letter.to_ascii_uppercase(),
            letter => letter,
        }).collect();
        prop_assume!(!["host", "content-length", "transfer-encoding"].contains(&name.replace('_', "-").as_str()));
        let mut sent = Request::new(());
        sent.headers_mut().insert(HeaderName::try_from(written).unwrap(), HeaderValue::from_static("1"));

        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let seen = runtime.block_on(below(IdentityLayer::new().field(&name), sent));

        prop_assert!(seen.is_empty());
    }
}
