//! Every interleaving of calls that are placed under one bound, that meet changes of the list, of reads after writes, and
//! of what calls note in a load. Runs
//! under `--cfg buttress_loom` alone.
#![cfg(buttress_loom)]

use std::time::Duration;

use buttress_balance::{
    BoundedLoad, ConsistentHash, Diverted, HashRing, Loads, Node, ReplicaPolicy, ReplicaRules, Route,
};
use buttress_core::Timestamp;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use loom::thread;

struct Shared {
    ring: HashRing,
    bound: BoundedLoad,
    loads: [AtomicU32; 2],
    total: AtomicUsize,
}

impl Loads for Shared {
    fn load(&self, endpoint: usize) -> &AtomicU32 {
        &self.loads[endpoint]
    }

    fn total(&self) -> &AtomicUsize {
        &self.total
    }
}

impl Shared {
    fn new() -> Arc<Self> {
        let nodes = ["a", "b"].map(Node::new);
        Arc::new(Self {
            ring: ConsistentHash::ring().points(2).build(&nodes).unwrap(),
            bound: BoundedLoad::new(1.0, &nodes).unwrap(),
            loads: [AtomicU32::new(0), AtomicU32::new(0)],
            total: AtomicUsize::new(0),
        })
    }

    fn place(&self) -> usize {
        self.bound.place(&self.ring, 7, self, 2, |_| true).expect("all are up")
    }

    fn now(&self) -> (u32, u32, usize) {
        let load = |at: usize| self.loads[at].load(Ordering::SeqCst);
        (load(0), load(1), self.total.load(Ordering::SeqCst))
    }
}

#[test]
fn two_calls_of_one_key_have_an_endpoint_each() {
    loom::model(|| {
        let shared = Shared::new();
        let other = shared.clone();
        let thread = thread::spawn(move || other.place());
        let here = shared.place();
        let there = thread.join().unwrap();

        assert_ne!(here, there);
        assert_eq!(shared.now(), (1, 1, 2));
    });
}

#[test]
fn a_call_that_ends_while_another_is_placed_leaves_its_place() {
    loom::model(|| {
        let shared = Shared::new();
        let first = shared.place();
        let other = shared.clone();
        let thread = thread::spawn(move || other.place());
        shared.bound.release(first, &*shared);
        let second = thread.join().unwrap();
        shared.bound.release(second, &*shared);

        assert_eq!(shared.now(), (0, 0, 0));
    });
}

#[test]
fn a_read_after_two_writes_that_share_a_place_is_held_by_both() {
    loom::model(|| {
        let now = Timestamp::ZERO;
        let rules = ReplicaRules::default().recent(1).trusting();
        let policy = Arc::new(ReplicaPolicy::new(1, rules).unwrap());
        policy.report_position(0, 1);
        let other = policy.clone();
        let thread = thread::spawn(move || other.wrote(Some(1), Some(2), now));
        policy.wrote(Some(2), Some(1), now);
        let read =
            |policy: &ReplicaPolicy, key| policy.read(Some(key), None, now, |usable| usable(0).then_some(0));
        let own = read(&policy, 2);
        thread.join().unwrap();

        assert!(matches!(own, Route::Replica(0) | Route::Primary(Diverted::Token)));
        assert_eq!(read(&policy, 1), Route::Primary(Diverted::Token), "the higher token stays");
        policy.report_position(0, 2);
        assert_eq!(read(&policy, 1), Route::Replica(0));
    });
}

#[test]
fn while_another_primary_takes_over_no_read_goes_to_a_replica() {
    loom::model(|| {
        let now = Timestamp::ZERO;
        let rules = ReplicaRules::default().recent(1).trusting();
        let policy = Arc::new(ReplicaPolicy::new(1, rules).unwrap());
        policy.report_position(0, 4);
        policy.wrote(Some(1), Some(5), now);
        let other = policy.clone();
        let thread = thread::spawn(move || other.fail_over(now));
        let route = policy.read(Some(1), None, now, |usable| usable(0).then_some(0));
        thread.join().unwrap();

        assert!(matches!(route, Route::Primary(_)), "{route:?}");
    });
}

