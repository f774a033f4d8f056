//! The main call is what it would be without a mirror.

use std::future::{pending, poll_fn};
use std::panic::resume_unwind;
use std::task::{Context, Poll};

use buttress_balance::{MirrorCounts, MirrorHandle};
use http::StatusCode;
use http_body::Body;

use super::*;

/// A mirror that is not well in one way.
#[derive(Clone, Copy, Debug)]
enum Ill {
    Dead,
    NeverReady,
    ReadyFails,
    Hangs,
    PanicsInReady,
    PanicsInCall,
    Panics,
    ReadsSlowly,
    AnswersSlowly,
    AnswersForEver,
    AnswerFails,
    AnswerPanics,
}

impl Ill {
    const ALL: [Self; 12] = [
        Self::Dead,
        Self::NeverReady,
        Self::ReadyFails,
        Self::Hangs,
        Self::PanicsInReady,
        Self::PanicsInCall,
        Self::Panics,
        Self::ReadsSlowly,
        Self::AnswersSlowly,
        Self::AnswersForEver,
        Self::AnswerFails,
        Self::AnswerPanics,
    ];

    /// What becomes of a copy that it gets.
    fn end(self, counts: &MirrorCounts) -> u64 {
        match self {
            Self::Dead | Self::ReadyFails | Self::AnswerFails => counts.failed,
            Self::NeverReady | Self::Hangs | Self::ReadsSlowly | Self::AnswersForEver => counts.timed_out,
            Self::PanicsInReady | Self::PanicsInCall | Self::Panics | Self::AnswerPanics => counts.panicked,
            Self::AnswersSlowly => counts.answered,
        }
    }
}

fn panics() -> ! {
    resume_unwind(Box::new("the mirror panics, as scripted"))
}

impl Service<Request<MirroredBody>> for Ill {
    type Response = Response<ScriptedBody>;
    type Error = BoxError;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        match self {
            Self::NeverReady => Poll::Pending,
            Self::ReadyFails => Poll::Ready(Err("no".into())),
            Self::PanicsInReady => panics(),
            _ => Poll::Ready(Ok(())),
        }
    }

    fn call(&mut self, request: Request<MirroredBody>) -> Self::Future {
        let ill = *self;
        if matches!(ill, Self::PanicsInCall) {
            panics();
        }
        Box::pin(async move {
            let body = match ill {
                Self::Dead => return Err("dead".into()),
                Self::Hangs => pending().await,
                Self::Panics => panics(),
                Self::ReadsSlowly => {
                    let mut body = request.into_body();
                    loop {
                        Clock::tokio().sleep(10 * SECOND).await;
                        poll_fn(|cx| std::pin::Pin::new(&mut body).poll_frame(cx)).await;
                    }
                }
                Self::AnswersSlowly => {
                    Clock::tokio().sleep(14 * SECOND).await;
                    ScriptedBody::new().data("late")
                }
                Self::AnswersForEver => ScriptedBody::new().data("first").stall(),
                Self::AnswerFails => ScriptedBody::new().data("first").error("reset"),
                _ => ScriptedBody::new().data("first").panic(),
            };
            Ok(Response::new(body))
        })
    }
}

/// A main service that takes its time for each frame, and for the answer.
fn main_service() -> Main {
    BoxCloneSyncService::new(service_fn(|request: Request<TeeBody<ScriptedBody>>| async {
        let fails = request.uri().path() == "/fails";
        let mut body = request.into_body();
        let mut read = Vec::new();
        while let Some(frame) = body.frame().await {
            Clock::tokio().sleep(Duration::from_millis(3)).await;
            read.extend(frame?.into_data().unwrap_or_default());
        }
        Clock::tokio().sleep(Duration::from_millis(7)).await;
        if fails { Err("out of paper".into()) } else { Ok(Response::new(Full::from(read))) }
    }))
}

/// The answers to some requests, and how long each took in virtual time.
async fn answers(layer: &MirrorLayer) -> Vec<(Duration, Result<Bytes, String>)> {
    let clock = Clock::tokio();
    let service = layer.layer(main_service());
    let mut all = Vec::new();
    let requests = [
        get("/"),
        get("/fails"),
        post(ScriptedBody::new().data("one ").data("two")),
        post(ScriptedBody::new().data("one ").data("two").chunked()),
        post(ScriptedBody::new().data("one ").error("the client is gone").chunked()),
    ];
    for request in requests {
        let start = clock.now();
        let answer = send(service.clone(), request).await.map_err(|error| error.to_string());
        all.push((clock.now() - start, answer));
    }
    all
}

async fn over(handle: &MirrorHandle) {
    advance(15 * SECOND).await;
    assert_eq!(handle.in_flight(), 0, "its time is over");
}

#[tokio::test(start_paused = true)]
async fn the_main_call_is_the_same_whatever_the_mirror_does() {
    let without = answers(&mirror(hangs()).sample(0.0)).await;
    assert_eq!(without[2].1.as_deref(), Ok(&b"one two"[..]));

    for ill in Ill::ALL {
        let layer = MirrorLayer::new(ill).clock(Clock::tokio());

        let with = answers(&layer).await;

        assert_eq!(with, without, "{ill:?}");
        over(&layer.handle()).await;
        let counts = layer.handle().counts();
        assert_eq!((counts.mirrored, ill.end(&counts)), (4, 4), "{ill:?}: {counts:?}");
        assert_eq!(counts.not_mirrored, 1, "the body that broke off");
    }
}

#[tokio::test(start_paused = true)]
async fn it_is_the_same_when_the_mirror_is_full() {
    let without = answers(&mirror(hangs()).sample(0.0)).await;
    let layer = mirror(hangs()).in_flight(1);

    let with = answers(&layer).await;

    assert_eq!(with, without);
    assert_eq!(layer.handle().counts().mirrored, 1);
}

struct PanicsWhenCloned;

impl Clone for PanicsWhenCloned {
    fn clone(&self) -> Self {
        panics()
    }
}

impl Service<Request<MirroredBody>> for PanicsWhenCloned {
    type Response = Response<ScriptedBody>;
    type Error = BoxError;
    type Future = std::future::Ready<Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<MirroredBody>) -> Self::Future {
        std::future::ready(Ok(Response::new(ScriptedBody::new())))
    }
}

#[tokio::test(start_paused = true)]
async fn a_mirror_that_panics_when_it_is_cloned_does_so_beside_the_call() {
    let layer = MirrorLayer::new(PanicsWhenCloned).clock(Clock::tokio());

    assert_eq!(send(layer.layer(echo()), get("/")).await.unwrap(), "");

    over(&layer.handle()).await;
    assert_eq!(layer.handle().counts().panicked, 1);
}

#[tokio::test(start_paused = true)]
async fn the_answers_of_the_mirror_are_read_and_dropped() {
    let bodies = Arc::new(Mutex::new(Vec::new()));
    let made = Arc::clone(&bodies);
    let shadow = service_fn(move |_: Request<MirroredBody>| {
        let body = ScriptedBody::new().data("one").data("two").chunked();
        made.lock().unwrap().push(body.handle());
        std::future::ready(Ok::<_, BoxError>(
            Response::builder().status(StatusCode::INTERNAL_SERVER_ERROR).body(body).unwrap(),
        ))
    });
    let layer = MirrorLayer::new(shadow).clock(Clock::tokio());

    assert_eq!(send(layer.layer(echo()), get("/")).await.unwrap(), "");
    settle().await;

    let body = bodies.lock().unwrap().remove(0);
    assert!(body.is_finished() && body.is_dropped());
    assert_eq!(layer.handle().counts().answered, 1, "with whatever status");
}
