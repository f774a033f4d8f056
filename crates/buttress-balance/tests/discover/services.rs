//! Endpoints that come with their services.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use buttress_balance::Balancer;
use buttress_balance::discover::{Discovered, Services};
use buttress_core::{BoxError, Clock, Endpoint, Endpoints, Health, Timestamp};
use futures_util::Stream;
use tokio::sync::mpsc;
use tower::discover::Change;
use tower::{ServiceExt, service_fn};

use crate::{Events, Told, names};

type Yield = Result<Change<u32, &'static str>, std::io::Error>;

/// A discovery that yields what it is sent.
struct Sent(mpsc::UnboundedReceiver<Yield>);

impl Stream for Sent {
    type Item = Yield;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Yield>> {
        self.0.poll_recv(cx)
    }
}

fn source() -> (mpsc::UnboundedSender<Yield>, Discovered<Sent, impl Fn(&u32) -> Endpoint>) {
    let (send, receive) = mpsc::unbounded_channel();
    let name = |key: &u32| Endpoint::new(format!("10.0.0.{key}:80"));
    (send, Discovered::new(Sent(receive), name).clock(Clock::tokio()))
}

fn insert(to: &mpsc::UnboundedSender<Yield>, key: u32, service: &'static str) {
    to.send(Ok(Change::Insert(key, service))).expect("the source runs");
}

fn remove(to: &mpsc::UnboundedSender<Yield>, key: u32) {
    to.send(Ok(Change::Remove(key))).expect("the source runs");
}

fn served(endpoints: &Endpoints, services: &Services<&'static str>) -> Vec<(String, Option<&'static str>)> {
    let list = endpoints.list();
    list.iter().map(|endpoint| (endpoint.name().to_string(), services.of(endpoint))).collect()
}

