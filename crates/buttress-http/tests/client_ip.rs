//! Who the client is, behind whatever proxies, whatever they or it write.

use std::net::{IpAddr, SocketAddr};

use buttress_core::Key;
use buttress_http::key::{self, ClientIp};
use buttress_http::{Peer, key::NetError};
use http::{HeaderMap, HeaderValue, Request};
use proptest::prelude::*;

const PROXY: &str = "10.0.0.1";

fn ip(text: &str) -> IpAddr {
    text.parse().expect("the test writes addresses")
}

fn headers(name: &'static str, lines: &[&str]) -> HeaderMap {
    lines.iter().map(|line| (name.parse().unwrap(), HeaderValue::from_str(line).unwrap())).collect()
}

fn x_forwarded_for(lines: &[&str]) -> IpAddr {
    key::client_ip().x_forwarded_for(key::PRIVATE).resolve(ip(PROXY), &headers("x-forwarded-for", lines))
}

fn forwarded(lines: &[&str]) -> IpAddr {
    key::client_ip().forwarded(key::PRIVATE).resolve(ip(PROXY), &headers("forwarded", lines))
}

/// The key of a request from `peer`, with no header.
fn key_of(client_ip: &ClientIp, peer: &str) -> Vec<u8> {
    let mut request = Request::new(());
    request.extensions_mut().insert(Peer(SocketAddr::new(ip(peer), 50123)));
    let mut key = Vec::new();
    assert!(client_ip.key(&request, &mut key));
    key
}

#[test]
fn without_trusted_proxies_no_header_is_read() {
    let mut fields = headers("x-forwarded-for", &["192.0.2.1"]);
    fields.insert("forwarded", HeaderValue::from_static("for=192.0.2.1"));

    assert_eq!(key::client_ip().resolve(ip(PROXY), &fields), ip(PROXY));
}

#[test]
fn an_untrusted_peer_always_gives_itself() {
    let behind = key::client_ip().x_forwarded_for(["10.0.0.0/8"]);

    let client = behind.resolve(ip("192.0.2.9"), &headers("x-forwarded-for", &["192.0.2.1"]));

    assert_eq!(client, ip("192.0.2.9"));
}

#[test]
fn the_two_fields_are_never_mixed() {
    let mut both = headers("x-forwarded-for", &["192.0.2.1"]);
    both.insert("forwarded", HeaderValue::from_static("for=192.0.2.2"));
    let trust = key::client_ip();

    assert_eq!(trust.clone().x_forwarded_for([PROXY]).resolve(ip(PROXY), &both), ip("192.0.2.1"));
    assert_eq!(trust.clone().forwarded([PROXY]).resolve(ip(PROXY), &both), ip("192.0.2.2"));
    both.remove("forwarded");
    assert_eq!(trust.forwarded([PROXY]).resolve(ip(PROXY), &both), ip(PROXY));
}

