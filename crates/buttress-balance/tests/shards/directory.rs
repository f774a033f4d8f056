//! Shards by what a lookup service says: remembered, asked once, and forgotten when told.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use buttress_balance::{Directory, Located, Lookups, Moving, Shards};
use buttress_core::{Access, BoxError, ManualClock, RejectionKind};
use buttress_testkit::Task;
use tokio::sync::oneshot;
use tower::util::ServiceFn;
use tower::{service_fn, util::BoxCloneSyncService};
use tower_service::Service;

use super::kind;

type Request = (&'static str, u32);
type Store = ServiceFn<fn(Request) -> Answer>;
type Answer = std::future::Ready<Result<u32, BoxError>>;
type Key = fn(&Request) -> Option<&'static str>;

/// Answers lookups when it is told to.
#[derive(Clone, Default)]
struct Desk(Arc<Mutex<VecDeque<Slip>>>);

struct Slip {
    key: &'static str,
    answer: oneshot::Sender<Result<Located, BoxError>>,
}

impl Desk {
    /// The keys of the lookups that wait.
    fn asked(&self) -> Vec<&'static str> {
        self.0.lock().unwrap().iter().filter(|slip| !slip.answer.is_closed()).map(|slip| slip.key).collect()
    }

    fn answer(&self, answer: Result<Located, BoxError>) {
        let slip = self.0.lock().unwrap().pop_front().expect("a lookup waits");
        // Whoever asked may have gone.
        let _ = slip.answer.send(answer);
    }

    /// Drops the answer, on which the lookup panics.
    fn panic(&self) {
        drop(self.0.lock().unwrap().pop_front().expect("a lookup waits"));
    }
}

impl Service<&'static str> for Desk {
    type Response = Located;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Located, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, key: &'static str) -> Self::Future {
        let (answer, reply) = oneshot::channel();
        self.0.lock().unwrap().push_back(Slip { key, answer });
        Box::pin(async move {
            match reply.await {
                Ok(answer) => answer,
                Err(_) => std::panic::resume_unwind(Box::new("as scripted")),
            }
        })
    }
}

/// A store of two shards, whose answers tell the shard and the number of the call.
fn stores() -> [Store; 2] {
    let one: fn(Request) -> Answer = |(_, n)| std::future::ready(Ok(n));
    let two: fn(Request) -> Answer = |(_, n)| std::future::ready(Ok(1000 + n));
    [service_fn(one), service_fn(two)]
}

fn key((key, _): &Request) -> Option<&'static str> {
    (!key.is_empty()).then_some(*key)
}

fn directory(desk: &Desk, time: &ManualClock) -> Directory<Key, Desk> {
    Directory::new(key as Key, desk.clone()).clock(time.clock()).ttl(Duration::from_secs(10))
}

fn shards(desk: &Desk, time: &ManualClock) -> Shards<Store, Lookups<Key, &'static str, Desk>> {
    Shards::by_directory(stores(), directory(desk, time)).unwrap()
}

type Call = Task<<Shards<Store, Lookups<Key, &'static str, Desk>> as Service<Request>>::Future>;

fn call(shards: &Shards<Store, Lookups<Key, &'static str, Desk>>, req: Request) -> Call {
    let mut task = Task::new(shards.clone().call(req));
    assert!(task.poll().is_pending());
    task
}

fn result<F: Future<Output = Result<u32, BoxError>>>(call: &mut Task<F>) -> Result<u32, BoxError> {
    match call.poll() {
        Poll::Ready(result) => result,
        Poll::Pending => panic!("it does not answer"),
    }
}

#[test]
fn calls_for_one_key_at_once_make_one_lookup() {
    let (desk, time) = (Desk::default(), ManualClock::new());
    let shards = shards(&desk, &time);

    let mut calls: Vec<Call> = (0..5).map(|n| call(&shards, ("acme", n))).collect();
    let mut other = call(&shards, ("bolt", 9));
    assert_eq!(desk.asked(), ["acme", "bolt"]);

    desk.answer(Ok(Located::At(1)));
    assert!(calls.iter().all(Task::is_woken));
    for (n, call) in calls.iter_mut().enumerate() {
        assert_eq!(result(call).unwrap(), 1000 + n as u32);
    }
    assert!(!other.is_woken());
    desk.answer(Ok(Located::At(0)));
    assert_eq!(result(&mut other).unwrap(), 9);
    let counts = shards.directory().counts();
    assert_eq!((counts.begun, counts.joined), (2, 4));
}

