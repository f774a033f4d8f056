use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::convert::Infallible;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use buttress_core::{
    Chance, Clock, Endpoint, EndpointId, Endpoints, Following, Health, Name, Sleep, Timestamp, nanos,
};
use futures_util::StreamExt;
use futures_util::future::{AbortHandle, Abortable};
use futures_util::stream::{FuturesUnordered, SelectAll};
use tokio::task::JoinHandle;

use super::check::{Manner, Observer};
use super::handle::{CheckHandle, CheckView, Shared};
use super::running::{Asked, Running, Telling};
use super::target::{Place, Target, Voice};
use crate::HealthEvent;
use crate::policy::check::{CheckRules, Init, ProbeReport, Recorded};
use crate::probe::{Beat, Probe, Probed, Then};

/// A health check at work: a future that never ends, to be polled in one task. Made by
/// [`HealthCheck::run`](crate::HealthCheck::run).
///
/// It is one task with one timer, whatever the number of endpoints. Probes run in it, so nothing is left behind when it
/// is dropped; connections, streams and what a closure awaits end with it. A name that the system is looking up holds one
/// of its threads until that is done, one for each host and 64 in the process. Endpoints keep the health that was last said.
///
/// ```
/// use buttress_core::{Endpoint, Endpoints};
/// use buttress_health::HealthCheck;
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let endpoints = Endpoints::new(["10.0.0.1:80", "10.0.0.2:80"].map(Endpoint::new))?;
/// let checker = HealthCheck::tcp().run(&endpoints)?;
/// let handle = checker.handle();
/// let guard = checker.spawn();
/// assert_eq!(handle.endpoints().len(), 2);
/// drop(guard); // which stops it
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
#[must_use = "nothing is probed unless it is polled"]
pub struct Checker {
    rules: CheckRules,
    probe: Arc<dyn Probe>,
    voice: Voice,
    beat: Beat,
    name: Name,
    clock: Clock,
    chance: Chance,
    seed: u64,
    observer: Option<Observer>,
    shared: Arc<Shared>,
    endpoints: Endpoints,
    seen: u64,
    news: Pin<Box<dyn Future<Output = List> + Send>>,
    targets: HashMap<EndpointId, Target>,
    timers: BTreeSet<(Timestamp, u64)>,
    /// Due, first come first served. One that is not queued any more is passed over.
    queue: VecDeque<EndpointId>,
    running: FuturesUnordered<Abortable<Running>>,
    telling: SelectAll<Abortable<Telling>>,
    /// Cloned by each connection that is kept.
    keeps: Arc<()>,
    numbers: u64,
    latest: Timestamp,
    sleep: Pin<Box<Sleep>>,
    /// Where endpoints are not used until their first probe: those that come later are so before the task runs.
    _waiting: Option<Following>,
}

type List = (u64, Arc<[Endpoint]>);

/// How much of what endpoints tell by themselves is taken in at a time, and how soon the rest is.
const MOST_TOLD: u32 = 64;
const TOLD_AGAIN: Duration = Duration::from_millis(1);

impl Checker {
    pub(super) fn new(
        rules: CheckRules,
        probe: Arc<dyn Probe>,
        manner: Manner,
        endpoints: Endpoints,
    ) -> Self {
        let Manner { name, clock, seed, observer, voice } = manner;
        let chance = Chance::new(seed);
        let seed = chance.draw();
        let beat = Beat { clock: clock.clone(), interval: rules.interval, timeout: rules.timeout };
        let waiting = (rules.init == Init::WaitFirstProbe).then(|| {
            let clock = clock.clone();
            endpoints.follow(move |_, list| hold_back(list, voice, clock.now()))
        });
        let (seen, list) = endpoints.numbered();
        let latest = clock.now();
        if waiting.is_some() {
            hold_back(&list, voice, latest);
        }
        let mut checker = Self {
            rules,
            probe,
            voice,
            beat,
            name,
            chance,
            seed,
            observer,
            shared: Arc::default(),
            seen,
            news: news(&endpoints, seen),
            endpoints,
            targets: HashMap::with_capacity(list.len()),
            timers: BTreeSet::new(),
            queue: VecDeque::new(),
            running: FuturesUnordered::new(),
            telling: SelectAll::new(),
            keeps: Arc::default(),
            numbers: 0,
            latest,
            sleep: Box::pin(clock.sleep_until(Timestamp::MAX)),
            clock,
            _waiting: waiting,
        };
        checker.follow(&list, latest);
        checker
    }

