//! Calls go where their key reads what it wrote.

use std::collections::BTreeSet;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use buttress_balance::{
    ConsistentHash, Diverted, Node, Order, Random, ReplicaRules, ReplicaSplit, ReplicaSplitEvent, RoundRobin,
};
use buttress_core::{Access, BoxError, Clock, ManualClock, Rejection, RejectionKind, reject};
use buttress_testkit::{StrictService, Task, advance};
use http::{Method, Request, Response};
use tower::{ServiceExt, service_fn};
use tower_service::Service;

use super::now;

/// Not HTTP: a store of lines, `GET key` and `SET key`, whose answers tell who gave them.
fn store(
    name: &'static str,
) -> impl Service<&'static str, Response = &'static str, Error = BoxError, Future: Send> + Clone {
    service_fn(move |line: &'static str| async move {
        if line.contains("fail") { Err(BoxError::from("out of order")) } else { Ok(name) }
    })
}

fn access(line: &&'static str) -> Access {
    if line.starts_with("GET") { Access::Read } else { Access::Write }
}

fn key(line: &&'static str) -> Option<&'static str> {
    line.split_once(' ').map(|(_, key)| key)
}

const STEP: Duration = Duration::from_millis(1);

#[test]
fn a_line_that_was_written_is_read_at_the_primary_and_later_at_the_replicas_by_turns() {
    let time = ManualClock::new();
    let store = Clock::with_default(time.clock(), || {
        ReplicaSplit::new(store("primary"), [store("one"), store("two")], ReplicaRules::default().trusting())
    });
    let store = store.unwrap().access(access).by(key);

    assert_eq!(["GET a", "GET a", "GET a"].map(|line| now(&store, line).unwrap()), ["one", "two", "one"]);
    assert_eq!(now(&store, "SET a").unwrap(), "primary");
    time.advance(Duration::from_millis(2500) - STEP);
    assert_eq!(now(&store, "GET a").unwrap(), "primary");
    assert_ne!(now(&store, "GET b").unwrap(), "primary");
    time.advance(STEP);
    assert_ne!(now(&store, "GET a").unwrap(), "primary");

    let counts = store.handle().counts();
    assert_eq!((counts.writes, counts.replicas, counts.recent), (1, 5, 1));
}

#[test]
fn without_a_key_every_read_waits_for_every_write() {
    let rules = ReplicaRules::default().trusting();
    let store = ReplicaSplit::new(store("primary"), [store("one")], rules).unwrap().access(access);

    now(&store, "SET a").unwrap();
    assert_eq!(now(&store, "GET b").unwrap(), "primary");
}

#[test]
fn a_write_that_fails_or_is_dropped_or_panics_holds_its_key_too() {
    let (primary, steer) = StrictService::<&'static str, &'static str>::new(|_| "primary");
    let (replica, _) = StrictService::<&'static str, &'static str>::new(|_| "replica");
    let rules = ReplicaRules::default().trusting();
    let store = ReplicaSplit::new(primary, [replica], rules).unwrap().access(access).by(key);

    steer.fail("out of order".into());
    assert!(now(&store, "SET failed").is_err());
    steer.hold();
    let mut write = Task::new(store.clone().call("SET dropped"));
    assert!(write.poll().is_pending());
    assert_eq!(now(&store, "GET dropped").unwrap(), "replica", "it may come before the write");
    drop(write);
    steer.release();
    steer.panic_in_call();
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| now(&store, "SET panicked")));
    assert!(panicked.is_err());

    for line in ["GET failed", "GET dropped", "GET panicked"] {
        assert_eq!(now(&store, line).unwrap(), "primary", "{line}");
    }
    assert_eq!(now(&store, "GET other").unwrap(), "replica");
}

/// A primary that answers writes with a position, which grows.
fn numbered() -> impl Service<Request<()>, Response = Response<u64>, Error = BoxError, Future: Send> + Clone {
    let position = Arc::new(Mutex::new(100));
    service_fn(move |req: Request<()>| {
        let mut position = position.lock().unwrap();
        if !req.method().is_safe() {
            *position += 1;
        }
        std::future::ready(Ok(Response::new(*position)))
    })
}

fn request(method: Method, user: &'static str) -> Request<()> {
    Request::builder().method(method).header("x-user", user).body(()).unwrap()
}

