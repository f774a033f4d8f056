//! Endpoints that are readied before a call comes.

use std::future::{Ready, ready};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use buttress_balance::{BalanceEvent, Balancer, Members, Settings, Static};
use buttress_core::{BoxError, Clock, Endpoint, Endpoints, Timestamp};
use buttress_testkit::{advance, settle};
use tower::{Service, ServiceExt};

use crate::support::SECOND;

/// A line that its clones share, and that has to be connected.
#[derive(Clone, Default)]
struct Line(Arc<State>);

#[derive(Default)]
struct State {
    /// How often it was begun to be connected.
    tries: AtomicUsize,
    /// So many tries fail.
    bad: AtomicUsize,
    /// Whether it is connected, and who waits for that.
    open: Mutex<(bool, Option<Waker>)>,
}

impl Line {
    fn fails(&self, times: usize) {
        self.0.bad.store(times, Ordering::SeqCst);
    }

    fn tries(&self) -> usize {
        self.0.tries.load(Ordering::SeqCst)
    }

    fn open(&self) {
        let mut open = self.0.open.lock().unwrap();
        open.0 = true;
        open.1.take().into_iter().for_each(Waker::wake);
    }
}

impl Service<u64> for Line {
    type Response = ();
    type Error = BoxError;
    type Future = Ready<Result<(), BoxError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        let mut open = self.0.open.lock().unwrap();
        if open.0 {
            return Poll::Ready(Ok(()));
        }
        if open.1.is_none() {
            self.0.tries.fetch_add(1, Ordering::SeqCst);
        }
        if self.0.bad.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |bad| bad.checked_sub(1)).is_ok() {
            return Poll::Ready(Err("refused".into()));
        }
        open.1 = Some(cx.waker().clone());
        Poll::Pending
    }

    fn call(&mut self, _: u64) -> Self::Future {
        ready(Ok(()))
    }
}

fn members(endpoints: &Endpoints, line: &Line) -> Members<Line> {
    let line = line.clone();
    Members::new(endpoints.clone(), move |_| line.clone())
}

fn one() -> Endpoints {
    Endpoints::new(["a"].map(Endpoint::new)).unwrap()
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_is_readied_without_traffic_where_that_is_asked_for() {
    for asked in [false, true] {
        let (endpoints, line) = (one(), Line::default());
        let members = members(&endpoints, &line);
        let members = if asked { members.readied::<u64>() } else { members };
        let balancer = Balancer::new(members).policy(Static::round_robin());
        settle().await;
        assert_eq!(line.tries(), usize::from(asked));

        line.open();
        settle().await;
        balancer.oneshot(1).await.unwrap();
        assert_eq!(line.tries(), usize::from(asked), "a call finds it open");
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_is_told_and_it_is_asked_again_more_and_more_seldom_until_it_is_ready() {
    let (endpoints, line, told) = (one(), Line::default(), Arc::new(Mutex::new(Vec::new())));
    line.fails(6);
    let log = Arc::clone(&told);
    let settings = Settings::default().clock(Clock::tokio()).observe(move |event| {
        if let BalanceEvent::NotReady { endpoint, retry_after } = event {
            log.lock().unwrap().push((*endpoint, retry_after.as_secs()));
        }
    });
    let members = members(&endpoints, &line).readied::<u64>();
    let _balancer = Balancer::new(members).settings(settings);
    settle().await;

    for (n, wait) in [1, 2, 4, 8, 16, 30].into_iter().enumerate() {
        assert_eq!(told.lock().unwrap()[n], (endpoints.list()[0].id(), wait));
        assert_eq!(line.tries(), n + 1);
        advance(SECOND * wait as u32).await;
        settle().await;
    }
    assert_eq!((line.tries(), told.lock().unwrap().len()), (7, 6));
    line.open();
    advance(100 * SECOND).await;
    assert_eq!((line.tries(), told.lock().unwrap().len()), (7, 6), "that is all");
}

#[tokio::test(start_paused = true)]
async fn one_that_joins_is_readied_and_one_that_leaves_or_a_balancer_that_goes_is_given_up() {
    let (endpoints, line) = (one(), Line::default());
    let now = Timestamp::ZERO;
    let held = || Arc::strong_count(&line.0);
    let balancer = Balancer::new(members(&endpoints, &line).readied::<u64>());
    settle().await;
    let with_one = held();

    endpoints.insert(Endpoint::new("b"), now);
    settle().await;
    assert_eq!(held(), with_one + 2, "a service, and the clone that is being readied");
    endpoints.remove("b", now);
    settle().await;
    assert_eq!(held(), with_one);
    endpoints.insert(Endpoint::new("a").with_weight(2), now);
    settle().await;
    assert_eq!(held(), with_one, "that of the new configuration, in the place of the other");

    drop(balancer);
    settle().await;
    assert_eq!(held(), 1);
}
