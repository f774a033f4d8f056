use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use buttress_core::{Clock, Timestamp};
use futures_util::future::{Either, select};
use tokio::sync::watch;

use super::schedule::{Schedule, Stage};
use crate::{Aborted, Aborting, Connection, ConnectionGuard, Finished, Readiness, Stopping};

/// Ends a service in order: not ready, pre-drain, no new connections, grace, abort.
///
/// | step | when | what is told |
/// |---|---|---|
/// | not ready | [`begin`](Self::begin), the first signal | the [`Readiness`]: `/readyz` is 503, `/livez` stays 200, calls are served |
/// | no new connections | `pre_drain` later, 5 s | [`stopping`](Self::stopping): accept loops end, open connections finish their requests |
/// | abort | `grace` later, 30 s; [`abort`](Self::abort); the second signal | [`aborting`](Self::aborting): what is open is cut off |
///
/// | setting | default | why |
/// |---|---|---|
/// | `pre_drain` | 5 s | Kubernetes takes an instance out when it tells it to stop, and all its nodes know that a second or two later. **Behind a balancer that probes, take its period times the failures that it waits for**: else it goes on sending for that long |
/// | `grace` | 30 s | as long as Kubernetes allows by default, and longer than nearly all requests take |
///
/// Kubernetes counts from its first signal: set `terminationGracePeriodSeconds` above the sum, 40 for the defaults.
///
/// A service that has nothing more to do ends earlier: the grace is a limit, not a wait.
///
/// With axum, whose connections nobody else can see:
///
/// ```no_run
/// # async fn serve(app: axum::Router) -> std::io::Result<()> {
/// use buttress_health::{Readiness, Shutdown};
///
/// let readiness = Readiness::new();
/// let shutdown = Shutdown::new(&readiness);
/// # #[cfg(feature = "signal")]
/// shutdown.on_signals()?;
/// let listener = tokio::net::TcpListener::bind("0.0.0.0:8080").await?;
/// let serve = axum::serve(listener, app).with_graceful_shutdown(shutdown.stopping());
/// match shutdown.run(serve.into_future()).await {
///     Ok(served) => served,
///     Err(aborted) => Err(std::io::Error::other(aborted)),
/// }
/// # }
/// ```
///
/// axum gives each connection a task of its own, which ends with the runtime: return from `main` after an abort. tonic takes
/// `serve_with_shutdown(address, shutdown.stopping())`. An accept loop of one's own gives each connection a
/// [`ConnectionGuard`], and waits for [`finished`](Self::finished).
///
/// There is no task behind it. Who waits knows by the clock when its moment comes, so nothing is to be driven: a connection
/// looks whether its moment has come when it is polled. A clone is the same shutdown.
#[derive(Clone)]
pub struct Shutdown(Arc<Inner>);

struct Inner {
    readiness: Readiness,
    schedule: watch::Sender<Schedule>,
    signalled: AtomicBool,
    #[cfg(feature = "signal")]
    listens: AtomicBool,
    /// Its receivers are the guards.
    guards: watch::Sender<()>,
    /// Whether a guard was there until the abort.
    cut_off: AtomicBool,
}

impl Shutdown {
    /// A shutdown that this readiness is told of, and whose clock it goes by.
    #[must_use]
    pub fn new(readiness: &Readiness) -> Self {
        let (pre_drain, grace) = (Duration::from_secs(5), Duration::from_secs(30));
        Self::with(readiness.clone(), Schedule { pre_drain, grace, begun: None, aborted: false })
    }

    fn with(readiness: Readiness, schedule: Schedule) -> Self {
        Self(Arc::new(Inner {
            readiness,
            schedule: watch::Sender::new(schedule),
            signalled: AtomicBool::new(false),
            #[cfg(feature = "signal")]
            listens: AtomicBool::new(false),
            guards: watch::Sender::new(()),
            cut_off: AtomicBool::new(false),
        }))
    }

    /// Serves for so long after it has said that it is not ready. The default is 5 s; zero is right where no balancer stands
    /// in front.
    ///
    /// Begins a new state: clones that were made before are not of it.
    #[must_use]
    pub fn pre_drain(self, time: Duration) -> Self {
        let schedule = Schedule { pre_drain: time, ..self.schedule() };
        Self::with(self.0.readiness.clone(), schedule)
    }

    /// Gives open connections so long to end their requests. The default is 30 s; zero cuts them off at once, and
    /// [`Duration::MAX`] never does.
    ///
    /// Begins a new state: clones that were made before are not of it.
    #[must_use]
    pub fn grace(self, time: Duration) -> Self {
        let schedule = Schedule { grace: time, ..self.schedule() };
        Self::with(self.0.readiness.clone(), schedule)
    }