#[test]
fn an_answer_is_remembered_for_its_time() {
    let (desk, time) = (Desk::default(), ManualClock::new());
    let shards = shards(&desk, &time);
    let mut first = call(&shards, ("acme", 1));
    desk.answer(Ok(Located::At(1)));
    result(&mut first).unwrap();

    time.advance(Duration::from_secs(10) - Duration::from_nanos(1));
    assert_eq!(Task::new(shards.clone().call(("acme", 2))).poll().map(Result::unwrap), Poll::Ready(1002));
    assert!(desk.asked().is_empty());

    time.advance(Duration::from_nanos(1));
    let _third = call(&shards, ("acme", 3));
    assert_eq!(desk.asked(), ["acme"]);
}

#[test]
fn that_no_shard_has_a_key_is_remembered_for_a_shorter_time() {
    let (desk, time) = (Desk::default(), ManualClock::new());
    let shards = shards(&desk, &time);
    let mut first = call(&shards, ("nobody", 1));
    desk.answer(Ok(Located::Nowhere));
    assert_eq!(kind(&result(&mut first).unwrap_err()), RejectionKind::NoShard);

    let mut second = Task::new(shards.clone().call(("nobody", 2)));
    assert_eq!(kind(&result(&mut second).unwrap_err()), RejectionKind::NoShard);
    time.advance(Duration::from_secs(1));
    let _third = call(&shards, ("nobody", 3));
    assert_eq!(desk.asked(), ["nobody"]);

    let mut keyless = Task::new(shards.clone().call(("", 4)));
    assert_eq!(kind(&result(&mut keyless).unwrap_err()), RejectionKind::NoShard);
}

#[test]
fn a_caller_that_goes_away_does_not_cancel_the_lookup_of_others() {
    for gone in 0..3 {
        let (desk, time) = (Desk::default(), ManualClock::new());
        let shards = shards(&desk, &time);
        let mut calls: Vec<Call> = (0..3).map(|n| call(&shards, ("acme", n))).collect();

        // Also where it is the one that has polled the lookup last.
        assert!(calls[gone].poll().is_pending());
        drop(calls.remove(gone));
        assert_eq!(desk.asked(), ["acme"]);
        desk.answer(Ok(Located::At(1)));
        assert!(calls.iter().all(Task::is_woken));
        assert!(calls.iter_mut().all(|call| result(call).is_ok()));
    }
}

#[test]
fn a_lookup_ends_with_the_last_who_waits_for_it_and_the_next_begins_anew() {
    let (desk, time) = (Desk::default(), ManualClock::new());
    let shards = shards(&desk, &time);
    let calls: Vec<Call> = (0..3).map(|n| call(&shards, ("acme", n))).collect();
    assert_eq!(shards.directory().under_way(), 1);

    drop(calls);
    assert!(desk.asked().is_empty());
    assert_eq!(shards.directory().under_way(), 0, "nothing is left of it");
    drop(shards.clone().call(("acme", 3)));
    assert_eq!(shards.directory().under_way(), 0, "nor of one that was not begun");
    desk.0.lock().unwrap().clear();
    let mut next = call(&shards, ("acme", 4));
    desk.answer(Ok(Located::At(0)));
    assert_eq!(result(&mut next).unwrap(), 4);
}

#[test]
fn a_lookup_that_hangs_holds_up_no_call_that_comes_later() {
    let (desk, time) = (Desk::default(), ManualClock::new());
    let shards = shards(&desk, &time);
    let mut early: Vec<Call> = (0..2).map(|n| call(&shards, ("acme", n))).collect();
    assert!(early.iter_mut().all(|call| call.poll().is_pending()));
    time.advance(Duration::from_secs(2));

    let mut late = call(&shards, ("acme", 2));
    assert!(late.poll().is_pending());

    assert_eq!(desk.asked(), ["acme", "acme"], "it is looked up anew");
    assert_eq!(shards.directory().under_way(), 1);
    drop(early);
    assert_eq!(shards.directory().under_way(), 1, "the end of the first is not that of the second");
}

