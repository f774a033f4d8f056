//! Who is ejected. All of it changes under one lock, so that an ejection takes its place and no other can take it too.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use buttress_core::{Chance, Condition, Endpoint, EndpointId, Endpoints, Health, Timestamp, nanos};

use super::host::Host;
use super::{Ejected, OutlierCounts, OutlierView};
use crate::EjectionReason;
use crate::policy::outlier::{
    Rules, Tally, Term, above_failure_percentage, below_success_rate, chance, max_ejected,
};
use crate::sync::AtomicU64;

/// Why an endpoint that is to be ejected stays in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum SkipReason {
    /// As many of its priority are ejected as may be.
    #[error("as many endpoints of its priority are ejected as may be")]
    MaxEjectionPercent,
    /// No other endpoint of its priority is usable.
    #[error("no other endpoint of its priority is usable")]
    LastUsable,
    /// The rule is enforced in a share of all cases, and this is none of them.
    #[error("its rule is not enforced this time")]
    NotEnforced,
    /// It is ejected already.
    #[error("it is ejected already")]
    AlreadyEjected,
    /// No endpoint of the list has this name.
    #[error("no endpoint of the list has this name")]
    Unknown,
}

/// Why an ejection has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum UnejectionReason {
    /// Its time was over.
    Expired,
    /// An active health check passed.
    HealthCheck,
    /// An operator said so.
    ByHand,
    /// The list has become shorter, and fewer may be ejected.
    TooMany,
    /// No endpoint of its priority was usable any more.
    NoneUsable,
    /// It is no longer in the list.
    Removed,
    /// It has another address: it is another one, of the same name.
    Moved,
    /// Something else has ended it.
    Elsewhere,
}

impl fmt::Display for UnejectionReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Expired => "its time was over",
            Self::HealthCheck => "a health check passed",
            Self::ByHand => "by hand",
            Self::TooMany => "fewer may be ejected",
            Self::NoneUsable => "no other was usable",
            Self::Removed => "it was removed",
            Self::Moved => "its address has changed",
            Self::Elsewhere => "ended elsewhere",
        })
    }
}

/// So many events wait for an observer before those of what was not done are left out.
const MOST_TOLD: usize = 1024;

/// Something to tell, in the order in which it happened.
pub(super) struct Told {
    pub(super) endpoint: Endpoint,
    pub(super) what: What,
}

#[derive(Clone, Copy)]
pub(super) enum What {
    Ejected { reason: EjectionReason, time: Duration, times: u32 },
    Unejected(UnejectionReason),
    Skipped(EjectionReason, SkipReason),
}

pub(crate) struct Members {
    version: Option<u64>,
    list: Vec<Member>,
    places: HashMap<EndpointId, usize>,
    /// By priority.
    groups: Vec<Group>,
    /// Those that a layer was made for before they were in the list, or that have left it.
    outsiders: HashMap<EndpointId, Weak<Host>>,
    /// The places of those that this has ejected.
    out: Vec<usize>,
    /// [`Endpoint::changes`] when it was last looked whether some have to come back.
    relieved_at: Option<u64>,
    next_interval: Timestamp,
    chance: Chance,
    pub(super) counts: OutlierCounts,
    pub(super) drivers: usize,
    /// `None` where nobody wants to know.
    pub(super) told: Option<VecDeque<Told>>,
    pub(super) telling: bool,
}

/// The endpoints of one priority.
#[derive(Default)]
struct Group {
    places: Vec<usize>,
    /// How many of them this has ejected.
    out: usize,
}

struct Member {
    endpoint: Endpoint,
    host: Arc<Host>,
    group: usize,
    term: Term,
    /// Whether it was in since the last interval began.
    whole_interval: bool,
    ejection: Option<Ejection>,
}

struct Ejection {
    reason: EjectionReason,
    since: Timestamp,
    until: Timestamp,
    /// Whether a check was seen not to pass since, so that one which passes is news.
    unchecked: bool,
}

fn passes(condition: Condition) -> bool {
    matches!(condition.health(), Health::Healthy | Health::Degraded)
}

fn is_usable(endpoint: &Endpoint) -> bool {
    endpoint.weight() > 0 && endpoint.condition().is_usable()
}

impl Member {
    fn new(endpoint: Endpoint, host: Arc<Host>) -> Self {
        Self { endpoint, host, group: 0, term: Term::default(), whole_interval: false, ejection: None }
    }

    /// Whether only its ejection keeps it from being usable.
    fn is_held_back(&self) -> bool {
        let condition = self.endpoint.condition();
        self.ejection.is_some()
            && self.endpoint.weight() > 0
            && condition.is_in_service()
            && condition.health() != Health::Unhealthy
    }

