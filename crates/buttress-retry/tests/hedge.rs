//! What becomes of calls that take long.

mod scripted;
#[cfg(feature = "http")]
mod support;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Poll;

use buttress_core::{BoxError, ManualClock};
use buttress_retry::{Budget, HedgeLayer, Skip};
use buttress_testkit::{StrictService, Task, poll_once};
use scripted::End::{Answer, Fail, Panic, Refuse, Unsent};
use scripted::{Call, Layered, Play, Told, hedged, ms};
use tower::{Layer, Service};

/// How a call ends and when, how many attempts were begun, and what is told.
fn story(
    change: impl FnOnce(Layered) -> Layered,
    plays: &[Play],
) -> (Result<usize, String>, u64, usize, Vec<String>) {
    let (time, told) = (ManualClock::new(), Told::default());
    let layer = change(hedged(&time).observe(told.observer()));
    let mut call = Call::new(&time, &layer, 1, plays.iter().copied());

    let (result, took) = call.end();

    assert_eq!(call.log.under_way(), 0, "every attempt is over or dropped when the call is");
    (result, took, call.log.begun(), told.lines())
}

fn same(layer: Layered) -> Layered {
    layer
}

#[test]
fn an_answer_before_the_delay_is_not_hedged() {
    assert_eq!(story(same, &[(9, Answer)]), (Ok(1), 9, 1, vec![]));
}

#[test]
fn a_call_that_takes_longer_is_made_again_and_the_hedge_may_win() {
    let told = vec!["attempt 2 after 10ms".into(), "attempt 2 won".into()];
    assert_eq!(story(same, &[(100, Answer), (5, Answer)]), (Ok(2), 15, 2, told));
}

#[test]
fn the_first_attempt_may_still_win() {
    let told = vec!["attempt 2 after 10ms".into()];
    assert_eq!(story(same, &[(12, Answer), (5, Answer)]), (Ok(1), 12, 2, told));
}

#[test]
fn further_hedges_follow_after_the_same_delay_each() {
    let plays = &[(100, Answer), (100, Answer), (100, Answer), (5, Answer)];
    let (result, took, begun, told) = story(|layer| layer.at_most(3), plays);

    assert_eq!((result, took, begun), (Ok(4), 35, 4));
    assert_eq!(told[..3], ["attempt 2 after 10ms", "attempt 3 after 20ms", "attempt 4 after 30ms"]);
}

#[test]
fn a_failure_brings_the_next_attempt_forward() {
    let told = vec!["attempt 2 after 3ms".into(), "attempt 2 won".into()];
    assert_eq!(story(same, &[(3, Fail), (5, Answer)]), (Ok(2), 8, 2, told));

    let plays = &[(3, Fail), (20, Answer), (5, Answer)];
    let (result, took, ..) = story(|layer| layer.at_most(2), plays);
    assert_eq!((result, took), (Ok(3), 18), "the delay begins again with the second");
}

#[test]
fn a_failure_is_no_answer_while_another_attempt_goes_on() {
    assert_eq!(story(same, &[(20, Answer), (5, Fail)]).0, Ok(1));
    assert_eq!(story(same, &[(12, Fail), (20, Answer)]).0, Ok(2));
}

#[test]
fn when_all_attempts_fail_the_last_failure_is_the_answer() {
    let (result, took, begun, told) = story(same, &[(12, Fail), (5, Fail)]);

    assert_eq!((result, took, begun), (Err("attempt 2 failed".into()), 15, 2));
    assert_eq!(told, ["attempt 2 after 10ms", "attempts after 2"]);
}

#[test]
fn a_refusal_of_our_own_is_not_tried_again_and_the_worst_of_answers() {
    assert_eq!(
        story(same, &[(3, Refuse)]),
        (Err("rate limited".into()), 3, 1, vec!["refused after 1".into()])
    );
    assert_eq!(story(same, &[(20, Answer), (0, Refuse)]).0, Ok(1), "a hedge that is refused harms no one");
    assert_eq!(story(same, &[(12, Fail), (10, Refuse)]).0, Err("attempt 1 failed".into()));
}

#[test]
fn a_spent_budget_leaves_the_call_as_it_is() {
    let (time, told) = (ManualClock::new(), Told::default());
    let layer = hedged(&time).budget(Budget::ratio(0.5)).observe(told.observer());
    let call = |plays: [Play; 2]| Call::new(&time, &layer, 1, plays).end().0;

    assert_eq!(call([(50, Answer), (5, Answer)]), Ok(1), "one original pays for half a hedge");
    assert_eq!(call([(50, Answer), (5, Answer)]), Ok(2), "two pay for one");
    assert_eq!(call([(50, Answer), (5, Answer)]), Ok(1));
    assert_eq!(told.lines()[0], "budget after 1");

    let snapshot = layer.handle().snapshot();
    assert_eq!((snapshot.calls, snapshot.fired, snapshot.won), (3, 1, 1));
    assert_eq!((snapshot.denied, snapshot.skipped, snapshot.budget_left), (2, 2, 0));
    assert_eq!(layer.handle().skipped(Skip::Budget), 2);
}

