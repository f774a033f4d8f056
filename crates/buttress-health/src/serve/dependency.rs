use std::fmt;
use std::pin::Pin;
use std::time::Duration;

use buttress_core::{BoxError, Name};

/// One run of a check, as it is kept.
pub(crate) type Checking = Pin<Box<dyn Future<Output = Result<(), BoxError>> + Send>>;

/// Something that the service needs, and how to find out whether it is there: a database, a queue, another service.
///
/// ```
/// use buttress_health::{Dependency, Readiness};
/// use std::time::Duration;
///
/// # async fn ping() -> std::io::Result<()> { Ok(()) }
/// let readiness = Readiness::new()
///     .depends_on(Dependency::critical("database", ping))
///     .depends_on(Dependency::optional("search", || async { Err("still indexing") }).ttl(Duration::from_secs(5)));
/// # let _: Readiness = readiness;
/// ```
///
/// | setting | default | why |
/// |---|---|---|
/// | `timeout` | 800 ms | Kubernetes gives a probe 1 s: the answer says which check hangs, instead of not coming |
/// | `ttl` | 1 s | below the period of probes (Kubernetes 10 s, HAProxy 2 s), so that each of a single prober sees a new result; and a thousand probers cost one check a second |
///
/// Make critical only what no request can do without. A database that all instances share is down for all of them at
/// once, and where readiness follows it no instance is left to say so; a balancer that panics (Envoy at 50 %) then ignores
/// readiness.
pub struct Dependency {
    pub(crate) name: Name,
    pub(crate) critical: bool,
    pub(crate) timeout: Duration,
    pub(crate) ttl: Duration,
    pub(crate) check: Box<dyn Fn() -> Checking + Send + Sync>,
}

impl Dependency {
    /// Without it the service cannot serve: while `check` fails, `/readyz` is 503.
    ///
    /// The check is run on the runtime of who asks, in a task of its own. It should not block its thread: a
    /// check that does is given up all the same, but it is not run again before it has come back.
    #[must_use]
    pub fn critical<C, F, E>(name: impl Into<Name>, check: C) -> Self
    where
        C: Fn() -> F + Send + Sync + 'static,
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<BoxError>,
    {
        Self::new(name.into(), true, check)
    }

    /// Without it the service serves less: while `check` fails, `/readyz` is 200 and says `degraded`.
    #[must_use]
    pub fn optional<C, F, E>(name: impl Into<Name>, check: C) -> Self
    where
        C: Fn() -> F + Send + Sync + 'static,
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<BoxError>,
    {
        Self::new(name.into(), false, check)
    }

    fn new<C, F, E>(name: Name, critical: bool, check: C) -> Self
    where
        C: Fn() -> F + Send + Sync + 'static,
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<BoxError>,
    {
        let check = move || -> Checking {
            let checking = check();
            Box::pin(async move { checking.await.map_err(Into::into) })
        };
        Self {
            name,
            critical,
            timeout: Duration::from_millis(800),
            ttl: Duration::from_secs(1),
            check: Box::new(check),
        }
    }

    /// Gives each run so long; one that takes longer is dropped, and has failed. The default is 800 ms.
    ///
    /// # Panics
    ///
    /// When `timeout` is zero. [`Duration::MAX`] means none, and then a prober waits for as long as the check does.
    #[must_use]
    #[track_caller]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        assert!(!timeout.is_zero(), "timeout is 0s: it must be longer, as no check passes in no time");
        self.timeout = timeout;
        self
    }

    /// Answers by the same result for so long, whoever asks. The default is 1 s.
    ///
    /// Zero runs the check for everybody who asks while none is under way. Shorter than the prober's period is right:
    /// longer, a probe is told what an earlier one has found.
    #[must_use]
    pub const fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }
}

impl fmt::Debug for Dependency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dependency")
            .field("name", &self.name)
            .field("critical", &self.critical)
            .field("timeout", &self.timeout)
            .field("ttl", &self.ttl)
            .finish_non_exhaustive()
    }
}
