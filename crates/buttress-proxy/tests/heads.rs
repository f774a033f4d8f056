//! What a request and an answer look like on the other side of the proxy.

mod support;

use std::net::SocketAddr;

use buttress_core::Cause;
use buttress_http::{Peer, Scheme};
use buttress_proxy::{Address, ErrorKind, ForwardedFields, Proxy, XForwarded};
use http::header::{CONNECTION, HOST, TE};
use http::{Method, Request, Version};
use support::{TestBody, Upstream, body, get, post, text};
use tower::ServiceExt;

/// The head as the upstream gets it.
async fn seen(
    configure: impl FnOnce(Proxy<TestBody>) -> Proxy<TestBody>,
    request: Request<TestBody>,
) -> String {
    let upstream = Upstream::echoing_heads().await;
    let proxy = configure(upstream.proxy());
    text(proxy.oneshot(request).await.unwrap()).await
}

#[tokio::test]
async fn target_and_host_are_sent_on_as_they_came() {
    let head = seen(|proxy| proxy, get("/a%2Fb/../c?x=%20&y")).await;

    assert_eq!(head, "GET /a%2Fb/../c?x=%20&y HTTP/1.1\r\nhost: shop.example\r\nvia: 1.1 buttress\r\n\r\n");
}

#[tokio::test]
async fn the_authority_of_an_absolute_form_target_wins_over_host() {
    let head = seen(Proxy::without_via, get("http://user:secret@real.example:8080/a?b")).await;

    assert_eq!(head, "GET /a?b HTTP/1.1\r\nhost: real.example:8080\r\n\r\n");
}

#[tokio::test]
async fn a_target_that_is_only_a_fragment_behind_the_authority_is_the_root() {
    let head = seen(Proxy::without_via, get("http://shop.example#a")).await;

    assert_eq!(head, "GET / HTTP/1.1\r\nhost: shop.example\r\n\r\n");
}

#[tokio::test]
async fn an_http2_request_gets_its_host_from_the_authority_and_one_cookie_line() {
    let mut request = Request::get("https://shop.example/a").version(Version::HTTP_2).body(body("")).unwrap();
    request.headers_mut().append("cookie", "a=1".parse().unwrap());
    request.headers_mut().append("cookie", "b=2".parse().unwrap());

    let head = seen(|proxy| proxy.via("edge"), request).await;

    assert_eq!(head, "GET /a HTTP/1.1\r\ncookie: a=1; b=2\r\nhost: shop.example\r\nvia: 2 edge\r\n\r\n");
}

#[tokio::test]
async fn an_http_1_0_request_without_host_goes_on_as_1_1_with_the_upstreams() {
    let upstream = Upstream::echoing_heads().await;
    let request = Request::get("/").version(Version::HTTP_10).body(body("")).unwrap();

    let head = text(upstream.proxy().oneshot(request).await.unwrap()).await;

    let host = upstream.address;
    assert_eq!(head, format!("GET / HTTP/1.1\r\nhost: {host}\r\nvia: 1.0 buttress\r\n\r\n"));
}

#[tokio::test]
async fn the_asterisk_form_stays() {
    let mut request = get("*");
    *request.method_mut() = Method::OPTIONS;

    let head = seen(Proxy::without_via, request).await;

    assert!(head.starts_with("OPTIONS * HTTP/1.1\r\n"), "{head}");
}

#[tokio::test]
async fn max_forwards_is_counted_down_for_options_and_ends_it_at_zero() {
    let upstream = Upstream::echoing_heads().await;
    let request = |method: Method, left: &str| {
        let mut request = get("/");
        *request.method_mut() = method;
        request.headers_mut().insert("max-forwards", left.parse().unwrap());
        request
    };

    for (method, before, after) in
        [(Method::OPTIONS, "7", "6"), (Method::GET, "0", "0"), (Method::TRACE, "x", "x")]
    {
        let response = upstream.proxy().oneshot(request(method, before)).await.unwrap();
        assert!(text(response).await.contains(&format!("max-forwards: {after}\r\n")));
    }
    let error = upstream.proxy().oneshot(request(Method::OPTIONS, "0")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BadRequest);
}

