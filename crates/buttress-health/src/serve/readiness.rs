use std::fmt;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use buttress_core::{Clock, Name, Timestamp};
use futures_util::future::{Either, select};
use tokio::sync::watch;

use super::report::{Report, TrafficReport};
use super::runner::{Asked, Change, Runner};
use super::traffic::{Marked, Traffic};
use crate::{Dependency, HealthEvent, Phase};

type Observer = Arc<dyn Fn(&HealthEvent<'_>) + Send + Sync>;

/// Whether a service should get requests: its phase, its dependencies, and how its own calls go.
///
/// A clone is the same state. [`HealthEndpoints`](crate::HealthEndpoints) answers probes by it, `GrpcHealth` does so over
/// gRPC, a [`HealthLayer`](crate::HealthLayer) refuses calls by it and marks their outcomes, and a
/// [`Shutdown`](crate::Shutdown) ends it.
///
/// ```
/// use buttress_health::{Dependency, Readiness, Status};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let readiness = Readiness::new().depends_on(Dependency::optional("search", || async { Err("still indexing") }));
///
/// let report = readiness.report().await;
///
/// assert_eq!(report.status, Status::Degraded);
/// assert_eq!(report.dependencies[0].error.as_deref(), Some("still indexing"));
/// # }
/// ```
///
/// | phase | begins with | `/livez` | `/startupz` | `/readyz` | a `HealthLayer` |
/// |---|---|---|---|---|---|
/// | [`Starting`](Phase::Starting) | [`starting`](Self::starting) | 200 | 503 | 503 | refuses |
/// | [`Running`](Phase::Running) | [`new`](Self::new), [`started`](Self::started) | 200 | 200 | 503 while something critical fails | refuses while something critical fails |
/// | [`Stopping`](Phase::Stopping) | [`stop`](Self::stop) | 200 | 200 | 503 | serves |
///
/// # Checks
///
/// A check runs when somebody asks, a probe or a refused call, and what is known of it is older than its TTL: once for all
/// who ask meanwhile, in a task of its own, so that one who gives up does not end it for the others. Nothing runs while
/// nobody asks. All checks run at the same time, and so an answer takes no longer than the longest timeout, and takes no
/// time where all results are recent.
#[derive(Clone)]
pub struct Readiness(Arc<Inner>);

pub(crate) struct Inner {
    setup: Setup,
    /// What a layer looks at for each call: the phase in the two lowest bits, and [`FAILING`].
    gate: AtomicU8,
    /// Held while the gate is worked out, so that the last to change something writes last.
    runners: Mutex<Arc<[Arc<Runner>]>>,
    traffic: Marked,
    changes: watch::Sender<()>,
}

#[derive(Clone)]
struct Setup {
    name: Name,
    clock: Clock,
    traffic: Traffic,
    observer: Option<Observer>,
}

const PHASE: u8 = 0b011;
const FAILING: u8 = 0b100;

impl Default for Readiness {
    fn default() -> Self {
        Self::new()
    }
}

impl Readiness {
    /// The state of a service that has started.
    #[must_use]
    pub fn new() -> Self {
        Self::in_phase(Phase::Running)
    }

    /// The state of a service that has yet to start: it is not ready before [`started`](Self::started) is called.
    #[must_use]
    pub fn starting() -> Self {
        Self::in_phase(Phase::Starting)
    }

    fn in_phase(phase: Phase) -> Self {
        let setup = Setup {
            name: Name::from_static("readiness"),
            clock: Clock::default(),
            traffic: Traffic::default(),
            observer: None,
        };
        Self(Arc::new(Inner::new(setup, phase, Arc::default())))
    }

    /// Adds a dependency. Its clones have it too, so that a part of the service that is built later can add what it needs:
    /// `readiness.clone().depends_on(..)`.
    ///
    /// # Panics
    ///
    /// When there is one of that name already, or it is called `traffic`, as the service's own calls are.
    #[must_use]
    #[track_caller]
    pub fn depends_on(self, dependency: Dependency) -> Self {
        let mut runners = self.0.runners();
        let name = dependency.name.clone();
        let free = &*name != "traffic" && runners.iter().all(|runner| runner.dependency.name != name);
        if free {
            let added = Arc::new(Runner::new(dependency));
            *runners = runners.iter().cloned().chain([added]).collect();
        }
        drop(runners);
        assert!(free, "a dependency named `{name}` is there already: give each a name of its own");
        self.0.changes.send_replace(());
        self
    }

    /// Judges the service's own calls, as a [`HealthLayer`](crate::HealthLayer) marks them, by these settings. The default is
    /// [`Traffic::optional`].
    ///
    /// Begins a new state: clones that were made before are not of it.
    #[must_use]
    pub fn traffic(self, traffic: Traffic) -> Self {
        self.restart(|setup| setup.traffic = traffic)
    }

    /// Names the state, in events and refusals. The default is `readiness`.
    ///
    /// Begins a new state: clones that were made before are not of it.
    #[must_use]
    pub fn named(self, name: impl Into<Name>) -> Self {
        self.restart(|setup| setup.name = name.into())
    }

    /// Reads the time from `clock` instead of [`Clock::default`].
    ///
    /// Begins a new state: clones that were made before are not of it.
    #[must_use]
    pub fn clock(self, clock: Clock) -> Self {
        self.restart(|setup| setup.clock = clock)
    }

    /// Tells `observer` of each change. The default is none.
    ///
    /// Begins a new state: clones that were made before are not of it.
    #[must_use]
    pub fn observe(self, observer: impl Fn(&HealthEvent<'_>) + Send + Sync + 'static) -> Self {
        self.restart(|setup| setup.observer = Some(Arc::new(observer)))
    }

    fn restart(self, change: impl FnOnce(&mut Setup)) -> Self {
        let mut setup = self.0.setup.clone();
        change(&mut setup);
        let runners = Arc::clone(&self.0.runners());
        Self(Arc::new(Inner::new(setup, self.phase(), runners)))
    }

    /// The service has started. Says nothing once it stops.
    pub fn started(&self) {
        self.0.advance(Phase::Running);
    }

    /// The service begins to stop: it is not ready, and never will be again. A [`Shutdown`](crate::Shutdown) calls it.
    pub fn stop(&self) {
        self.0.advance(Phase::Stopping);
    }

    /// Where the service is in its life.
    #[must_use]
    pub fn phase(&self) -> Phase {
        phase_of(self.0.gate.load(Ordering::Acquire))
    }

    /// What is known, after the checks whose results are too old have run.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it leaves the checks that it has begun to their tasks: they end within their timeouts, and what they find
    /// is kept for who asks next.
    pub async fn report(&self) -> Report {
        match self.ask() {
            Ok(report) => report,
            Err(waiting) => waiting.await,
        }
    }

    /// The report where all of it is known, else the wait for it.
    pub(crate) fn ask(&self) -> Result<Report, Waiting> {
        let runners = Arc::clone(&self.0.runners());
        let waits: Vec<_> = runners
            .iter()
            .filter_map(|runner| match runner.ask(&self.0) {
                Asked::Known => None,
                Asked::Wait(over, until) => Some((Arc::clone(runner), over, until)),
            })
            .collect();
        if waits.is_empty() {
            return Ok(self.0.report(&runners));
        }
        let inner = Arc::clone(&self.0);
        Err(Box::pin(async move {
            for (runner, mut over, until) in waits {
                if until == Timestamp::MAX {
                    let _ = over.changed().await;
                    continue;
                }
                let alarm = pin!(inner.clock().sleep_until(until));
                if let Either::Right(_) = select(pin!(over.changed()), alarm).await {
                    runner.give_up(&inner, inner.clock().now());
                }
            }
            inner.report(&runners)
        }))
    }

    /// Tells of each change: of the phase, of a dependency, of the traffic.
    #[cfg(feature = "grpc")]
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.0.changes.subscribe()
    }

    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.0
    }
}