#[test]
fn a_budget_that_is_denied_after_a_failure_ends_the_call_with_it() {
    let (result, took, begun, told) = story(|layer| layer.budget(Budget::ratio(0.1)), &[(3, Fail)]);
    assert_eq!((result, took, begun), (Err("attempt 1 failed".into()), 3, 1));
    assert_eq!(told, ["budget after 1"]);
}

#[test]
fn a_call_that_is_denied_twice_is_told_once() {
    let told = vec!["budget after 1".into()];
    let (result, took, begun, lines) = story(|layer| layer.budget(Budget::ratio(0.1)), &[(30, Fail)]);

    assert_eq!((result, took, begun, lines), (Err("attempt 1 failed".into()), 30, 1, told));
}

#[test]
fn of_failures_one_that_may_have_been_carried_out_goes_before_proof() {
    for refused in [Refuse, Unsent] {
        assert_eq!(story(same, &[(12, Fail), (10, refused)]).0, Err("attempt 1 failed".into()));
        assert_eq!(story(same, &[(12, refused), (10, Fail)]).0, Err("attempt 2 failed".into()));
    }
    assert!(
        story(same, &[(12, Refuse), (10, Unsent)]).0.is_err_and(|error| error.contains("nothing was sent"))
    );
}

#[test]
fn hedges_that_fail_at_once_leave_other_tasks_their_turn() {
    let time = ManualClock::new();
    let begun = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = begun.clone();
    let fails = tower::service_fn(move |_: u32| {
        count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        std::future::ready(Err::<(), BoxError>("reset".into()))
    });
    let mut call = Task::new(hedged(&time).at_most(1000).layer(fails).call(1));

    assert!(call.poll().is_pending());
    assert!(begun.load(std::sync::atomic::Ordering::SeqCst) <= 64);
    assert!(call.run().is_ready(), "it goes on by itself");
    assert_eq!(begun.load(std::sync::atomic::Ordering::SeqCst), 1001);
}

#[test]
fn hedges_and_retries_share_a_budget() {
    use buttress_retry::{Backoff, RetryLayer};

    let time = ManualClock::new();
    let budget = Budget::ratio(1.0);
    let hedge = hedged(&time).budget(budget.without_deposits());
    let any: fn(&u32) -> bool = |_| true;
    let retry =
        RetryLayer::cloning(any).clock(time.clock()).budget(budget.clone()).backoff(Backoff::constant(ms(1)));
    let inner = scripted::Scripted::new(&time, [(3, Fail), (3, Fail)]);
    let log = inner.log.clone();
    let mut service = retry.layer(hedge.layer(inner));

    let mut task = Task::new(service.call(1));
    while task.run().is_pending() {
        time.advance(ms(1));
    }

    assert_eq!(log.begun(), 2, "the one that the call pays for was a hedge");
    assert_eq!((budget.left(time.now()), retry.handle().skipped(Skip::Budget)), (0, 1));
}

#[test]
fn what_may_not_be_carried_out_twice_is_hedged_on_proof_alone() {
    let time = ManualClock::new();
    let layer = hedged(&time);
    let call = |plays: [Play; 2]| {
        let mut call = Call::new(&time, &layer, 0, plays);
        (call.end().0, call.log.begun())
    };

    assert_eq!(call([(50, Answer), (0, Answer)]), (Ok(1), 1));
    assert_eq!(call([(5, Fail), (0, Answer)]), (Err("attempt 1 failed".into()), 1));
    assert_eq!(call([(5, Unsent), (50, Answer)]), (Ok(2), 2));
    assert_eq!(layer.handle().skipped(Skip::NotIdempotent), 1);
}

#[test]
fn each_hedge_readies_an_instance_of_its_own() {
    let time = ManualClock::new();
    let any: fn(&u32) -> bool = |_| true;
    let layer =
        HedgeLayer::cloning(any).clock(time.clock()).delay(ms(10)).at_most(2).budget(Budget::unlimited());
    let (inner, handle) = StrictService::<u32, u32, BoxError>::new(|n| n);
    let mut service = layer.layer(inner);
    handle.hold();
    let mut call = Task::new(service.call(7));
    assert!(call.run().is_pending());
    let alive = handle.alive();

    // Two hedges wait for their turn; the call below knows nothing of them.
    handle.not_ready();
    for _ in 0..2 {
        time.advance(ms(10));
        assert!(call.run().is_pending());
    }
    assert_eq!((handle.waiting(), handle.calls(), handle.in_flight()), (2, 1, 1));

    handle.grant();
    assert!(call.run().is_pending());
    assert_eq!((handle.waiting(), handle.calls(), handle.in_flight()), (1, 2, 2));

    handle.release_one();
    assert!(matches!(call.run(), Poll::Ready(Ok(7))));
    assert_eq!((handle.waiting(), handle.in_flight(), handle.reserved()), (0, 0, 0));
    assert_eq!((handle.abandoned(), handle.alive(), handle.unready_calls()), (1, alive, 0));
}