#[test]
fn x_forwarded_for_is_walked_from_the_right() {
    for (lines, client) in [
        (&["192.0.2.1"][..], "192.0.2.1"),
        (&["6.6.6.6, 192.0.2.1"], "192.0.2.1"),
        (&["6.6.6.6, 192.0.2.1, 10.0.0.2,127.0.0.1"], "192.0.2.1"),
        // Many lines are one list, in their order.
        (&["6.6.6.6", "192.0.2.1", "10.0.0.2"], "192.0.2.1"),
        (&["192.0.2.1, 10.0.0.3", "10.0.0.2, 10.0.0.4"], "192.0.2.1"),
        // All trusted: the leftmost.
        (&["10.0.0.9, 10.0.0.8"], "10.0.0.9"),
        (&["192.0.2.1, , 10.0.0.2,,"], "192.0.2.1"),
        (&[], PROXY),
        (&[""], PROXY),
        (&[" , ,"], PROXY),
        // Ports, brackets, zones.
        (&["192.0.2.1:8080"], "192.0.2.1"),
        (&["2001:db8::1"], "2001:db8::1"),
        (&["[2001:db8::1]"], "2001:db8::1"),
        (&["[2001:db8::1]:8080"], "2001:db8::1"),
        (&["fe80::1%eth0"], "fe80::1"),
        (&["[fe80::1%25eth0]:8080"], "fe80::1"),
        // IPv4 in IPv6, by the bits and not by the spelling.
        (&["::ffff:192.0.2.1"], "192.0.2.1"),
        (&["0:0:0:0:0:FFFF:c000:201"], "192.0.2.1"),
        (&["192.0.2.1, ::ffff:10.0.0.2"], "192.0.2.1"),
        // Hidden: the last trusted hop.
        (&["192.0.2.1, unknown"], PROXY),
        (&["192.0.2.1, Unknown, 10.0.0.2"], "10.0.0.2"),
        (&["192.0.2.1, _secret, 10.0.0.2"], "10.0.0.2"),
        // Garbage where a trusted proxy's entry should be: the peer. Left of the client it does not matter.
        (&["\"<>, 192.0.2.1"], "192.0.2.1"),
        (&["192.0.2.1, nonsense, 10.0.0.2"], PROXY),
        (&["192.0.2.1:"], PROXY),
        (&["192.0.2.1:123456"], PROXY),
        (&["192.0.2.1:8a"], PROXY),
        (&["192.0.2.256"], PROXY),
        (&["192.0.2.010"], PROXY),
        (&["192.0.2.1%eth0"], PROXY),
        (&["192.0.2.1 192.0.2.2"], PROXY),
        (&["[192.0.2.1]"], PROXY),
        (&["[2001:db8::1"], PROXY),
        (&["[2001:db8::1]8080"], PROXY),
        (&["[2001:db8::1]:"], PROXY),
        (&["2001:db8::1]"], PROXY),
        (&["\"192.0.2.1\""], PROXY),
        (&["_"], PROXY),
    ] {
        assert_eq!(x_forwarded_for(lines), ip(client), "{lines:?}");
    }
}

#[test]
fn forwarded_is_read_as_rfc_7239_says() {
    for (lines, client) in [
        (&["for=192.0.2.1"][..], "192.0.2.1"),
        (&["For=\"[2001:db8:cafe::17]:4711\""], "2001:db8:cafe::17"),
        (&["for=192.0.2.1;proto=http;by=203.0.113.43"], "192.0.2.1"),
        (&["proto=http; by=203.0.113.43 ; FOR = 192.0.2.1 ;"], "192.0.2.1"),
        (&["for=192.0.2.1, for=10.0.0.2"], "192.0.2.1"),
        (&["for=6.6.6.6", "for=192.0.2.1;by=10.0.0.3", "for=10.0.0.2"], "192.0.2.1"),
        (&["for=\"192.0.2.1:47011\""], "192.0.2.1"),
        (&["for=\"192.0.2.1:_port\""], "192.0.2.1"),
        (&["for=\"1\\92.0.2.\\1\""], "192.0.2.1"),
        (&["for=\"::ffff:192.0.2.1\""], "192.0.2.1"),
        // Quoted commas, semicolons, quotes and backslashes part nothing.
        (&["for=192.0.2.1;secret=\"a, for=6.6.6.6;\"", "for=10.0.0.2"], "192.0.2.1"),
        (&["for=192.0.2.1;secret=\"a\\\", for=6.6.6.6\", for=10.0.0.2"], "192.0.2.1"),
        (&["for=192.0.2.1;secret=\"a\\\\\", for=10.0.0.2"], "192.0.2.1"),
        // What a client leaves open swallows nothing of what a proxy adds.
        (&["for=\"6.6.6.6, for=192.0.2.1"], "192.0.2.1"),
        (&["secret=\"\\, for=192.0.2.1, for=\"10.0.0.2\""], "192.0.2.1"),
        // Common, though not allowed without quotes.
        (&["for=2001:db8::1"], "2001:db8::1"),
        (&["for=[2001:db8::1]:80;proto=https"], "2001:db8::1"),
        // Hidden.
        (&["for=192.0.2.1, for=unknown"], PROXY),
        (&["for=192.0.2.1, for=\"_gazonk\", for=10.0.0.2"], "10.0.0.2"),
        (&["for=192.0.2.1, for=\"unknown:80\", for=10.0.0.2"], "10.0.0.2"),
        (&["for=192.0.2.1, proto=https, for=10.0.0.2"], "10.0.0.2"),
        // Garbage.
        (&["for=192.0.2.1;for=192.0.2.2"], PROXY),
        (&["for=\"192.0.2.1"], PROXY),
        (&["for=192.0.2.1\""], PROXY),
        (&["for=\"192.0.2.1\" x"], PROXY),
        (&["for=\"192.0.2.1\"by=me"], PROXY),
        (&["for=\"192.0.2.1\\"], PROXY),
        (&["for"], PROXY),
        (&["for="], PROXY),
        (&["=192.0.2.1"], PROXY),
        (&["fo r=192.0.2.1"], PROXY),
        (&["192.0.2.1"], PROXY),
        (&["for=192.0.2.1 by=me"], PROXY),
    ] {
        assert_eq!(forwarded(lines), ip(client), "{lines:?}");
    }
}