    /// Ends its ejection, if it has one. The new epoch begins with nothing counted, and before there are calls again.
    fn end(&mut self, now: Timestamp) -> bool {
        if self.ejection.take().is_none() {
            return false;
        }
        self.whole_interval = false;
        self.host.next_epoch();
        self.host.take(0);
        self.host.take(1);
        self.endpoint.uneject(now);
        true
    }

    /// Another one has taken its place, of which nothing is known. Whether this has ended an ejection.
    fn forget(&mut self, now: Timestamp) -> bool {
        self.term = Term::default();
        if self.end(now) {
            return true;
        }
        // Calls to the former one come too late. Two steps, as an odd epoch says that it is ejected.
        self.host.next_epoch();
        self.host.next_epoch();
        self.host.take(0);
        self.host.take(1);
        self.whole_interval = false;
        false
    }

    fn ejected(&self) -> Option<Ejected> {
        let Ejection { reason, since, until, .. } = *self.ejection.as_ref()?;
        let times = self.term.multiplier();
        Some(Ejected { endpoint: self.endpoint.clone(), reason, since, until, times })
    }
}

impl Members {
    pub(super) fn new(rules: &Rules, now: Timestamp, seed: Option<u64>, watched: bool) -> Self {
        Self {
            version: None,
            list: Vec::new(),
            places: HashMap::new(),
            groups: Vec::new(),
            outsiders: HashMap::new(),
            out: Vec::new(),
            relieved_at: None,
            next_interval: now + rules.interval,
            chance: Chance::new(seed),
            counts: OutlierCounts::default(),
            drivers: 0,
            told: watched.then(VecDeque::new),
            telling: false,
        }
    }

    /// Takes the list as it is now.
    pub(super) fn follow(&mut self, endpoints: &Endpoints, now: Timestamp) {
        let (version, list) = endpoints.numbered();
        if self.version == Some(version) {
            return;
        }
        self.version = Some(version);
        let places = std::mem::take(&mut self.places);
        let mut former: Vec<Option<Member>> = self.list.drain(..).map(Some).collect();
        let mut priorities: HashMap<u32, usize> = HashMap::new();
        self.groups.clear();
        self.out.clear();
        self.relieved_at = None;
        for (place, endpoint) in list.iter().enumerate() {
            let id = endpoint.id();
            let mut member = match places.get(&id).and_then(|&place| former[place].take()) {
                Some(mut member) => {
                    let before = std::mem::replace(&mut member.endpoint, endpoint.clone());
                    if member.ejection.is_some() && !endpoint.condition().is_ejected() {
                        // One of the same name, with a condition of its own.
                        before.uneject(now);
                    }
                    // What the former one did is not the fault of who is at another address.
                    if before.address() != endpoint.address() && member.forget(now) {
                        self.ended(endpoint.clone(), UnejectionReason::Moved);
                    }
                    member
                }
                None => Member::new(endpoint.clone(), self.outsider(id)),
            };
            member.group = *priorities.entry(endpoint.priority()).or_insert(self.groups.len());
            if member.group == self.groups.len() {
                self.groups.push(Group::default());
            }
            let group = &mut self.groups[member.group];
            group.places.push(place);
            if member.ejection.is_some() {
                group.out += 1;
                self.out.push(place);
            }
            self.places.insert(id, place);
            self.list.push(member);
        }
        for mut gone in former.into_iter().flatten() {
            self.outsiders.insert(gone.endpoint.id(), Arc::downgrade(&gone.host));
            if gone.end(now) {
                self.ended(gone.endpoint, UnejectionReason::Removed);
            }
        }
        self.outsiders.retain(|_, host| host.strong_count() > 0);
    }

    fn outsider(&mut self, id: EndpointId) -> Arc<Host> {
        self.outsiders.remove(&id).and_then(|host| host.upgrade()).unwrap_or_else(|| Arc::new(Host::new(id)))
    }

    /// What the calls of this endpoint write to, be it in the list or not.
    pub(super) fn host(&mut self, endpoint: &Endpoint) -> Arc<Host> {
        let id = endpoint.id();
        if let Some(&place) = self.places.get(&id) {
            return Arc::clone(&self.list[place].host);
        }
        let host = self.outsider(id);
        self.outsiders.retain(|_, host| host.strong_count() > 0);
        self.outsiders.insert(id, Arc::downgrade(&host));
        host
    }

    /// Where the endpoint of this host is.
    pub(super) fn place(&self, host: &Host) -> Option<usize> {
        let place = *self.places.get(&host.id)?;
        std::ptr::eq(&*self.list[place].host, host).then_some(place)
    }