#[test]
fn an_error_wakes_all_who_wait_and_is_not_remembered() {
    let (desk, time) = (Desk::default(), ManualClock::new());
    let told = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&told);
    let shards = shards(&desk, &time).observe(move |event| log.lock().unwrap().push(format!("{event:?}")));
    let mut calls: Vec<Call> = (0..3).map(|n| call(&shards, ("acme", n))).collect();

    desk.answer(Err("out of reach".into()));
    assert!(calls.iter().all(Task::is_woken));
    for call in &mut calls {
        let error = result(call).unwrap_err();
        assert_eq!(kind(&error), RejectionKind::NoEndpoint);
    }
    let told = told.lock().unwrap();
    assert_eq!(told.iter().filter(|event| event.contains("out of reach")).count(), 1);
    assert_eq!(told.iter().filter(|event| event.contains("Unknown")).count(), 3);

    let mut next = call(&shards, ("acme", 7));
    desk.answer(Ok(Located::At(0)));
    drop(told);
    assert_eq!(result(&mut next).unwrap(), 7);
    assert_eq!((shards.directory().counts().failed, shards.handle().counts().unknown), (1, 3));
}

#[test]
fn a_panic_wakes_all_who_wait_and_is_not_remembered() {
    let (desk, time) = (Desk::default(), ManualClock::new());
    let shards = shards(&desk, &time);
    let mut calls: Vec<Call> = (0..3).map(|n| call(&shards, ("acme", n))).collect();

    desk.panic();
    assert!(calls.iter().all(Task::is_woken));
    assert!(calls.iter_mut().all(|call| kind(&result(call).unwrap_err()) == RejectionKind::NoEndpoint));
    assert_eq!(shards.directory().under_way(), 0);

    let mut next = call(&shards, ("acme", 7));
    desk.answer(Ok(Located::At(0)));
    assert_eq!(result(&mut next).unwrap(), 7);
}

/// An error that cannot be told.
struct Ill;

impl From<Ill> for BoxError {
    fn from(_: Ill) -> Self {
        std::panic::resume_unwind(Box::new("as scripted"))
    }
}

#[test]
fn an_error_whose_conversion_panics_refuses_all_who_wait() {
    let gate = Arc::new(Mutex::new(None));
    let waits = Arc::clone(&gate);
    let lookup = service_fn(move |_: &'static str| {
        let (open, opened) = oneshot::channel::<()>();
        *waits.lock().unwrap() = Some(open);
        async move {
            let _ = opened.await;
            Err::<Located, Ill>(Ill)
        }
    });
    let shards = Shards::by_directory(stores(), Directory::new(key as Key, lookup)).unwrap();
    let mut calls: Vec<_> = (0..3).map(|n| Task::new(shards.clone().call(("acme", n)))).collect();
    assert!(calls.iter_mut().all(|call| call.poll().is_pending()));

    drop(gate.lock().unwrap().take());

    assert!(calls.iter_mut().all(|call| kind(&result(call).unwrap_err()) == RejectionKind::NoEndpoint));
}

#[test]
fn an_answer_that_comes_after_an_invalidation_is_not_remembered() {
    for all in [false, true] {
        let (desk, time) = (Desk::default(), ManualClock::new());
        let shards = shards(&desk, &time);
        let mut early = call(&shards, ("acme", 1));

        if all {
            shards.directory().invalidate_all();
        } else {
            shards.directory().invalidate(&"acme");
        }
        let mut later = call(&shards, ("acme", 2));
        assert_eq!(desk.asked(), ["acme", "acme"], "it does not join the lookup of before");
        desk.answer(Ok(Located::At(0)));
        assert_eq!(result(&mut early).unwrap(), 1);
        assert!(shards.directory().is_empty());

        desk.answer(Ok(Located::At(1)));
        assert_eq!(result(&mut later).unwrap(), 1002);
        let mut last = Task::new(shards.clone().call(("acme", 3)));
        assert_eq!(result(&mut last).unwrap(), 1003);
        assert_eq!(shards.directory().counts().late, 1);
    }
}

#[test]
fn an_invalidated_key_is_looked_up_anew() {
    let (desk, time) = (Desk::default(), ManualClock::new());
    let shards = shards(&desk, &time);
    for (n, shard) in [(1, 0), (2, 1)] {
        let mut call = call(&shards, ("acme", n));
        desk.answer(Ok(Located::At(shard)));
        assert_eq!(result(&mut call).unwrap(), 1000 * shard as u32 + n);
        shards.directory().invalidate(&"acme");
    }
}

