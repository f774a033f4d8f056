//! What a second look at the balancer found: each was wrong once.

use std::future::ready;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use buttress_balance::{
    AnyPolicy, Balancer, ConsistentHash, Ended, LeastLoad, Load, Members, Node, Policy, PolicyError,
    Priorities, Settings, Static,
};
use buttress_core::{BoxError, Endpoint, Endpoints, Facts, Health, Timestamp};
use buttress_testkit::{Task, poll_once};
use tower::{Service, ServiceExt, service_fn};

use crate::support::{Query, Rig, SECOND, by_key, in_flight, query};

/// Clones of it panic on demand.
struct Fragile(Arc<AtomicBool>);
impl Clone for Fragile {
    fn clone(&self) -> Self {
        assert!(!self.0.load(Ordering::SeqCst), "cannot be cloned");
        Self(self.0.clone())
    }
}
impl Service<u64> for Fragile {
    type Response = ();
    type Error = BoxError;
    type Future = std::future::Ready<Result<(), BoxError>>;
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }
    fn call(&mut self, _: u64) -> Self::Future {
        ready(Ok(()))
    }
}

#[test]
fn a_service_whose_clone_panics_keeps_no_place() {
    let breaks = Arc::new(AtomicBool::new(false));
    let mut balancer = Balancer::new([("a", Fragile(breaks.clone()))]);
    let handle = balancer.handle();
    breaks.store(true, Ordering::SeqCst);
    assert!(catch_unwind(AssertUnwindSafe(|| balancer.call(1_u64))).is_err());
    assert_eq!(in_flight(&handle), 0);
}

#[tokio::test]
async fn one_that_comes_back_has_its_new_weight() {
    let rig = Rig::of(&["a", "b"]);
    rig.hangs.store(true, Ordering::SeqCst);
    let settings = Settings::default().clock(rig.clock()).slow_start(buttress_balance::SlowStart::off());
    let mut balancer = Balancer::new(rig.members()).policy(LeastLoad::connections().all()).settings(settings);
    let handle = balancer.handle();
    let first: Vec<_> = (0..2).map(|_| balancer.call(query(1))).collect();
    rig.endpoints.remove("a", rig.now());
    rig.endpoints.insert(Endpoint::new("a").with_weight(9), rig.now());
    let calls: Vec<_> = (0..98).map(|_| balancer.call(query(1))).collect();
    let a = handle.endpoint("a").unwrap().in_flight;
    assert!((88..=92).contains(&a), "nine of ten: {a}");
    drop((first, calls));
}

/// Takes two endpoints at most.
#[derive(Clone)]
struct Two;
impl Policy for Two {
    type Picker = buttress_balance::Least<buttress_balance::Connections>;
    fn build(&self, nodes: &[Node]) -> Result<Self::Picker, PolicyError> {
        if nodes.len() > 2 {
            Err(PolicyError::NoEndpoints)
        } else {
            LeastLoad::connections().all().build(nodes)
        }
    }
}

#[tokio::test]
async fn a_list_that_is_refused_changes_no_weight() {
    let rig = Rig::of(&["a", "b"]);
    rig.hangs.store(true, Ordering::SeqCst);
    let settings = Settings::default().clock(rig.clock()).slow_start(buttress_balance::SlowStart::off());
    let mut balancer = Balancer::new(rig.members()).policy(Two).settings(settings);

    let heavy = Endpoint::new("a").with_weight(9);
    rig.endpoints.replace([heavy, Endpoint::new("b"), Endpoint::new("c")], rig.now()).unwrap();

    let handle = balancer.handle();
    let calls: Vec<_> = (0..100).map(|_| balancer.call(query(1))).collect();
    assert_eq!(handle.endpoint("a").unwrap().in_flight, 50);
    drop(calls);
}