#[test]
fn with_tokens_over_http_a_user_reads_at_the_first_replica_that_has_the_position() {
    let by = |req: &Request<()>| req.headers().get("x-user").cloned();
    let asked = |req: &Request<()>| req.headers().get("x-token")?.to_str().ok()?.parse().ok();
    let replicas = [service_replica(1), service_replica(2)];
    let store = ReplicaSplit::new(
        tower::util::BoxCloneSyncService::new(numbered()),
        replicas,
        ReplicaRules::default(),
    )
    .unwrap()
    .by(by)
    .carried_tokens(asked, |res: &Response<u64>| Some(*res.body()));
    let handle = store.handle();
    for replica in 0..2 {
        handle.report_lag(replica, Duration::ZERO);
        handle.report_position(replica, 100);
    }
    let get = |user| *now(&store, request(Method::GET, user)).unwrap().body();

    assert_eq!(*now(&store, request(Method::POST, "ann")).unwrap().body(), 101);
    assert_eq!(get("ann"), 101, "the primary");
    assert!(get("bob") <= 2, "a replica");
    handle.report_position(1, 101);
    assert_eq!((get("ann"), get("ann")), (2, 2), "the second replica");

    let mut carried = request(Method::GET, "carl");
    carried.headers_mut().insert("x-token", "102".parse().unwrap());
    assert_eq!(*now(&store, carried).unwrap().body(), 101, "the primary");
    assert_eq!(handle.counts().token, 2);
    assert_eq!(handle.replica(1).position, Some(101));
}

#[test]
fn what_was_under_way_while_another_primary_took_over_brings_nothing_of_the_former_one_back() {
    let time = ManualClock::new();
    let (primary, steer) = StrictService::<&'static str, u64>::new(|_| 1000);
    let (replica, _) = StrictService::<&'static str, u64>::new(|_| 0);
    let store =
        Clock::with_default(time.clock(), || ReplicaSplit::new(primary, [replica], ReplicaRules::default()));
    let store = store.unwrap().access(access).by(key).tokens(|position: &u64| Some(*position));
    let handle = store.handle();
    steer.hold();
    let mut write = Task::new(store.clone().call("SET a"));
    assert!(write.poll().is_pending());
    let asked = handle.epoch();

    handle.fail_over();
    steer.release();
    assert!(write.run().is_ready());
    handle.report_position_in(asked, 0, 2000);

    assert_eq!(handle.replica(0).position, None, "it is of the former history");
    handle.report_position(0, 5);
    handle.report_lag(0, Duration::ZERO);
    assert_eq!(now(&store, "GET a").unwrap(), 1000, "the write is held by the window");
    time.advance(Duration::from_millis(2500));
    handle.report_lag(0, Duration::ZERO);
    assert_eq!(now(&store, "GET a").unwrap(), 0, "and by no token");
    // The next write is of the new history.
    assert_eq!(now(&store, "SET a").unwrap(), 1000);
    assert_eq!(now(&store, "GET a").unwrap(), 1000);
    handle.report_position_in(handle.epoch(), 0, 1000);
    assert_eq!(now(&store, "GET a").unwrap(), 0);
}

type Boxed = tower::util::BoxCloneSyncService<Request<()>, Response<u64>, BoxError>;

fn service_replica(name: u64) -> Boxed {
    Boxed::new(service_fn(move |_: Request<()>| async move { Ok(Response::new(name)) }))
}

#[test]
fn replicas_above_the_bound_are_skipped_and_with_none_left_the_primary_serves_or_reads_are_refused() {
    for refusing in [false, true] {
        let rules = if refusing { ReplicaRules::default().refusing() } else { ReplicaRules::default() };
        let time = ManualClock::new();
        let store = Clock::with_default(time.clock(), || {
            ReplicaSplit::new(store("primary"), [store("one"), store("two")], rules)
        });
        let store = store.unwrap().access(access).by(key).named("db");
        let handle = store.handle();
        handle.report_lag(0, Duration::from_secs(3));
        handle.report_lag(1, Duration::from_secs(1));

        assert!((0..4).all(|_| now(&store, "GET a").unwrap() == "two"));
        time.advance(Duration::from_secs(1) + STEP);
        assert!(!handle.replica(1).within);
        match now(&store, "GET a") {
            Ok(served) => assert_eq!((served, refusing), ("primary", false)),
            Err(error) => {
                assert!(refusing);
                assert_eq!(error.to_string(), "no endpoint by `db`");
                assert_eq!(error.downcast_ref::<Rejection>().unwrap().kind, RejectionKind::NoEndpoint);
            }
        }
        let counts = handle.counts();
        assert_eq!((counts.no_replica, counts.refused), if refusing { (0, 1) } else { (1, 0) });
    }
}

#[test]
fn a_refusal_may_be_an_answer() {
    let rules = ReplicaRules::default().refusing();
    let store = ReplicaSplit::new(store("primary"), [store("one")], rules)
        .unwrap()
        .access(access)
        .on_reject(reject::with(|rejection: Rejection| Ok(rejection.kind.as_str())));
    assert_eq!(now(&store, "GET a").unwrap(), "no endpoint");
}