#[test]
fn an_address_longer_than_any_is_garbage() {
    let long = format!("for=\"[2001:db8::1%{}]\"", "z".repeat(200));

    assert_eq!(forwarded(&[&long]), ip(PROXY));
}

#[test]
fn at_most_32_hops_are_walked() {
    let trusted: Vec<_> = (0..40).map(|n| format!("10.0.1.{n}")).collect();
    let line = format!("192.0.2.1, {}", trusted.join(","));

    assert_eq!(x_forwarded_for(&[&line]), ip("10.0.1.8"));
}

#[test]
fn with_a_fixed_number_of_proxies_the_entry_at_that_place_is_the_client() {
    let two = key::client_ip().x_forwarded_for(["0.0.0.0/0"]).hops(2);
    let client = |line| two.resolve(ip("203.0.113.1"), &headers("x-forwarded-for", &[line]));

    assert_eq!(client("6.6.6.6, 192.0.2.1, 198.51.100.7"), ip("192.0.2.1"));
    assert_eq!(client("192.0.2.1"), ip("203.0.113.1"), "not through both proxies");
    assert_eq!(client("192.0.2.1, nonsense"), ip("203.0.113.1"));
}

#[test]
fn trusting_everybody_does_not_let_a_client_write_its_own_address() {
    let all = key::client_ip().x_forwarded_for(["0.0.0.0/0", "::/0"]);

    let client = all.resolve(ip("203.0.113.1"), &headers("x-forwarded-for", &["6.6.6.6, 192.0.2.1"]));

    assert_eq!(client, ip("192.0.2.1"));
}

#[test]
fn a_peer_in_ipv6_spelling_is_the_ipv4_address_it_is() {
    let behind = key::client_ip().x_forwarded_for(["::ffff:10.0.0.0/104"]);

    let client = behind.resolve(ip("::ffff:10.0.0.1"), &headers("x-forwarded-for", &["192.0.2.1"]));

    assert_eq!(client, ip("192.0.2.1"));
    assert_eq!(key::client_ip().resolve(ip("::ffff:192.0.2.7"), &HeaderMap::new()), ip("192.0.2.7"));
}

#[test]
fn ipv6_clients_count_by_prefix_and_ipv4_clients_by_address() {
    let by_64 = key::client_ip();
    assert_eq!(key_of(&by_64, "2001:db8:0:1::1"), key_of(&by_64, "2001:db8:0:1:ffff::2"));
    assert_ne!(key_of(&by_64, "2001:db8:0:1::1"), key_of(&by_64, "2001:db8:0:2::1"));
    assert_ne!(key_of(&by_64, "192.0.2.1"), key_of(&by_64, "192.0.2.2"));
    assert_eq!(key_of(&by_64, "192.0.2.1"), key_of(&by_64, "::ffff:192.0.2.1"));

    let by_48 = key::client_ip().ipv6_prefix(48);
    assert_eq!(key_of(&by_48, "2001:db8:0:1::1"), key_of(&by_48, "2001:db8:0:2::1"));

    let by_address = key::client_ip().ipv6_prefix(128);
    assert_ne!(key_of(&by_address, "2001:db8::1"), key_of(&by_address, "2001:db8::2"));
}