impl fmt::Debug for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Readiness")
            .field("name", &self.0.setup.name)
            .field("phase", &self.phase())
            .finish_non_exhaustive()
    }
}

/// The wait for checks that are under way.
pub(crate) type Waiting = Pin<Box<dyn Future<Output = Report> + Send>>;

impl Inner {
    fn new(setup: Setup, phase: Phase, runners: Arc<[Arc<Runner>]>) -> Self {
        Self {
            gate: AtomicU8::new(phase_bits(phase)),
            runners: Mutex::new(runners),
            traffic: Marked::new(setup.traffic),
            changes: watch::Sender::new(()),
            setup,
        }
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.setup.clock
    }

    pub(crate) fn name(&self) -> &Name {
        &self.setup.name
    }

    /// Whether a layer refuses calls, and in which phase.
    #[inline]
    pub(crate) fn refuses(self: &Arc<Self>, while_failing: bool) -> Option<Phase> {
        let gate = self.gate.load(Ordering::Acquire);
        if gate == phase_bits(Phase::Running) { None } else { self.refuses_indeed(gate, while_failing) }
    }

    #[cold]
    fn refuses_indeed(self: &Arc<Self>, gate: u8, while_failing: bool) -> Option<Phase> {
        let phase = phase_of(gate);
        match phase {
            Phase::Starting => {}
            Phase::Running if while_failing => {
                // Nobody else may ask: without this, what failed once would fail for ever.
                for runner in self.runners_now().iter().filter(|runner| runner.dependency.critical) {
                    runner.ask(self);
                }
                self.settle();
                if self.gate.load(Ordering::Acquire) & FAILING == 0 {
                    return None;
                }
            }
            _ => return None,
        }
        self.tell(&HealthEvent::Refused { name: self.name(), phase });
        Some(phase)
    }