#[tokio::test]
async fn fields_of_the_clients_connection_stay_behind_and_trailers_are_asked_for_anew() {
    let mut request = get("/");
    for (name, value) in [
        ("connection", "keep-alive, X-Internal"),
        ("connection", "upgrade, te, host"),
        ("x-internal", "1"),
        ("x-kept", "1"),
        ("x-kept", "2"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "keep-alive"),
        ("proxy-authorization", "Basic c2VjcmV0"),
        ("te", "gzip;q=0.5, Trailers"),
        ("upgrade", "websocket"),
        ("expect", "100-continue"),
    ] {
        request.headers_mut().append(name, value.parse().unwrap());
    }

    let head = seen(Proxy::without_via, request).await;

    let mut lines: Vec<_> = head.trim_end().lines().skip(1).collect();
    lines.sort_unstable();
    assert_eq!(lines, ["connection: te", "host: shop.example", "te: trailers", "x-kept: 1", "x-kept: 2"]);
}

#[tokio::test]
async fn fields_of_the_upstreams_connection_stay_behind_and_the_rest_keeps_its_order() {
    let upstream = Upstream::answering(
        "HTTP/1.1 200 OK\r\nSet-Cookie: a\r\nConnection: X-Internal\r\nX-Internal: 1\r\nKeep-Alive: timeout=5\r\n\
         Upgrade: h2c\r\nProxy-Authenticate: Basic\r\nSet-Cookie: b\r\nContent-Length: 0\r\n\r\n",
    )
    .await;

    let response = upstream.proxy().oneshot(get("/")).await.unwrap();

    let names: Vec<_> = response.headers().keys().map(|name| name.as_str()).collect();
    assert_eq!(names, ["set-cookie", "content-length", "via"]);
    let cookies: Vec<_> = response.headers().get_all("set-cookie").iter().collect();
    assert_eq!(cookies, ["a", "b"]);
    assert_eq!(response.headers()["via"], "1.1 buttress");
}

#[tokio::test]
async fn a_via_that_came_is_kept_before_ours() {
    let mut request = get("/");
    request.headers_mut().insert("via", "1.1 before".parse().unwrap());

    let head = seen(|proxy| proxy, request).await;

    assert!(head.contains("via: 1.1 before\r\nvia: 1.1 buttress\r\n"), "{head}");
}

#[tokio::test]
async fn a_request_that_has_passed_here_as_often_as_it_may_is_in_a_loop() {
    let upstream = Upstream::echoing_heads().await;
    let passed = |times: usize| {
        let mut request = get("/");
        request.headers_mut().append("via", "1.1 other, 2 another (with, 1.1 buttress)".parse().unwrap());
        for _ in 0..times {
            request.headers_mut().append("via", "1.1 Buttress".parse().unwrap());
        }
        request
    };

    let chain = upstream.proxy().oneshot(passed(7)).await.unwrap();
    assert_eq!(chain.status(), 200);
    for (proxy, times) in [(upstream.proxy(), 8), (upstream.proxy().max_passes(1), 1)] {
        let error = proxy.oneshot(passed(times)).await.unwrap_err();

        assert_eq!(error.kind(), ErrorKind::Loop);
        assert_eq!(error.problem().unwrap().status(), 508);
        assert!(error.nothing_sent());
    }
    let by_another_name = upstream.proxy().max_passes(1).via("edge").oneshot(passed(9)).await.unwrap();
    assert_eq!(by_another_name.status(), 200);
    let unnamed = upstream.proxy().without_via().oneshot(passed(9)).await.unwrap();
    assert_eq!(unnamed.status(), 200);
    assert_eq!(upstream.accepted(), 3);
}

