//! A list that comes through a channel.

use buttress_balance::discover::Watched;
use buttress_core::{Clock, Endpoint, Health, ManualClock, Timestamp};
use tokio::sync::watch;

use crate::{Events, Told, names};

fn list(names: &[&'static str]) -> Vec<Endpoint> {
    names.iter().copied().map(Endpoint::new).collect()
}

#[tokio::test]
async fn each_value_is_the_list_and_endpoints_that_stay_keep_their_condition() {
    let (send, receive) = watch::channel(list(&["a", "b"]));
    let (mut events, observer) = Events::new();
    let time = ManualClock::new();
    let source = Watched::new(receive).expect("two names").clock(time.clock()).observe(observer);
    let endpoints = source.endpoints();
    assert_eq!(names(&endpoints), ["a", "b"], "before it runs");
    endpoints.list()[1].set_health(Health::Unhealthy, Timestamp::ZERO);
    time.set(Timestamp::from_nanos(77));
    tokio::spawn(source.run());

    send.send_replace(list(&["b", "c"]));
    assert_eq!(events.next().await, Told::Changed(2));

    let now = endpoints.list();
    assert_eq!(names(&endpoints), ["b", "c"]);
    assert_eq!(now[0].condition().health(), Health::Unhealthy);
    assert_eq!(now[1].usable_since(), Timestamp::from_nanos(77));
}

#[tokio::test]
async fn a_list_that_names_one_twice_changes_nothing_and_the_next_one_counts() {
    let (send, receive) = watch::channel(list(&["a"]));
    let (mut events, observer) = Events::new();
    let source = Watched::new(receive).expect("one name").observe(observer);
    let endpoints = source.endpoints();
    tokio::spawn(source.run());

    send.send_replace(list(&["b", "b"]));
    let (stay, error) = events.failure().await;
    assert_eq!((stay, error.contains("two endpoints are called `b`")), (1, true), "{error}");
    assert_eq!(names(&endpoints), ["a"]);

    send.send_replace(list(&["b"]));
    assert_eq!(events.next().await, Told::Changed(1));
    drop(send);
    assert_eq!(events.next().await, Told::Ended(1));
    assert_eq!(names(&endpoints), ["b"], "the last list stays");
}

#[tokio::test]
async fn the_same_list_again_is_no_change() {
    let (send, receive) = watch::channel(list(&["a", "b"]));
    let (mut events, observer) = Events::new();
    let source = Watched::new(receive).expect("two names").observe(observer);
    let endpoints = source.endpoints();
    tokio::spawn(source.run());

    for same in [["a", "b"], ["b", "a"]] {
        send.send_replace(list(&same));
        tokio::task::yield_now().await;
        assert!(events.is_empty(), "{same:?}");
    }
    drop(send);

    assert_eq!(events.next().await, Told::Ended(2));
    assert_eq!(endpoints.numbered().0, 0);
}

#[test]
fn a_channel_that_begins_with_one_name_twice_is_refused() {
    let (_send, receive) = watch::channel(list(&["a", "a"]));

    let error = Watched::new(receive).expect_err("two have one name");
    assert!(error.to_string().contains("`a`"), "{error}");
}

#[tokio::test]
async fn a_source_that_is_dropped_lets_go_of_the_channel() {
    let (send, receive) = watch::channel(list(&["a"]));
    let source = Watched::new(receive).expect("one name").clock(Clock::tokio());
    let endpoints = source.endpoints();
    let task = tokio::spawn(source.run());
    tokio::task::yield_now().await;
    assert!(!send.is_closed());

    task.abort();
    assert!(task.await.is_err_and(|error| error.is_cancelled()));
    assert!(send.is_closed());
    assert_eq!(names(&endpoints), ["a"]);
}
