//! Readying inside `call`: what the adapter takes, holds and gives back.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};

use buttress_core::{BoxError, LiftErrorsLayer, OnCall, Strict, Wrap};
use tokio::sync::Semaphore;
use tower::buffer::Buffer;
use tower::limit::{ConcurrencyLimit, GlobalConcurrencyLimitLayer};
use tower::{Layer, Service, ServiceExt, service_fn};

/// Forgets readiness when cloned, counts its clones, and panics when called unready.
#[derive(Debug, Default)]
struct Inner {
    ready: bool,
    clones: Arc<AtomicUsize>,
}

impl Clone for Inner {
    fn clone(&self) -> Self {
        self.clones.fetch_add(1, Ordering::SeqCst);
        Self { ready: false, clones: self.clones.clone() }
    }
}

impl Service<u32> for Inner {
    type Response = u32;
    type Error = BoxError;
    type Future = std::future::Ready<Result<u32, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, req: u32) -> Self::Future {
        assert!(std::mem::take(&mut self.ready), "called unready");
        std::future::ready(Ok(req))
    }
}

/// Holds a permit of `permits` for as long as its future lives.
fn limited(
    permits: usize,
) -> (impl Service<(), Response = (), Error = BoxError, Future: Send> + Clone + Send, Arc<Semaphore>) {
    let semaphore = Arc::new(Semaphore::new(permits));
    let layer = GlobalConcurrencyLimitLayer::with_semaphore(semaphore.clone());
    let service =
        layer.layer(service_fn(|()| async { std::future::pending::<Result<(), BoxError>>().await }));
    (service, semaphore)
}

fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    std::pin::Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}

#[tokio::test]
async fn a_ready_inner_service_is_called_without_a_clone() {
    let inner = Inner::default();
    let clones = inner.clones.clone();
    let mut service = OnCall::new(inner);

    for n in 0..100 {
        assert_eq!(service.call(n).await.unwrap(), n);
    }

    assert_eq!(clones.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_handle_that_was_readied_and_left_idle_holds_no_permit() {
    let (inner, semaphore) = limited(1);
    let mut idle = OnCall::new(inner);
    let mut busy = idle.clone();

    idle.ready().await.unwrap();
    assert_eq!(semaphore.available_permits(), 1);
    let call = busy.call(());
    assert_eq!(semaphore.available_permits(), 0);

    drop(call);
    assert_eq!(semaphore.available_permits(), 1);
}

#[tokio::test]
async fn a_call_that_waits_gives_its_place_back_when_dropped() {
    let (inner, semaphore) = limited(1);
    let mut service = OnCall::new(inner);
    let holder = service.call(());
    let never_polled = service.call(());
    let mut waiting = Box::pin(service.call(()));
    let mut last = Box::pin(service.call(()));
    assert!(poll_once(&mut waiting).is_pending() && poll_once(&mut last).is_pending());

    drop((holder, never_polled, waiting));

    // The only one left has the permit now.
    assert!(poll_once(&mut last).is_pending());
    assert_eq!(semaphore.available_permits(), 0);
    drop((last, service));
    assert_eq!(semaphore.available_permits(), 1);
}

#[tokio::test]
async fn waiting_calls_go_on_when_their_turn_comes() {
    let semaphore = Arc::new(Semaphore::new(1));
    let inner = GlobalConcurrencyLimitLayer::with_semaphore(semaphore.clone()).layer(service_fn(
        |n: usize| async move {
            tokio::task::yield_now().await;
            Ok::<_, BoxError>(n)
        },
    ));
    let service = OnCall::new(inner);

    let calls: Vec<_> = (0..1000).map(|n| tokio::spawn(service.clone().oneshot(n))).collect();

    for (n, call) in calls.into_iter().enumerate() {
        assert_eq!(call.await.unwrap().unwrap(), n);
    }
    assert_eq!(semaphore.available_permits(), 1);
}

#[tokio::test]
async fn a_thousand_calls_in_one_task_survive_the_coop_budget() {
    let inner = ConcurrencyLimit::new(service_fn(|n: u32| async move { Ok::<_, BoxError>(n) }), 1);
    let mut service = OnCall::new(inner);
    for n in 0..1000 {
        assert_eq!(service.call(n).await.unwrap(), n);
    }
}

#[tokio::test]
async fn an_error_of_readiness_comes_out_of_the_future_and_only_there() {
    #[derive(Clone)]
    struct Broken;
    impl Service<()> for Broken {
        type Response = ();
        type Error = BoxError;
        type Future = std::future::Ready<Result<(), BoxError>>;
        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
            Poll::Ready(Err("broken".into()))
        }
        fn call(&mut self, (): ()) -> Self::Future {
            unreachable!("it is never ready")
        }
    }

    let mut service = OnCall::new(Broken);
    service.ready().await.unwrap();
    assert_eq!(service.call(()).await.unwrap_err().to_string(), "broken");
}

#[tokio::test]
async fn a_panic_in_call_leaves_the_service_usable() {
    let inner = service_fn(|n: u32| {
        assert!(n != 0, "on purpose");
        async move { Ok::<_, BoxError>(n) }
    });
    let mut service = OnCall::new(ConcurrencyLimit::new(inner, 1));

    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| service.call(0)));
    assert!(panicked.is_err());

    assert_eq!(service.call(7).await.unwrap(), 7);
}

#[tokio::test]
async fn it_works_over_a_buffer_whose_inner_service_is_not_clone() {
    let inner = Buffer::new(
        tower::limit::RateLimit::new(
            Inner::default(),
            tower::limit::rate::Rate::new(100, std::time::Duration::from_secs(1)),
        ),
        4,
    );
    let mut service = OnCall::new(inner);
    for n in 0..20 {
        assert_eq!(service.call(n).await.unwrap(), n);
    }
}

#[tokio::test]
async fn the_strict_form_passes_readiness_through() {
    #[derive(Clone)]
    struct Plain;
    impl<S> Wrap<S> for Plain {
        type Service = S;
        fn wrap(&self, inner: S) -> S {
            inner
        }
    }

    let (inner, semaphore) = limited(1);
    let mut service = Strict::new(Plain).layer(inner);
    service.ready().await.unwrap();
    assert_eq!(semaphore.available_permits(), 0, "the readied instance holds its permit");
}

#[tokio::test]
async fn lifted_errors_keep_the_inner_error_and_its_readiness() {
    let mut service = LiftErrorsLayer::new().layer(Inner::default());
    assert_eq!(service.ready().await.unwrap().call(3).await.unwrap(), 3);
}