#[test]
fn a_request_without_a_peer_has_no_key() {
    let mut key = Vec::new();

    assert!(!key::client_ip().key(&Request::new(()), &mut key));
    assert!(key.is_empty());
    assert_eq!(key::client_ip().address(&Request::new(())), None);
}

#[test]
#[should_panic(expected = "trusted proxies: `10.0.0.0/33` is neither a network")]
fn a_network_that_is_none_is_refused_when_the_key_is_built() {
    let _ = key::client_ip().x_forwarded_for(["10.0.0.0/33"]);
}

#[test]
fn a_network_from_a_file_gives_a_typed_error() {
    let error: NetError = "ten".parse::<key::Net>().unwrap_err();

    assert_eq!(error.text, "ten");
    assert!("10.0.0.0/8".parse::<key::Net>().is_ok());
}

#[test]
fn networks_may_be_texts_addresses_or_parsed() {
    let parsed: key::Net = "10.0.0.0/8".parse().unwrap();
    let fields = headers("x-forwarded-for", &["192.0.2.1"]);

    for client_ip in [
        key::client_ip().x_forwarded_for([parsed]),
        key::client_ip().x_forwarded_for(vec![String::from("10.0.0.0/8")]),
        key::client_ip().x_forwarded_for([ip(PROXY)]),
    ] {
        assert_eq!(client_ip.resolve(ip(PROXY), &fields), ip("192.0.2.1"));
    }
}

#[test]
#[should_panic(expected = "from 1 to 32")]
fn no_hops_are_refused() {
    let _ = key::client_ip().hops(0);
}

#[test]
#[should_panic(expected = "from 48 to 128")]
fn a_prefix_that_counts_whole_countries_together_is_refused() {
    let _ = key::client_ip().ipv6_prefix(32);
}

fn field_bytes() -> impl Strategy<Value = Vec<u8>> {
    let soup = prop::collection::vec(
        prop::sample::select(
            (0..=u8::MAX).filter(|byte| HeaderValue::from_bytes(&[*byte]).is_ok()).collect::<Vec<_>>(),
        ),
        0..60,
    );
    // Likelier to be almost right than mere noise.
    let tokens = prop::collection::vec(
        prop::sample::select(vec![
            "for=",
            "For=\"",
            "\"",
            "\\",
            ",",
            ";",
            ":",
            "[",
            "]",
            "=",
            " ",
            "%",
            "by=",
            "10.0.0.1",
            "192.0.2.1",
            "2001:db8::1",
            "::ffff:10.0.0.1",
            "unknown",
            "_x",
            "80",
            "1",
        ]),
        0..20,
    )
    .prop_map(|tokens| tokens.concat().into_bytes());
    prop_oneof![soup, tokens]
}

fn any_ip() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        any::<[u8; 4]>().prop_map(IpAddr::from),
        any::<[u8; 16]>().prop_map(IpAddr::from),
        any::<u8>().prop_map(|last| IpAddr::from([10, 0, 0, last])),
    ]
}

fn readers() -> impl Strategy<Value = (&'static str, ClientIp)> {
    let trust = || ["10.0.0.0/8", "2001:db8::/32"];
    prop::sample::select(vec![
        ("x-forwarded-for", key::client_ip().x_forwarded_for(trust())),
        ("forwarded", key::client_ip().forwarded(trust())),
        ("x-forwarded-for", key::client_ip().x_forwarded_for(trust()).hops(2)),
        ("forwarded", key::client_ip().forwarded(trust()).hops(1)),
    ])
}

fn map_of(name: &'static str, lines: &[Vec<u8>]) -> HeaderMap {
    lines.iter().map(|line| (name.parse().unwrap(), HeaderValue::from_bytes(line).unwrap())).collect()
}