#[test]
fn of_what_is_told_while_another_primary_takes_over_nothing_of_the_former_one_stays() {
    loom::model(|| {
        let now = Timestamp::ZERO;
        let rules = ReplicaRules::default().recent(1).trusting();
        let policy = Arc::new(ReplicaPolicy::new(1, rules).unwrap());
        let (epoch, other) = (policy.epoch(), policy.clone());
        let thread = thread::spawn(move || {
            other.wrote_in(epoch, Some(1), Some(9), now);
            other.report_position_in(epoch, 0, 9);
        });
        policy.fail_over(now);
        let read = |now: Timestamp| policy.read(Some(1), None, now, |usable| usable(0).then_some(0));
        assert_eq!(read(now), Route::Primary(Diverted::Recent));
        thread.join().unwrap();

        assert_eq!(policy.position(0), None);
        assert_eq!(read(now), Route::Primary(Diverted::Recent));
        assert_eq!(read(now + Duration::from_secs(3)), Route::Replica(0), "no token holds it");
    });
}

mod balancer {
    use std::future::{Ready, ready};
    use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
    use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
    use std::task::{Context, Poll, Waker};

    use buttress_balance::{BalanceEvent, Balancer, Handle, Members, ModuloRules, Settings, Static};
    use buttress_core::{BoxError, Endpoint, Endpoints, Health, ManualClock, Timestamp};
    use bytes::Bytes;
    use http_body_util::Full;
    use loom::thread;
    use tower::Service;

    /// Answers at once.
    #[derive(Clone)]
    struct Echo;