#[test]
fn any_order_serves() {
    let rules = ReplicaRules::default().trusting();
    let stores =
        || ReplicaSplit::new(store("primary"), [store("one"), store("two")], rules).unwrap().access(access);
    let count = |order: &dyn Fn(usize) -> &'static str| (0..300).filter(|n| order(*n) == "two").count();

    let nodes = [Node::new("one"), Node::new("two").weight(2)];
    let weighted = stores().order(RoundRobin::new(&nodes).unwrap()).unwrap();
    assert_eq!(count(&|_| now(&weighted, "GET a").unwrap()), 200);

    let random = stores().order_at_random(Random::new(&nodes).unwrap()).unwrap();
    // Nine standard deviations around 200.
    assert!((127..273).contains(&count(&|_| now(&random, "GET a").unwrap())));

    let ring = ConsistentHash::ring().build(&nodes).unwrap();
    let hashing = ring.hashing();
    let sticky = stores().by(key).order_by_key(ring.clone(), hashing).unwrap();
    for line in ["GET a", "GET b", "GET c", "GET d", "GET e"] {
        let owner = ring.pick(hashing.of(&line.as_bytes()[4..]), |_| true).unwrap();
        for _ in 0..3 {
            assert_eq!(now(&sticky, line).unwrap(), nodes[owner].name());
        }
    }
    // Without a key a read goes where chance says.
    let served: BTreeSet<_> = (0..100).map(|_| now(&sticky, "GET").unwrap()).collect();
    assert_eq!(served.len(), 2);
}

#[test]
fn the_observer_hears_of_what_is_not_as_usual() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&told);
    let time = ManualClock::new();
    let store = Clock::with_default(time.clock(), || {
        ReplicaSplit::new(store("primary"), [store("one")], ReplicaRules::default().trusting())
    });
    let store = store.unwrap().access(access).by(key).named("db").observe(move |event| {
        log.lock().unwrap().push(match *event {
            ReplicaSplitEvent::Diverted { policy, why, .. } => format!("{policy}: {why:?}"),
            ReplicaSplitEvent::LagExceeded { policy, replica, lag, bound, .. } => {
                format!("{policy}: replica {replica} lags {lag:?} of {bound:?}")
            }
            _ => "?".to_owned(),
        });
    });

    now(&store, "GET a").unwrap();
    now(&store, "SET a").unwrap();
    now(&store, "GET a").unwrap();
    store.handle().report_lag(0, Duration::from_secs(9));
    store.handle().report_lag(0, Duration::from_secs(10));
    now(&store, "GET b").unwrap();
    let expected = [
        format!("db: {:?}", Diverted::Recent),
        "db: replica 0 lags 9s of 2s".to_owned(),
        format!("db: {:?}", Diverted::NoReplica),
    ];
    assert_eq!(*told.lock().unwrap(), expected);
    assert_eq!(store.handle().counts().lag_exceeded, 1);
}

#[tokio::test(start_paused = true)]
async fn on_paused_time_a_session_reads_its_writes_from_a_store_that_replicates_late() {
    /// Values with the time from which replicas have them.
    type Values = Arc<Mutex<HashMap<&'static str, Vec<(buttress_core::Timestamp, u32)>>>>;
    let clock = Clock::tokio();
    let values = Values::default();
    let node = |lag: Duration| {
        let (clock, values) = (clock.clone(), Arc::clone(&values));
        service_fn(move |(key, value): (&'static str, Option<u32>)| {
            let mut values = values.lock().unwrap();
            let history = values.entry(key).or_default();
            history.extend(value.map(|value| (clock.now(), value)));
            let seen = history.iter().rev().find(|(at, _)| *at + lag <= clock.now());
            std::future::ready(Ok::<_, BoxError>(seen.map(|(_, value)| *value)))
        })
    };
    let lag = Duration::from_millis(1900);
    let store = Clock::with_default(clock.clone(), || {
        ReplicaSplit::new(node(Duration::ZERO), [node(lag)], ReplicaRules::default().trusting()).unwrap()
    });
    let store = store
        .access(
            |(_, value): &(&'static str, Option<u32>)| {
                if value.is_some() { Access::Write } else { Access::Read }
            },
        )
        .by(|(key, _): &(&'static str, Option<u32>)| Some(*key));

    for round in 0..50_u32 {
        store.clone().oneshot(("cart", Some(round))).await.unwrap();
        for _ in 0..10 {
            assert_eq!(store.clone().oneshot(("cart", None)).await.unwrap(), Some(round));
            advance(Duration::from_millis(u64::from(97 * (round % 7)))).await;
        }
    }
    let counts = store.handle().counts();
    assert!(counts.replicas > 50 && counts.recent > 50, "{counts:?}");
}