#[test]
fn the_losers_are_gone_with_the_answer_and_not_with_the_future() {
    for (first, second, winner) in [(100, 5, 2), (15, 100, 1)] {
        let time = ManualClock::new();
        let inner = scripted::Scripted::new(&time, [(first, Answer), (second, Answer)]);
        let log = inner.log.clone();
        let mut call = Box::pin(hedged(&time).layer(inner).call(1));
        assert!(poll_once(&mut call).is_pending());
        time.advance(ms(10));
        assert!(poll_once(&mut call).is_pending());
        assert_eq!(log.under_way(), 2);

        time.advance(ms(5));

        assert!(matches!(poll_once(&mut call), Poll::Ready(Ok(number)) if number == winner));
        assert_eq!(log.under_way(), 0);
        drop(call);
    }
}

#[test]
fn clones_of_a_layer_and_its_services_share_what_it_holds() {
    let time = ManualClock::new();
    let layer = hedged(&time).budget(Budget::ratio(0.5));
    let clone = layer.clone();

    for layer in [&layer, &clone] {
        assert!(Call::new(&time, layer, 1, [(50, Answer), (5, Answer)]).end().0.is_ok());
    }

    let snapshot = layer.handle().snapshot();
    assert_eq!((snapshot.calls, snapshot.fired), (2, 1));
}

#[test]
fn an_instance_that_never_gets_ready_is_a_failed_attempt() {
    let time = ManualClock::new();
    let layer = hedged(&time);
    let (inner, handle) = StrictService::<u32, u32, BoxError>::new(|n| n);
    let mut service = layer.layer(inner);
    handle.hold();
    let mut call = Task::new(service.call(7));
    assert!(call.run().is_pending());

    handle.fail_ready("out of order".into());
    time.advance(ms(10));
    assert!(call.run().is_pending(), "the first attempt goes on");
    handle.release();

    assert!(matches!(call.run(), Poll::Ready(Ok(7))));
}

#[test]
fn a_panic_in_one_attempt_comes_out_and_leaves_nothing_behind() {
    let time = ManualClock::new();
    let layer = hedged(&time);
    let mut call = Call::new(&time, &layer, 1, [(50, Answer), (5, Panic)]);
    assert!(call.pass(14).is_pending());
    assert_eq!(call.log.under_way(), 2);

    assert!(catch_unwind(AssertUnwindSafe(|| call.pass(1))).is_err());
    let log = call.log.clone();
    drop(call);

    assert_eq!(log.under_way(), 0);
    assert_eq!(Call::new(&time, &layer, 1, [(50, Answer), (5, Answer)]).end().0, Ok(2), "the layer works on");
}

#[test]
fn a_call_that_is_answered_at_once_sets_no_timer() {
    let time = ManualClock::new();
    let layer = hedged(&time);
    let mut call = Call::new(&time, &layer, 1, [(0, Answer)]);

    assert!(call.task.poll().is_ready());
    assert_eq!(layer.handle().snapshot().fired, 0);
}

mod quantile {
    use super::*;

    fn moving(time: &ManualClock) -> Layered {
        hedged(time).delay_quantile(0.9)
    }

    fn answer_after(time: &ManualClock, layer: &Layered, millis: u64) {
        assert!(Call::new(time, layer, 1, [(millis, Answer)]).end().0.is_ok());
    }

    #[test]
    fn there_is_no_hedge_until_there_are_enough_samples() {
        let time = ManualClock::new();
        let layer = moving(&time).min_samples(10);
        for _ in 0..9 {
            answer_after(&time, &layer, 20);
        }
        assert_eq!(layer.handle().delay(), None);
        answer_after(&time, &layer, 20);

        let delay = layer.handle().delay().expect("there are ten");
        assert!((ms(19)..ms(21)).contains(&delay), "{delay:?}");
    }

    #[test]
    fn until_then_there_may_be_a_fixed_delay() {
        let time = ManualClock::new();
        let layer = moving(&time).min_samples(1).until_known(ms(30));
        assert_eq!(layer.handle().delay(), Some(ms(30)));

        let mut call = Call::new(&time, &layer, 1, [(100, Answer), (5, Answer)]);
        assert_eq!(call.end(), (Ok(2), 35));
        assert!(layer.handle().delay() > Some(ms(34)));
    }

    #[test]
    fn calls_are_hedged_after_what_most_of_them_take() {
        let time = ManualClock::new();
        let layer = moving(&time).min_samples(10);
        (0..10).for_each(|_| answer_after(&time, &layer, 20));
        time.advance(ms(10));

        let mut call = Call::new(&time, &layer, 1, [(100, Answer), (5, Answer)]);
        assert_eq!(call.end(), (Ok(2), 26), "20 ms is told as a little more");
    }

