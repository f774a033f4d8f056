//! Endpoints from a name server that is asked over real sockets, on a clock that is moved by hand.

mod server;
mod srv;

use std::time::Duration;

use buttress_balance::discover::{Dns, DnsError};
use buttress_core::{Endpoints, Health, ManualClock, Timestamp};
use hickory_proto::rr::RecordType::{A, AAAA};
use tokio::task::JoinHandle;

use self::server::{Reply, Server, a};
use crate::{Events, Told, names};

const WEB: &str = "web.test.";

/// A source that runs.
pub(crate) struct Running {
    pub(crate) server: Server,
    pub(crate) time: ManualClock,
    pub(crate) endpoints: Endpoints,
    pub(crate) events: Events,
    wait: Duration,
    task: JoinHandle<()>,
}

/// Runs `dns` against `server`. The runtime has one thread: when an event comes, the source has gone to sleep.
pub(crate) fn run(server: &Server, dns: Dns) -> Running {
    let (events, observer) = Events::new();
    let time = ManualClock::new();
    let dns = dns.server(server.address).clock(time.clock()).observe(observer);
    let endpoints = dns.endpoints();
    let task = tokio::spawn(dns.run());
    Running { server: server.clone(), time, endpoints, events, wait: Duration::ZERO, task }
}

fn web() -> Dns {
    Dns::addresses(WEB, 80).expect("it is a name")
}

impl Running {
    pub(crate) fn names(&self) -> Vec<String> {
        names(&self.endpoints)
    }

    /// The next event, which is a failure, after which it waits for `least` to a tenth more.
    async fn fails(&mut self, least: Duration) -> (usize, String) {
        match self.events.next().await {
            Told::Failed { endpoints, error, retry_after: Some(wait) } => {
                assert!(least <= wait && wait <= least.mul_f64(1.1), "{wait:?}, and not {least:?}");
                self.wait = wait;
                (endpoints, error)
            }
            told => panic!("{told:?}"),
        }
    }

    /// Lets the time of that wait pass.
    fn retry(&self) {
        self.time.advance(self.wait);
    }
}

/// For a server that is silent: each failure takes three times this.
const BRIEF: Duration = Duration::from_millis(100);
const SECOND: Duration = Duration::from_secs(1);

#[tokio::test]
async fn the_addresses_of_both_families_are_endpoints() {
    let server = Server::start().await;
    server.a(WEB, 60, &["192.0.2.2", "192.0.2.1"]);
    server.aaaa(WEB, 60, &["2001:db8::1"]);

    let mut dns = run(&server, web());

    assert_eq!(dns.events.next().await, Told::Changed(3));
    assert_eq!(dns.names(), ["192.0.2.1:80", "192.0.2.2:80", "[2001:db8::1]:80"]);
    let first = &dns.endpoints.list()[0];
    assert_eq!((first.weight(), first.priority()), (1, 0));
    assert_eq!(first.metadata("host").map(|host| host.as_str()), Some(WEB));
}

#[tokio::test]
async fn one_family_can_be_left_out() {
    let server = Server::start().await;
    server.a(WEB, 60, &["192.0.2.1"]);
    server.aaaa(WEB, 60, &["2001:db8::1"]);

    let mut v4 = run(&server, web().ipv4_only());
    assert_eq!(v4.events.next().await, Told::Changed(1));
    assert_eq!((v4.names(), server.asked(WEB, AAAA)), (vec!["192.0.2.1:80".to_owned()], 0));

    let mut v6 = run(&server, web().ipv6_only());
    assert_eq!(v6.events.next().await, Told::Changed(1));
    assert_eq!((v6.names(), server.asked(WEB, A)), (vec!["[2001:db8::1]:80".to_owned()], 1));
}

#[tokio::test]
async fn it_asks_again_when_the_first_answer_ends_but_not_all_the_time_and_not_too_seldom() {
    let rows = [(30, 90, 30), (90, 30, 30), (0, 60, 1), (86_400, 86_400, 300)];
    for (ttl, other, least) in rows {
        let least = SECOND * least;
        let server = Server::start().await;
        server.a(WEB, ttl, &["192.0.2.1"]);
        server.aaaa(WEB, other, &["2001:db8::1"]);
        let mut dns = run(&server, web());
        assert_eq!(dns.events.next().await, Told::Changed(2));

        server.a(WEB, ttl, &["192.0.2.1", "192.0.2.2"]);
        dns.time.advance(least - Duration::from_millis(1));
        server.settle().await;
        assert_eq!(server.asked(WEB, A), 1, "{ttl} s");

        dns.time.advance(Duration::from_millis(1) + least / 10);
        assert_eq!(dns.events.next().await, Told::Changed(3));
        assert_eq!(server.asked(WEB, A), 2);
    }
}

