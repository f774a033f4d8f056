//! An inner service whose attempts take the time, and come to the end, that a script says. Time is a hand on a clock.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its part of it")]

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use buttress_core::{BoxError, ByCause, ManualClock, NothingSent, OnCall, Rejection, RejectionKind};
use buttress_retry::{Budget, Cloning, Hedge, HedgeEvent, HedgeFuture, HedgeLayer};
use buttress_testkit::Task;
use tower::{Layer, Service};

pub const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// How an attempt ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It answers with its number; the first attempt is 1.
    Answer,
    Fail,
    /// It fails, and it is certain that nothing was sent.
    Unsent,
    /// A layer of ours refuses it.
    Refuse,
    Panic,
}

/// An attempt that takes so many milliseconds.
pub type Play = (u64, End);

/// Attempts that are neither over nor dropped, and the most of them at a time.
#[derive(Clone, Default)]
pub struct Log {
    /// In milliseconds.
    starts: Arc<Mutex<Vec<u64>>>,
    under_way: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

impl Log {
    pub fn begun(&self) -> usize {
        self.starts().len()
    }

    /// When each attempt was begun, in milliseconds.
    pub fn starts(&self) -> Vec<u64> {
        self.starts.lock().unwrap().clone()
    }

    pub fn under_way(&self) -> usize {
        self.under_way.load(Ordering::SeqCst)
    }

    pub fn most(&self) -> usize {
        self.most.load(Ordering::SeqCst)
    }
}

struct UnderWay(Arc<AtomicUsize>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[derive(Clone)]
pub struct Scripted {
    time: ManualClock,
    plays: Arc<Mutex<VecDeque<Play>>>,
    pub log: Log,
}

impl Scripted {
    pub fn new(time: &ManualClock, plays: impl IntoIterator<Item = Play>) -> Self {
        let plays = Arc::new(Mutex::new(plays.into_iter().collect()));
        Self { time: time.clone(), plays, log: Log::default() }
    }
}

pub type Attempting = std::pin::Pin<Box<dyn Future<Output = Result<usize, BoxError>> + Send>>;

impl Service<u32> for Scripted {
    type Response = usize;
    type Error = BoxError;
    type Future = Attempting;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: u32) -> Attempting {
        let (takes, end) =
            self.plays.lock().unwrap().pop_front().expect("no attempt more than the script has");
        let mut starts = self.log.starts.lock().unwrap();
        starts.push(self.time.now().as_nanos() / 1_000_000);
        let number = starts.len();
        drop(starts);
        let now = self.log.under_way.fetch_add(1, Ordering::SeqCst) + 1;
        self.log.most.fetch_max(now, Ordering::SeqCst);
        let under_way = UnderWay(self.log.under_way.clone());
        let sleep = self.time.clock().sleep(ms(takes));
        Box::pin(async move {
            let _under_way = under_way;
            sleep.await;
            match end {
                End::Answer => Ok(number),
                End::Fail => Err(format!("attempt {number} failed").into()),
                End::Unsent => Err(NothingSent::new("connection refused").into()),
                End::Refuse => Err(Rejection::new(RejectionKind::RateLimited).into()),
                End::Panic => std::panic::resume_unwind(Box::new("attempt panics")),
            }
        })
    }
}

pub type Any = Cloning<fn(&u32) -> bool>;
pub type Layered = HedgeLayer<Any, ByCause>;

/// Hedges requests above 0 after 10 ms, as often as the test asks.
pub fn hedged(time: &ManualClock) -> Layered {
    let idempotent: fn(&u32) -> bool = |request| *request > 0;
    HedgeLayer::cloning(idempotent).clock(time.clock()).delay(ms(10)).budget(Budget::unlimited())
}

/// A call of `request`, whose attempts go by `plays`.
pub struct Call {
    pub time: ManualClock,
    pub log: Log,
    pub task: Task<HedgeFuture<OnCall<Scripted>, u32, Any, ByCause>>,
}

impl Call {
    pub fn new(
        time: &ManualClock,
        layer: &Layered,
        request: u32,
        plays: impl IntoIterator<Item = Play>,
    ) -> Self {
        let inner = Scripted::new(time, plays);
        let log = inner.log.clone();
        let mut service: Hedge<_, _, _> = layer.layer(inner);
        Self { time: time.clone(), log, task: Task::new(service.call(request)) }
    }

    /// Lets so many milliseconds pass, and what happens at their end.
    pub fn pass(&mut self, millis: u64) -> Poll<Result<usize, String>> {
        let mut polled = self.task.run();
        for _ in 0..millis {
            if polled.is_ready() {
                break;
            }
            self.time.advance(ms(1));
            polled = self.task.run();
        }
        polled.map_err(|error| error.to_string())
    }

    /// Runs to the end, and gives the result and how many milliseconds it took.
    pub fn end(&mut self) -> (Result<usize, String>, u64) {
        for passed in 0..100_000 {
            if let Poll::Ready(result) = self.pass(u64::from(passed > 0)) {
                return (result, passed);
            }
        }
        panic!("it has no end");
    }
}

/// What a layer tells, as text.
#[derive(Clone, Default)]
pub struct Told(Arc<Mutex<Vec<String>>>);

impl Told {
    pub fn observer(&self) -> impl Fn(&HedgeEvent<'_>) + Send + Sync + 'static + use<> {
        let told = self.0.clone();
        move |event| {
            let line = match event {
                HedgeEvent::Fired { attempt, after, .. } => format!("attempt {attempt} after {after:?}"),
                HedgeEvent::Won { attempt, .. } => format!("attempt {attempt} won"),
                HedgeEvent::Skipped { attempts, reason, .. } => format!("{reason} after {attempts}"),
                HedgeEvent::Malformed { field, .. } => format!("malformed {field}"),
                other => format!("{other:?}"),
            };
            told.lock().unwrap().push(line);
        }
    }

    pub fn lines(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}