    /// Reads what it knows.
    #[must_use]
    pub fn handle(&self) -> CheckHandle {
        CheckHandle::new(Arc::clone(&self.shared))
    }

    /// Runs it in a task of its own until the guard is dropped.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn spawn(self) -> CheckGuard {
        CheckGuard { handle: self.handle(), task: tokio::spawn(self) }
    }

    /// Takes in the list as it is now.
    fn follow(&mut self, list: &[Endpoint], now: Timestamp) {
        let present: HashSet<EndpointId> = list.iter().map(Endpoint::id).collect();
        let gone: Vec<EndpointId> = self.targets.keys().filter(|id| !present.contains(id)).copied().collect();
        for id in gone {
            self.leave(id);
            if let Some(target) = self.targets.remove(&id) {
                self.stop(&target);
            }
            self.shared.lock().views.remove(&id);
        }
        for endpoint in list {
            let id = endpoint.id();
            // From one place to the next, first probes are spread anew for each checker.
            let phase = Chance::new(Some(id.get() ^ self.seed)).draw();
            let Some(mut target) = self.targets.remove(&id) else {
                self.begin(endpoint, now, phase);
                continue;
            };
            let before = std::mem::replace(&mut target.endpoint, endpoint.clone());
            let moved = before.address() != endpoint.address();
            // A weight says nothing of who is asked: its probe goes on. Who could not be asked may be now.
            if moved || matches!(target.place, Place::Left) && !before.is_configured_as(endpoint) {
                if moved {
                    target.check.retarget();
                } else {
                    target.check.reconfigure();
                }
                self.leave_timer(id, &target);
                self.stop(&target);
                target.kept = None;
                target.place = self.wait(id, now + part(self.rules.fast, phase));
                let mut seen = self.shared.lock();
                if let Some(view) = seen.views.get_mut(&id) {
                    (view.opposite, view.watched, view.left) = (0, false, false);
                }
            }
            // It may be another one of that name, which does not know yet.
            target.say(self.voice, now);
            self.targets.insert(id, target);
        }
    }

    /// A new endpoint.
    fn begin(&mut self, endpoint: &Endpoint, now: Timestamp, phase: u64) {
        let id = endpoint.id();
        let due = now + part(self.rules.initial_jitter, phase);
        self.wait(id, due);
        self.targets.insert(id, Target::new(endpoint.clone(), due));
        self.shared.lock().views.insert(id, CheckView::new(endpoint.name().clone()));
    }

    fn wait(&mut self, id: EndpointId, due: Timestamp) -> Place {
        self.timers.insert((due, id.get()));
        Place::Waits(due)
    }

    fn leave(&mut self, id: EndpointId) {
        if let Some(Place::Waits(due)) = self.targets.get(&id).map(|target| &target.place) {
            self.timers.remove(&(*due, id.get()));
        }
    }

    fn leave_timer(&mut self, id: EndpointId, target: &Target) {
        if let Place::Waits(due) = target.place {
            self.timers.remove(&(due, id.get()));
        }
    }

    fn stop(&self, target: &Target) {
        if let Place::Asked(..) | Place::Tells(..) = target.place {
            target.stop();
            self.shared.lock().counts.stopped += 1;
        }
    }

    /// Whose time has come joins the queue.
    fn due(&mut self, now: Timestamp) {
        while let Some(&(due, id)) = self.timers.first()
            && due <= now
        {
            self.timers.pop_first();
            let id = EndpointId::new(id);
            let chance = self.chance.draw();
            let Some(target) = self.targets.get_mut(&id) else { continue };
            // Once in a row: where the task is always so late, it probes late, and not never.
            let late = now - due > self.rules.interval && !target.spread;
            target.spread = late;
            let left = target.check.skip(&self.rules, target.endpoint.activity(), now);
            let next = if late {
                // Time has jumped, or the task was held up: all are due, and are spread anew.
                part(self.rules.interval, chance)
            } else if let Some(left) = left {
                self.shared.lock().counts.skipped += 1;
                left
            } else {
                target.place = Place::Queued;
                self.queue.push_back(id);
                continue;
            };
            target.place = Place::Waits(now + next);
            self.timers.insert((now + next, id.get()));
        }
    }

    /// Begins what is queued while there is room. Whether any was.
    fn begin_probes(&mut self, now: Timestamp) -> bool {
        let mut any = false;
        while self.running.len() < self.rules.most_probes
            && let Some(id) = self.queue.pop_front()
        {
            let Some(target) = self.targets.get_mut(&id) else { continue };
            if !matches!(target.place, Place::Queued) {
                continue;
            }
            self.numbers += 1;
            let asked = Asked { id, number: self.numbers, epoch: target.check.epoch(), began: now };
            let probing =
                self.probe.probe(&target.endpoint, target.kept.take().map(|(kept, _)| kept), &self.beat);
            let timeout = self.clock.sleep_until(now + self.rules.timeout);
            let (handle, registration) = AbortHandle::new_pair();
            target.place = Place::Asked(asked.number, handle);
            self.running.push(Abortable::new(Running::new(asked, probing, timeout), registration));
            any = true;
        }
        let mut seen = self.shared.lock();
        seen.counts.probes = self.numbers;
        (seen.counts.running, seen.counts.queued) = (self.running.len(), self.queue.len());
        any
    }

    /// Takes in the result of a probe.
    fn probed(&mut self, asked: Asked, probed: Probed, now: Timestamp) {
        let Probed { report, kept, then } = probed;
        if !self.is_asked(asked) {
            return;
        }
        let watched = matches!(then, Then::Told(_));
        self.record(asked, report, now - asked.began, now, watched);
        let Some(target) = self.targets.get_mut(&asked.id) else { return };
        // No more files are held between probes than are by probes.
        let room = Arc::strong_count(&self.keeps) <= self.rules.most_probes;
        target.kept = kept.filter(|_| room).map(|kept| (kept, Arc::clone(&self.keeps)));
        match then {
            Then::Again => self.again(asked.id, now),
            // It is held back for having flapped: asked again until it is believed.
            Then::Never if target.check.health() == Health::Unhealthy => self.again(asked.id, now),
            Then::Never => {
                target.place = Place::Left;
                if let Some(view) = self.shared.lock().views.get_mut(&asked.id) {
                    view.left = true;
                }
            }
            Then::Told(reports) => {
                let (handle, registration) = AbortHandle::new_pair();
                target.place = Place::Tells(asked.number, handle);
                self.telling.push(Abortable::new(Telling::new(asked, reports), registration));
            }
        }
    }

    /// Takes in what an endpoint tells by itself.
    fn told(&mut self, asked: Asked, report: Option<ProbeReport>, now: Timestamp) {
        if !self.is_asked(asked) {
            return;
        }
        match report {
            Some(report) => self.record(asked, report, Duration::ZERO, now, true),
            None => {
                // It tells no more, as when it is restarted: asked again soon, and not all of them at one time.
                let next = now + part(self.rules.fast, self.chance.draw());
                let place = self.wait(asked.id, next);
                if let Some(target) = self.targets.get_mut(&asked.id) {
                    target.place = place;
                }
                if let Some(view) = self.shared.lock().views.get_mut(&asked.id) {
                    view.watched = false;
                }
            }
        }
    }

    fn is_asked(&self, asked: Asked) -> bool {
        let place = self.targets.get(&asked.id).map(|target| &target.place);
        matches!(place, Some(Place::Asked(number, _) | Place::Tells(number, _)) if *number == asked.number)
    }

    fn again(&mut self, id: EndpointId, now: Timestamp) {
        let chance = self.chance.draw();
        if let Entry::Occupied(mut entry) = self.targets.entry(id) {
            let target = entry.get_mut();
            let wait = target.check.wait(&self.rules, target.endpoint.activity(), now, chance);
            target.place = Place::Waits(now + wait);
            self.timers.insert((now + wait, id.get()));
        }
    }

    fn record(&mut self, asked: Asked, report: ProbeReport, took: Duration, now: Timestamp, watched: bool) {
        let Some(target) = self.targets.get_mut(&asked.id) else { return };
        let recorded = target.check.record(&self.rules, asked.epoch, report, now);
        if recorded == Recorded::Late {
            return;
        }
        let changed = if let Recorded::Changed { from } = recorded { Some(from) } else { None };
        target.obey(&report, now);
        target.say(self.voice, now);
        let health = target.check.health();
        {
            let seen = &mut *self.shared.lock();
            let passed = u64::from(report.is_pass());
            let changes = u64::from(changed.is_some());
            seen.counts.passed += passed;
            seen.counts.failed += 1 - passed;
            seen.counts.changes += changes;
            if let Some(view) = seen.views.get_mut(&asked.id) {
                view.health = health;
                view.last = Some(report.finding);
                (view.at, view.took) = (now, took);
                view.opposite = target.check.opposite();
                view.passed += passed;
                view.failed += 1 - passed;
                view.changes += changes;
                (view.watched, view.left) = (watched, false);
            }
        }
        let Some(observer) = &self.observer else { return };
        let (name, endpoint) = (&self.name, &target.endpoint);
        let tell = |event: &HealthEvent<'_>| {
            let _ = catch_unwind(AssertUnwindSafe(|| observer(event)));
        };
        tell(&HealthEvent::Probed { name, endpoint, finding: report.finding, took });
        if let Some(from) = changed {
            tell(&HealthEvent::Changed { name, endpoint, from, to: health, finding: report.finding });
        }
    }

    /// The clock was set back: what was to be waited for is as far away as it was, and who is probed is asked anew, since the
    /// timeout of the probe is by the former time.
    fn went_back(&mut self, by: Duration) {
        self.timers = std::mem::take(&mut self.timers).into_iter().map(|(due, id)| (due - by, id)).collect();
        for (&id, target) in &mut self.targets {
            match &mut target.place {
                Place::Waits(due) => *due = *due - by,
                Place::Asked(_, handle) => {
                    handle.abort();
                    self.shared.lock().counts.stopped += 1;
                    target.place = Place::Queued;
                    self.queue.push_back(id);
                }
                Place::Queued | Place::Tells(..) | Place::Left => {}
            }
        }
    }
}

