use std::borrow::Cow;
use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use buttress_core::{Clock, Endpoint, Name};

use crate::{BalanceEvent, Priorities, SlowStart, Subset};

pub(crate) type Observer = Arc<dyn Fn(&BalanceEvent<'_>) + Send + Sync>;

/// What a balancer does beside choosing by its policy.
///
/// | setting | default | why |
/// |---|---|---|
/// | `fail_fast` | 3 s | as long as a restart of a small set takes; the caller has a timeout too |
/// | `drain` | 30 s | what process managers grant before they kill |
/// | `slow_start` | 30 s from 10 % | caches and pools of a new endpoint are cold; 10 % is Envoy's least |
/// | `priorities` | the next as those before fail, spill factor 1.4, panic below 50 %, no zone | Envoy's numbers: see [`Priorities`] |
/// | `max_in_flight` | none | only you know what an endpoint bears |
/// | `bounded_load` | none | it gives up affinity under load, which caches may not want |
/// | `subset` | all endpoints | a few clients can use them all |
/// | `note_activity` | off, unless the policy looks at the clock in any case | it costs a call two looks at the clock; health checks that are passive first want it |
/// | `name` | `default` | it stands in refusals and events |
///
/// ```
/// use buttress_balance::Settings;
/// use std::time::Duration;
///
/// let settings = Settings::default().fail_fast(Duration::from_millis(500)).name("orders");
/// # let _ = settings;
/// ```
#[derive(Clone)]
#[must_use = "settings do nothing until a balancer takes them"]
pub struct Settings {
    pub(crate) fail_fast: Duration,
    pub(crate) drain: Duration,
    pub(crate) slow_start: SlowStart,
    pub(crate) priorities: Priorities,
    pub(crate) max_in_flight: u32,
    pub(crate) bounded_load: Option<f64>,
    pub(crate) notes_activity: bool,
    pub(crate) subset: Option<Subset>,
    pub(crate) name: Name,
    pub(crate) clock: Clock,
    pub(crate) observer: Option<Observer>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            fail_fast: Duration::from_secs(3),
            drain: Duration::from_secs(30),
            slow_start: SlowStart::default(),
            priorities: Priorities::default(),
            max_in_flight: u32::MAX,
            bounded_load: None,
            notes_activity: false,
            subset: None,
            name: Name::from_static("default"),
            clock: Clock::default(),
            observer: None,
        }
    }
}

impl Settings {
    /// A call that no endpoint can take waits for one so long, and is then refused. Zero refuses it at once.
    ///
    /// Those that wait are woken in turn, but a new call may come before one that was woken: where endpoints are full for long,
    /// newer calls are served and older ones are refused, which is the better order under overload.
    pub const fn fail_fast(mut self, after: Duration) -> Self {
        self.fail_fast = after;
        self
    }

    /// An endpoint that has left the list is kept for the calls that are in flight, so long at most.
    pub const fn drain(mut self, time: Duration) -> Self {
        self.drain = time;
        self
    }

    /// How an endpoint that has joined, or come back, gets its share of new calls bit by bit.
    ///
    /// Which calls it gets is told by their hash: with a key, more and more keys come back to it and stay.
    pub const fn slow_start(mut self, slow_start: SlowStart) -> Self {
        self.slow_start = slow_start;
        self
    }

    /// How traffic is shared among priorities and zones, and when nothing said of health is believed any more.
    pub fn priorities(mut self, priorities: Priorities) -> Self {
        self.priorities = priorities;
        self
    }

    /// Gives no endpoint more calls at a time than this.
    pub const fn max_in_flight(mut self, calls: NonZeroU32) -> Self {
        self.max_in_flight = calls.get();
        self
    }

    /// Gives no endpoint more than `factor` times its fair share of the calls in flight, from 1 to 1000: see
    /// [`BoundedLoad`](crate::BoundedLoad).
    pub const fn bounded_load(mut self, factor: f64) -> Self {
        self.bounded_load = Some(factor);
        self
    }

    /// Uses a part of the endpoints, where they are so many that each client would hold connections to most of them for
    /// little traffic.
    pub const fn subset(mut self, subset: Subset) -> Self {
        self.subset = Some(subset);
        self
    }

    /// Notes at each endpoint when it was used and when it served well, so that health checks need not ask what traffic
    /// shows ([`Endpoint::activity`](buttress_core::Endpoint::activity)). A policy that goes by time does so in any case.
    pub const fn note_activity(mut self) -> Self {
        self.notes_activity = true;
        self
    }

    /// Names the balancer, in refusals and events.
    pub fn name(mut self, name: impl Into<Name>) -> Self {
        self.name = name.into();
        self
    }

    /// Takes the time from this clock instead of [`Clock::default`].
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Tells `observer` what happens. It is called outside every lock.
    pub fn observe(mut self, observer: impl Fn(&BalanceEvent<'_>) + Send + Sync + 'static) -> Self {
        self.observer = Some(Arc::new(observer));
        self
    }

    /// Those of `list` that are used.
    pub(crate) fn used<'a>(&self, list: &'a [Endpoint]) -> Cow<'a, [Endpoint]> {
        match self.subset {
            None => Cow::Borrowed(list),
            Some(subset) => Cow::Owned(subset.choose(list)),
        }
    }

    pub(crate) fn tell(&self, event: &BalanceEvent<'_>) {
        if let Some(observer) = &self.observer {
            observer(event);
        }
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("name", &self.name)
            .field("fail_fast", &self.fail_fast)
            .field("drain", &self.drain)
            .field("slow_start", &self.slow_start)
            .field("priorities", &self.priorities)
            .field("max_in_flight", &self.max_in_flight)
            .field("bounded_load", &self.bounded_load)
            .finish_non_exhaustive()
    }
}
