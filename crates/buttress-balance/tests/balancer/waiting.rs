//! Calls that no endpoint can take, and calls that are left.

use std::num::NonZeroU32;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::task::Poll;

use buttress_balance::{Balancer, Settings, Static};
use buttress_core::{BoxError, Cause, Endpoint, Health, RejectionKind};
use buttress_testkit::{Task, poll_once};
use tower::{Service, ServiceExt, service_fn};

use crate::support::{Named, Rig, SECOND, in_flight, query};

fn balancer(rig: &Rig) -> Balancer<Named> {
    Balancer::new(rig.members()).settings(Settings::default().clock(rig.clock()).name("orders"))
}

#[tokio::test]
async fn a_call_waits_for_an_endpoint_and_is_refused_when_there_is_none_in_time() {
    let rig = Rig::of(&["a"]);
    let mut balancer = balancer(&rig);
    rig.get("a").maintain(rig.now());
    let mut call = Task::new(balancer.call(query(1)));

    assert!(call.poll().is_pending());
    assert_eq!(balancer.handle().waiting(), 1);
    rig.time.advance(2 * SECOND);
    assert!(call.run().is_pending());
    rig.time.advance(SECOND);
    let Poll::Ready(Err(error)) = call.run() else { panic!("its time is over") };

    let rejection = error.rejection().expect("it is a refusal");
    assert_eq!(rejection.kind, RejectionKind::NoEndpoint);
    assert_eq!(rejection.policy.as_deref(), Some("orders"));
    assert_eq!(balancer.handle().waiting(), 0);
}

#[tokio::test]
async fn a_call_that_waits_goes_on_when_an_endpoint_comes_back() {
    let rig = Rig::of(&["a"]);
    let mut balancer = balancer(&rig);
    rig.get("a").maintain(rig.now());
    let mut calls: Vec<_> = (0..3).map(|_| Task::new(balancer.call(query(1)))).collect();
    assert!(calls.iter_mut().all(|call| call.poll().is_pending()));

    rig.get("a").resume(rig.now());

    for call in &mut calls {
        assert!(call.is_woken());
        assert!(matches!(call.run(), Poll::Ready(Ok(name)) if name == "a"));
    }
}

#[tokio::test]
async fn a_call_that_waits_goes_on_when_an_endpoint_joins() {
    let rig = Rig::of(&[]);
    let mut balancer = balancer(&rig);
    let mut call = Task::new(balancer.call(query(1)));
    assert!(call.poll().is_pending());

    rig.endpoints.insert(Endpoint::new("late"), rig.now());

    assert!(matches!(call.run(), Poll::Ready(Ok(name)) if name == "late"));
}

#[tokio::test]
async fn a_call_that_waits_for_a_place_gets_the_one_that_is_given_back() {
    let rig = Rig::of(&["a"]);
    rig.hangs.store(true, Ordering::SeqCst);
    let settings = Settings::default().clock(rig.clock()).max_in_flight(NonZeroU32::MIN);
    let mut balancer = Balancer::new(rig.members()).settings(settings);
    let first = balancer.call(query(1));
    let (mut second, mut third) = (Task::new(balancer.call(query(2))), Task::new(balancer.call(query(3))));
    assert!(second.poll().is_pending() && third.poll().is_pending());

    drop(first);
    assert!(second.is_woken() && !third.is_woken());
    assert!(second.run().is_pending(), "it is under way");
    assert_eq!((in_flight(&balancer.handle()), balancer.handle().waiting()), (1, 1));

    drop(second);
    assert!(third.is_woken());
    drop(third);
    assert_eq!((in_flight(&balancer.handle()), balancer.handle().waiting()), (0, 0));
}

#[tokio::test]
async fn a_place_that_a_waiting_call_was_woken_for_is_not_lost_when_that_is_dropped() {
    let rig = Rig::of(&["a"]);
    rig.hangs.store(true, Ordering::SeqCst);
    let settings = Settings::default().clock(rig.clock()).max_in_flight(NonZeroU32::MIN);
    let mut balancer = Balancer::new(rig.members()).settings(settings);
    let first = balancer.call(query(1));
    let (mut second, mut third) = (Task::new(balancer.call(query(2))), Task::new(balancer.call(query(3))));
    assert!(second.poll().is_pending() && third.poll().is_pending());

    drop(first);
    drop(second);

    assert!(third.is_woken());
}

#[tokio::test]
async fn with_no_time_to_wait_it_is_refused_at_once() {
    let rig = Rig::of(&["a"]);
    rig.get("a").set_health(Health::Unhealthy, rig.now());
    let settings = Settings::default()
        .fail_fast(std::time::Duration::ZERO)
        .priorities(buttress_balance::Priorities::default().panic_below(0));
    let balancer = Balancer::new(rig.members()).settings(settings);
    let error = balancer.oneshot(query(1)).await.unwrap_err();
    assert_eq!(error.rejection().unwrap().kind, RejectionKind::NoEndpoint);
}

#[tokio::test]
async fn a_call_that_is_dropped_at_any_stage_gives_its_place_back() {
    let rig = Rig::of(&["a", "b"]);
    rig.hangs.store(true, Ordering::SeqCst);
    let mut balancer = balancer(&rig);
    let handle = balancer.handle();

    drop(balancer.call(query(1)));
    assert_eq!(in_flight(&handle), 0);
    let mut call = Task::new(balancer.call(query(1)));
    assert!(call.poll().is_pending());
    assert_eq!(in_flight(&handle), 1);
    drop(call);
    assert_eq!(in_flight(&handle), 0);
}

#[test]
fn a_panic_gives_the_place_back_and_the_balancer_works_on() {
    let panics = service_fn(|now: bool| {
        assert!(!now, "in the call");
        async { panic!("in the future") as Result<(), BoxError> }
    });
    let mut balancer = Balancer::new([("a", panics)]).policy(Static::random());
    let handle = balancer.handle();

    assert!(catch_unwind(AssertUnwindSafe(|| balancer.call(true))).is_err());
    assert_eq!(in_flight(&handle), 0);
    let mut call = Box::pin(balancer.call(false));
    assert_eq!(in_flight(&handle), 1);
    assert!(catch_unwind(AssertUnwindSafe(|| poll_once(&mut call))).is_err());
    drop(call);
    assert_eq!(in_flight(&handle), 0);
}