#[tokio::test]
async fn the_upstream_gets_the_host_of_the_client_its_own_or_a_fixed_one() {
    let fixed = seen(|proxy| proxy.fixed_host("users.internal:8080").without_via(), get("/")).await;
    assert_eq!(fixed, "GET / HTTP/1.1\r\nhost: users.internal:8080\r\n\r\n");

    let last = seen(|proxy| proxy.fixed_host("users.internal").preserve_host(true), get("http://b/")).await;
    assert!(last.contains("host: b\r\n"), "{last}");
}

#[test]
#[should_panic(expected = "fixed_host: `me@users` is not a host")]
fn a_host_that_is_none_is_refused_when_it_is_set() {
    let _ = Proxy::<TestBody>::to("127.0.0.1:1").unwrap().fixed_host("me@users");
}

#[tokio::test]
async fn forwarded_is_written_by_option_with_quotes_where_they_must_be() {
    let standard = |proxy: Proxy<_>| {
        proxy
            .x_forwarded(XForwarded::Replace)
            .forwarded_fields(ForwardedFields::Forwarded)
            .preserve_host(false)
    };
    let from = |peer: Option<&str>, host: &'static str| {
        let mut request = with_forwarded(peer);
        request.headers_mut().insert(HOST, host.parse().unwrap());
        request.headers_mut().insert("forwarded", "for=192.0.2.66".parse().unwrap());
        request
    };

    let ipv6 = seen(standard, from(Some("[2001:db8::7]:5000"), "shop.example:80")).await;
    let line = "\r\nforwarded: for=\"[2001:db8::7]\";host=\"shop.example:80\";proto=http\r\n";
    assert!(ipv6.contains(line), "{ipv6}");
    assert!(!ipv6.contains("192.0.2") && !ipv6.contains("x-forwarded"), "{ipv6}");

    let hidden = |proxy| standard(proxy).forwarded_by("_edge");
    let unknown = seen(hidden, from(None, "shop.example")).await;
    assert!(
        unknown.contains("forwarded: for=unknown;by=_edge;host=shop.example;proto=http\r\n"),
        "{unknown}"
    );

    let both =
        |proxy: Proxy<_>| proxy.x_forwarded(XForwarded::Append).forwarded_fields(ForwardedFields::Both);
    let both = seen(|proxy| both(proxy).forwarded_by("[::1]:443"), from(Some("198.51.100.7:1"), "a")).await;
    let line = "forwarded: for=192.0.2.66, for=198.51.100.7;by=\"[::1]:443\";host=a;proto=http\r\n";
    assert!(both.contains(line), "{both}");
    assert!(both.contains("x-forwarded-for: 192.0.2.1, 192.0.2.2, 198.51.100.7\r\n"), "{both}");

    let appended =
        |proxy: Proxy<_>| proxy.x_forwarded(XForwarded::Append).forwarded_fields(ForwardedFields::Forwarded);
    let appended = seen(appended, from(Some("198.51.100.7:1"), "a")).await;
    assert!(appended.contains("x-forwarded-for: 192.0.2.2\r\n"), "what the one in front wrote: {appended}");
}

#[test]
#[should_panic(expected = "forwarded_by: `edge` is no address")]
fn a_name_in_forwarded_begins_with_an_underscore() {
    let _ = Proxy::<TestBody>::to("127.0.0.1:1").unwrap().forwarded_by("edge");
}

