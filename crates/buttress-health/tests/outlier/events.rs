//! What the observer is told, and what it may do.

use super::*;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;

#[test]
fn every_ejection_its_end_and_every_one_that_was_skipped_is_told_in_order() {
    let rig = rig("a b c", plain());
    rig.calls("a", Failed, 5);
    rig.calls("b", Gateway, 5);
    rig.handle.uneject("a");

    assert_eq!(
        rig.told(),
        [
            "a ejected by consecutive_5xx for 30s, the 1. time",
            "b not ejected by consecutive_gateway_failure: as many endpoints of its priority are ejected as may be",
            "b not ejected by consecutive_5xx: as many endpoints of its priority are ejected as may be",
            "a back: by hand",
        ]
    );
}

#[test]
fn the_observer_may_use_the_handle_and_sees_what_it_is_told_of() {
    let handle: Arc<OnceLock<OutlierHandle>> = Arc::default();
    let (mine, seen) = (Arc::clone(&handle), Arc::new(Mutex::new(Vec::new())));
    let saw = Arc::clone(&seen);
    let endpoints = Endpoints::new(named("a b c")).unwrap();
    let outliers = plain()
        .named("fleet")
        .observe(move |event| {
            let handle = mine.get().expect("it is set before any call");
            saw.lock().unwrap().push((line(event), handle.ejected().len()));
            if let HealthEvent::Ejected { policy, endpoint, .. } = event {
                assert_eq!(policy.as_str(), "fleet");
                assert!(endpoint.condition().is_ejected());
                assert!(handle.uneject(endpoint.name()));
            }
        })
        .follow(&endpoints);
    assert!(handle.set(outliers.handle()).is_ok());

    (0..5).for_each(|_| call(&outliers, &endpoints.get("a").unwrap(), Failed));

    let seen = seen.lock().unwrap();
    assert_eq!(seen[0], (String::from("a ejected by consecutive_5xx for 30s, the 1. time"), 1));
    assert_eq!(seen[1], (String::from("a back: by hand"), 0), "told after it, not within it");
}

#[test]
fn an_observer_that_panics_leaves_everything_in_order() {
    let endpoints = Endpoints::new(named("a b c")).unwrap();
    let time = ManualClock::new();
    let outliers = plain()
        .clock(time.clock())
        .observe(|event| {
            if matches!(event, HealthEvent::Ejected { .. }) {
                std::panic::resume_unwind(Box::new("the observer panics"));
            }
        })
        .follow(&endpoints);
    let a = endpoints.get("a").unwrap();
    (0..4).for_each(|_| call(&outliers, &a, Failed));

    assert!(catch_unwind(AssertUnwindSafe(|| call(&outliers, &a, Failed))).is_err());

    assert!(a.condition().is_ejected());
    time.advance(MINUTE);
    call(&outliers, &endpoints.get("b").unwrap(), Good);
    assert!(!a.condition().is_ejected());
    assert_eq!(outliers.handle().counts().all_ejections(), 1);
}

#[test]
fn what_was_skipped_while_the_observer_is_slow_does_not_pile_up() {
    let outliers: Arc<OnceLock<Outliers>> = Arc::default();
    let (mine, told) = (Arc::clone(&outliers), Arc::new(Mutex::new(Vec::new())));
    let log = Arc::clone(&told);
    let endpoints = Endpoints::new(named("a b c")).unwrap();
    let (a, b) = (endpoints.get("a").unwrap(), endpoints.get("b").unwrap());
    let made = plain().observe(move |event| {
        log.lock().unwrap().push(line(event));
        if let HealthEvent::Ejected { .. } = event {
            let outliers = mine.get().expect("it is set before any call");
            (0..5 * 3000).for_each(|_| call(outliers, &b, Failed));
            assert!(outliers.handle().uneject("a"));
        }
    });
    assert!(outliers.set(made.follow(&endpoints)).is_ok());

    (0..5).for_each(|_| call(outliers.get().unwrap(), &a, Failed));

    let told = told.lock().unwrap();
    assert!(told.len() <= 1 + 1024 + 1, "{}", told.len());
    assert!(told[1023].starts_with("b not ejected"));
    assert_eq!(told.last().unwrap(), "a back: by hand", "what was done is told in any case");
}

#[test]
fn an_event_can_be_kept_and_words_tell_what_happened() {
    fn assert_copy<T: Copy>(_: T) {}
    let rig = rig("a b", plain().named("fleet"));
    rig.handle.eject("a").unwrap();

    let ejected = &rig.handle.ejected()[0];
    assert_eq!(
        (ejected.endpoint.name().as_str(), ejected.reason, ejected.times),
        ("a", EjectionReason::ByHand, 1)
    );
    assert_eq!(UnejectionReason::Expired.to_string(), "its time was over");
    let endpoints = Endpoints::new(named("x y")).unwrap();
    let outliers = plain().observe(|event| assert_copy(*event)).follow(&endpoints);
    outliers.handle().eject("x").unwrap();
    assert_eq!(format!("{:?}", rig.handle), "OutlierHandle { name: \"fleet\", .. }");
}
