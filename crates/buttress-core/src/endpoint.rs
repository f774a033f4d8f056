use std::collections::hash_map::DefaultHasher;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use pin_project::pin_project;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use crate::{EndpointId, Name, Timestamp};

/// One place that can serve calls: what is configured of it, and what is known of it while it is used.
///
/// A clone is the same endpoint. What is configured never changes; its condition is one atomic word that health checks,
/// outlier ejection and operators write, and that balancers read at each pick. So a change of health rebuilds nothing
/// and is seen by the next call, on every thread.
///
/// ```
/// use buttress_core::{Endpoint, Health, Timestamp};
///
/// let endpoint = Endpoint::new("10.0.0.1:443").with_weight(4).with_zone("eu-1a");
/// assert!(endpoint.condition().is_usable());
///
/// endpoint.set_health(Health::Unhealthy, Timestamp::ZERO);
/// assert!(!endpoint.condition().is_usable());
/// ```
#[derive(Clone)]
pub struct Endpoint {
    configured: Arc<Configured>,
    live: Arc<Live>,
}

#[derive(Clone, PartialEq, Eq)]
struct Configured {
    id: EndpointId,
    name: Name,
    address: Option<Name>,
    weight: u32,
    zone: Option<Name>,
    priority: u32,
    metadata: Vec<(Name, Name)>,
}

/// What changes, on a cache line of its own.
#[repr(align(64))]
struct Live {
    condition: AtomicU64,
    usable_since: AtomicU64,
    activity: Noted,
}

/// Written by calls, so apart from what each pick reads. Zero is never.
#[derive(Default)]
#[repr(align(64))]
struct Noted {
    used: AtomicU64,
    succeeded: AtomicU64,
}

impl Endpoint {
    /// An endpoint of this name: of weight 1, in no zone, of the first priority, and its name is its address.
    ///
    /// The name decides which keys a consistent hash gives it, so it has to stay the same over restarts and be the same in
    /// all processes that are to agree.
    #[must_use]
    pub fn new(name: impl Into<Name>) -> Self {
        let name = name.into();
        let mut hasher = DefaultHasher::new();
        name.as_str().hash(&mut hasher);
        Self {
            configured: Arc::new(Configured {
                id: EndpointId::new(hasher.finish()),
                name,
                address: None,
                weight: 1,
                zone: None,
                priority: 0,
                metadata: Vec::new(),
            }),
            live: Arc::new(Live {
                condition: AtomicU64::new(Condition::NEW.0),
                usable_since: AtomicU64::new(0),
                activity: Noted::default(),
            }),
        }
    }

    /// Where it is reached, when its name does not say.
    #[must_use]
    pub fn with_address(mut self, address: impl Into<Name>) -> Self {
        self.configure().address = Some(address.into());
        self
    }

    /// Gives it `weight` parts of the traffic, where every other endpoint gets as many as its own weight says. With 0 it
    /// gets no new traffic.
    #[must_use]
    pub fn with_weight(mut self, weight: u32) -> Self {
        self.configure().weight = weight;
        self
    }

    /// Where it stands: balancers may prefer endpoints of their own zone.
    #[must_use]
    pub fn with_zone(mut self, zone: impl Into<Name>) -> Self {
        self.configure().zone = Some(zone.into());
        self
    }

    /// Its priority: 0, the default, is used first, and higher ones as those before them fail.
    #[must_use]
    pub fn with_priority(mut self, priority: u32) -> Self {
        self.configure().priority = priority;
        self
    }

    /// Notes something about it for whoever makes a service or a probe of it. A later value replaces one of the same key.
    #[must_use]
    pub fn with_metadata(mut self, key: impl Into<Name>, value: impl Into<Name>) -> Self {
        let key = key.into();
        let metadata = &mut self.configure().metadata;
        metadata.retain(|(present, _)| *present != key);
        metadata.push((key, value.into()));
        self
    }

    fn configure(&mut self) -> &mut Configured {
        Arc::make_mut(&mut self.configured)
    }

    /// What tells it from others in this process: endpoints of one name have one id.
    #[must_use]
    pub fn id(&self) -> EndpointId {
        self.configured.id
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.configured.name
    }