#[tokio::test(start_paused = true)]
async fn endpoints_come_and_go_with_their_services_and_without_traffic() {
    let (send, source) = source();
    let (mut events, observer) = Events::new();
    let (endpoints, services) = (source.endpoints(), source.services());
    tokio::spawn(source.observe(observer).run());

    insert(&send, 1, "one");
    insert(&send, 2, "two");
    assert_eq!(events.next().await, Told::Changed(2), "what comes together is one change");
    assert_eq!(
        served(&endpoints, &services),
        [("10.0.0.1:80".into(), Some("one")), ("10.0.0.2:80".into(), Some("two"))]
    );

    let one = endpoints.list()[0].clone();
    remove(&send, 1);
    assert_eq!(events.next().await, Told::Changed(1));
    assert_eq!(names(&endpoints), ["10.0.0.2:80"]);
    assert_eq!(services.of(&one), None);

    remove(&send, 7);
    drop(send);
    assert_eq!(events.next().await, Told::Ended(1), "one that was not there is no change");
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_stays_as_long_as_one_of_its_keys_is_there() {
    let (send, receive) = mpsc::unbounded_channel();
    let source = Discovered::new(Sent(receive), |key: &u32| Endpoint::new((key % 10).to_string()));
    let (mut events, observer) = Events::new();
    let (endpoints, services) = (source.endpoints(), source.services());
    tokio::spawn(source.clock(Clock::tokio()).observe(observer).run());
    let mut shows = async |expected: &[(&str, Option<&'static str>)]| {
        events.next().await;
        let served = served(&endpoints, &services);
        assert_eq!(served.iter().map(|(name, service)| (&**name, *service)).collect::<Vec<_>>(), expected);
    };

    insert(&send, 1, "old");
    shows(&[("1", Some("old"))]).await;
    insert(&send, 11, "new");
    shows(&[("1", Some("new"))]).await;
    remove(&send, 1);
    insert(&send, 2, "two");
    shows(&[("1", Some("new")), ("2", Some("two"))]).await;
    insert(&send, 21, "newest");
    shows(&[("2", Some("two")), ("1", Some("newest"))]).await;
    remove(&send, 21);
    shows(&[("2", Some("two")), ("1", Some("new"))]).await;
    remove(&send, 11);
    shows(&[("2", Some("two"))]).await;
}

#[tokio::test(start_paused = true)]
async fn a_service_that_takes_the_place_of_another_is_seen_and_the_condition_stays() {
    let (send, source) = source();
    let (mut events, observer) = Events::new();
    let (endpoints, services) = (source.endpoints(), source.services());
    tokio::spawn(source.observe(observer).run());
    insert(&send, 1, "old");
    events.next().await;
    let before = endpoints.list()[0].clone();
    before.set_health(Health::Degraded, Timestamp::ZERO);

    insert(&send, 1, "new");
    assert_eq!(events.next().await, Told::Changed(1));

    let after = endpoints.list()[0].clone();
    assert_eq!(services.of(&after), Some("new"));
    assert_eq!(after.condition().health(), Health::Degraded);
    assert!(!after.is_configured_as(&before), "who makes something of each endpoint makes it anew");

    remove(&send, 1);
    insert(&send, 1, "newest");
    assert_eq!(events.next().await, Told::Changed(1));
    assert_eq!(services.of(&after), Some("newest"));
    assert!(!endpoints.list()[0].is_configured_as(&after));
}

#[tokio::test(start_paused = true)]
async fn who_follows_the_list_finds_a_service_for_each_endpoint_of_it() {
    let (send, source) = source();
    let (mut events, observer) = Events::new();
    let (endpoints, services) = (source.endpoints(), source.services());
    let without = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&without);
    let _following = endpoints.follow(move |_, list| {
        let missing = list.iter().filter(|endpoint| services.of(endpoint).is_none()).count();
        count.fetch_add(missing as u32, Ordering::SeqCst);
    });
    tokio::spawn(source.observe(observer).run());

    for round in 0..20 {
        insert(&send, round, "a");
        remove(&send, round / 2);
        insert(&send, round / 2, "b");
        events.next().await;
    }

    assert_eq!(without.load(Ordering::SeqCst), 0);
}

#[tokio::test(start_paused = true)]
async fn an_error_is_an_event_and_not_the_end() {
    let (send, source) = source();
    let (mut events, observer) = Events::new();
    let endpoints = source.endpoints();
    tokio::spawn(source.observe(observer).run());
    insert(&send, 1, "one");
    events.next().await;

    for milliseconds in [100, 200, 400] {
        send.send(Err(std::io::Error::other("no answer"))).expect("the source runs");
        let retry_after = Some(Duration::from_millis(milliseconds));
        assert_eq!(
            events.next().await,
            Told::Failed { endpoints: 1, error: "no answer".into(), retry_after }
        );
    }
    insert(&send, 2, "two");
    assert_eq!(events.next().await, Told::Changed(2));
    assert_eq!(names(&endpoints).len(), 2);

    send.send(Err(std::io::Error::other("again"))).expect("the source runs");
    let retry_after = Some(Duration::from_millis(100));
    assert_eq!(events.next().await, Told::Failed { endpoints: 2, error: "again".into(), retry_after });
    drop(send);
    assert_eq!(events.next().await, Told::Ended(2));
}

/// Always has one more.
struct Endless(u32);

impl Stream for Endless {
    type Item = Yield;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Yield>> {
        self.0 += 1;
        Poll::Ready(Some(Ok(Change::Insert(self.0 % 10, "again"))))
    }
}

#[tokio::test(start_paused = true)]
async fn a_discovery_that_never_pauses_leaves_others_their_turn() {
    let source =
        Discovered::new(Endless(0), |key: &u32| Endpoint::new(key.to_string())).clock(Clock::tokio());
    let endpoints = source.endpoints();
    let task = tokio::spawn(source.run());

    let (_, list) = endpoints.newer_than(3).await;
    assert_eq!(list.len(), 10);

    task.abort();
    assert!(task.await.is_err_and(|error| error.is_cancelled()));
}

#[tokio::test(start_paused = true)]
async fn a_source_that_is_dropped_lets_go_of_its_discovery_and_services_that_leave_are_dropped() {
    let (send, receive) = mpsc::unbounded_channel::<Result<Change<u32, Arc<()>>, std::io::Error>>();
    let stream = futures_util::stream::unfold(receive, |mut receive| async {
        let next = receive.recv().await?;
        Some((next, receive))
    });
    let source = Discovered::new(stream, |key: &u32| Endpoint::new(key.to_string())).clock(Clock::tokio());
    let (mut events, observer) = Events::new();
    let task = tokio::spawn(source.observe(observer).run());
    let service = Arc::new(());

    send.send(Ok(Change::Insert(1, Arc::clone(&service)))).expect("the source runs");
    events.next().await;
    assert_eq!(Arc::strong_count(&service), 2);
    send.send(Ok(Change::Remove(1))).expect("the source runs");
    events.next().await;
    assert_eq!(Arc::strong_count(&service), 1);

    task.abort();
    let _ = task.await;
    assert!(send.is_closed());
}

#[tokio::test(start_paused = true)]
async fn a_balancer_takes_discovered_services() {
    let (send, receive) = mpsc::unbounded_channel();
    let stream = futures_util::stream::unfold(receive, |mut receive: mpsc::UnboundedReceiver<_>| async {
        let next = receive.recv().await?;
        Some((Ok::<_, std::io::Error>(next), receive))
    });
    let source = Discovered::new(stream, |key: &u32| Endpoint::new(key.to_string())).clock(Clock::tokio());
    let (mut events, observer) = Events::new();
    let source = source.observe(observer);
    let answer = |text: &'static str| service_fn(move |()| async move { Ok::<_, BoxError>(text) });
    let balancer = Clock::with_default(Clock::tokio(), || Balancer::new(source.members()));
    tokio::spawn(source.run());
    let call = || balancer.clone().oneshot(());

    send.send(Change::Insert(1, answer("old"))).expect("the source runs");
    assert_eq!(call().await.expect("it waits for the first endpoint"), "old");
    events.next().await;

    send.send(Change::Insert(1, answer("new"))).expect("the source runs");
    events.next().await;
    assert_eq!(call().await.expect("there is one"), "new");

    send.send(Change::Remove(1)).expect("the source runs");
    events.next().await;
    let error = call().await.expect_err("there is none");
    assert!(error.to_string().contains("no endpoint"), "{error}");
}