#[tokio::test]
async fn a_bound_holds_in_panic() {
    let rig = Rig::of(&["a", "b", "c", "d"]);
    rig.hangs.store(true, Ordering::SeqCst);
    let mut balancer = Balancer::new(rig.members())
        .policy(ConsistentHash::ring())
        .settings(Settings::default().clock(rig.clock()))
        .bounded_load(1.25)
        .by(by_key);
    for name in ["a", "b", "c", "d"] {
        rig.get(name).set_health(Health::Unhealthy, rig.now());
    }
    let handle = balancer.handle();
    let calls: Vec<_> = (0..100).map(|_| balancer.call(query(1))).collect();
    let most = handle.endpoints().iter().map(|view| view.in_flight).max().unwrap();
    drop(calls);
    assert!(most <= 32, "{most} of 100 on one of four");
}

#[tokio::test]
async fn a_bound_is_reckoned_by_the_share_of_each_priority() {
    let later = |name: &'static str| Endpoint::new(name).with_priority(1);
    let rig = Rig::new([Endpoint::new("a"), Endpoint::new("x"), later("c"), later("d")]);
    rig.hangs.store(true, Ordering::SeqCst);
    // Half of the first priority bears 70 % of the traffic, the second the rest.
    rig.get("x").set_health(Health::Unhealthy, rig.now());
    let settings = Settings::default().clock(rig.clock());
    let (mut worst, mut spare) = ((0, 0), 0);
    let mut balancer = Balancer::new(rig.members())
        .policy(ConsistentHash::ring())
        .settings(settings)
        .bounded_load(1.25)
        .by(by_key);
    for key in 0..20 {
        let handle = balancer.handle();
        let calls: Vec<_> = (0..100).map(|_| balancer.call(query(key))).collect();
        let most = handle.endpoints().iter().map(|view| view.in_flight).max().unwrap();
        worst = worst.max((most, key));
        let later = ["c", "d"].map(|name| handle.endpoint(name).unwrap().in_flight);
        spare = spare.max(later.into_iter().max().unwrap());
        drop(calls);
    }
    assert!(worst.0 <= 88, "1.25 times 70 of 100: {worst:?}");
    assert!(spare <= 19, "1.25 times 30 of 100, for two: {spare}");
}

#[test]
fn settings_that_cannot_work_are_refused_though_the_list_is_empty() {
    let rig = Rig::of(&[]);
    let one = Balancer::new(rig.members()).try_settings(Settings::default().bounded_load(0.5)).is_err();
    let two = Balancer::new(rig.members()).try_policy(LeastLoad::peak_ewma().choices(0)).is_err();
    let three = Balancer::new(rig.members()).try_policy(ConsistentHash::ring().points(0)).is_err();
    assert_eq!((one, two, three), (true, true, true));
}

#[tokio::test]
async fn a_call_bound_to_one_with_a_shut_gate_goes_elsewhere() {
    let open = Arc::new(AtomicBool::new(true));
    let of = open.clone();
    let make = move |endpoint: &Endpoint| {
        let (name, of) = (endpoint.name().to_string(), of.clone());
        let is_a = name == "a";
        (service_fn(move |_: Query| ready(Ok::<_, BoxError>(name.clone()))), move || {
            !is_a || of.load(Ordering::SeqCst)
        })
    };
    let endpoints = Endpoints::new(["a", "b"].map(Endpoint::new)).unwrap();
    let balancer = Balancer::new(Members::gated(endpoints.clone(), make));
    let mut facts = Facts::new();
    facts.prefer = Some(endpoints.get("a").unwrap().id());
    open.store(false, Ordering::SeqCst);
    let answer = balancer.clone().oneshot(Query { key: 1, facts: Some(facts) }).await.unwrap();
    assert_eq!(answer, "b");
}