#[tokio::test]
async fn how_long_answers_last_can_be_bounded_otherwise() {
    let server = Server::start().await;
    server.a(WEB, 3600, &["192.0.2.1"]);
    let mut dns = run(&server, web().ttl(SECOND * 5..=SECOND * 10));
    dns.events.next().await;

    server.a(WEB, 3600, &["192.0.2.2"]);
    dns.time.advance(SECOND * 11);

    assert_eq!(dns.events.next().await, Told::Changed(1));
    assert_eq!(dns.names(), ["192.0.2.2:80"]);
}

#[tokio::test]
async fn an_alias_is_followed_and_its_time_to_live_counts() {
    let server = Server::start().await;
    server.set(WEB, A, Reply::Alias(5, 300, vec![a("192.0.2.1")]));
    let mut dns = run(&server, web().ipv4_only());
    assert_eq!(dns.events.next().await, Told::Changed(1));

    server.set(WEB, A, Reply::Alias(300, 300, vec![a("192.0.2.2")]));
    dns.time.advance(SECOND * 6);

    assert_eq!(dns.events.next().await, Told::Changed(1));
    assert_eq!(dns.names(), ["192.0.2.2:80"]);
}

#[tokio::test]
async fn what_is_too_long_for_udp_comes_over_tcp() {
    let server = Server::start().await;
    let many = (1..=200).map(|last| a(&format!("192.0.2.{last}"))).collect();
    server.set(WEB, A, Reply::Long(60, many));

    let mut dns = run(&server, web());

    assert_eq!(dns.events.next().await, Told::Changed(200));
}

#[tokio::test]
async fn whatever_fails_keeps_the_last_good_set_and_is_asked_again_more_and_more_seldom() {
    let rows = [
        (Reply::NoName, "there is no name `web.test.` for A records"),
        (Reply::NoRecords, "`web.test.` has no A records"),
        (Reply::ServFail, "A records of `web.test.` could not be had: "),
        (Reply::Silence, "A records of `web.test.` could not be had: "),
        (Reply::Garbage, "A records of `web.test.` could not be had: "),
    ];
    for (reply, message) in rows {
        let server = Server::start().await;
        server.a(WEB, 10, &["192.0.2.1", "192.0.2.2"]);
        let mut dns = run(&server, web().ipv4_only().timeout(BRIEF));
        assert_eq!(dns.events.next().await, Told::Changed(2));
        dns.endpoints.list()[0].set_health(Health::Degraded, Timestamp::ZERO);

        server.set(WEB, A, reply);
        dns.time.advance(SECOND * 11);
        for wait in [1, 2, 4] {
            let (stay, error) = dns.fails(SECOND * wait).await;
            assert_eq!(stay, 2);
            assert!(error.starts_with(message), "{error}");
            if wait < 4 {
                dns.retry();
            }
        }
        assert_eq!(dns.names(), ["192.0.2.1:80", "192.0.2.2:80"]);

        server.a(WEB, 10, &["192.0.2.1", "192.0.2.3"]);
        dns.retry();
        assert_eq!(dns.events.next().await, Told::Changed(2));
        assert_eq!(dns.names(), ["192.0.2.1:80", "192.0.2.3:80"]);
        assert_eq!(dns.endpoints.list()[0].condition().health(), Health::Degraded);
    }
}

#[tokio::test]
async fn a_name_server_that_cannot_be_reached_at_the_start_leaves_the_list_empty_until_it_can() {
    let server = Server::start().await;
    server.set(WEB, A, Reply::Silence);
    let mut dns = run(&server, web().ipv4_only().timeout(BRIEF));

    for wait in [1, 2, 4, 8, 16, 30, 30] {
        dns.retry();
        assert_eq!(dns.fails(SECOND * wait).await.0, 0);
    }
    assert_eq!(dns.endpoints.numbered().0, 0);

    server.a(WEB, 10, &["192.0.2.1"]);
    dns.retry();
    assert_eq!(dns.events.next().await, Told::Changed(1));
    assert_eq!(dns.endpoints.list()[0].usable_since(), Timestamp::ZERO, "the first ones have no slow start");

    server.set(WEB, A, Reply::NoName);
    dns.time.advance(SECOND * 11);
    dns.fails(SECOND).await;
}

#[tokio::test]
async fn that_there_are_none_is_believed_where_that_is_asked_for() {
    for reply in [Reply::NoName, Reply::NoRecords] {
        let server = Server::start().await;
        server.a(WEB, 10, &["192.0.2.1"]);
        let mut dns = run(&server, web().accept_empty().timeout(BRIEF));
        assert_eq!(dns.events.next().await, Told::Changed(1));

        server.set(WEB, A, Reply::Silence);
        dns.time.advance(SECOND * 11);
        assert_eq!(dns.fails(SECOND).await.0, 1, "no answer says nothing");

        server.set(WEB, A, reply);
        dns.retry();
        assert_eq!(dns.events.next().await, Told::Changed(0));

        server.a(WEB, 10, &["192.0.2.2"]);
        dns.time.advance(SECOND * 33);
        assert_eq!(dns.events.next().await, Told::Changed(1));
    }
}