    /// Where it is reached: its name, unless it was given another address.
    #[must_use]
    pub fn address(&self) -> &Name {
        self.configured.address.as_ref().unwrap_or(&self.configured.name)
    }

    /// Its configured weight.
    #[must_use]
    pub fn weight(&self) -> u32 {
        self.configured.weight
    }

    /// Its zone.
    #[must_use]
    pub fn zone(&self) -> Option<&Name> {
        self.configured.zone.as_ref()
    }

    /// Its priority; 0 is used first.
    #[must_use]
    pub fn priority(&self) -> u32 {
        self.configured.priority
    }

    /// What was noted under `key`.
    #[must_use]
    pub fn metadata(&self, key: &str) -> Option<&Name> {
        self.configured.metadata.iter().find(|(present, _)| present.as_str() == key).map(|(_, value)| value)
    }

    /// Whether `other` is configured alike, so that a service made for one serves as the other.
    #[must_use]
    pub fn is_configured_as(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.configured, &other.configured) || self.configured == other.configured
    }

    /// This endpoint with the condition of `other`, which from now on they share: how a new configuration of an endpoint
    /// keeps what is known of it.
    #[must_use]
    pub fn in_place_of(mut self, other: &Self) -> Self {
        self.live = Arc::clone(&other.live);
        self
    }

    /// What is known of it now.
    #[inline]
    #[must_use]
    pub fn condition(&self) -> Condition {
        Condition(self.live.condition.load(Ordering::Acquire))
    }

    /// When it last became usable, from which a slow start counts. [`Timestamp::ZERO`] where it always was.
    #[must_use]
    pub fn usable_since(&self) -> Timestamp {
        Timestamp::from_nanos(self.live.usable_since.load(Ordering::Acquire))
    }
}

impl Endpoint {
    /// Notes that a call was sent to it. Cheap enough for each call: it is written down ten times a second at most.
    #[inline]
    pub fn note_use(&self, now: Timestamp) {
        note(&self.live.activity.used, now);
    }

    /// Notes that it served a call well, as [`note_use`](Self::note_use) does.
    #[inline]
    pub fn note_success(&self, now: Timestamp) {
        note(&self.live.activity.succeeded, now);
    }

    /// What calls have noted of it: health checks need not ask what traffic shows.
    #[must_use]
    pub fn activity(&self) -> Activity {
        let read = |at: &AtomicU64| Some(at.load(Ordering::Relaxed)).filter(|&at| at > 0);
        let Noted { used, succeeded } = &self.live.activity;
        Activity {
            used: read(used).map(Timestamp::from_nanos),
            succeeded: read(succeeded).map(Timestamp::from_nanos),
        }
    }
}

/// When an endpoint was last used, to a tenth of a second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Activity {
    /// When a call was last sent to it; `None` when nobody has noted one.
    pub used: Option<Timestamp>,
    /// When it last served a call well; `None` when nobody has noted one.
    pub succeeded: Option<Timestamp>,
}

#[inline]
fn note(at: &AtomicU64, now: Timestamp) {
    const TENTH: u64 = 100_000_000;
    let now = now.as_nanos().max(1);
    let noted = at.load(Ordering::Relaxed);
    // A clock that was set back is noted too.
    if noted == 0 || now.abs_diff(noted) >= TENTH {
        at.store(now, Ordering::Relaxed);
    }
}

#[expect(
    clippy::must_use_candidate,
    reason = "who changes a condition seldom needs to know whether it was new"
)]
impl Endpoint {
    /// Counts its slow start from `now`, as for one that has just been added.
    pub fn begin(&self, now: Timestamp) {
        self.begin_at(now);
        announce();
    }

    pub(crate) fn begin_at(&self, now: Timestamp) {
        self.live.usable_since.store(now.as_nanos(), Ordering::Release);
    }

    /// Says what a health check found. Returns whether that was new.
    pub fn set_health(&self, health: Health, now: Timestamp) -> bool {
        self.change(now, |condition| condition.with_health(health, 0))
    }

    /// Says what its agent, or a second health check, found: the worse of both counts. Returns whether that was new.
    pub fn set_agent_health(&self, health: Health, now: Timestamp) -> bool {
        self.change(now, |condition| condition.with_health(health, Condition::AGENT))
    }

