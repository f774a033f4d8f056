//! Services.

use std::time::Duration;

use buttress_balance::discover::Dns;
use hickory_proto::rr::RecordType::{A, SRV};

use super::server::{Reply, Server};
use super::{BRIEF, Running, SECOND, is_told_before_silence_ends, run};
use crate::Told;

const API: &str = "_http._tcp.api.test.";

async fn server() -> Server {
    let server = Server::start().await;
    server.a("one.test.", 60, &["192.0.2.1"]);
    server.a("two.test.", 60, &["192.0.2.2"]);
    server
}

fn api() -> Dns {
    Dns::services(API).expect("it is a name").ipv4_only()
}

/// Name, priority, weight and host of each.
fn all(dns: &Running) -> Vec<(String, u32, u32, String)> {
    let list = dns.endpoints.list();
    let all = list.iter().map(|endpoint| {
        let host = endpoint.metadata("host").expect("each has one").to_string();
        (endpoint.name().to_string(), endpoint.priority(), endpoint.weight(), host)
    });
    all.collect()
}

#[tokio::test]
async fn a_service_gives_its_targets_their_ports_priorities_and_weights() {
    let server = server().await;
    server.a("two.test.", 60, &["192.0.2.2", "192.0.2.3"]);
    server.srv(API, 60, &[(20, 0, 8081, "two.test."), (10, 5, 8080, "one.test.")]);

    let mut dns = run(&server, api());

    assert_eq!(dns.events.next().await, Told::Changed(3));
    let one = ("192.0.2.1:8080".to_owned(), 10, 5, "one.test.".to_owned());
    let two = |place: &str| (place.to_owned(), 20, 1, "two.test.".to_owned());
    assert_eq!(all(&dns), [one, two("192.0.2.2:8081"), two("192.0.2.3:8081")]);
}

#[tokio::test]
async fn a_place_that_two_records_have_is_one_endpoint_of_the_first() {
    let server = server().await;
    server.a("two.test.", 60, &["192.0.2.1"]);
    server.srv(API, 60, &[(2, 9, 80, "two.test."), (1, 5, 80, "one.test."), (1, 7, 81, "one.test.")]);

    let mut dns = run(&server, api());

    assert_eq!(dns.events.next().await, Told::Changed(2));
    let of = |place: &str, weight| (place.to_owned(), 1, weight, "one.test.".to_owned());
    assert_eq!(all(&dns), [of("192.0.2.1:80", 5), of("192.0.2.1:81", 7)]);
}

#[tokio::test]
async fn a_target_that_is_not_answered_keeps_its_last_and_the_others_go_on() {
    let server = server().await;
    server.srv(API, 10, &[(0, 1, 80, "one.test."), (0, 1, 80, "two.test.")]);
    let mut dns = run(&server, api().timeout(BRIEF));
    assert_eq!(dns.events.next().await, Told::Changed(2));

    server.set("one.test.", A, Reply::Silence);
    server.a("two.test.", 60, &["192.0.2.9"]);
    dns.time.advance(SECOND * 11);
    assert_eq!(dns.events.next().await, Told::Changed(2));
    assert_eq!(dns.names(), ["192.0.2.1:80", "192.0.2.9:80"]);
    assert!(dns.fails(SECOND).await.1.starts_with("A records of `one.test.`"));

    // The target goes, and with it what was known of it.
    server.srv(API, 10, &[(0, 1, 80, "two.test.")]);
    dns.retry();
    assert_eq!(dns.events.next().await, Told::Changed(1));
    server.srv(API, 10, &[(0, 1, 80, "one.test."), (0, 2, 80, "two.test.")]);
    dns.time.advance(SECOND * 11);
    assert_eq!(dns.events.next().await, Told::Changed(1));
    assert_eq!(dns.names(), ["192.0.2.9:80"]);
}

#[tokio::test]
async fn weights_are_as_small_as_their_proportions_allow() {
    let server = server().await;
    for (weights, expected) in
        [([100, 100], [1, 1]), ([40, 60], [2, 3]), ([0, 60], [1, 60]), ([0, 0], [1, 1])]
    {
        server.srv(API, 60, &[(0, weights[0], 80, "one.test."), (0, weights[1], 80, "two.test.")]);

        let mut dns = run(&server, api());

        dns.events.next().await;
        let weights: Vec<u32> = dns.endpoints.list().iter().map(|endpoint| endpoint.weight()).collect();
        assert_eq!(weights, expected);
    }
}