#[test]
fn settling_waits_for_calls_that_go_by_a_former_answer() {
    let (desk, time) = (Desk::default(), ManualClock::new());
    let shards = shards(&desk, &time);
    let mut early = call(&shards, ("acme", 1));

    shards.directory().invalidate(&"acme");
    let mut settled = Task::new(shards.handle().settle());
    assert!(settled.poll().is_pending());
    let _later = call(&shards, ("acme", 2));
    desk.answer(Ok(Located::At(0)));
    assert!(!settled.is_woken());
    result(&mut early).unwrap();
    assert!(settled.is_woken() && settled.poll().is_ready());
}

#[test]
fn a_place_that_is_no_shard_is_refused() {
    let (desk, time) = (Desk::default(), ManualClock::new());
    let shards = shards(&desk, &time);
    for located in [Located::At(2), Located::At(usize::MAX), Located::Moving(Moving { from: 0, to: 1 })] {
        let mut call = call(&shards, ("acme", 1));
        desk.answer(Ok(located));
        assert_eq!(kind(&result(&mut call).unwrap_err()), RejectionKind::NoShard, "{located:?}");
        shards.directory().invalidate_all();
    }
}

#[test]
fn a_directory_may_say_that_a_key_moves() {
    let absent = |answer: Result<&u32, &BoxError>| answer.is_ok_and(|n| n % 1000 == 4);
    let access = |req: &Request| if req.1.is_multiple_of(2) { Access::Read } else { Access::Write };
    let (desk, time) = (Desk::default(), ManualClock::new());
    let shards = Shards::by_directory(stores(), directory(&desk, &time)).unwrap().movable_by(absent, access);
    let call = |n| Task::new(shards.clone().call(("acme", n)));

    let mut first = call(1);
    assert!(first.poll().is_pending());
    desk.answer(Ok(Located::Moving(Moving { from: 0, to: 1 })));
    assert_eq!(result(&mut first).unwrap(), 1001, "a write goes to the new place");
    assert_eq!(result(&mut call(2)).unwrap(), 1002, "a read too");
    assert_eq!(result(&mut call(4)).unwrap(), 4, "and to the former one where there is no such key");
    assert_eq!(shards.handle().counts().fallbacks, 1);
}

#[test]
fn no_more_keys_are_remembered_than_there_is_room_for() {
    let time = ManualClock::new();
    let lookup = service_fn(|_: u32| async { Ok::<_, BoxError>(0) });
    let lookup = BoxCloneSyncService::new(lookup);
    let directory = Directory::new(|n: &u32| Some(*n), lookup).clock(time.clock()).capacity(100);
    let shard = service_fn(|n: u32| async move { Ok::<_, BoxError>(n) });
    let shards = Shards::by_directory([shard], directory).unwrap();
    let directory = shards.directory();

    for n in 0..10_000 {
        assert!(super::now(&shards, n).is_ok());
        assert!(directory.len() <= 100);
    }
    assert!(directory.len() > 50 && directory.evicted() >= 9_900 - 50);
    assert_eq!(directory.under_way(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn on_many_threads_each_call_gets_its_answer_whoever_is_cancelled() {
    let time = ManualClock::new();
    let lookup = service_fn(|n: u32| async move {
        tokio::task::yield_now().await;
        tokio::task::yield_now().await;
        Ok::<_, BoxError>((n % 2) as usize)
    });
    let directory = Directory::new(|(key, _): &(u32, u32)| Some(*key), lookup)
        .clock(time.clock())
        .ttl(Duration::ZERO)
        .capacity(8);
    let shard = |name: u32| service_fn(move |(_, n): (u32, u32)| async move { Ok::<_, BoxError>((name, n)) });
    let shards = Shards::by_directory([shard(0), shard(1)], directory).unwrap();

    let mut calls = Vec::new();
    for n in 0..4000 {
        let call = tokio::spawn(shards.clone().call((n % 4, n)));
        if n % 3 == 0 {
            call.abort();
        }
        calls.push((n, call));
    }
    for (n, call) in calls {
        match call.await {
            Ok(answer) => assert_eq!(answer.unwrap(), (n % 4 % 2, n)),
            Err(error) => assert!(error.is_cancelled()),
        }
    }
    assert_eq!(shards.directory().under_way(), 0);
}