#[tokio::test]
async fn the_scheme_is_the_one_that_the_server_tells_of_and_not_what_the_client_says() {
    for (scheme, told) in [(Some(Scheme::Https), "https"), (Some(Scheme::Http), "http"), (None, "http")] {
        let mut request = Request::get("https://shop.example/").body(body("")).unwrap();
        request.extensions_mut().extend(scheme.into_iter().fold(
            http::Extensions::new(),
            |mut all, scheme| {
                all.insert(scheme);
                all
            },
        ));
        let both =
            |proxy: Proxy<_>| proxy.x_forwarded(XForwarded::Replace).forwarded_fields(ForwardedFields::Both);

        let head = seen(both, request).await;

        assert!(head.contains(&format!("x-forwarded-proto: {told}\r\n")), "{head}");
        assert!(head.contains(&format!(";proto={told}\r\n")), "{head}");
    }
}

#[tokio::test]
async fn answers_tell_nothing_of_the_upstream_where_that_is_asked_for() {
    let upstream = Upstream::start(|_, mut wire| async move {
        let head = wire.head().await.unwrap();
        let host = head.lines().find_map(|line| line.strip_prefix("host: ")).unwrap().to_owned();
        wire.send(format!(
            "HTTP/1.1 302 Found\r\nServer: a/1.2\r\nX-Powered-By: b\r\nX-Backend: c\r\nVia: 1.1 inner.example\r\n\
             Alt-Svc: h3=\":443\"\r\nLocation: http://{host}/next?a\r\nETag: d\r\nContent-Length: 0\r\n\r\n"
        ))
        .await;
    })
    .await;
    let proxy = upstream.proxy().preserve_host(false).hide(["X-Backend"]);

    let response = proxy.clone().hide_upstream().oneshot(get("/")).await.unwrap();
    let mut names: Vec<_> = response.headers().keys().map(|name| name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["content-length", "etag", "location", "via"]);
    assert_eq!(response.headers()["location"], "/next?a");
    assert_eq!(response.headers().get_all("via").iter().collect::<Vec<_>>(), ["1.1 buttress"]);

    let response = proxy.oneshot(get("/")).await.unwrap();
    assert!(!response.headers().contains_key("x-backend"));
    assert_eq!(response.headers()["server"], "a/1.2");
    assert_ne!(response.headers()["location"], "/next?a");
}

fn with_forwarded(peer: Option<&str>) -> Request<TestBody> {
    let mut request = get("/");
    request.headers_mut().append("x-forwarded-for", "192.0.2.1".parse().unwrap());
    request.headers_mut().append("x-forwarded-for", "192.0.2.2".parse().unwrap());
    request.headers_mut().append("x-forwarded-proto", "https".parse().unwrap());
    if let Some(peer) = peer {
        request.extensions_mut().insert(Peer(peer.parse::<SocketAddr>().unwrap()));
    }
    request
}

#[tokio::test]
async fn x_forwarded_fields_are_kept_appended_or_replaced() {
    let keep = seen(|proxy| proxy, with_forwarded(Some("198.51.100.7:5000"))).await;
    assert!(keep.contains("x-forwarded-for: 192.0.2.1\r\n"), "{keep}");
    assert!(!keep.contains("198.51.100.7"), "{keep}");

    let append = |proxy: Proxy<_>| proxy.x_forwarded(XForwarded::Append);
    let appended = seen(append, with_forwarded(Some("[::ffff:198.51.100.7]:5000"))).await;
    assert!(appended.contains("x-forwarded-for: 192.0.2.1, 192.0.2.2, 198.51.100.7\r\n"), "{appended}");
    assert!(appended.contains("x-forwarded-proto: https, http\r\n"), "{appended}");
    assert!(appended.contains("x-forwarded-host: shop.example\r\n"), "{appended}");

    let unknown = seen(append, with_forwarded(None)).await;
    assert!(unknown.contains("x-forwarded-for: 192.0.2.1, 192.0.2.2, unknown\r\n"), "{unknown}");

    let replace = |proxy: Proxy<_>| proxy.x_forwarded(XForwarded::Replace).preserve_host(false);
    let replaced = seen(replace, with_forwarded(Some("[2001:db8::7]:5000"))).await;
    assert!(replaced.contains("x-forwarded-for: 2001:db8::7\r\n"), "{replaced}");
    assert!(replaced.contains("x-forwarded-proto: http\r\n"), "{replaced}");
    assert!(replaced.contains("x-forwarded-host: shop.example\r\n"), "{replaced}");
    assert!(replaced.contains("host: 127.0.0.1:"), "{replaced}");
}