    /// Whether calls are to be [marked](Self::mark).
    pub(crate) fn marks(&self) -> bool {
        self.traffic.is_counted()
    }

    /// One of the service's calls went well or failed.
    #[inline]
    pub(crate) fn mark(&self, failed: bool) {
        if self.traffic.mark(self.clock().now(), failed) {
            self.settle();
        }
    }

    /// A run of a check is over.
    pub(crate) fn found(&self, runner: &Runner, change: Option<Change>) {
        let Some(Change { from, to, error }) = change else { return };
        self.settle();
        // What is optional leaves the gate as it is.
        self.changes.send_replace(());
        let Dependency { name: dependency, critical, .. } = &runner.dependency;
        let (name, critical, error) = (self.name(), *critical, error.as_deref());
        self.tell(&HealthEvent::Dependency { name, dependency, critical, from, to, error });
    }

    /// Goes forward to this phase; never back.
    fn advance(&self, to: Phase) {
        let runners = self.runners();
        let gate = self.gate.load(Ordering::Relaxed);
        if phase_of(gate) >= to {
            return;
        }
        self.gate.store(gate & !PHASE | phase_bits(to), Ordering::Release);
        drop(runners);
        self.changes.send_replace(());
        self.tell(&HealthEvent::Phase { name: self.name(), phase: to });
    }

    /// Works out anew whether something critical fails.
    #[cold]
    fn settle(&self) -> Option<TrafficReport> {
        let runners = self.runners();
        let traffic = self.traffic.report(self.clock().now());
        let failing = traffic.is_some_and(|found| found.critical && found.failing)
            || runners.iter().any(|runner| runner.dependency.critical && runner.is_failing());
        let before = self.gate.load(Ordering::Relaxed);
        let gate = if failing { before | FAILING } else { before & !FAILING };
        self.gate.store(gate, Ordering::Release);
        let news = traffic.filter(|found| self.traffic.turn(found.failing));
        drop(runners);
        if gate != before || news.is_some() {
            self.changes.send_replace(());
        }
        if let Some(TrafficReport { critical, failing, calls, failed }) = news {
            self.tell(&HealthEvent::Traffic { name: self.name(), critical, failing, calls, failed });
        }
        traffic
    }

    /// What is known now.
    fn report(&self, runners: &[Arc<Runner>]) -> Report {
        let now = self.clock().now();
        let dependencies = runners.iter().filter_map(|runner| runner.known(now)).collect();
        let traffic = self.settle();
        Report::new(phase_of(self.gate.load(Ordering::Acquire)), dependencies, traffic)
    }

    pub(crate) fn tell(&self, event: &HealthEvent<'_>) {
        if let Some(observer) = &self.setup.observer {
            observer(event);
        }
    }

    fn runners_now(&self) -> Arc<[Arc<Runner>]> {
        Arc::clone(&self.runners())
    }

    // No code of the user's runs while it is held.
    fn runners(&self) -> MutexGuard<'_, Arc<[Arc<Runner>]>> {
        self.runners.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const fn phase_bits(phase: Phase) -> u8 {
    match phase {
        Phase::Starting => 0,
        Phase::Running => 1,
        Phase::Stopping => 2,
    }
}

const fn phase_of(gate: u8) -> Phase {
    match gate & PHASE {
        0 => Phase::Starting,
        1 => Phase::Running,
        _ => Phase::Stopping,
    }
}