    pub(super) fn named(&self, name: &str) -> Option<usize> {
        self.list.iter().position(|member| member.endpoint.name().as_str() == name)
    }

    /// Ejects it, or says why not.
    pub(super) fn eject(
        &mut self,
        rules: &Rules,
        place: usize,
        reason: EjectionReason,
        now: Timestamp,
    ) -> Result<(), SkipReason> {
        let done = self.try_eject(rules, place, reason, now);
        let endpoint = self.list[place].endpoint.clone();
        match done {
            Ok((time, times)) => {
                self.counts.ejections[reason as usize] += 1;
                self.tell(endpoint, What::Ejected { reason, time, times });
            }
            Err(SkipReason::AlreadyEjected) => {}
            Err(skipped) => {
                match skipped {
                    SkipReason::MaxEjectionPercent => self.counts.over_max_ejection_percent += 1,
                    SkipReason::LastUsable => self.counts.last_usable += 1,
                    _ => self.counts.not_enforced += 1,
                }
                self.tell(endpoint, What::Skipped(reason, skipped));
            }
        }
        done.map(drop)
    }

    fn try_eject(
        &mut self,
        rules: &Rules,
        place: usize,
        reason: EjectionReason,
        now: Timestamp,
    ) -> Result<(Duration, u32), SkipReason> {
        // One of ours that somebody else has just ended is seen to when ejections are ended.
        let member = &self.list[place];
        if member.ejection.is_some() || member.endpoint.condition().is_ejected() {
            return Err(SkipReason::AlreadyEjected);
        }
        let at = self.list[place].group;
        let Group { places, out } = &self.groups[at];
        let most = max_ejected(places.len(), rules.max_ejection_percent);
        if *out >= most || self.ejected_in(places) >= most {
            return Err(SkipReason::MaxEjectionPercent);
        }
        if !places.iter().any(|&other| other != place && is_usable(&self.list[other].endpoint)) {
            return Err(SkipReason::LastUsable);
        }
        if !chance(rules.enforcing[reason as usize], self.chance.draw()) {
            return Err(SkipReason::NotEnforced);
        }
        let random = self.chance.draw();
        let member = &mut self.list[place];
        if !member.endpoint.eject(now) {
            return Err(SkipReason::AlreadyEjected);
        }
        member.host.next_epoch();
        let until = member.term.eject(rules, now, random);
        let unchecked = !passes(member.endpoint.condition());
        let times = member.term.multiplier();
        member.ejection = Some(Ejection { reason, since: now, until, unchecked });
        self.groups[at].out += 1;
        self.out.push(place);
        Ok((until - now, times))
    }

    /// By condition, so that what others have ejected counts as well.
    fn ejected_in(&self, group: &[usize]) -> usize {
        group.iter().filter(|&&place| self.list[place].endpoint.condition().is_ejected()).count()
    }

    /// Ends the ejection of the endpoint at `place`, if it has one.
    pub(super) fn uneject(&mut self, place: usize, why: UnejectionReason, now: Timestamp) -> bool {
        let ended = self.list[place].end(now);
        if ended {
            self.out.retain(|&other| other != place);
            self.groups[self.list[place].group].out -= 1;
            self.ended(self.list[place].endpoint.clone(), why);
        }
        ended
    }

    fn ended(&mut self, endpoint: Endpoint, why: UnejectionReason) {
        self.counts.unejections += 1;
        self.tell(endpoint, What::Unejected(why));
    }

    fn tell(&mut self, endpoint: Endpoint, what: What) {
        if let Some(told) = &mut self.told
            // As many ejections as there are hosts may be on their way to an observer that is slow, but what was not done comes
            // with each row of failures.
            && (told.len() < MOST_TOLD || !matches!(what, What::Skipped(..)))
        {
            told.push_back(Told { endpoint, what });
        }
    }

    /// Does what is due at `now`: ends ejections, and judges the interval that is over.
    pub(super) fn go_on(&mut self, rules: &Rules, turn: &AtomicU64, now: Timestamp) {
        self.end_due(rules, now);
        // A clock that was set back must not hold up the next interval.
        self.next_interval = self.next_interval.min(now + rules.interval);
        if now >= self.next_interval {
            let passed = 1 + nanos(now - self.next_interval) / nanos(rules.interval);
            // What is older than an interval says nothing of now: it would eject for what was over long ago.
            self.end_interval(rules, turn, (passed == 1).then_some(now));
            self.forgive(u32::try_from(passed).unwrap_or(u32::MAX));
            let next = self.next_interval + rules.interval;
            self.next_interval = if next > now { next } else { now + rules.interval };
        }
        self.relieve(rules, now);
    }