    #[test]
    fn a_clock_that_is_set_on_and_back_does_not_keep_an_old_quantile() {
        let time = ManualClock::new();
        let layer = moving(&time).min_samples(10);
        (0..20).for_each(|_| answer_after(&time, &layer, 5));
        let back = time.now();
        time.advance(ms(86_400_000));
        (0..20).for_each(|_| answer_after(&time, &layer, 5));
        time.set(back);
        for _ in 0..1000 {
            assert!(Call::new(&time, &layer, 1, [(9, Answer), (100, Answer)]).end().0.is_ok());
        }
        time.advance(ms(10));

        let mut call = Call::new(&time, &layer, 1, [(100, Answer), (5, Answer)]);
        assert_eq!(call.end(), (Ok(2), 9 + 1 + 5), "9 ms is told as a little more");
    }

    #[test]
    fn what_is_counted_is_the_time_to_the_answer_and_neither_losers_nor_failures() {
        let time = ManualClock::new();
        let layer = moving(&time).min_samples(1).until_known(ms(10));

        // The first attempt would have taken 1 s, the hedge took 5 ms by itself.
        assert_eq!(Call::new(&time, &layer, 1, [(1000, Answer), (5, Answer)]).end(), (Ok(2), 15));
        let delay = layer.handle().delay().expect("there is one");
        assert!((ms(15) - ms(1)..ms(16)).contains(&delay), "{delay:?}");

        let failing = moving(&time).min_samples(1).at_most(1);
        assert!(Call::new(&time, &failing, 1, [(5, Fail), (5, Fail)]).end().0.is_err());
        assert!(Call::new(&time, &failing, 0, [(5, Answer)]).end().0.is_ok());
        drop(Call::new(&time, &failing, 1, [(5, Answer)]).pass(3));
        assert_eq!(failing.handle().delay(), None);
    }

    #[test]
    fn hedges_that_win_do_not_pull_the_quantile_down() {
        let time = ManualClock::new();
        let layer = moving(&time);
        // One call in eleven takes long, and hedges cut that short.
        for _ in 0..40 {
            (0..10).for_each(|_| answer_after(&time, &layer, 20));
            assert!(Call::new(&time, &layer, 1, [(60, Answer), (1, Answer)]).end().0.is_ok());
        }

        let delay = layer.handle().delay().expect("there are many");
        assert!((ms(19)..ms(22)).contains(&delay), "{delay:?}");
    }
}

#[cfg(feature = "http")]
mod http {
    use super::*;

    use ::http::{Request, Response};
    use buttress_core::{Clock, EndpointId, Facts, HasFacts, Rejection, RejectionKind, Timestamp};
    use buttress_http::field::NoRetry;
    use buttress_retry::RetrySafe;
    use buttress_timeout::TimeoutLayer;
    use bytes::Bytes;
    use http_body_util::Full;
    use support::{Log, answer, answer_with, get, post, put, refusal};
    use tower::ServiceExt;

    const GRPC: (&str, &str) = ("content-type", "application/grpc");

    fn layer() -> HedgeLayer {
        HedgeLayer::after(ms(10)).clock(Clock::tokio()).budget(Budget::unlimited())
    }

    /// For calls that would never end.
    fn patience() -> TimeoutLayer {
        TimeoutLayer::head(ms(1000)).clock(Clock::tokio())
    }

    fn failed(pushback: &str) -> Response<Full<Bytes>> {
        answer_with(200, &[GRPC, ("grpc-status", "14"), ("grpc-retry-pushback-ms", pushback)])
    }

    fn grpc() -> Request<Full<Bytes>> {
        let mut call = post("a message");
        call.headers_mut().insert(GRPC.0, GRPC.1.parse().unwrap());
        call.extensions_mut().insert(RetrySafe);
        call
    }

    async fn attempts(request: Request<Full<Bytes>>) -> usize {
        let log = Log::new([support::Play::Hang]);
        let _ = patience().layer(layer().layer(log.upstream())).oneshot(request).await;
        log.attempts()
    }

    #[tokio::test(start_paused = true)]
    async fn idempotent_requests_are_hedged_and_those_that_are_marked() {
        assert_eq!(attempts(get()).await, 2);
        assert_eq!(attempts(put("x")).await, 2);
        assert_eq!(attempts(post("x")).await, 1);

        let mut keyed = post("x");
        keyed.headers_mut().insert("idempotency-key", "7".parse().unwrap());
        assert_eq!(attempts(keyed).await, 2);
        let mut safe = post("x");
        safe.extensions_mut().insert(RetrySafe);
        assert_eq!(attempts(safe).await, 2);

        let mut upgrade = get();
        upgrade.headers_mut().insert("upgrade", "websocket".parse().unwrap());
        assert_eq!(attempts(upgrade).await, 1);
        assert_eq!(attempts(Request::connect("upstream.test:443").body(Full::default()).unwrap()).await, 1);
        let mut expecting = put("x");
        expecting.headers_mut().insert("expect", "100-continue".parse().unwrap());
        assert_eq!(attempts(expecting).await, 2, "once its body has gone out");
        let mut retried = get();
        retried.facts_mut().unwrap().no_retry = true;
        assert_eq!(attempts(retried).await, 1, "a layer above tries it again already");
    }