impl Future for Checker {
    type Output = Infallible;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Infallible> {
        let this = self.get_mut();
        let mut told = 0;
        loop {
            let now = this.clock.now();
            if now < this.latest {
                this.went_back(this.latest - now);
            }
            this.latest = now;
            // First, so that nothing is begun or believed of an endpoint that is gone.
            while let Poll::Ready((seen, list)) = this.news.as_mut().poll(cx) {
                this.seen = seen;
                this.news = news(&this.endpoints, seen);
                this.follow(&list, now);
            }
            while let Poll::Ready(Some(ended)) = this.running.poll_next_unpin(cx) {
                if let Ok((asked, probed)) = ended {
                    this.probed(asked, probed, now);
                }
            }
            while told < MOST_TOLD
                && let Poll::Ready(Some((asked, report))) = this.telling.poll_next_unpin(cx)
            {
                this.told(asked, report, now);
                told += 1;
            }
            this.due(now);
            if this.begin_probes(now) {
                continue;
            }
            let mut next = this.timers.first().map_or(Timestamp::MAX, |&(due, _)| due);
            if told == MOST_TOLD {
                // One that tells without end has no more of the thread than that: it is heard again in a while.
                next = next.min(now + TOLD_AGAIN);
            }
            if this.sleep.deadline() != next {
                this.sleep.as_mut().reset(next);
            }
            if this.sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            if told == MOST_TOLD {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
    }
}

impl fmt::Debug for Checker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Checker")
            .field("name", &self.name)
            .field("endpoints", &self.targets.len())
            .finish_non_exhaustive()
    }
}

