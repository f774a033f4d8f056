use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use buttress_core::{Clock, Endpoints, Name};

use super::Checker;
use super::target::Voice;
use crate::policy::check::{Init, Settings};
use crate::probe::{Kind, Probe};
use crate::{CheckError, CheckRules, HealthEvent};

/// A health check of endpoints: what probes them, how often, and how many results in a row it takes to believe them.
///
/// It is its own builder, and [`run`](Self::run) puts it to work. Nothing is checked until then, so that the order of the
/// methods does not matter.
///
/// | setting | default | why |
/// |---|---|---|
/// | [`interval`](Self::interval) | 5 s | nginx's; half of Kubernetes' |
/// | [`timeout`](Self::timeout) | 1 s, or the interval where that is shorter | what takes a second to answer a probe cannot serve |
/// | [`unhealthy_threshold`](Self::unhealthy_threshold) | 3 | one lost packet is no outage; HAProxy's and Kubernetes' |
/// | [`healthy_threshold`](Self::healthy_threshold) | 2 | one lucky answer is no recovery; HAProxy's |
/// | [`fast_interval`](Self::fast_interval) | 1 s, or the interval where that is shorter | while results contradict the state, one wants to know |
/// | [`down_interval`](Self::down_interval) | the interval, doubled up to 30 s | who is down for long is asked less |
/// | [`no_traffic_interval`](Self::no_traffic_interval) | 60 s; used with [`passive_first`](Self::passive_first) | Envoy's |
/// | [`initial_jitter`](Self::initial_jitter) | the interval | a mass start is spread over a whole interval |
/// | [`interval_jitter`](Self::interval_jitter) | 0.1, either way | probes of many checkers do not fall into step |
/// | [`max_concurrent_probes`](Self::max_concurrent_probes) | 256 | with as many connections that are kept, half of the 1 024 files that a process may open by default |
/// | before the first result | used | see [`wait_first_probe`](Self::wait_first_probe) |
///
/// # How soon
///
/// An endpoint that is probed at the interval, and hangs, refuses or fails from some moment on, is unhealthy at the latest
/// [`interval + 2 · fast_interval + 3 · timeout`](CheckRules::detection_bound) later, by the defaults 10 s: that is the
/// wait for the next probe, the two fast waits between the three that fail, and their timeouts. Jitter is within it. It
/// holds as long as no more probes are due at a time than may run at a time; those that are too many wait in order.
///
/// # Flap damping
///
/// A flip from healthy to unhealthy within ten minutes of another doubles the passes in a row that make the endpoint
/// healthy again, up to 16, and holds it down for twice the interval, four times, and so on, up to five minutes. Flips
/// count for half every ten minutes.
///
/// # Storms
///
/// First probes are spread over the [`initial_jitter`](Self::initial_jitter) by a hash of the endpoint and of a number
/// that differs from one checker to the next. There is one task for all endpoints, and no more probes at a time than
/// [`max_concurrent_probes`](Self::max_concurrent_probes). With [`passive_first`](Self::passive_first) traffic takes the
/// place of probes.
pub struct HealthCheck<P> {
    pub(crate) probe: P,
    pub(super) settings: Settings,
    manner: Manner,
    into_probe: fn(P) -> Result<Arc<dyn Probe>, CheckError>,
}

/// How a checker works, whatever it probes and by which rules.
#[derive(Clone)]
pub(super) struct Manner {
    pub(super) name: Name,
    pub(super) clock: Clock,
    pub(super) seed: Option<u64>,
    pub(super) observer: Option<Observer>,
    pub(super) voice: Voice,
}