#[tokio::test]
async fn what_a_client_says_of_itself_in_other_fields_goes_where_its_x_forwarded_goes() {
    let request = || {
        let mut request = with_forwarded(Some("198.51.100.7:5000"));
        request.headers_mut().append("forwarded", "for=192.0.2.66".parse().unwrap());
        request.headers_mut().append("forwarded", "for=192.0.2.67".parse().unwrap());
        request.headers_mut().append("x-real-ip", "192.0.2.68".parse().unwrap());
        request
    };

    for mode in [XForwarded::Keep, XForwarded::Append] {
        let sent_on = seen(|proxy| proxy.x_forwarded(mode), request()).await;
        for theirs in
            ["forwarded: for=192.0.2.66\r\nforwarded: for=192.0.2.67\r\n", "x-real-ip: 192.0.2.68\r\n"]
        {
            assert!(sent_on.contains(theirs), "{mode:?}: {sent_on}");
        }
    }
    let replaced = seen(|proxy| proxy.x_forwarded(XForwarded::Replace), request()).await;
    assert!(!replaced.contains("192.0.2."), "{replaced}");
}

#[tokio::test]
async fn a_list_is_continued_for_a_trusted_peer_and_begun_for_every_other() {
    let behind = |proxy: Proxy<_>| proxy.x_forwarded_behind(["198.51.100.0/24", "2001:db8::/32"]);

    for trusted in ["198.51.100.7:5000", "[::ffff:198.51.100.7]:5000", "[2001:db8::7]:5000"] {
        let head = seen(behind, with_forwarded(Some(trusted))).await;
        assert!(head.contains("x-forwarded-for: 192.0.2.1, 192.0.2.2, "), "{trusted}: {head}");
    }
    for (other, entry) in [(Some("203.0.113.7:5000"), "203.0.113.7"), (None, "unknown")] {
        let head = seen(behind, with_forwarded(other)).await;
        assert!(head.contains(&format!("x-forwarded-for: {entry}\r\n")), "{other:?}: {head}");
        assert!(head.contains("x-forwarded-proto: http\r\n"), "{other:?}: {head}");
    }
    let nobody = seen(
        |proxy| proxy.x_forwarded_behind([] as [buttress_http::key::Net; 0]),
        with_forwarded(Some("198.51.100.7:5000")),
    )
    .await;
    assert!(nobody.contains("x-forwarded-for: 198.51.100.7\r\n"), "{nobody}");
}

#[test]
#[should_panic(expected = "x_forwarded_behind: ")]
fn a_network_that_is_none_is_refused_when_it_is_set() {
    let _ = Proxy::<TestBody>::to("127.0.0.1:1").unwrap().x_forwarded_behind(["10.0.0.0/33"]);
}

#[tokio::test]
async fn what_cannot_be_sent_on_is_refused_before_anything_is_sent() {
    let upstream = Upstream::echoing_heads().await;
    let mut two_hosts = get("/");
    two_hosts.headers_mut().append(HOST, "other.example".parse().unwrap());
    let mut coded = get("/");
    coded.headers_mut().append("transfer-encoding", "gzip, chunked".parse().unwrap());
    let connect = Request::connect("other.example:443").body(body("")).unwrap();
    let mut two_lengths = post("hello");
    two_lengths.headers_mut().append("content-length", "5".parse().unwrap());
    two_lengths.headers_mut().append("content-length", "6".parse().unwrap());
    let mut both = post("hello");
    both.headers_mut().append("content-length", "5".parse().unwrap());
    both.headers_mut().append("transfer-encoding", "chunked".parse().unwrap());

    for request in [two_hosts, coded, connect, two_lengths, both] {
        let error = upstream.proxy().oneshot(request).await.unwrap_err();

        assert_eq!(error.kind(), ErrorKind::BadRequest);
        assert!(error.nothing_sent() && Cause::nothing_sent(&error));
    }
    assert_eq!(upstream.accepted(), 0);
}