/// A [`Checker`] in a task of its own, which ends when this is dropped.
#[must_use = "the checker stops when this is dropped"]
pub struct CheckGuard {
    handle: CheckHandle,
    task: JoinHandle<Infallible>,
}

impl CheckGuard {
    /// Reads what the checker knows.
    #[must_use]
    pub const fn handle(&self) -> &CheckHandle {
        &self.handle
    }
}

impl Drop for CheckGuard {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl fmt::Debug for CheckGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CheckGuard").field("handle", &self.handle).finish_non_exhaustive()
    }
}

fn news(endpoints: &Endpoints, seen: u64) -> Pin<Box<dyn Future<Output = List> + Send>> {
    let endpoints = endpoints.clone();
    Box::pin(async move { endpoints.newer_than(seen).await })
}

/// Takes those out of which nothing is known.
fn hold_back(list: &[Endpoint], voice: Voice, now: Timestamp) {
    for endpoint in list.iter().filter(|endpoint| voice.has_said(endpoint) == Health::Unknown) {
        voice.say(endpoint, Health::Unhealthy, now);
    }
}

/// The share of `whole` that `chance`, uniform over all of `u64`, falls on.
fn part(whole: Duration, chance: u64) -> Duration {
    Duration::from_nanos(((u128::from(nanos(whole)) * u128::from(chance)) >> 64) as u64)
}