/// Every address that can be read anywhere in the bytes: at any offset, of any length.
fn addresses_in(lines: &[Vec<u8>]) -> Vec<IpAddr> {
    let mut found = Vec::new();
    for line in lines {
        // Escapes may stand in the middle of a quoted address.
        let plain: Vec<u8> = line.iter().copied().filter(|byte| *byte != b'\\').collect();
        for from in 0..plain.len() {
            for to in from + 1..=plain.len().min(from + 46) {
                if let Some(ip) = str::from_utf8(&plain[from..to]).ok().and_then(|text| text.parse().ok()) {
                    found.push(IpAddr::to_canonical(&ip));
                }
            }
        }
    }
    found
}

proptest! {
    #[test]
    fn any_bytes_give_the_peer_or_an_address_that_stands_in_them(
        (name, client_ip) in readers(),
        peer in any_ip(),
        lines in prop::collection::vec(field_bytes(), 0..4),
    ) {
        let client = client_ip.resolve(peer, &map_of(name, &lines));

        prop_assert!(client == peer.to_canonical() || addresses_in(&lines).contains(&client), "{client}");
    }

    #[test]
    fn whatever_the_headers_an_untrusted_peer_gives_itself(
        (name, client_ip) in readers(),
        last in any::<[u8; 3]>(),
        lines in prop::collection::vec(field_bytes(), 0..4),
    ) {
        let peer = IpAddr::from([11, last[0], last[1], last[2]]);

        prop_assert_eq!(client_ip.resolve(peer, &map_of(name, &lines)), peer);
    }

    #[test]
    fn whatever_a_client_sends_the_entry_that_our_proxy_adds_counts(
        sent in prop::collection::vec(field_bytes(), 0..4),
        client in any_ip().prop_filter("not one of ours", |ip| {
            !["10.0.0.0/8", "2001:db8::/32"].iter().any(|net| net.parse::<key::Net>().unwrap().contains(*ip))
        }),
        inner_proxies in 0..5_u8,
        same_line in any::<bool>(),
        as_forwarded in any::<bool>(),
    ) {
        let entry = |ip: IpAddr| match (as_forwarded, ip) {
            (true, IpAddr::V6(ip)) => format!("for=\"[{ip}]\""),
            (true, IpAddr::V4(ip)) => format!("for={ip}"),
            (false, ip) => ip.to_string(),
        };
        let added: Vec<_> = std::iter::once(entry(client))
            .chain((0..inner_proxies).map(|n| entry(IpAddr::from([10, 1, 1, n]))))
            .collect();
        let added = added.join(", ").into_bytes();
        let mut lines = sent;
        match lines.last_mut().filter(|_| same_line) {
            Some(last) => last.extend(b", ".iter().chain(&added)),
            None => lines.push(added),
        }
        let (name, client_ip) = if as_forwarded {
            ("forwarded", key::client_ip().forwarded(["10.0.0.0/8", "2001:db8::/32"]))
        } else {
            ("x-forwarded-for", key::client_ip().x_forwarded_for(["10.0.0.0/8", "2001:db8::/32"]))
        };

        let found = client_ip.resolve(ip(PROXY), &map_of(name, &lines));

        prop_assert_eq!(found, client.to_canonical());
    }
}

#[test]
fn ordinary_headers_are_read_without_an_allocation() {
    for (client_ip, name, lines) in [
        (
            key::client_ip().x_forwarded_for(key::PRIVATE),
            "x-forwarded-for",
            &["6.6.6.6, [2001:db8::1]:80, 10.0.0.2"],
        ),
        (
            key::client_ip().forwarded(key::PRIVATE),
            "forwarded",
            &["for=\"[2001:db8::\\1]:80\";by=10.0.0.3, for=10.0.0.2"],
        ),
    ] {
        let fields = headers(name, lines);
        let mut found = None;

        assert_eq!(buttress_testkit::allocations(|| found = Some(client_ip.resolve(ip(PROXY), &fields))), 0);
        assert_eq!(found, Some(ip("2001:db8::1")));
    }
}