#[tokio::test]
async fn a_service_that_is_gone_or_not_answered_keeps_its_targets_whose_addresses_are_followed() {
    for (reply, message) in [
        (Reply::NoName, "there is no name `_http._tcp.api.test.` for SRV records"),
        (Reply::Silence, "SRV records of `_http._tcp.api.test.` could not be had"),
        (root(), "`_http._tcp.api.test.` has no SRV records"),
    ] {
        let server = server().await;
        server.srv(API, 10, &[(0, 1, 80, "one.test.")]);
        let mut dns = run(&server, api().timeout(BRIEF));
        assert_eq!(dns.events.next().await, Told::Changed(1));

        server.set(API, SRV, reply);
        server.a("one.test.", 60, &["192.0.2.7"]);
        dns.time.advance(SECOND * 11);

        assert_eq!(dns.events.next().await, Told::Changed(1));
        assert_eq!(dns.names(), ["192.0.2.7:80"]);
        let (stay, error) = dns.events.failure().await;
        assert!(stay == 1 && error.starts_with(message), "{error}");
    }
}

#[tokio::test]
async fn new_targets_whose_addresses_cannot_be_had_do_not_empty_the_list() {
    for reply in [Reply::Silence, Reply::NoName] {
        let server = server().await;
        server.srv(API, 10, &[(0, 1, 80, "one.test.")]);
        let mut dns = run(&server, api().timeout(BRIEF));
        assert_eq!(dns.events.next().await, Told::Changed(1));
        let before = dns.names();

        server.srv(API, 10, &[(0, 1, 80, "two.test.")]);
        server.set("two.test.", A, reply);
        dns.time.advance(SECOND * 11);

        let (stay, _) = dns.events.failure().await;
        assert_eq!(stay, 1);
        assert_eq!(dns.names(), before);
    }
}

#[tokio::test]
async fn that_there_is_no_such_service_is_believed_where_that_is_asked_for() {
    let server = server().await;
    server.srv(API, 10, &[(0, 1, 80, "one.test.")]);
    let mut dns = run(&server, api().accept_empty());
    assert_eq!(dns.events.next().await, Told::Changed(1));

    server.set(API, SRV, root());
    dns.time.advance(SECOND * 11);

    assert_eq!(dns.events.next().await, Told::Changed(0));
    assert!(dns.events.is_empty());
}

/// The record of RFC 2782 that says that there is no such service.
fn root() -> Reply {
    let record = hickory_proto::rr::rdata::SRV::new(0, 0, 0, hickory_proto::rr::Name::root());
    Reply::Records(60, vec![hickory_proto::rr::RData::SRV(record)])
}

#[tokio::test]
async fn a_list_is_replaced_by_none_that_lacks_a_target_for_want_of_an_answer() {
    let server = Server::start().await;
    server.srv(API, 10, &[(0, 1, 80, "one.test."), (0, 1, 80, "two.test.")]);
    server.a("one.test.", 10, &["192.0.2.1"]);
    server.set("two.test.", A, Reply::Silence);
    let mut dns = run(&server, api().ipv4_only().timeout(SECOND * 600));
    assert_eq!(is_told_before_silence_ends(&mut dns).await, Told::Changed(1), "one is better than none");
    assert_eq!(dns.names(), ["192.0.2.1:80"]);

    // Another round, with all targets renamed, of which one is silent.
    let server = Server::start().await;
    server.srv(API, 10, &[(0, 1, 80, "one.test.")]);
    server.a("one.test.", 10, &["192.0.2.1", "192.0.2.2", "192.0.2.3"]);
    let mut dns = run(&server, api().ipv4_only().timeout(BRIEF));
    assert_eq!(dns.events.next().await, Told::Changed(3));
    server.srv(API, 10, &[(0, 1, 80, "three.test."), (0, 1, 80, "four.test.")]);
    server.a("three.test.", 10, &["192.0.2.4"]);
    server.set("four.test.", A, Reply::Silence);
    dns.time.advance(SECOND * 11);
    while server.asked("four.test.", A) == 0 {
        tokio::task::yield_now().await;
    }
    server.settle().await;
    dns.time.advance(Duration::from_millis(200));
    server.settle().await;
    assert!(dns.events.is_empty(), "the three are better than one");
    assert_eq!(dns.events.next().await, Told::Changed(1), "that was all there is");
    assert_eq!(dns.fails(SECOND).await.0, 1);
}
