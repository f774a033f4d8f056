//! Point 10: a layer whose types do not fit does not compile, and the compiler says which one and why.

use std::cell::Cell;
use std::env;
use std::marker::{PhantomData, PhantomPinned};
use std::pin::Pin;
use std::process::Command;
use std::rc::Rc;
use std::task::{Context, Poll};

use buttress_testkit::{Plain, Subject};
use tower_layer::Layer;
use tower_service::Service;

/// The compiler whose words the `.stderr` files hold: they are all its own, and differ from one to the next.
const RECORDED: &str = "rustc 1.95.";

/// After a new toolchain, run with `TRYBUILD=overwrite`, read whether the type and the reason are still named, and name
/// the toolchain in `RECORDED`.
#[test]
fn a_service_or_future_that_is_not_send_sync_clone_unpin_is_found() {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version = Command::new(rustc).arg("--version").output().expect("rustc runs").stdout;
    let version = String::from_utf8_lossy(&version);
    if version.starts_with(RECORDED) || env::var_os("TRYBUILD").is_some() {
        trybuild::TestCases::new().compile_fail("tests/types/*.rs");
    } else {
        eprintln!("skipped: the whole outputs are those of {RECORDED}*, and this is {}", version.trim());
    }
}

/// A layer whose service holds a `State`, and whose future may be one that stays on its thread.
struct Holding<State, F = ReadyFuture>(PhantomData<fn() -> (State, F)>);

impl<State, F> Clone for Holding<State, F> {
    fn clone(&self) -> Self {
        Self(PhantomData)
    }
}

#[derive(Clone)]
struct Held<S, State, F> {
    inner: S,
    _state: State,
    _future: PhantomData<fn() -> F>,
}

impl<S, State: Default, F> Layer<S> for Holding<State, F> {
    type Service = Held<S, State, F>;

    fn layer(&self, inner: S) -> Self::Service {
        Held { inner, _state: State::default(), _future: PhantomData }
    }
}

/// The future is that of the inner service.
#[derive(Clone)]
struct ReadyFuture;
/// The future cannot be spawned.
#[derive(Clone)]
struct LocalFuture;

impl<S: Service<u32>, State> Service<u32> for Held<S, State, ReadyFuture> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, req: u32) -> S::Future {
        self.inner.call(req)
    }
}

impl<S: Service<u32, Future: 'static>, State> Service<u32> for Held<S, State, LocalFuture> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, req: u32) -> Self::Future {
        Box::pin(self.inner.call(req))
    }
}

#[derive(Default)]
struct NotClone;

/// Has one implementation for a type that is no subject of the contract and two for one that is, so that inference
/// fails there: `cannot_be_examined!` compiles where the contract would not.
trait Ambiguous<A> {
    fn only() {}
}

impl<T> Ambiguous<()> for T {}

enum Examined {}

impl<T: Subject<Plain>> Ambiguous<Examined> for T {}

macro_rules! cannot_be_examined {
    ($($layer:ty),* $(,)?) => { $(<$layer as Ambiguous<_>>::only();)* };
}

/// This holds under every compiler, whatever it says.
#[test]
fn what_is_not_send_sync_clone_unpin_cannot_be_examined() {
    fn can_be_examined<L: Subject<Plain>>() {}
    can_be_examined::<Holding<()>>();

    cannot_be_examined!(
        Holding<Rc<()>>,
        Holding<Cell<u32>>,
        Holding<NotClone>,
        Holding<PhantomPinned>,
        Holding<(), LocalFuture>,
    );
}