    impl Service<()> for Echo {
        type Response = ();
        type Error = BoxError;
        type Future = Ready<Result<(), BoxError>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, (): ()) -> Self::Future {
            ready(Ok(()))
        }
    }

    type Drained = Arc<Mutex<usize>>;

    /// Always the same key: what a model does must not depend on chance.
    #[derive(Clone)]
    struct Of(u64);

    impl<Req> buttress_core::Key<Req> for Of {
        fn key<K: buttress_core::KeySink>(&self, _: &Req, to: &mut K) -> bool {
            to.fixed(self.0.to_be_bytes());
            true
        }
    }

    /// One model at a time: they see each other's changes of conditions, which a process counts together.
    fn alone() -> MutexGuard<'static, ()> {
        static ALONE: Mutex<()> = Mutex::new(());
        ALONE.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keys enough that each of two endpoints owns one.
    const KEYS: std::ops::Range<u64> = 0..4;

    fn balancer(names: &[&'static str], key: u64) -> (Balancer<Echo, ModuloRules, Of>, Endpoints, Drained) {
        over(Echo, names, key)
    }

    fn over<S: Clone + Send + Sync + 'static>(
        service: S,
        names: &[&'static str],
        key: u64,
    ) -> (Balancer<S, ModuloRules, Of>, Endpoints, Drained) {
        let endpoints = Endpoints::new(names.iter().copied().map(Endpoint::new)).unwrap();
        let drained = Drained::default();
        let to = drained.clone();
        let settings = Settings::default().clock(ManualClock::new().clock()).observe(move |event| {
            if matches!(event, BalanceEvent::Drained { .. }) {
                *to.lock().unwrap() += 1;
            }
        });
        let members = Members::new(endpoints.clone(), move |_| service.clone());
        (Balancer::new(members).policy(Static::modulo()).settings(settings).by(Of(key)), endpoints, drained)
    }

    fn rest(handle: &Handle) -> Vec<(String, u32)> {
        handle.endpoints().iter().map(|view| (view.endpoint.name().to_string(), view.in_flight)).collect()
    }

    /// The last call of an endpoint that leaves, and its leaving: whichever comes last lets it go, once.
    #[test]
    fn an_endpoint_that_leaves_under_a_call_is_let_go_once() {
        let _alone = alone();
        loom::model(|| {
            let (mut balancer, endpoints, drained) = balancer(&["a"], 0);
            let handle = balancer.handle();
            let call = balancer.call(());
            let leaves = thread::spawn(move || drop(endpoints.remove("a", Timestamp::ZERO)));
            drop(call);
            leaves.join().unwrap();

            assert_eq!(rest(&handle), []);
            assert_eq!(*drained.lock().unwrap(), 1);
        });
    }

    /// A call that looks at the list while that changes: what it took, it gives back.
    #[test]
    fn a_call_that_meets_a_change_leaves_nothing_behind() {
        let _alone = alone();
        for key in KEYS {
            loom::model(move || {
                let (mut balancer, endpoints, _) = balancer(&["a", "b"], key);
                let handle = balancer.handle();
                let leaves = thread::spawn(move || drop(endpoints.remove("a", Timestamp::ZERO)));
                {
                    let mut call = Box::pin(balancer.call(()));
                    let answer = call.as_mut().poll(&mut Context::from_waker(Waker::noop()));
                    assert!(matches!(answer, Poll::Ready(Ok(()))));
                }
                leaves.join().unwrap();

                assert_eq!(rest(&handle), [("b".to_owned(), 0)]);
            });
        }
    }

    /// Panics where it is called.
    #[derive(Clone)]
    struct Panics;

    impl Service<()> for Panics {
        type Response = ();
        type Error = BoxError;
        type Future = Ready<Result<(), BoxError>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, (): ()) -> Self::Future {
            resume_unwind(Box::new("as scripted"))
        }
    }

    /// A call that panics while the list changes.
    #[test]
    fn a_call_that_panics_under_a_change_leaves_nothing_behind() {
        let _alone = alone();
        for key in KEYS {
            loom::model(move || {
                let (mut balancer, endpoints, _) = over(Panics, &["a", "b"], key);
                let handle = balancer.handle();
                let leaves = thread::spawn(move || drop(endpoints.remove("a", Timestamp::ZERO)));
                assert!(catch_unwind(AssertUnwindSafe(|| balancer.call(()))).is_err());
                leaves.join().unwrap();

                assert_eq!(rest(&handle), [("b".to_owned(), 0)]);
            });
        }
    }

    /// Answers with a body.
    #[derive(Clone)]
    struct Page;

    impl Service<http::Request<()>> for Page {
        type Response = http::Response<Full<Bytes>>;
        type Error = BoxError;
        type Future = Ready<Result<Self::Response, BoxError>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: http::Request<()>) -> Self::Future {
            ready(Ok(http::Response::new(Full::from("page"))))
        }
    }

    /// A body that is dropped unread while its endpoint leaves: the call is over with it, and not before.
    #[test]
    fn an_endpoint_that_leaves_under_a_body_is_let_go_with_it_once() {
        let _alone = alone();
        loom::model(|| {
            let (balancer, endpoints, drained) = over(Page, &["a"], 0);
            let mut balancer = balancer.at_end();
            let handle = balancer.handle();
            let mut call = Box::pin(balancer.call(http::Request::new(())));
            let answer = call.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            let Poll::Ready(Ok(answer)) = answer else { panic!("it answers at once") };
            drop(call);
            assert_eq!(rest(&handle), [("a".to_owned(), 1)]);

            let leaves = thread::spawn(move || drop(endpoints.remove("a", Timestamp::ZERO)));
            drop(answer);
            leaves.join().unwrap();

            assert_eq!(rest(&handle), []);
            assert_eq!(*drained.lock().unwrap(), 1);
        });
    }

    /// Two changes at once: the newer list stands in the end.
    #[test]
    fn of_two_lists_the_newer_one_stays() {
        let _alone = alone();
        loom::model(|| {
            let (balancer, endpoints, _) = balancer(&["a"], 0);
            let other = endpoints.clone();
            let joins = thread::spawn(move || other.insert(Endpoint::new("b"), Timestamp::ZERO));
            endpoints.insert(Endpoint::new("c"), Timestamp::ZERO);
            joins.join().unwrap();

            let mut names: Vec<_> = rest(&balancer.handle()).into_iter().map(|(name, _)| name).collect();
            names.sort_unstable();
            assert_eq!(names, ["a", "b", "c"]);
        });
    }

    /// What was known of health when a call looked may be old; a call after the change is not.
    #[test]
    fn a_flip_is_seen_by_the_next_call() {
        let _alone = alone();
        for key in KEYS {
            loom::model(move || {
                let (mut balancer, endpoints, _) = balancer(&["a", "b"], key);
                let handle = balancer.handle();
                let mut other = balancer.clone();
                let calls = thread::spawn(move || drop(other.call(())));
                endpoints.get("a").unwrap().set_health(Health::Unhealthy, Timestamp::ZERO);
                let held: Vec<_> = (0..2).map(|_| balancer.call(())).collect();
                calls.join().unwrap();

                assert_eq!(rest(&handle), [("a".to_owned(), 0), ("b".to_owned(), 2)]);
                drop(held);
            });
        }
    }
}