#[tokio::test]
async fn a_family_that_is_not_answered_keeps_its_last_and_the_other_goes_on() {
    let server = Server::start().await;
    server.a(WEB, 10, &["192.0.2.1"]);
    server.aaaa(WEB, 10, &["2001:db8::1"]);
    let mut dns = run(&server, web());
    assert_eq!(dns.events.next().await, Told::Changed(2));

    server.a(WEB, 10, &["192.0.2.2"]);
    server.set(WEB, AAAA, Reply::ServFail);
    dns.time.advance(SECOND * 11);
    assert_eq!(dns.events.next().await, Told::Changed(2));
    assert_eq!(dns.names(), ["192.0.2.2:80", "[2001:db8::1]:80"]);
    let (stay, error) = dns.fails(SECOND).await;
    assert!(stay == 2 && error.starts_with("AAAA records of `web.test.` could not be had"), "{error}");

    // That it has none any more is an answer, where there are some of the other family.
    server.set(WEB, AAAA, Reply::NoRecords);
    dns.retry();
    assert_eq!(dns.events.next().await, Told::Changed(1));
    assert_eq!(dns.names(), ["192.0.2.2:80"]);
}

#[tokio::test]
async fn a_family_that_is_never_answered_does_not_keep_the_other_from_being_asked_in_time() {
    let server = Server::start().await;
    server.a(WEB, 5, &["192.0.2.1"]);
    server.set(WEB, AAAA, Reply::ServFail);
    let mut dns = run(&server, web());
    assert_eq!(dns.events.next().await, Told::Changed(1));

    for wait in [1, 2, 4, 5, 5] {
        assert_eq!(dns.fails(SECOND * wait).await.0, 1);
        dns.retry();
    }
}

/// Lets answers come, and the time pass that other answers are waited for, until something is told.
async fn is_told_before_silence_ends(dns: &mut Running) -> Told {
    for _ in 0..50 {
        if !dns.events.is_empty() {
            return dns.events.next().await;
        }
        dns.server.settle().await;
        dns.time.advance(Duration::from_millis(200));
    }
    panic!("what was answered waits for what is not");
}

#[tokio::test]
async fn what_is_answered_waits_for_no_family_that_is_not() {
    let server = Server::start().await;
    server.a(WEB, 10, &["192.0.2.1"]);
    server.set(WEB, AAAA, Reply::Silence);
    let mut dns = run(&server, web().timeout(SECOND * 600));

    assert_eq!(is_told_before_silence_ends(&mut dns).await, Told::Changed(1));
    assert_eq!(dns.names(), ["192.0.2.1:80"]);
}

#[tokio::test]
async fn it_stops_asking_once_it_is_dropped() {
    let server = Server::start().await;
    server.a(WEB, 1, &["192.0.2.1"]);
    let mut dns = run(&server, web());
    dns.events.next().await;

    dns.task.abort();
    let _ = (&mut dns.task).await;
    dns.time.advance(SECOND * 600);
    dns.server.settle().await;

    assert_eq!(server.asked(WEB, A), 1);
    assert_eq!(dns.names(), ["192.0.2.1:80"]);
}

#[tokio::test]
async fn the_servers_of_the_system_are_asked_where_none_are_named() {
    let (mut events, observer) = Events::new();
    // Nobody has this name (RFC 6761). Whatever is said of it here, something is.
    let dns = Dns::addresses("buttress.invalid.", 80).expect("it is a name");
    let task = tokio::spawn(dns.timeout(Duration::from_millis(50)).observe(observer).run());

    events.next().await;

    task.abort();
    assert!(task.await.is_err_and(|error| error.is_cancelled()), "it had not ended");
}

#[test]
fn what_is_no_name_is_refused() {
    let long = "a".repeat(64);
    let rows = [
        ("", "it must have a label"),
        (".", "it must have a label"),
        ("192.0.2.1", "it is an address"),
        ("2001:db8::1", "it is an address"),
        ("a..b", "it must be made of labels of 1 to 63 bytes"),
        (&*long, "it must be made of labels of 1 to 63 bytes"),
    ];
    for (name, rule) in rows {
        for error in [Dns::addresses(name.to_owned(), 80).err(), Dns::services(name.to_owned()).err()] {
            let error = error.expect("it is refused");
            assert!(matches!(error, DnsError::BadName { .. }));
            let text = error.to_string();
            assert!(text.starts_with(&format!("`{name}` cannot be looked up: {rule}")), "{text}");
        }
    }
}

#[test]
#[should_panic(expected = "must be above zero, and in this order")]
fn bounds_in_the_wrong_order_are_refused() {
    let _ = web().ttl(SECOND * 2..=SECOND);
}
