//! Head timeouts over any service, under paused time.

use std::time::Duration;

use buttress_core::{BoxError, Cause, Clock, RejectionKind};
use buttress_testkit::{StrictService, Task};
use buttress_timeout::TimeoutLayer;
use tower::{Layer, Service};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn a_call_without_an_answer_fails_when_its_time_is_over() {
    let (inner, handle) = StrictService::<(), &str>::new(|()| "late");
    handle.hold();
    let mut service = TimeoutLayer::head(SECOND).clock(Clock::tokio()).named("upstream").layer(inner);

    let error: BoxError = service.call(()).await.unwrap_err();

    let rejection = error.rejection().expect("it is our refusal");
    assert_eq!(rejection.kind, RejectionKind::Timeout);
    assert_eq!(rejection.policy.as_deref(), Some("upstream"));
    assert_eq!(handle.abandoned(), 1);
    let _ = Task::<std::future::Ready<()>>::new;
}