mod load {
    use std::time::Duration;

    use buttress_balance::{Among, Ended, LeastLoad, Load, Node, Picker, Policy};
    use buttress_core::{LoadReport, Outcome, Timestamp};
    use loom::sync::Arc;
    use loom::thread;

    const SECOND: Duration = Duration::from_secs(1);
    const START: Timestamp = Timestamp::from_nanos(1_000_000_000_000);

    fn ended(policy: &impl Policy, load: &Load, took: Duration, now: Timestamp, outcome: &Outcome) {
        policy.ended(load, &Ended::new(now - took, now, Some(outcome)));
    }

    #[test]
    fn of_two_samples_at_once_neither_is_lost() {
        loom::model(|| {
            let (load, policy) = (Arc::new(Load::new(1)), LeastLoad::peak_ewma());
            let other = load.clone();
            let thread =
                thread::spawn(move || ended(&policy, &other, 3 * SECOND, START, &Outcome::success()));
            ended(&policy, &load, 7 * SECOND, START, &Outcome::success());
            thread.join().unwrap();

            let score = policy.build(&[Node::new("a")]).unwrap().score(&load, START);
            assert!((6.9e9..7.1e9).contains(&score), "{score}");
        });
    }

    #[test]
    fn bytes_that_come_at_the_turn_of_a_window_are_all_counted() {
        loom::model(|| {
            let (load, policy) = (Arc::new(Load::new(1)), LeastLoad::bandwidth());
            // Eleven seconds on, the word is that of another second.
            policy.received(&load, 1000, START);
            let now = START + 11 * SECOND;
            let other = load.clone();
            let thread = thread::spawn(move || policy.received(&other, 3, now));
            policy.received(&load, 4, now);
            thread.join().unwrap();

            assert_eq!(policy.build(&[Node::new("a")]).unwrap().score(&load, now), 7.0);
        });
    }

    /// Endpoints that are all usable, in a moment.
    struct Farm([Arc<Load>; 3], Timestamp);

    impl Among for Farm {
        fn is_usable(&self, _: usize) -> bool {
            true
        }

        fn admit(&self, _: usize) -> bool {
            true
        }

        fn load(&self, endpoint: usize) -> &Load {
            &self.0[endpoint]
        }

        fn now(&self) -> Timestamp {
            self.1
        }
    }

    #[test]
    fn a_first_report_never_counts_before_its_blackout_is_over() {
        loom::model(|| {
            let policy = LeastLoad::reported();
            let loads = [1, 1, 1].map(|weight| Arc::new(Load::new(weight)));
            let report = |rate| Outcome::success().with_load(LoadReport::new().with_cpu(1.0).with_rate(rate));
            let now = START + 1000 * SECOND;
            for load in &loads[1..] {
                ended(&policy, load, SECOND, START + 985 * SECOND, &report(100.0));
                ended(&policy, load, SECOND, now, &report(100.0));
            }

            // The first one reported long ago, and begins anew.
            ended(&policy, &loads[0], SECOND, START, &report(1.0));
            let first = loads[0].clone();
            let picker = Arc::new(policy.build(&["a", "b", "c"].map(Node::new)).unwrap());
            let other = picker.clone();
            let thread = thread::spawn(move || other.pick(7, &Farm(loads, now)));
            ended(&policy, &first, SECOND, now, &report(1.0));
            thread.join().unwrap();

            // It counts for the mean of the others, and not for a hundredth of it.
            assert_eq!(picker.share(0), 65_535);
        });
    }
}