pub(super) type Observer = Arc<dyn Fn(&HealthEvent<'_>) + Send + Sync>;

impl<P> HealthCheck<P> {
    pub(crate) fn of(probe: P) -> Self
    where
        P: Kind,
    {
        Self {
            probe,
            settings: Settings::default(),
            manner: Manner {
                name: Name::from_static("health"),
                clock: Clock::default(),
                seed: None,
                observer: None,
                voice: if P::IS_AGENT { Voice::Agent } else { Voice::Check },
            },
            into_probe: P::into_probe,
        }
    }

    /// How long to wait from the end of one probe to the next, of an endpoint whose state is settled. A millisecond at
    /// least.
    #[must_use]
    pub fn interval(mut self, interval: Duration) -> Self {
        self.settings.interval = interval;
        self
    }

    /// How long a probe may take, from connecting to the end of the answer. No longer than the interval.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.settings.timeout = Some(timeout);
        self
    }

    /// How many failures in a row make an endpoint unhealthy, from 1 to 1 000. HAProxy's `fall`.
    #[must_use]
    pub fn unhealthy_threshold(mut self, failures: u32) -> Self {
        self.settings.fails = failures;
        self
    }

    /// How many passes in a row make it healthy again, from 1 to 1 000. HAProxy's `rise`.
    #[must_use]
    pub fn healthy_threshold(mut self, passes: u32) -> Self {
        self.settings.passes = passes;
        self
    }

    /// The wait while results contradict the state, and have not yet changed it. No longer than the interval. HAProxy's
    /// `fastinter`, Envoy's `unhealthy_edge_interval`.
    #[must_use]
    pub fn fast_interval(mut self, interval: Duration) -> Self {
        self.settings.fast = Some(interval);
        self
    }

    /// The waits while it is unhealthy: `first`, then twice as long each time, up to `longest`. HAProxy's `downinter`,
    /// Envoy's `unhealthy_interval`.
    #[must_use]
    pub fn down_interval(mut self, first: Duration, longest: Duration) -> Self {
        (self.settings.down, self.settings.longest_down) = (Some(first), Some(longest));
        self
    }

    /// The wait while it is healthy and no call went to it for so long, with [`passive_first`](Self::passive_first): no
    /// shorter than the interval.
    #[must_use]
    pub fn no_traffic_interval(mut self, interval: Duration) -> Self {
        self.settings.no_traffic = Some(interval);
        self
    }

    /// Lets traffic take the place of probes: one that is due is left out when the endpoint has served a call well within
    /// the interval, and an endpoint without calls is probed at the [`no_traffic_interval`](Self::no_traffic_interval).
    ///
    /// For this what calls the endpoints has to say so, by [`Endpoint::note_use`](buttress_core::Endpoint::note_use) and
    /// [`note_success`](buttress_core::Endpoint::note_success). The balancer of `buttress-balance` does when its settings
    /// say `note_activity()`, and in any case where its policy goes by time, as the default one does. **Where nothing notes
    /// calls, all endpoints look idle**, and one that dies is found out as late as the `no_traffic_interval` has it.
    ///
    /// An endpoint that serves its calls while its probes would fail, as one does that wants to go, is asked at the
    /// `no_traffic_interval` all the same. The bound of [how soon](Self#how-soon) holds for endpoints in use.
    #[must_use]
    pub fn passive_first(mut self) -> Self {
        self.settings.passive_first = true;
        self
    }

    /// The time over which first probes are spread, when a checker starts and for endpoints that come later.
    #[must_use]
    pub fn initial_jitter(mut self, within: Duration) -> Self {
        self.settings.initial_jitter = Some(within);
        self
    }

    /// By which share a wait is longer or shorter at random: from 0 to 0.5. What it adds to one wait is taken from the
    /// fast waits that follow, so that the bound of [how soon](Self#how-soon) holds.
    #[must_use]
    pub fn interval_jitter(mut self, share: f64) -> Self {
        self.settings.jitter = share;
        self
    }

    /// Does not use an endpoint until its first probe has passed, as nginx's `mandatory`. Without it an endpoint that has
    /// not been probed is used. One that gets another address keeps its state until the first probe there.
    #[must_use]
    pub fn wait_first_probe(mut self) -> Self {
        self.settings.init = Init::WaitFirstProbe;
        self
    }

    /// How many probes may run at a time, 1 at least. Those that are due beyond it wait in order.
    ///
    /// No more connections than that are kept from one probe to the next; further endpoints are connected to at each of
    /// theirs. So twice as many files are open at most, and one for each endpoint that is watched.
    #[must_use]
    pub fn max_concurrent_probes(mut self, probes: usize) -> Self {
        self.settings.most_probes = probes;
        self
    }

    /// Lets it say what it finds as the endpoints' agent does, beside another check of the same list, and not in its place: an
    /// endpoint is as well as the worse of both says. Each list has one check and one agent; two that speak as the same overwrite
    /// one another.
    #[must_use]
    pub fn as_agent(mut self) -> Self {
        self.manner.voice = Voice::Agent;
        self
    }

    /// Its name in events.
    #[must_use]
    pub fn named(mut self, name: impl Into<Name>) -> Self {
        self.manner.name = name.into();
        self
    }

    /// Reads the time from `clock`.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.manner.clock = clock;
        self
    }

    /// Takes what is left to chance from this number, so that a run can be repeated.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.manner.seed = Some(seed);
        self
    }

    /// Tells `observer` of each result and of each change of state, in the checker's task: it must not block. A panic in
    /// it is dropped.
    #[must_use]
    pub fn observe(mut self, observer: impl Fn(&HealthEvent<'_>) + Send + Sync + 'static) -> Self {
        self.manner.observer = Some(Arc::new(observer));
        self
    }

    /// What it goes by, when its settings fit together.
    ///
    /// # Errors
    ///
    /// When they do not: which field, its value, and the rule.
    pub fn rules(&self) -> Result<CheckRules, CheckError> {
        self.settings.rules()
    }

    /// Begins to check `endpoints`, and follows them as they come and go. The [`Checker`] has to be polled, most often by
    /// [`spawn`](Checker::spawn).
    ///
    /// # Errors
    ///
    /// When settings do not fit together, or the probe has a field that cannot be.
    pub fn run(self, endpoints: &Endpoints) -> Result<Checker, CheckError> {
        let rules = self.rules()?;
        let probe = (self.into_probe)(self.probe)?;
        Ok(Checker::new(rules, probe, self.manner, endpoints.clone()))
    }
}

impl<P: Clone> Clone for HealthCheck<P> {
    fn clone(&self) -> Self {
        Self {
            probe: self.probe.clone(),
            settings: self.settings.clone(),
            manner: self.manner.clone(),
            into_probe: self.into_probe,
        }
    }
}

impl<P: fmt::Debug> fmt::Debug for HealthCheck<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HealthCheck")
            .field("name", &self.manner.name)
            .field("probe", &self.probe)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}
