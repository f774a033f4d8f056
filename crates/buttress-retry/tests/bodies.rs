//! Bodies that are sent more than once.
#![cfg(feature = "http")]

mod support;

use std::pin::pin;
use std::time::Duration;

use buttress_core::{BoxError, Clock, Outcome};
use buttress_http::field::NoRetry;
use buttress_retry::{Backoff, Budget, Jitter, ReplayBody, ReplayPool, Skip};
use buttress_testkit::{BodyHandle, ScriptedBody, Task, poll_once};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Request, Response};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Full, StreamBody};
use support::{Log, Play, Told, answer, layer, post, put, unsent};
use tower::{Layer, Service, ServiceExt};

fn failing(times: usize) -> Log {
    Log::new((0..times).map(|_| Play::Answer(answer(503))))
}

fn upload<B>(body: B) -> Request<B> {
    Request::put("http://upstream.test/").body(body).unwrap()
}

fn trailers() -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert("x-checksum", "abc".parse().unwrap());
    trailers
}

#[tokio::test(start_paused = true)]
async fn a_body_is_sent_again_byte_for_byte_with_its_trailers() {
    for chunked in [false, true] {
        let body = ScriptedBody::new().data("one ").data("").data("two ").data("three").trailers(trailers());
        let body = if chunked { body.chunked() } else { body };
        let log = failing(2);

        let answer = layer().layer(log.upstream()).oneshot(upload(body)).await.unwrap();

        assert_eq!(answer.status(), 200);
        let seen = log.seen();
        assert_eq!(seen.len(), 3);
        for seen in seen {
            assert_eq!(seen.body.unwrap(), "one two three");
            assert_eq!(seen.trailers, Some(trailers()));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_sent_again_is_the_same_memory() {
    let data = Bytes::from(vec![7; 1000]);
    let log = failing(1);

    let answer = layer().layer(log.upstream()).oneshot(put(data.clone())).await.unwrap();

    assert_eq!(answer.status(), 200);
    for seen in log.seen() {
        assert_eq!(seen.body.unwrap().as_ptr(), data.as_ptr());
    }
}

#[tokio::test(start_paused = true)]
async fn data_that_are_not_bytes_are_sent_again_as_well() {
    let frames = ["one ", "two"].map(|text| Ok::<_, BoxError>(Frame::data(BytesMut::from(text))));
    let body = StreamBody::new(futures_iter(frames));
    let log = failing(1);

    layer().layer(log.upstream()).oneshot(upload(body)).await.unwrap();

    assert!(log.seen().iter().all(|seen| seen.body.as_ref().unwrap() == "one two"));
}

fn futures_iter<T>(items: impl IntoIterator<Item = T>) -> tokio_stream_iter::Iter<T> {
    tokio_stream_iter::Iter(items.into_iter().collect())
}

/// A stream of what is there.
mod tokio_stream_iter {
    use std::collections::VecDeque;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    pub(crate) struct Iter<T>(pub(crate) VecDeque<T>);

    impl<T> Unpin for Iter<T> {}

    impl<T> futures_core::Stream for Iter<T> {
        type Item = T;

        fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<T>> {
            Poll::Ready(self.0.pop_front())
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_of_the_limit_is_kept_and_one_byte_more_goes_out_once() {
    let told = Told::default();
    let layer = layer().observe(told.observer());
    for (length, attempts) in [(64 << 10, 3), ((64 << 10) + 1, 1)] {
        for chunked in [false, true] {
            let half = Bytes::from(vec![1; length / 2]);
            let rest = Bytes::from(vec![2; length - length / 2]);
            let body = ScriptedBody::new().data(half).data(rest);
            let body = if chunked { body.chunked() } else { body };
            let log = failing(3);

            let answer = layer.layer(log.upstream()).oneshot(upload(body)).await.unwrap();

            assert_eq!(answer.status(), 503, "never an error");
            assert_eq!(log.attempts(), attempts, "{length} bytes, chunked: {chunked}");
            assert!(answer.extensions().get::<NoRetry>().is_some());
            assert!(log.seen().iter().all(|seen| seen.body.as_ref().unwrap().len() == length));
            let last = told.lines().pop().unwrap();
            assert_eq!(last, if attempts == 1 { "body_too_large after 1" } else { "attempts after 3" });
        }
    }
}

#[tokio::test(start_paused = true)]
async fn with_a_limit_of_nothing_only_requests_without_a_body_are_tried_again() {
    let layer = layer().replay_limit(0);
    let (with, without) = (failing(3), failing(3));

    layer.layer(with.upstream()).oneshot(put("x")).await.unwrap();
    layer.layer(without.upstream()).oneshot(put("")).await.unwrap();

    assert_eq!((with.attempts(), without.attempts()), (1, 3));
}

#[tokio::test(start_paused = true)]
async fn very_many_tiny_frames_are_too_much_whatever_their_bytes() {
    let tiny = |frames: usize| {
        let body = (0..frames).fold(ScriptedBody::new(), |body, _| body.data("x"));
        upload(body.chunked())
    };
    let (few, many) = (failing(3), failing(3));

    layer().layer(few.upstream()).oneshot(tiny(1024)).await.unwrap();
    layer().layer(many.upstream()).oneshot(tiny(1025)).await.unwrap();

    assert_eq!((few.attempts(), many.attempts()), (3, 1));
    assert!(many.seen()[0].body.as_ref().unwrap().len() == 1025);
}

#[tokio::test(start_paused = true)]
async fn all_requests_together_keep_no_more_than_the_pool_has() {
    let pool = ReplayPool::new(100);
    let layer = layer().replay_pool(pool.clone());
    // Bodies that are under way keep what they have sent.
    let (upstream, handle) =
        buttress_testkit::StrictService::<_, _, BoxError>::new(|request: Request<ReplayBody<_>>| {
            let mut body = request.into_body();
            let read =
                poll_once(&mut std::future::poll_fn(|cx| std::pin::Pin::new(&mut body).poll_frame(cx)));
            assert!(read.is_ready());
            Response::builder().status(503).body(body).unwrap()
        });
    handle.hold();
    let service = layer.layer(upstream);
    let call = |size: usize| {
        let body = ScriptedBody::new().data(vec![0; size]).stall().data("rest").chunked();
        Task::new(service.clone().oneshot(upload(body)))
    };

    let (mut first, mut second, mut third) = (call(60), call(60), call(40));
    assert!(first.run().is_pending() && second.run().is_pending() && third.run().is_pending());
    assert_eq!(pool.used(), 100, "the second found no room, the third did");

    drop(first);
    assert_eq!(pool.used(), 40);
    drop((second, third));
    assert_eq!(pool.used(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_was_kept_is_given_back_when_the_call_is_over_and_not_later() {
    let pool = ReplayPool::new(1000);
    let layer = layer().replay_pool(pool.clone());
    let log = failing(1);

    let mut call = Box::pin(layer.layer(log.upstream()).oneshot(put("a body")));
    call.as_mut().await.unwrap();

    assert_eq!(pool.used(), 0, "although the future is still there");
    assert_eq!(log.attempts(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_dropped_while_it_waits_gives_its_memory_back() {
    let pool = ReplayPool::new(1000);
    let minute = Backoff::constant(Duration::from_secs(60)).jitter(Jitter::None);
    let log = failing(1);
    let service = layer().replay_pool(pool.clone()).backoff(minute).layer(log.upstream());
    let mut call = Task::new(service.oneshot(put("a body")));

    assert!(call.run().is_pending());
    assert_eq!(pool.used(), 6, "kept for the next attempt");
    drop(call);

    assert_eq!(pool.used(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_turns_out_empty_is_sent_as_often_as_any_other() {
    // As hyper does: a body that is at its end is not read.
    let upstream = tower::service_fn(|request: Request<ReplayBody<ScriptedBody>>| async move {
        let body = request.into_body();
        if !body.is_end_stream() {
            body.collect().await?;
        }
        Ok::<_, BoxError>(answer(503))
    });
    let told = Told::default();
    let body = ScriptedBody::new().chunked();
    assert!(!body.is_end_stream(), "nobody knows yet");

    layer().observe(told.observer()).layer(upstream).oneshot(upload(body)).await.unwrap();

    assert_eq!(told.lines(), ["attempt 2 in 0ns", "attempt 3 in 0ns", "attempts after 3"]);
}

#[tokio::test(start_paused = true)]
async fn memory_is_given_back_though_a_former_attempt_still_holds_its_body() {
    use std::sync::atomic::{AtomicUsize, Ordering};

    for attempts in [2, 3] {
        let (held, turn) = (std::sync::Mutex::new(Vec::new()), AtomicUsize::new(0));
        let upstream = std::sync::Arc::new((held, turn));
        let state = upstream.clone();
        let upstream = tower::service_fn(move |request: Request<ReplayBody<ScriptedBody>>| {
            let state = state.clone();
            async move {
                if state.1.fetch_add(1, Ordering::SeqCst) > 0 {
                    return Ok(answer(200)); // and leaves the body unread
                }
                // As the task of a connection may.
                let mut body = request.into_body();
                while let Some(frame) = body.frame().await {
                    frame?;
                }
                state.0.lock().unwrap().push(body);
                Err::<_, BoxError>("reset".into())
            }
        });
        let pool = ReplayPool::new(1000);
        let layer = layer().attempts(attempts).replay_pool(pool.clone());
        let body = ScriptedBody::new().data("a ").data("body").trailers(trailers());

        assert_eq!(layer.layer(upstream).oneshot(upload(body)).await.unwrap().status(), 200);

        assert_eq!(pool.used(), 0, "{attempts} attempts");
    }
}

#[tokio::test(start_paused = true)]
async fn an_early_answer_is_the_last_one() {
    let told = Told::default();
    let layer = layer().observe(told.observer());
    let log = Log::new([Play::Early(answer(503))]);

    let answer = layer.layer(log.upstream()).oneshot(put("half of it")).await.unwrap();

    assert_eq!((answer.status().as_u16(), log.attempts()), (503, 1));
    assert_eq!(told.lines(), ["body_unfinished after 1"]);
}

#[tokio::test(start_paused = true)]
async fn an_early_answer_to_a_request_without_a_body_is_none() {
    let log = Log::new([Play::Early(answer(503))]);

    layer().layer(log.upstream()).oneshot(put("")).await.unwrap();

    assert_eq!(log.attempts(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_early_answer_to_a_later_attempt_is_the_last_one_as_well() {
    let log = Log::new([Play::Answer(answer(503)), Play::Early(answer(503))]);

    layer().layer(log.upstream()).oneshot(put("all of it")).await.unwrap();

    assert_eq!(log.attempts(), 2);
}

/// Reads one frame of the request, then answers or fails with what `end` gives, and counts the bytes.
fn reads_one_frame_at_first(
    end: impl Fn() -> Result<Response<Full<Bytes>>, BoxError> + Clone + Send + Sync + 'static,
) -> (
    impl Service<
        Request<ReplayBody<ScriptedBody>>,
        Response = Response<Full<Bytes>>,
        Error = BoxError,
        Future: Send,
    > + Clone,
    std::sync::Arc<std::sync::Mutex<Vec<Bytes>>>,
) {
    let read = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let log = read.clone();
    let service = tower::service_fn(move |request: Request<ReplayBody<ScriptedBody>>| {
        let (log, end) = (log.clone(), end.clone());
        async move {
            let mut body = request.into_body();
            if log.lock().unwrap().is_empty() {
                let frame = body.frame().await.unwrap()?;
                log.lock().unwrap().push(frame.into_data().unwrap());
                return end();
            }
            let all = body.collect().await?.to_bytes();
            log.lock().unwrap().push(all);
            Ok(answer(200))
        }
    });
    (service, read)
}

#[tokio::test(start_paused = true)]
async fn after_an_error_halfway_what_was_read_is_sent_again_and_the_rest_is_read_on() {
    let body = ScriptedBody::new().data("one ").data("two ").data("three").trailers(trailers());
    let watch = body.handle();
    let (upstream, read) = reads_one_frame_at_first(|| Err("reset".into()));

    let answer = layer().layer(upstream).oneshot(upload(body)).await.unwrap();

    assert_eq!(answer.status(), 200);
    assert_eq!(*read.lock().unwrap(), ["one ", "one two three"]);
    assert_eq!(watch.frames(), 4, "the body itself is read once");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_failed_is_not_sent_again() {
    let told = Told::default();
    let log = Log::new([]);
    let body = ScriptedBody::new().data("one ").error("the client went away").chunked();

    let error = layer().observe(told.observer()).layer(log.upstream()).oneshot(upload(body)).await;

    assert!(error.is_err());
    assert_eq!(log.attempts(), 1);
    assert_eq!(log.seen()[0].body.as_ref().unwrap_err(), "the client went away");
    assert_eq!(told.lines(), ["body_failed after 1"]);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_is_given_up_reads_nothing_that_the_next_one_has_to_read() {
    let (keep, held) = std::sync::mpsc::channel();
    let attempts = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(0));
    let upstream = tower::service_fn(move |request: Request<ReplayBody<ScriptedBody>>| {
        let attempt = attempts.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let keep = keep.clone();
        async move {
            let mut body = request.into_body();
            match attempt {
                0 => {
                    body.frame().await.unwrap()?;
                    Err("reset".into())
                }
                // Answers before it has read, while its connection still has the body.
                1 => {
                    keep.send(body).unwrap();
                    Ok(answer(421))
                }
                _ => Ok(Response::new(Full::new(body.collect().await?.to_bytes()))),
            }
        }
    });
    let backoff = Backoff::constant(Duration::from_millis(50)).jitter(Jitter::None);
    let unprocessed = |result: Result<&Response<Full<Bytes>>, &BoxError>| match result {
        Ok(answer) if answer.status() == 200 => Outcome::success(),
        _ => Outcome::failure().with_unprocessed(),
    };
    let service = layer().clock(Clock::tokio()).backoff(backoff).classify(unprocessed).layer(upstream);
    let mut call = Task::new(service.oneshot(upload(ScriptedBody::new().data("one ").data("two"))));

    assert!(call.run().is_pending());
    buttress_testkit::advance(Duration::from_millis(50)).await;
    assert!(call.run().is_pending(), "it waits for the third attempt");
    let mut former = held.recv().unwrap();
    let read = former.frame().await.unwrap();
    assert!(read.is_err(), "and never looks like a body that has ended");
    buttress_testkit::advance(Duration::from_millis(50)).await;

    let std::task::Poll::Ready(answer) = call.run() else { panic!("the third attempt answers at once") };
    assert_eq!(answer.unwrap().into_body().collect().await.unwrap().to_bytes(), "one two");
}

/// When the body of a lost attempt comes back to a call that waits 50 ms: how the call ends, and after how long.
async fn lost_and_back_after(millis: Option<u64>) -> (Result<u16, String>, Duration, Vec<String>) {
    let told = Told::default();
    let clock = Clock::tokio();
    let (keep, held) = std::sync::mpsc::channel();
    let attempts = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(0));
    // As a client does whose connection task has the body.
    let upstream = tower::service_fn(move |request: Request<ReplayBody<ScriptedBody>>| {
        keep.send(request.into_body()).unwrap();
        let first = attempts.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 0;
        async move { if first { Err::<_, BoxError>("reset".into()) } else { Ok(answer(200)) } }
    });
    let backoff = Backoff::constant(Duration::from_millis(50)).jitter(Jitter::None);
    let service = layer().clock(clock.clone()).backoff(backoff).observe(told.observer()).layer(upstream);
    let start = clock.now();
    let mut call = Task::new(service.oneshot(upload(ScriptedBody::new().data("x"))));

    assert!(call.run().is_pending(), "it waits for the next attempt");
    let mut body = Some(held.recv().unwrap());
    let ended = loop {
        buttress_testkit::advance(Duration::from_millis(1)).await;
        if millis.is_some_and(|millis| clock.now() - start >= Duration::from_millis(millis)) {
            body = None;
        }
        if let std::task::Poll::Ready(ended) = call.run() {
            break ended;
        }
    };
    drop(body);
    let ended = ended.map(|answer| answer.status().as_u16()).map_err(|error| error.to_string());
    (ended, clock.now() - start, told.lines())
}

#[tokio::test(start_paused = true)]
async fn a_body_that_comes_back_during_the_wait_costs_no_time() {
    let (ended, took, _) = lost_and_back_after(Some(20)).await;

    assert_eq!((ended, took), (Ok(200), Duration::from_millis(50)));
}

#[tokio::test(start_paused = true)]
async fn a_body_that_comes_back_a_little_late_is_waited_for() {
    let (ended, took, _) = lost_and_back_after(Some(80)).await;

    assert_eq!((ended, took), (Ok(200), Duration::from_millis(80)));
}

#[tokio::test(start_paused = true)]
async fn when_a_body_does_not_come_back_the_error_stays() {
    let (ended, took, told) = lost_and_back_after(None).await;

    assert_eq!((ended, took), (Err("reset".to_owned()), Duration::from_millis(150)));
    assert_eq!(told, ["attempt 2 in 50ms", "body_unfinished after 1"]);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_kept_of_a_request_that_is_not_tried_again() {
    let pool = ReplayPool::new(1000);
    let no_attempts = layer().attempts(1).replay_pool(pool.clone());
    let (upstream, _handle) = buttress_testkit::StrictService::<_, _, BoxError>::new({
        let pool = pool.clone();
        move |request: Request<ReplayBody<Full<Bytes>>>| {
            let mut body = pin!(request.into_body().collect());
            let std::task::Poll::Ready(read) = poll_once(&mut body) else { panic!("it is all there") };
            assert_eq!(read.unwrap().to_bytes(), "a body");
            assert_eq!(pool.used(), 0);
            answer(503)
        }
    });

    no_attempts.layer(upstream).oneshot(post("a body")).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn once_the_answer_is_there_a_body_that_goes_on_is_not_kept_any_more() {
    let pool = ReplayPool::new(1000);
    let body = ScriptedBody::new().data("one ").stall().data("two").chunked();
    let watch = body.handle();
    // Answers at once and reads on, as a server does that streams both ways.
    let upstream = tower::service_fn(|request: Request<ReplayBody<ScriptedBody>>| async {
        let mut body = request.into_body();
        let first = body.frame().await.unwrap()?.into_data().unwrap();
        assert_eq!(first, "one ");
        Ok::<_, BoxError>(Response::new(body))
    });

    let response = layer().replay_pool(pool.clone()).layer(upstream).oneshot(upload(body)).await.unwrap();

    assert_eq!(pool.used(), 0);
    watch.resume();
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "two");
    assert_eq!(pool.used(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_last_attempt_gives_back_what_it_has_read() {
    let pool = ReplayPool::new(1000);
    let seen = pool.clone();
    let attempts = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(0));
    let upstream = tower::service_fn(move |request: Request<ReplayBody<ScriptedBody>>| {
        let (pool, attempt) = (seen.clone(), attempts.fetch_add(1, std::sync::atomic::Ordering::SeqCst));
        async move {
            let mut body = request.into_body();
            let mut used = Vec::new();
            while let Some(frame) = body.frame().await {
                frame?;
                used.push(pool.used());
            }
            let expected = if attempt == 0 { vec![4, 8, 13] } else { vec![9, 5, 0] };
            assert_eq!(used, expected);
            Ok::<_, BoxError>(answer(if attempt == 0 { 503 } else { 200 }))
        }
    });
    let body = ScriptedBody::new().data("one ").data("two ").data("three").chunked();

    let answer =
        layer().attempts(2).replay_pool(pool.clone()).layer(upstream).oneshot(upload(body)).await.unwrap();

    assert_eq!(answer.status(), 200);
}

/// The body of each attempt of a call whose upstream reads it to its end, as hyper sees it.
async fn shapes(body: ScriptedBody) -> Vec<Vec<(Option<u64>, bool)>> {
    let shapes = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let log = shapes.clone();
    let upstream = tower::service_fn(move |request: Request<ReplayBody<ScriptedBody>>| {
        let log = log.clone();
        async move {
            let mut body = request.into_body();
            let mut shape = vec![(body.size_hint().exact(), body.is_end_stream())];
            while !body.is_end_stream() {
                if body.frame().await.transpose()?.is_none() {
                    break;
                }
                shape.push((body.size_hint().exact(), body.is_end_stream()));
            }
            log.lock().unwrap().push(shape);
            Ok::<_, BoxError>(answer(503))
        }
    });
    layer().layer(upstream).oneshot(upload(body)).await.unwrap();
    std::mem::take(&mut *shapes.lock().unwrap())
}

#[tokio::test(start_paused = true)]
async fn every_attempt_knows_its_length_and_its_end_as_the_body_itself_does() {
    let sized = shapes(ScriptedBody::new().data("one ").data("two")).await;
    assert_eq!(sized, vec![vec![(Some(7), false), (Some(3), false), (Some(0), true)]; 3]);

    let chunked = shapes(ScriptedBody::new().data("one ").data("two").chunked()).await;
    assert_eq!(chunked[0], [(None, false), (None, false), (None, false)]);
    assert_eq!(chunked[1], [(None, false), (None, false), (None, true)], "by then the end is known");
    assert_eq!(chunked[2], chunked[1]);

    let with_trailers = shapes(ScriptedBody::new().data("one").trailers(trailers()).chunked()).await;
    assert_eq!(with_trailers[1], [(None, false), (None, false), (None, true)]);

    let empty = shapes(ScriptedBody::new()).await;
    assert_eq!(empty, vec![vec![(Some(0), true)]; 3]);
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_stops_at_the_declared_length_has_sent_everything() {
    // As hyper does over HTTP/1: it never polls for the end.
    let upstream = tower::service_fn(|request: Request<ReplayBody<ScriptedBody>>| async {
        let mut body = request.into_body();
        let mut left = body.size_hint().exact().unwrap();
        while left > 0 {
            left -= body.frame().await.unwrap()?.into_data().unwrap().len() as u64;
        }
        Ok::<_, BoxError>(answer(503))
    });
    let layer = layer();
    let body = ScriptedBody::new().data("one ").data("two").trailers(trailers());

    layer.layer(upstream).oneshot(upload(body)).await.unwrap();

    assert_eq!(layer.handle().snapshot().retries, 2);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_panics_takes_nothing_along() {
    let pool = ReplayPool::new(1000);
    let log = Log::new([]);
    let service = layer().replay_pool(pool.clone()).layer(log.upstream());
    let mut call = Task::new(service.oneshot(upload(ScriptedBody::new().data("one").panic().chunked())));

    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| call.run())).is_err();
    drop(call);

    assert!(panicked);
    assert_eq!(pool.used(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_nobody_read_is_sent_after_proof_that_nothing_was() {
    let body = ScriptedBody::new().data("one ").data("two");
    let watch: BodyHandle = body.handle();
    let log = Log::new([Play::Drop(unsent()), Play::Drop(unsent())]);
    let order = Request::post("http://upstream.test/").body(body).unwrap();

    layer().layer(log.upstream()).oneshot(order).await.unwrap();

    assert_eq!(log.seen()[2].body.as_ref().unwrap(), "one two");
    assert!(watch.is_finished() && watch.is_dropped());
}

#[tokio::test(start_paused = true)]
async fn trailers_count_as_their_names_and_values() {
    // Four bytes of data, and ten and three of trailers.
    for (limit, attempts) in [(17, 2), (16, 1)] {
        let body = || ScriptedBody::new().data("data").trailers(trailers());
        let (by_limit, by_pool) = (failing(1), failing(1));

        layer().replay_limit(limit).layer(by_limit.upstream()).oneshot(upload(body())).await.unwrap();
        assert_eq!(by_limit.attempts(), attempts, "a limit of {limit}");

        let pool = ReplayPool::new(limit);
        let told = Told::default();
        let layer = layer().replay_pool(pool.clone()).observe(told.observer());
        layer.layer(by_pool.upstream()).oneshot(upload(body())).await.unwrap();
        assert_eq!(by_pool.attempts(), attempts, "a pool of {limit}");
        assert!(attempts == 2 || told.lines() == ["body_too_large after 1"]);
        assert_eq!(pool.used(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn the_last_attempt_gives_back_the_trailers_as_well() {
    let pool = ReplayPool::new(1000);
    let seen = pool.clone();
    let attempts = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(0));
    let upstream = tower::service_fn(move |request: Request<ReplayBody<ScriptedBody>>| {
        let (pool, attempt) = (seen.clone(), attempts.fetch_add(1, std::sync::atomic::Ordering::SeqCst));
        async move {
            let mut body = request.into_body();
            let mut used = Vec::new();
            while let Some(frame) = body.frame().await {
                frame?;
                used.push(pool.used());
            }
            assert_eq!(used, if attempt == 0 { [4, 17] } else { [13, 0] });
            // The connection still has the body when it has answered.
            Ok::<_, BoxError>(answer(if attempt == 0 { 503 } else { 200 }).map(|_| body))
        }
    });
    let body = || ScriptedBody::new().data("data").trailers(trailers());
    let layer = layer().replay_pool(pool.clone());

    let answer = layer.clone().attempts(2).layer(upstream.clone()).oneshot(upload(body())).await.unwrap();
    assert_eq!(answer.status(), 200);

    // Here one more attempt might have come.
    let reads = tower::service_fn(|request: Request<ReplayBody<ScriptedBody>>| async {
        let mut body = request.into_body();
        while body.frame().await.transpose()?.is_some() {}
        Ok::<_, BoxError>(Response::new(body))
    });
    let answer = layer.layer(reads).oneshot(upload(body())).await.unwrap();
    assert_eq!(pool.used(), 0, "although the body is still there");
    drop(answer);
}

#[tokio::test(start_paused = true)]
async fn a_lost_attempt_that_reads_too_much_during_the_wait_is_told_so_and_costs_nothing() {
    for (script, reason) in [
        (ScriptedBody::new().data("longer than four"), Skip::BodyTooLarge),
        (ScriptedBody::new().error("the client went away"), Skip::BodyFailed),
    ] {
        let told = Told::default();
        let (keep, held) = std::sync::mpsc::channel();
        let upstream = tower::service_fn(move |request: Request<ReplayBody<ScriptedBody>>| {
            keep.send(request.into_body()).unwrap();
            std::future::ready(Err::<Response<()>, BoxError>("reset".into()))
        });
        let backoff = Backoff::constant(Duration::from_millis(10)).jitter(Jitter::None);
        let layer = layer().replay_limit(4).clock(Clock::tokio()).backoff(backoff);
        let layer = layer.budget(Budget::ratio(1.0)).observe(told.observer());
        let mut call = Task::new(layer.layer(upstream).oneshot(upload(script.chunked())));

        assert!(call.run().is_pending());
        let mut body = held.recv().unwrap();
        let _ = body.frame().await.unwrap();
        drop(body);
        buttress_testkit::advance(Duration::from_millis(10)).await;

        let std::task::Poll::Ready(Err(error)) = call.run() else { panic!("it has nothing to send") };
        assert_eq!(error.to_string(), "reset");
        assert_eq!(told.lines(), ["attempt 2 in 10ms".to_owned(), format!("{reason} after 1")]);
        assert_eq!(layer.handle().snapshot().budget_left, 1);
    }
}