    /// Takes it out for its failures. Returns whether it was in.
    pub fn eject(&self, now: Timestamp) -> bool {
        self.change(now, |condition| condition.with(Condition::EJECTED, true))
    }

    /// Ends an ejection. Returns whether there was one.
    pub fn uneject(&self, now: Timestamp) -> bool {
        self.change(now, |condition| condition.with(Condition::EJECTED, false))
    }

    /// Gives it no new calls, except those that are bound to it; what is in flight goes on. Returns whether that was new.
    pub fn drain(&self, now: Timestamp) -> bool {
        self.change(now, |condition| condition.with(Condition::DRAINING, true))
    }

    /// Gives it no calls at all. Returns whether that was new.
    pub fn maintain(&self, now: Timestamp) -> bool {
        self.change(now, |condition| condition.with(Condition::MAINTENANCE, true))
    }

    /// Ends its draining, and leaves its maintenance. Returns whether it was draining.
    pub fn end_drain(&self, now: Timestamp) -> bool {
        self.change(now, |condition| condition.with(Condition::DRAINING, false))
    }

    /// Ends its maintenance, and leaves its draining. Returns whether it was in maintenance.
    pub fn end_maintenance(&self, now: Timestamp) -> bool {
        self.change(now, |condition| condition.with(Condition::MAINTENANCE, false))
    }

    /// Ends its draining and its maintenance. Returns whether there was either.
    pub fn resume(&self, now: Timestamp) -> bool {
        self.change(now, |condition| {
            condition.with(Condition::DRAINING, false).with(Condition::MAINTENANCE, false)
        })
    }

    /// Gives it this share of its configured weight, in percent: what its agent asks for. 0 is no new traffic. Returns
    /// whether that was new.
    pub fn set_weight_percent(&self, percent: u8, now: Timestamp) -> bool {
        self.change(now, |condition| condition.with_weight_percent(percent))
    }

    fn change(&self, now: Timestamp, to: impl Fn(Condition) -> Condition) -> bool {
        let mut present = self.condition();
        loop {
            let next = to(present);
            if next == present {
                return false;
            }
            if next.is_usable() && !present.is_usable() {
                // Before it is seen to be usable.
                self.live.usable_since.store(now.as_nanos(), Ordering::Release);
            }
            let word = &self.live.condition;
            match word.compare_exchange(present.0, next.0, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => {
                    announce();
                    return true;
                }
                Err(other) => present = Condition(other),
            }
        }
    }
}

impl Endpoint {
    /// How often the condition of any endpoint of this process has changed. Whoever keeps something that follows from
    /// conditions looks at it, to know whether that still holds.
    #[inline]
    #[must_use]
    pub fn changes() -> u64 {
        CHANGES.0.load(Ordering::Acquire)
    }

    /// Ends when the condition of any endpoint of this process has changed, counted from this call, polled or not.
    pub fn changed() -> Changed {
        Changed(WAITING.notified())
    }
}

impl From<&'static str> for Endpoint {
    fn from(name: &'static str) -> Self {
        Self::new(name)
    }
}

impl From<String> for Endpoint {
    fn from(name: String) -> Self {
        Self::new(name)
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Configured { name, address, weight, zone, priority, metadata, .. } = &*self.configured;
        f.debug_struct("Endpoint")
            .field("name", name)
            .field("address", address)
            .field("weight", weight)
            .field("zone", zone)
            .field("priority", priority)
            .field("metadata", metadata)
            .field("condition", &self.condition())
            .finish()
    }
}

/// What a health check says of an endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Health {
    /// Nothing yet: it is used as a healthy one is.
    #[default]
    Unknown,
    /// It serves.
    Healthy,
    /// It serves, but others are to be preferred.
    Degraded,
    /// It does not serve.
    Unhealthy,
}

/// All that is known of an endpoint at one moment, read at once.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Condition(u64);

impl Condition {
    const HEALTH: u64 = 0b11;
    const EJECTED: u64 = 1 << 2;
    const DRAINING: u64 = 1 << 3;
    const MAINTENANCE: u64 = 1 << 4;
    /// Where the health stands that its agent tells.
    const AGENT: u32 = 5;
    const PERCENT: u32 = 8;
    const NEW: Self = Self(100 << Self::PERCENT);