    /// When there is something to do next.
    pub(super) fn next(&self) -> Timestamp {
        let ends = self.out.iter().filter_map(|&place| Some(self.list[place].ejection.as_ref()?.until));
        ends.fold(self.next_interval, Ord::min)
    }

    fn end_due(&mut self, rules: &Rules, now: Timestamp) {
        // Where a clock was set back, none lasts longer from now on than one that begins now.
        let latest = now + rules.longest() + rules.max_ejection_time_jitter;
        for place in self.out.clone() {
            let member = &mut self.list[place];
            let condition = member.endpoint.condition();
            let Some(ejection) = &mut member.ejection else { continue };
            ejection.until = ejection.until.min(latest);
            ejection.unchecked |= !passes(condition);
            let checked = ejection.unchecked && passes(condition);
            let why = if !condition.is_ejected() {
                UnejectionReason::Elsewhere
            } else if now >= ejection.until {
                UnejectionReason::Expired
            } else if checked && rules.uneject_on_check {
                UnejectionReason::HealthCheck
            } else {
                continue;
            };
            self.uneject(place, why, now);
        }
    }

    /// Begins the next interval, and judges the one that is over if there is a moment to eject at: each priority by itself,
    /// since its endpoints have the same traffic.
    fn end_interval(&mut self, rules: &Rules, turn: &AtomicU64, judge: Option<Timestamp>) {
        // Nobody else writes to it: this is under the lock.
        let filled = turn.load(Ordering::Relaxed);
        turn.store(filled.wrapping_add(1), Ordering::Relaxed);
        let mut tallies: Vec<(usize, Tally)> = Vec::with_capacity(self.list.len());
        for group in 0..self.groups.len() {
            tallies.clear();
            for &place in &self.groups[group].places {
                let member = &self.list[place];
                let tally = member.host.take(filled);
                if !member.endpoint.condition().is_ejected() {
                    tallies.push((place, tally));
                }
            }
            let Some(now) = judge else { continue };
            for place in below_success_rate(rules, &tallies) {
                let _ = self.eject(rules, place, EjectionReason::SuccessRate, now);
            }
            for place in above_failure_percentage(rules, &tallies) {
                let _ = self.eject(rules, place, EjectionReason::FailurePercentage, now);
            }
        }
    }

    fn forgive(&mut self, intervals: u32) {
        for member in self.list.iter_mut().filter(|member| member.ejection.is_none()) {
            if member.whole_interval {
                member.term.forgive(intervals);
            }
            member.whole_interval = true;
        }
    }

    /// Brings back who may no longer be out: where fewer may be ejected than before, and where nothing else of the
    /// priority is usable. First those whose time is over first.
    fn relieve(&mut self, rules: &Rules, now: Timestamp) {
        let changes = Endpoint::changes();
        if self.out.is_empty() || self.relieved_at == Some(changes) {
            return;
        }
        // A change that comes while this looks makes it look again.
        self.relieved_at = Some(changes);
        for group in 0..self.groups.len() {
            while self.groups[group].out > 0 {
                let places = &self.groups[group].places;
                let over = self.ejected_in(places) > max_ejected(places.len(), rules.max_ejection_percent);
                let why = if over {
                    UnejectionReason::TooMany
                } else if !places.iter().any(|&place| is_usable(&self.list[place].endpoint)) {
                    UnejectionReason::NoneUsable
                } else {
                    break;
                };
                let may = |&place: &usize| {
                    let member = &self.list[place];
                    if over { member.ejection.is_some() } else { member.is_held_back() }
                };
                let until =
                    |&place: &usize| self.list[place].ejection.as_ref().map(|ejection| ejection.until);
                let Some(first) = places.iter().copied().filter(may).min_by_key(until) else { break };
                self.uneject(first, why, now);
            }
        }
    }

    pub(super) fn all_ejected(&self) -> Vec<Ejected> {
        self.list.iter().filter_map(Member::ejected).collect()
    }

    pub(super) fn view(&self, place: usize, turn: u64) -> OutlierView {
        let member = &self.list[place];
        let (rows, tally) = (member.host.rows(), member.host.tally(turn));
        OutlierView {
            ejected: member.ejected(),
            multiplier: member.term.multiplier(),
            failures_in_a_row: rows.failures(),
            gateway_failures_in_a_row: rows.gateway_failures(),
            local_failures_in_a_row: rows.local_failures(),
            succeeded: tally.succeeded,
            failed: tally.failed,
        }
    }

    /// Ends all ejections: nobody is left to end them later.
    pub(super) fn end_all(&mut self, now: Timestamp) {
        for member in &mut self.list {
            member.end(now);
        }
    }
}
