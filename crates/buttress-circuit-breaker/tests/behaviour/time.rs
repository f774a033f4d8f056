//! h. Time.

use super::*;

#[tokio::test(start_paused = true)]
async fn it_follows_the_clock_that_it_is_given() {
    let (inner, watch) = Echo::new(|n| n);
    let layer = simple().clock(Clock::tokio());
    let service = layer.layer(inner);
    for _ in 0..2 {
        watch.fail("out of paper".into());
        service.clone().oneshot(1).await.unwrap_err();
    }

    buttress_testkit::advance(5 * SECOND - Duration::from_millis(1)).await;
    assert!(service.clone().oneshot(1).await.is_err());
    buttress_testkit::advance(Duration::from_millis(1)).await;
    assert_eq!(service.clone().oneshot(1).await.unwrap(), 1);
}

#[test]
fn a_layer_takes_the_default_clock_of_where_it_is_built() {
    let time = ManualClock::new();
    let layer = Clock::with_default(time.clock(), simple);
    let (handle, service) = (layer.handle(), layer.layer(Echo::new(|n| n).0));
    handle.open_for(5 * SECOND);
    let call = || Task::new(service.clone().oneshot(1)).run();

    assert!(matches!(call(), Poll::Ready(Err(_))));
    time.advance(5 * SECOND);
    assert!(matches!(call(), Poll::Ready(Ok(1))));
}

#[test]
fn a_clock_that_goes_back_does_not_keep_it_open_for_longer_than_it_may() {
    let rig = rig(simple());
    rig.time.advance(Duration::from_secs(3600));
    rig.fail(2);

    rig.time.set(Timestamp::ZERO);

    let wait = rig.refusal().retry_after.expect("it will pass");
    assert!(wait <= MINUTE, "{wait:?}");
    rig.time.advance(wait);
    assert!(rig.passes());
}

#[test]
fn the_end_of_time_is_a_time() {
    let rig = rig(simple().slow_calls(Duration::MAX, 0.5));
    rig.time.set(Timestamp::MAX);

    rig.succeed(3);
    rig.fail(2);

    assert_eq!(rig.state(), State::Open);
}