    const fn with(self, bit: u64, on: bool) -> Self {
        Self(if on { self.0 | bit } else { self.0 & !bit })
    }

    /// The worse a health, the higher its number.
    const fn with_health(self, health: Health, at: u32) -> Self {
        let bits = match health {
            Health::Unknown => 0,
            Health::Healthy => 1,
            Health::Degraded => 2,
            Health::Unhealthy => 3,
        };
        Self(self.0 & !(Self::HEALTH << at) | bits << at)
    }

    const fn with_weight_percent(self, percent: u8) -> Self {
        Self(self.0 & !(0xff << Self::PERCENT) | (percent as u64) << Self::PERCENT)
    }

    const fn read(health: u64) -> Health {
        match health {
            0 => Health::Unknown,
            1 => Health::Healthy,
            2 => Health::Degraded,
            _ => Health::Unhealthy,
        }
    }

    const fn worse(self) -> u64 {
        let (checks, agent) = (self.0 & Self::HEALTH, self.0 >> Self::AGENT & Self::HEALTH);
        if checks > agent { checks } else { agent }
    }

    /// What health checks and its agent say: the worse of both.
    #[must_use]
    pub const fn health(self) -> Health {
        Self::read(self.worse())
    }

    /// What health checks alone say.
    #[must_use]
    pub const fn check_health(self) -> Health {
        Self::read(self.0 & Self::HEALTH)
    }

    /// What its agent alone says.
    #[must_use]
    pub const fn agent_health(self) -> Health {
        Self::read(self.0 >> Self::AGENT & Self::HEALTH)
    }

    /// Whether it was taken out for its failures.
    #[must_use]
    pub const fn is_ejected(self) -> bool {
        self.0 & Self::EJECTED != 0
    }

    /// Whether it gets only what is bound to it.
    #[must_use]
    pub const fn is_draining(self) -> bool {
        self.0 & Self::DRAINING != 0
    }

    /// Whether an operator has taken it out.
    #[must_use]
    pub const fn is_in_maintenance(self) -> bool {
        self.0 & Self::MAINTENANCE != 0
    }

    /// The share of its weight that it gets, in percent.
    #[must_use]
    pub const fn weight_percent(self) -> u8 {
        (self.0 >> Self::PERCENT) as u8
    }

    /// Whether operators and its agent let it have new traffic, whatever its health: a balancer in panic uses it all the
    /// same.
    #[inline]
    #[must_use]
    pub const fn is_in_service(self) -> bool {
        self.0 & (Self::DRAINING | Self::MAINTENANCE) == 0 && self.weight_percent() > 0
    }

    /// Whether it is well: neither unhealthy nor ejected.
    #[inline]
    #[must_use]
    pub const fn is_well(self) -> bool {
        const AGENT: u64 = Condition::HEALTH << Condition::AGENT;
        self.0 & Self::EJECTED == 0 && self.0 & Self::HEALTH != Self::HEALTH && self.0 & AGENT != AGENT
    }

    /// Whether it can have new traffic: it is in service and well.
    #[inline]
    #[must_use]
    pub const fn is_usable(self) -> bool {
        self.is_in_service() && self.is_well()
    }

    /// Whether it is usable, and others are to be preferred.
    #[inline]
    #[must_use]
    pub const fn is_degraded(self) -> bool {
        self.worse() == 2
    }
}

impl fmt::Debug for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Condition")
            .field("health", &self.health())
            .field("ejected", &self.is_ejected())
            .field("draining", &self.is_draining())
            .field("maintenance", &self.is_in_maintenance())
            .field("weight_percent", &self.weight_percent())
            .finish()
    }
}

/// On a line of its own: each pick reads it.
#[repr(align(128))]
struct Apart(AtomicU64);

static CHANGES: Apart = Apart(AtomicU64::new(0));
static WAITING: Notify = Notify::const_new();

pub(crate) fn announce() {
    CHANGES.0.fetch_add(1, Ordering::AcqRel);
    WAITING.notify_waiters();
}

/// The future of [`Endpoint::changed`].
#[pin_project]
#[must_use = "futures do nothing unless polled"]
pub struct Changed(#[pin] Notified<'static>);

impl Future for Changed {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.project().0.poll(cx)
    }
}

impl fmt::Debug for Changed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Changed").finish_non_exhaustive()
    }
}