    #[tokio::test(start_paused = true)]
    async fn a_hedge_says_which_attempt_it_is_and_sends_the_same_body() {
        let log = Log::new([support::Play::Hang]);
        let response = layer().layer(log.upstream()).oneshot(put("a body")).await.unwrap();

        assert_eq!(response.status(), 200);
        let seen = log.seen();
        assert_eq!(seen[0].facts, None);
        let facts = seen[1].facts.as_ref().expect("they are written");
        assert_eq!((facts.attempt, facts.no_retry), (2, true));
        assert!(seen.iter().all(|seen| seen.body.as_deref() == Ok(b"a body")));
    }

    #[tokio::test(start_paused = true)]
    async fn a_hedge_knows_where_the_attempts_before_it_went_while_they_are_under_way() {
        let tried = async |layer: HedgeLayer| {
            let seen = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
            let note = seen.clone();
            let below =
                tower::service_fn(move |request: Request<buttress_retry::ReplayBody<Full<Bytes>>>| {
                    let facts = request.facts().cloned().unwrap_or_default();
                    facts.chose(EndpointId::new(facts.attempt.into()));
                    note.lock().unwrap().push(facts.tried);
                    async { Ok::<_, BoxError>(std::future::pending::<Response<Full<Bytes>>>().await) }
                });
            patience().layer(layer.at_most(2).layer(below)).oneshot(get()).await.unwrap_err();
            let seen = seen.lock().unwrap();
            seen.iter().map(|tried| tried.iter().map(|id| id.get()).collect()).collect::<Vec<Vec<_>>>()
        };

        assert_eq!(tried(layer().elsewhere()).await, [vec![], vec![1], vec![1, 2]]);
        assert_eq!(tried(layer()).await, vec![Vec::<u64>::new(); 3], "nobody asks");
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_is_still_being_sent_or_too_long_is_not_hedged() {
        let told = Told::default();
        let layer = layer().replay_limit(3).budget(Budget::ratio(1.0)).observe(told.observer());
        // It answers in the end, without having read the body.
        let slow = |read: bool| {
            let inner = tower::service_fn(
                move |request: Request<buttress_retry::ReplayBody<Full<Bytes>>>| async move {
                    let body = request.into_body();
                    if read {
                        http_body_util::BodyExt::collect(body).await.map_err(|error| error.to_string())?;
                    } else {
                        let _kept = body;
                        Clock::tokio().sleep(ms(30)).await;
                    }
                    Clock::tokio().sleep(ms(30)).await;
                    Ok::<_, BoxError>(answer(200))
                },
            );
            layer.layer(inner)
        };

        slow(false).oneshot(put("abc")).await.unwrap();
        assert_eq!(told.lines(), ["body_unfinished after 1"]);
        assert_eq!(layer.handle().snapshot().budget_left, 1, "nothing is taken for it");
        slow(true).oneshot(put("abcd")).await.unwrap();
        assert_eq!(layer.handle().snapshot().fired, 0);
        slow(true).oneshot(put("abc")).await.unwrap();
        assert_eq!(layer.handle().snapshot().fired, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_hedge_that_still_has_the_trailers_to_send_is_not_cut_short_by_the_next() {
        use buttress_retry::ReplayBody;
        use buttress_testkit::ScriptedBody;
        use http_body_util::BodyExt;

        let turn = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let below = tower::service_fn(move |request: Request<ReplayBody<ScriptedBody>>| {
            let number = turn.fetch_add(1, std::sync::atomic::Ordering::SeqCst) + 1;
            async move {
                let mut body = request.into_body();
                body.frame().await.unwrap()?;
                if number == 2 {
                    // There is no room for the trailers at first.
                    Clock::tokio().sleep(ms(15)).await;
                }
                let trailers = body.frame().await.unwrap()?;
                assert!(trailers.is_trailers());
                if number != 2 {
                    std::future::pending::<()>().await;
                }
                Ok::<_, BoxError>(answer(200))
            }
        });
        let mut trailers = ::http::HeaderMap::new();
        trailers.insert("x-checksum", "abc".parse().unwrap());
        let body = ScriptedBody::new().data("a body").trailers(trailers);
        let told = Told::default();
        let layer = layer().at_most(2).observe(told.observer());

        let answer =
            patience().layer(layer.layer(below)).oneshot(Request::put("/").body(body).unwrap()).await;

        assert_eq!(answer.unwrap().status(), 200);
        assert_eq!(told.lines(), ["attempt 2 after 10ms", "body_unfinished after 2", "attempt 2 won"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_a_lost_attempt_still_has_is_waited_for_a_moment() {
        for (held, attempts) in [(99, 2), (101, 1)] {
            let log = Log::new([]);
            let upstream = log.upstream();
            let first = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
            let below =
                tower::service_fn(move |request: Request<buttress_retry::ReplayBody<Full<Bytes>>>| {
                    let lost = first.swap(false, std::sync::atomic::Ordering::SeqCst);
                    let upstream = upstream.clone();
                    async move {
                        if !lost {
                            return upstream.oneshot(request).await;
                        }
                        // As the task of a connection does.
                        tokio::spawn(async move {
                            let _body = request.into_body();
                            Clock::tokio().sleep(ms(held)).await;
                        });
                        Err("the connection broke".into())
                    }
                });

            let result = layer().layer(below).oneshot(put("a body")).await;

            assert_eq!((result.is_ok(), 1 + log.attempts()), (attempts == 2, attempts), "held for {held} ms");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_hedge_that_gets_ready_after_the_deadline_is_not_made() {
        let (inner, handle) = StrictService::<_, _, BoxError>::new(|_: Request<_>| answer(200));
        let clock = Clock::tokio();
        let told = Told::default();
        let mut request = get();
        request.facts_mut().unwrap().limit_deadline(clock.now() + ms(100));
        handle.hold();
        let mut service = layer().clock(clock).at_most(2).observe(told.observer()).strict().layer(inner);
        let mut call = Task::new(service.ready().await.unwrap().call(request));
        assert!(call.run().is_pending());

        handle.not_ready();
        buttress_testkit::advance(ms(10)).await;
        assert!(call.run().is_pending());
        buttress_testkit::advance(ms(90)).await;
        handle.ready();
        assert!(call.run().is_pending(), "the first attempt goes on");

        assert_eq!(handle.calls(), 1);
        assert_eq!(told.lines(), ["deadline after 1"], "there was no other, and it is told once");
        handle.release();
        assert!(call.run().is_ready());
    }

    #[tokio::test(start_paused = true)]
    async fn a_hedge_that_is_not_made_counts_as_one_that_was_skipped_and_nothing_else() {
        let (inner, handle) = StrictService::<_, _, BoxError>::new(|_: Request<_>| answer(503));
        let clock = Clock::tokio();
        let told = Told::default();
        let mut request = get();
        request.facts_mut().unwrap().limit_deadline(clock.now() + ms(100));
        handle.hold();
        let layer = layer().observe(told.observer());
        let mut service = layer.clone().strict().layer(inner);
        let mut call = Task::new(service.ready().await.unwrap().call(request));
        assert!(call.run().is_pending());

        handle.not_ready();
        buttress_testkit::advance(ms(10)).await;
        assert!(call.run().is_pending());
        buttress_testkit::advance(ms(90)).await;
        handle.ready();
        assert!(call.run().is_pending(), "the first attempt goes on");
        handle.release();

        let Poll::Ready(Ok(answer)) = call.run() else { panic!("it fails") };
        assert!(answer.extensions().get::<NoRetry>().is_none(), "it was tried once");
        let counts = layer.handle().snapshot();
        assert_eq!((handle.calls(), counts.fired, counts.skipped), (1, 0, 1));
        assert_eq!(told.lines(), ["deadline after 1"]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_overall_time_ends_the_call_and_no_attempt_is_waited_for_that_would_begin_after_it() {
        let told = Told::default();
        let layer = layer().overall(ms(3000)).named("search").observe(told.observer());
        let clock = Clock::tokio();
        let start = clock.now();

        // What is there is given, at once.
        let later = || support::Play::Answer(answer_with(503, &[("retry-after", "5")]));
        let last = layer.layer(Log::new([later()]).upstream()).oneshot(get()).await.unwrap();
        assert_eq!((last.status().as_u16(), clock.now() - start), (503, ms(0)));
        assert_eq!(told.lines(), ["deadline after 1"]);

        let hangs = Log::new([support::Play::Hang, support::Play::Hang]);
        let error = layer.layer(hangs.upstream()).oneshot(get()).await.unwrap_err();
        assert_eq!(clock.now() - start, ms(3000));
        let refusal = buttress_core::Cause::rejection(&error).unwrap();
        assert_eq!((refusal.kind, refusal.policy.as_deref()), (RejectionKind::Timeout, Some("search")));
        assert!(hangs.seen()[1].facts.as_ref().unwrap().deadline.is_some(), "the layers below know of it");
    }

    #[tokio::test(start_paused = true)]
    async fn fields_of_your_own_are_written_and_read() {
        let told = Told::default();
        let layer =
            layer().attempt_header("x-attempt").no_retry_header("x-no-retry").observe(told.observer());
        let failed = || support::Play::Answer(answer(503));
        let log = Log::new([failed(), failed()]);

        let last = layer.layer(log.upstream()).oneshot(get()).await.unwrap();

        assert_eq!(last.headers()["x-no-retry"], "1");
        let number = |seen: &support::Seen| seen.head.headers.get("x-attempt").cloned();
        let numbers: Vec<_> = log.seen().iter().map(number).collect();
        assert_eq!(numbers, [None, Some(2.into())]);

        told.lines();
        let log = Log::new([support::Play::Answer(answer_with(503, &[("x-no-retry", "1")]))]);
        layer.layer(log.upstream()).oneshot(get()).await.unwrap();
        assert_eq!((log.attempts(), told.lines()), (1, vec!["marked after 1".to_owned()]));
    }

    #[tokio::test(start_paused = true)]
    async fn which_answers_are_failures_is_a_choice() {
        let attempts = async |layer: HedgeLayer, last: Response<Full<Bytes>>| {
            let log = Log::new([support::Play::Answer(last)]);
            layer.layer(log.upstream()).oneshot(get()).await.unwrap();
            log.attempts()
        };
        let code = |code| answer_with(200, &[GRPC, ("grpc-status", code)]);

        assert_eq!(attempts(layer().on_status([500]), answer(500)).await, 2);
        assert_eq!(attempts(layer().on_status([500]), answer(503)).await, 1);
        assert_eq!(attempts(layer().on_grpc([10]), code("10")).await, 2);
        assert_eq!(attempts(layer().on_grpc([10]), code("14")).await, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn the_reason_is_the_one_that_a_retry_layer_has() {
        let reasons = async |request, plays: Vec<support::Play>| {
            let told = Told::default();
            let _ = layer().observe(told.observer()).layer(Log::new(plays).upstream()).oneshot(request).await;
            told.lines()
        };
        let failed = || support::Play::Answer(answer(503));
        let never = || support::Play::Answer(failed_for_good());

        assert_eq!(reasons(post(vec![0; 100_000]), vec![failed()]).await, ["not_idempotent after 1"]);
        assert_eq!(reasons(put(vec![0; 100_000]), vec![failed()]).await, ["body_too_large after 1"]);
        let told = reasons(get(), vec![failed(), never()]).await;
        assert_eq!(told, ["attempt 2 after 0ns", "marked after 2"]);
    }

    fn failed_for_good() -> Response<Full<Bytes>> {
        let mut last = answer(503);
        last.extensions_mut().insert(NoRetry);
        last
    }

    /// When attempts begin, with a first that fails after 15 ms and a hedge that fails after 9, each with its fields; and
    /// what is told.
    async fn after_failures(first: &[(&str, &str)], second: &[(&str, &str)]) -> (Vec<u64>, Vec<String>) {
        let answers = [(15, answer_with(503, first)), (9, answer_with(503, second))];
        let answers = std::sync::Arc::new(std::sync::Mutex::new(std::collections::VecDeque::from(answers)));
        let starts = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
        let (clock, note) = (Clock::tokio(), starts.clone());
        let below = tower::service_fn(move |_: Request<buttress_retry::ReplayBody<Full<Bytes>>>| {
            note.lock().unwrap().push(clock.now().as_nanos() / 1_000_000);
            let (takes, answer) = answers.lock().unwrap().pop_front().unwrap_or_else(|| (0, answer(200)));
            async move {
                Clock::tokio().sleep(ms(takes)).await;
                Ok::<_, BoxError>(answer)
            }
        });
        let told = Told::default();
        let layer = layer().at_most(2).observe(told.observer());
        let _ = layer.layer(below).oneshot(get()).await;
        let starts = starts.lock().unwrap().clone();
        (starts, told.lines())
    }

    #[tokio::test(start_paused = true)]
    async fn what_one_attempt_asks_for_is_not_overridden_by_the_failure_of_the_next() {
        const NEVER: &[(&str, &str)] = &[("grpc-retry-pushback-ms", "-1")];
        const LATER: &[(&str, &str)] = &[("grpc-retry-pushback-ms", "500")];
        const SOON: &[(&str, &str)] = &[("grpc-retry-pushback-ms", "50")];

        assert_eq!(after_failures(&[], &[]).await.0, [0, 10, 15], "a failure brings the next one forward");
        assert_eq!(after_failures(LATER, &[]).await.0, [0, 10, 515]);
        assert_eq!(after_failures(LATER, SOON).await.0, [0, 10, 515]);
        assert_eq!(after_failures(SOON, LATER).await.0, [0, 10, 519]);
        for second in [&[], SOON, NEVER] {
            let (starts, told) = after_failures(NEVER, second).await;
            assert_eq!(starts, [0, 10], "{second:?}");
            assert_eq!(told, ["attempt 2 after 10ms", "marked after 2"], "and it is told once");
        }
        let late = &[("retry-after", "3600")];
        assert_eq!(
            after_failures(late, &[]).await.0,
            [0, 10],
            "what is too late for it is no sooner for another"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn there_is_no_hedge_after_the_deadline() {
        let clock = Clock::tokio();
        let layer = layer().clock(clock.clone());
        let call = |deadline: Timestamp| {
            let mut request = get();
            let mut facts = Facts::new();
            facts.limit_deadline(deadline);
            request.extensions_mut().insert(facts);
            let log = Log::new([support::Play::Hang]);
            let call = patience().layer(layer.layer(log.upstream())).oneshot(request);
            async move {
                let _ = call.await;
                log.seen().pop().and_then(|last| last.facts?.deadline)
            }
        };

        let soon = clock.now() + ms(10);
        call(soon).await;
        let snapshot = layer.handle().snapshot();
        assert_eq!((snapshot.fired, snapshot.skipped), (0, 0), "there was none to skip");
        let later = clock.now() + ms(11);
        assert_eq!(call(later).await, Some(later), "the hedge has the deadline of the call");
        assert_eq!(layer.handle().snapshot().fired, 1);
    }

    #[test]
    fn a_call_that_is_woken_after_its_deadline_is_not_hedged() {
        let time = ManualClock::new();
        let told = Told::default();
        let layer = layer().clock(time.clock()).observe(told.observer());
        let mut request = get();
        request.facts_mut().unwrap().limit_deadline(time.now() + ms(15));
        let mut call = Task::new(layer.layer(Log::new([support::Play::Hang]).upstream()).call(request));
        assert!(call.run().is_pending());

        time.advance(ms(20));

        assert!(call.run().is_pending());
        assert_eq!(told.lines(), ["deadline after 1"]);
    }

    #[test]
    fn a_hedge_that_has_not_read_its_body_keeps_it() {
        type Sent = Request<buttress_retry::ReplayBody<Full<Bytes>>>;
        let time = ManualClock::new();
        let told = Told::default();
        let layer = layer().clock(time.clock()).at_most(2).observe(told.observer());
        let (inner, handle) = StrictService::<Sent, usize, BoxError>::new(|request: Sent| {
            let mut read = Box::pin(http_body_util::BodyExt::collect(request.into_body()));
            match poll_once(&mut read) {
                Poll::Ready(Ok(body)) => body.to_bytes().len(),
                other => panic!("{other:?}"),
            }
        });
        let answers = tower::ServiceBuilder::new()
            .map_response(|length: usize| Response::new(Full::new(Bytes::from(length.to_string()))))
            .service(inner);
        handle.hold();
        let mut call = Task::new(layer.layer(answers).call(put("abc")));
        assert!(call.run().is_pending());

        // The first hedge waits for its turn when the second is due.
        handle.not_ready();
        for _ in 0..2 {
            time.advance(ms(10));
            assert!(call.run().is_pending());
        }
        assert_eq!(told.lines(), ["attempt 2 after 10ms", "body_unfinished after 2"]);
        handle.grant();
        assert!(call.run().is_pending(), "it has read the whole body, or the service would have panicked");
        assert_eq!(handle.calls(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_pushback_puts_the_next_attempt_off_or_ends_them() {
        let waits = async |pushback: &str| {
            let log = Log::new([support::Play::Answer(failed(pushback))]);
            let response = layer().layer(log.upstream()).oneshot(grpc()).await.unwrap();
            (log.waits(), response.headers().contains_key("grpc-retry-pushback-ms"))
        };

        assert_eq!(waits("25").await, (vec![ms(25)], false));
        assert_eq!(waits("0").await, (vec![ms(0)], false));
        assert_eq!(waits("-1").await, (vec![], true));
        assert_eq!(waits("soon").await, (vec![], true));
        assert_eq!(waits("10001").await, (vec![], true), "nobody waits that long for a hedge");
    }

    #[tokio::test(start_paused = true)]
    async fn a_pushback_of_one_attempt_stops_hedges_and_not_the_attempts_under_way() {
        let told = Told::default();
        let layer = layer().at_most(3).observe(told.observer());
        let service =
            tower::service_fn(|request: Request<buttress_retry::ReplayBody<Full<Bytes>>>| async move {
                let first = request.facts().is_none();
                let _ = http_body_util::BodyExt::collect(request.into_body()).await;
                Clock::tokio().sleep(ms(if first { 100 } else { 1 })).await;
                Ok::<_, BoxError>(if first { answer(200) } else { failed("-1") })
            });

        let response = layer.layer(service).oneshot(grpc()).await.unwrap();

        assert!(!response.headers().contains_key("grpc-status"));
        assert_eq!(told.lines(), ["attempt 2 after 10ms", "marked after 2"]);
    }

    #[tokio::test(start_paused = true)]
    async fn retry_after_is_waited_for() {
        let log = Log::new([support::Play::Answer(answer_with(503, &[("retry-after", "2")]))]);
        layer().layer(log.upstream()).oneshot(get()).await.unwrap();
        assert_eq!(log.waits(), [ms(2000)]);
    }

    #[tokio::test(start_paused = true)]
    async fn layers_above_are_told_when_all_attempts_have_failed() {
        let marked = async |plays: Vec<support::Play>| {
            let log = Log::new(plays);
            let response = layer().layer(log.upstream()).oneshot(get()).await.unwrap();
            response.extensions().get::<NoRetry>().is_some()
        };
        let fail = || support::Play::Answer(answer(503));

        assert!(marked(vec![fail(), fail()]).await);
        assert!(!marked(vec![fail()]).await, "the second succeeds");
        let refused = support::Play::Answer(refusal(Rejection::new(RejectionKind::CircuitOpen)));
        assert!(!marked(vec![refused]).await, "it was tried once");
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_layer_above_tries_again_is_no_original() {
        let budget = Budget::ratio(1.0);
        let layer = layer().budget(budget.clone());
        let mut request = get();
        request.facts_mut().unwrap().attempt = 2;

        layer.layer(Log::new([]).upstream()).oneshot(request).await.unwrap();
        assert_eq!(budget.left(Timestamp::ZERO), 0);
        layer.layer(Log::new([]).upstream()).oneshot(get()).await.unwrap();
        assert_eq!(budget.left(Timestamp::ZERO), 1);
    }
}