#[tokio::test]
async fn repeated_lengths_become_one() {
    let upstream =
        Upstream::answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok").await;

    let response = upstream.proxy().oneshot(get("/")).await.unwrap();

    assert_eq!(response.headers().get_all("content-length").iter().collect::<Vec<_>>(), ["2"]);
    assert_eq!(text(response).await, "ok");
}

#[tokio::test]
async fn a_length_that_the_body_no_longer_has_is_corrected() {
    let mut request = post("");
    request.headers_mut().insert("content-length", "5".parse().unwrap());

    let head = seen(Proxy::without_via, request).await;

    assert!(head.contains("content-length: 0\r\n"), "{head}");
}

#[test]
fn the_names_that_are_asked_for_anew_are_hop_by_hop() {
    let mut fields = http::HeaderMap::new();
    fields.insert(CONNECTION, "te".parse().unwrap());
    fields.insert(TE, "trailers".parse().unwrap());

    let said = buttress_proxy::remove_hop_by_hop(&mut fields);

    assert!(said.te_trailers && !said.close && !said.transfer_encoding);
    assert!(fields.is_empty());
}

#[test]
fn an_address_that_cannot_be_says_which_rule_it_breaks() {
    for (text, rule) in [
        ("", "must be `host:port`"),
        ("users", "a port from 1 to 65535"),
        ("users:0", "a port from 1 to 65535"),
        ("127.0.0.1:0", "a port from 1 to 65535"),
        ("users:99999", "a port from 1 to 65535"),
        ("http://users:/", "a port from 1 to 65535"),
        ("ftp://users", "the scheme must be `http`"),
        (
            "https://users:0",
            if cfg!(feature = "tls") { "a port from 1 to 65535" } else { "`https` needs the featur" },
        ),
        ("http://users/v1", "must not have a path"),
        ("http://users?a", "must not have a path"),
        ("http://me:secret@users", "must not hold a user name"),
        ("users:9000/v1", ""),
        ("/users", "the host must be"),
        ("a b:9000", "must be `host:port`"),
    ] {
        let error = Proxy::<TestBody>::to(text).unwrap_err();

        assert_eq!(error.value(), text);
        assert!(error.rule().starts_with(rule), "{error}");
        assert!(error.to_string().starts_with(&format!("upstream `{text}`: ")), "{error}");
    }
    for (text, address) in [
        ("127.0.0.1:9000", "127.0.0.1:9000"),
        ("[::1]:9000", "[::1]:9000"),
        ("http://[::1]", "[::1]:80"),
        ("users.internal:9000", "users.internal:9000"),
        ("http://users.internal/", "users.internal:80"),
        ("unix:/run/users.sock", "unix:/run/users.sock"),
        #[cfg(feature = "tls")]
        ("https://users.internal", "https://users.internal:443"),
    ] {
        assert_eq!(text.parse::<Address>().unwrap().to_string(), address);
    }
}

#[test]
fn a_socket_address_without_a_port_is_refused_too() {
    let error = Proxy::<TestBody>::to(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap_err();

    assert!(error.to_string().starts_with("upstream `127.0.0.1:0`: a port from 1 to 65535"), "{error}");
}

#[tokio::test]
async fn a_host_name_is_looked_up() {
    let upstream = Upstream::answering(support::OK).await;
    let proxy = Proxy::to(format!("localhost:{}", upstream.address.port())).unwrap();

    let response = proxy.oneshot(get("/")).await.unwrap();

    assert_eq!(text(response).await, "ok");
}