#[derive(Clone)]
struct Counting(Arc<AtomicUsize>);
impl Policy for Counting {
    type Picker = <buttress_balance::RoundRobinRules as Policy>::Picker;
    fn build(&self, nodes: &[Node]) -> Result<Self::Picker, PolicyError> {
        Static::round_robin().build(nodes)
    }
    fn is_timed(&self) -> bool {
        true
    }
    fn ended(&self, _: &Load, _: &Ended<'_>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn a_call_that_panics_ends_once() {
    let ended = Arc::new(AtomicUsize::new(0));
    let panics = service_fn(|_: u64| async { panic!("in the future") as Result<(), BoxError> });
    let mut balancer = Balancer::new([("a", panics)]).policy(Counting(ended.clone()));
    let mut call = Box::pin(balancer.call(1));
    assert!(catch_unwind(AssertUnwindSafe(|| poll_once(&mut call))).is_err());
    drop(call);
    assert_eq!(ended.load(Ordering::SeqCst), 1);
}

#[test]
fn without_a_runtime_one_that_left_is_let_go_all_the_same() {
    let rig = Rig::of(&["a", "b"]);
    rig.hangs.store(true, Ordering::SeqCst);
    let mut balancer = Balancer::new(rig.members())
        .policy(Static::round_robin())
        .settings(Settings::default().clock(rig.clock()));
    let call = balancer.call(query(1));
    let id = rig.get("a").id();
    rig.endpoints.remove("a", rig.now());
    rig.time.advance(31 * SECOND);
    let mut facts = Facts::new();
    facts.prefer = Some(id);
    let bound = balancer.call(Query { key: 1, facts: Some(facts) });
    let view = balancer.handle().endpoint("a");
    assert!(view.is_none(), "{view:?}");
    drop((call, bound));
}

#[test]
fn one_balancer_whose_make_panics_does_not_keep_the_list_from_others() {
    let rig = Rig::of(&["a"]);
    let make = |endpoint: &Endpoint| {
        assert!(&**endpoint.name() != "bad", "cannot be made");
        service_fn(|_: Query| ready(Ok::<_, BoxError>(String::new())))
    };
    let _first = Balancer::new(Members::new(rig.endpoints.clone(), make));
    let second = Balancer::new(rig.members());
    let list = rig.endpoints.clone();
    let waiting = Box::pin(async move { list.newer_than(0).await.0 });
    let mut waiting = Task::new(waiting);
    assert!(waiting.poll().is_pending());
    let insert = || rig.endpoints.insert(Endpoint::new("bad"), rig.now());
    assert!(catch_unwind(AssertUnwindSafe(insert)).is_err());
    assert_eq!(rig.endpoints.list().len(), 2);
    assert_eq!((second.handle().endpoints().len(), waiting.is_woken()), (2, true));
}

#[test]
fn a_reject_that_cannot_be_cloned_leaves_nobody_waiting() {
    struct Bad;
    impl Clone for Bad {
        fn clone(&self) -> Self {
            panic!("no")
        }
    }
    impl<Req, Res, Err> buttress_core::Reject<Req, Res, Err> for Bad {
        type Form = ();
        fn form(&self, _: &Req) {}
        fn reject(&self, (): (), _: buttress_core::Rejection) -> Result<Res, Err> {
            panic!()
        }
    }
    let rig = Rig::of(&[]);
    let mut balancer = Balancer::new(rig.members()).on_reject(Bad);
    assert!(catch_unwind(AssertUnwindSafe(|| balancer.call(query(1)))).is_err());
    assert_eq!(balancer.handle().waiting(), 0);
}

#[test]
fn make_is_called_once_for_each() {
    let made = Arc::new(AtomicUsize::new(0));
    let to = made.clone();
    let make = move |_: &Endpoint| {
        to.fetch_add(1, Ordering::SeqCst);
        service_fn(|_: Query| ready(Ok::<_, BoxError>(String::new())))
    };
    let endpoints = Endpoints::new(["a"].map(Endpoint::new)).unwrap();
    let _balancer = Balancer::new(Members::new(endpoints, make))
        .policy(Static::round_robin())
        .settings(Settings::default())
        .bounded_load(1.5);
    assert_eq!(made.load(Ordering::SeqCst), 1);
}

/// First come, first served?
#[tokio::test]
async fn a_bound_holds_where_endpoints_ask_for_less() {
    let rig = Rig::of(&["a", "b", "c", "d"]);
    rig.hangs.store(true, Ordering::SeqCst);
    let mut balancer = Balancer::new(rig.members())
        .policy(LeastLoad::bandwidth().all())
        .settings(Settings::default().clock(rig.clock()).fail_fast(Duration::ZERO))
        .bounded_load(1.0)
        .by(by_key);
    for name in ["a", "b", "c", "d"] {
        rig.get(name).set_weight_percent(20, rig.now());
    }
    let handle = balancer.handle();
    // One key, which one or none of the four takes.
    let calls: Vec<_> = (0..100).map(|_| balancer.call(query(1))).collect();
    let most = handle.endpoints().iter().map(|view| view.in_flight).max().unwrap();
    drop(calls);
    assert!(most <= 26, "{most} of 100 on one of four");
}

#[test]
fn where_loads_alone_are_bounded_no_call_is_refused() {
    let rig = Rig::of(&["a", "b", "c", "d"]);
    let settings = Settings::default().fail_fast(Duration::ZERO);
    let balancer = Balancer::new(rig.members())
        .policy(ConsistentHash::ring())
        .settings(settings)
        .bounded_load(1.0)
        .by(by_key);
    let refused = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            let (mut balancer, refused) = (balancer.clone(), &refused);
            scope.spawn(move || {
                for _ in 0..30_000 {
                    let mut call = Box::pin(balancer.call(query(7)));
                    if matches!(poll_once(&mut call), Poll::Ready(Err(_))) {
                        refused.fetch_add(1, Ordering::SeqCst);
                    }
                }
            });
        }
    });
    assert_eq!(in_flight(&balancer.handle()), 0);
    assert_eq!(refused.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn flips_under_calls_with_no_time_to_wait_refuse_nothing() {
    // One of two is always usable: they change places, the one that comes first.
    let rig = Rig::new((0..3000).map(|n| Endpoint::new(format!("{n}"))).collect::<Vec<_>>());
    for endpoint in &*rig.endpoints.list() {
        endpoint.maintain(Timestamp::ZERO);
    }
    rig.get("0").resume(rig.now());
    let settings = Settings::default().fail_fast(Duration::ZERO).priorities(Priorities::default());
    let mut list: Vec<Endpoint> = rig.endpoints.list().to_vec();
    list[1] = Endpoint::new("spare").with_priority(1);
    list[1].maintain(Timestamp::ZERO);
    rig.endpoints.replace(list, rig.now()).unwrap();
    let balancer = Balancer::new(rig.members()).policy(Static::random()).settings(settings);
    let (refused, calls, stop) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicBool::new(false));
    let some_calls = || {
        let from = calls.load(Ordering::SeqCst);
        while calls.load(Ordering::SeqCst) < from + 20 {
            std::thread::yield_now();
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let (mut balancer, refused, calls, stop) = (balancer.clone(), &refused, &calls, &stop);
            scope.spawn(move || {
                while !stop.load(Ordering::SeqCst) {
                    calls.fetch_add(1, Ordering::SeqCst);
                    let mut call = Box::pin(balancer.call(query(7)));
                    if matches!(poll_once(&mut call), Poll::Ready(Err(_))) {
                        refused.fetch_add(1, Ordering::SeqCst);
                    }
                }
            });
        }
        for _ in 0..100 {
            rig.get("spare").resume(rig.now());
            rig.get("0").maintain(rig.now());
            some_calls();
            rig.get("0").resume(rig.now());
            rig.get("spare").maintain(rig.now());
            some_calls();
        }
        stop.store(true, Ordering::SeqCst);
    });
    assert_eq!(refused.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn one_that_comes_back_is_seen_to_be_used() {
    let rig = Rig::of(&["a"]);
    rig.time.advance(SECOND);
    rig.hangs.store(true, Ordering::SeqCst);
    let mut balancer = Balancer::new(rig.members()).settings(Settings::default().clock(rig.clock()));
    let call = balancer.call(query(1));
    rig.endpoints.remove("a", rig.now());
    rig.endpoints.insert(Endpoint::new("a"), rig.now());
    rig.time.advance(SECOND);
    let next = balancer.call(query(1));
    let used = rig.get("a").activity().used;
    drop((call, next));
    assert_eq!(used, Some(rig.now()));
}

#[cfg(feature = "http")]
mod over_http {
    use super::*;
    use buttress_core::{LoadReport, Outcome};
    use buttress_http::classify;
    use bytes::Bytes;
    use http_body_util::{BodyExt, Full};

    #[derive(Clone)]
    struct Noting(Arc<Mutex<Vec<(Duration, Option<LoadReport>)>>>);
    impl Policy for Noting {
        type Picker = <buttress_balance::RoundRobinRules as Policy>::Picker;
        fn build(&self, nodes: &[Node]) -> Result<Self::Picker, PolicyError> {
            Static::round_robin().build(nodes)
        }
        fn is_timed(&self) -> bool {
            true
        }
        fn ended(&self, _: &Load, call: &Ended<'_>) {
            let load = call.outcome.and_then(|outcome: &Outcome| outcome.load);
            self.0.lock().unwrap().push((call.now - call.started, load));
        }
    }

    fn answers(_: http::Request<()>) -> std::future::Ready<Result<http::Response<Full<Bytes>>, BoxError>> {
        let body = Full::new(Bytes::from_static(b"abc"));
        ready(Ok(http::Response::builder()
            .header("endpoint-load-metrics", "TEXT cpu_utilization=0.5, rps_fractional=100")
            .body(body)
            .unwrap()))
    }

    /// By turns, and told of bytes if it asks for them.
    #[derive(Clone)]
    struct Weighs(bool, Arc<AtomicUsize>);
    impl Policy for Weighs {
        type Picker = <buttress_balance::RoundRobinRules as Policy>::Picker;
        fn build(&self, nodes: &[Node]) -> Result<Self::Picker, PolicyError> {
            Static::round_robin().build(nodes)
        }
        fn is_timed(&self) -> bool {
            true
        }
        fn counts_bytes(&self) -> bool {
            self.0
        }
        fn received(&self, _: &Load, bytes: u64, _: Timestamp) {
            self.1.fetch_add(bytes as usize, Ordering::SeqCst);
        }
    }

    #[tokio::test]
    async fn a_policy_is_told_of_bytes_where_it_asks_for_them_alone() {
        for counts in [false, true] {
            let bytes = Arc::new(AtomicUsize::new(0));
            let balancer = Balancer::new([("a", service_fn(answers))])
                .policy(Weighs(counts, bytes.clone()))
                .classify(classify::status())
                .at_end();
            let answer = balancer.oneshot(http::Request::new(())).await.unwrap();
            answer.into_body().collect().await.unwrap();
            assert_eq!(bytes.load(Ordering::SeqCst), if counts { 3 } else { 0 });
        }
        assert!(Policy::counts_bytes(&LeastLoad::bandwidth()));
        assert!(Policy::counts_bytes(&AnyPolicy::from(LeastLoad::bandwidth())));
        assert!(!Policy::counts_bytes(&LeastLoad::peak_ewma()));
    }

    #[tokio::test]
    async fn a_report_at_the_head_is_not_lost_where_the_end_judges() {
        for at_end in [false, true] {
            let noted = Arc::new(Mutex::new(Vec::new()));
            let status = if at_end { classify::status().at_end() } else { classify::status() };
            let balancer = Balancer::new([("a", service_fn(answers))])
                .policy(Noting(noted.clone()))
                .classify(classify::orca(status))
                .at_end();
            let answer = balancer.oneshot(http::Request::new(())).await.unwrap();
            answer.into_body().collect().await.unwrap();
            let noted = noted.lock().unwrap();
            assert!(noted[0].1.is_some(), "at_end {at_end}: {noted:?}");
        }
    }

    #[tokio::test]
    async fn a_client_that_reads_slowly_does_not_make_its_endpoint_slow() {
        let time = buttress_core::ManualClock::new();
        let noted = Arc::new(Mutex::new(Vec::new()));
        let balancer = Balancer::new([("a", service_fn(answers))])
            .policy(Noting(noted.clone()))
            .settings(Settings::default().clock(time.clock()))
            .classify(classify::status().at_end())
            .at_end();
        let answer = balancer.oneshot(http::Request::new(())).await.unwrap();
        time.advance(60 * SECOND);
        answer.into_body().collect().await.unwrap();
        let noted = noted.lock().unwrap();
        assert!(noted[0].0 < SECOND, "{noted:?}");
    }
}