    /// Begins the shutdown. Once it has begun, it says nothing more.
    ///
    /// A panic of the readiness's observer is dropped: it keeps no shutdown from beginning.
    pub fn begin(&self) {
        // Before the time begins in which the others are to hear of it. Who waits for signals has to hear the second.
        let _ = catch_unwind(AssertUnwindSafe(|| self.0.readiness.stop()));
        let now = self.clock().now();
        self.0.schedule.send_if_modified(|schedule| {
            let begins = schedule.begun.is_none();
            schedule.begun.get_or_insert(now);
            begins
        });
    }

    /// Cuts everything off at once.
    pub fn abort(&self) {
        self.begin();
        self.0.schedule.send_if_modified(|schedule| !std::mem::replace(&mut schedule.aborted, true));
    }

    /// A signal to end has come: the first begins the shutdown, where nothing else has, and the second aborts it.
    ///
    /// `on_signals`, of the feature `signal`, calls it for SIGTERM and SIGINT.
    pub fn signal(&self) {
        if self.0.signalled.swap(true, Ordering::Relaxed) {
            self.abort();
        } else {
            self.begin();
        }
    }

    /// How far it has come.
    #[must_use]
    pub fn stage(&self) -> Stage {
        self.schedule().stage(self.clock().now())
    }

    /// Completes when no connection is to be accepted any more: what axum's `with_graceful_shutdown` and tonic's
    /// `serve_with_shutdown` want, and where an accept loop ends.
    pub fn stopping(&self) -> Stopping {
        Stopping::new(self)
    }

    /// Completes when what is open is to be cut off.
    pub fn aborting(&self) -> Aborting {
        Aborting::new(self)
    }

    /// Completes when no connection is accepted any more and all [guards](Self::guard) are gone, or at the abort, and says
    /// which.
    pub fn finished(&self) -> Finished {
        Finished::new(self)
    }

    /// Runs a server until it is over, or the shutdown is aborted.
    ///
    /// The server is dropped at the abort.
    ///
    /// # Errors
    ///
    /// [`Aborted`], when the abort came first.
    pub async fn run<F: Future>(&self, server: F) -> Result<F::Output, Aborted> {
        Connection::new(server, None::<fn(Pin<&mut F>)>, self).await
    }

    /// A connection that is to be waited for until the guard is dropped. Take it before the connection is given a task of
    /// its own, and before [`finished`](Self::finished) is asked: it does not wait for those that come after it is over.
    #[must_use = "a guard that is dropped waits for nothing"]
    pub fn guard(&self) -> ConnectionGuard {
        ConnectionGuard::new(self.clone(), self.0.guards.subscribe())
    }

    /// How many [guards](Self::guard) there are.
    #[must_use]
    pub fn guards(&self) -> usize {
        self.0.guards.receiver_count()
    }

    /// The state that is told of it.
    #[must_use]
    pub fn readiness(&self) -> &Readiness {
        &self.0.readiness
    }

    /// Whether signals are waited for already. From now on they are.
    #[cfg(feature = "signal")]
    pub(crate) fn listens(&self) -> bool {
        self.0.listens.swap(true, Ordering::Relaxed)
    }

    fn clock(&self) -> &Clock {
        self.0.readiness.inner().clock()
    }

    fn schedule(&self) -> Schedule {
        *self.0.schedule.borrow()
    }

    /// Until this moment of the schedule has come, which may come nearer meanwhile.
    pub(crate) async fn until(&self, moment: impl Fn(&Schedule) -> Timestamp) {
        let mut schedule = self.0.schedule.subscribe();
        loop {
            let at = moment(&schedule.borrow_and_update());
            if at == Timestamp::MAX {
                // The sender is in `self`, so this never fails.
                let _ = schedule.changed().await;
                continue;
            }
            if self.clock().now() >= at {
                return;
            }
            let sleep = pin!(self.clock().sleep_until(at));
            if let Either::Right(_) = select(pin!(schedule.changed()), sleep).await {
                return;
            }
        }
    }

    /// Until all guards are gone: whether none was there until the abort.
    pub(crate) async fn drained(&self) -> bool {
        self.0.guards.closed().await;
        !self.0.cut_off.load(Ordering::Acquire)
    }

    /// A guard is about to go.
    pub(crate) fn guard_drops(&self) {
        if self.stage() == Stage::Aborting {
            self.0.cut_off.store(true, Ordering::Release);
        }
    }
}

impl fmt::Debug for Shutdown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Schedule { pre_drain, grace, .. } = self.schedule();
        f.debug_struct("Shutdown")
            .field("stage", &self.stage())
            .field("pre_drain", &pre_drain)
            .field("grace", &grace)
            .field("guards", &self.guards())
            .finish_non_exhaustive()
    }
}
