//! The state of a balancer, which all its clones share.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::{fmt, mem};

use buttress_core::{Endpoint, EndpointId, Endpoints, Facts, Following, HasFacts, Key, Timestamp, draw};

use super::members::{Gate, Make, Members};
use super::ready::{Ready, Readying};
use super::snapshot::{Snapshot, Tables};
use super::station::{Flight, Member, Rules, Station, Sweep};
use super::{Placed, Without};
use crate::sync::{AtomicBool, Loaded, Ordering, Swap};
use crate::{BalanceEvent, Hashing, Policy, PolicyError};

/// How often a call looks again for an endpoint while conditions change under it.
const LOOKS: usize = 10;

pub(crate) struct Shared<S, P: Policy, C> {
    pub(crate) rules: Arc<Rules<P, C>>,
    pub(crate) endpoints: Endpoints,
    make: Make<S>,
    pub(super) ready: Option<Ready<S>>,
    pub(super) readying: Readying,
    snapshot: Swap<Snapshot<S, P, C>>,
    hashing: Hashing,
    /// Someone is working out what follows from the newest conditions.
    is_refreshing: AtomicBool,
    /// Someone tells of priorities that panic, and what was told of them.
    is_telling: AtomicBool,
    told: Mutex<BTreeSet<u32>>,
    following: OnceLock<Following>,
}

impl<S, P, C> Shared<S, P, C>
where
    S: Clone + Send + Sync + 'static,
    P: Policy,
    C: Send + Sync + 'static,
{
    /// `made` are services that there are already, for endpoints as they are configured.
    pub(crate) fn new(
        members: &Members<S>,
        rules: Rules<P, C>,
        mut made: Made<S>,
    ) -> Result<Arc<Self>, PolicyError> {
        let endpoints = members.endpoints.clone().map_err(PolicyError::from)?;
        let (rules, make) = (Arc::new(rules), Arc::clone(&members.make));
        let (version, list) = endpoints.numbered();
        if members.is_fixed && list.is_empty() {
            return Err(PolicyError::NoEndpoints);
        }
        let changes = Endpoint::changes();
        made.retain(|_, (endpoint, _)| list.iter().any(|other| other.is_configured_as(endpoint)));
        let joined = join(&rules.settings.used(&list), None, &rules, &make, &mut made, &mut Vec::new());
        let tables = Tables::new(version, joined, &rules, None)?;
        let snapshot = Snapshot::new(Arc::new(tables), Arc::new([]), changes, &rules);
        let shared = Arc::new(Self {
            hashing: rules.policy.hashing(),
            rules,
            make,
            ready: members.ready.clone(),
            readying: Readying::default(),
            snapshot: Swap::from_pointee(snapshot),
            is_refreshing: AtomicBool::new(false),
            is_telling: AtomicBool::new(false),
            told: Mutex::default(),
            following: OnceLock::new(),
            endpoints,
        });
        let (follower, sweeper) = (Arc::downgrade(&shared), Arc::downgrade(&shared));
        let follow = move |version, list: &Arc<[Endpoint]>| {
            if let Some(shared) = follower.upgrade() {
                shared.follow(version, list);
            }
        };
        let _ = shared.following.set(shared.endpoints.follow(follow));
        let _ = shared.rules.sweeper.set(sweeper);
        // The list may have changed before it was followed.
        let (version, list) = shared.endpoints.numbered();
        shared.follow(version, &list);
        shared.ready();
        Ok(shared)
    }

    /// What the choice for a request depends on.
    #[inline]
    pub(crate) fn hash<Req>(&self, key: &impl Key<Req>, request: &Req) -> u64 {
        let mut sink = self.hashing.sink();
        if key.key(request, &mut sink) { sink.finish() } else { draw() }
    }

    /// Chooses an endpoint for `request`, and takes a place there.
    #[inline]
    pub(crate) fn place<Req: HasFacts>(&self, hash: u64, request: &Req) -> Result<Placed<S, P, C>, Without> {
        let (snapshot, is_exact) = self.fresh();
        let facts = request.facts();
        match snapshot.choose(&self.rules, hash, facts, is_exact) {
            Ok(chosen) => Ok(self.placed(chosen, facts)),
            // Looked at afterwards: a condition may have changed meanwhile.
            Err(without) if snapshot.changes == Endpoint::changes() => Err(without),
            Err(without) => self.place_anew(hash, facts, without),
        }
    }

    /// No endpoint could take the call by what was true a moment ago: looks by what is true now.
    #[cold]
    fn place_anew(
        &self,
        hash: u64,
        facts: Option<&Facts>,
        mut without: Without,
    ) -> Result<Placed<S, P, C>, Without> {
        // A change after the last look wakes whoever waits.
        for _ in 0..LOOKS {
            self.refresh();
            let snapshot = self.snapshot.load();
            let is_exact = snapshot.changes == Endpoint::changes();
            match snapshot.choose(&self.rules, hash, facts, is_exact) {
                Ok(chosen) => return Ok(self.placed(chosen, facts)),
                Err(other) => without = other,
            }
            if snapshot.changes == Endpoint::changes() {
                break;
            }
        }
        Err(without)
    }

    #[inline]
    fn placed(
        &self,
        (member, now): (&Member<S, P, C>, Option<Timestamp>),
        facts: Option<&Facts>,
    ) -> Placed<S, P, C> {
        // From here on the place is held, since what follows may panic.
        let mut flight = Flight::new(Arc::clone(&member.station));
        if self.rules.is_timed {
            flight.start(&member.endpoint, now.unwrap_or_else(|| self.rules.settings.clock.now()));
        }
        if let Some(facts) = facts {
            facts.chose(member.endpoint.id());
        }
        Placed { flight, service: member.service.clone() }
    }

    /// The snapshot, and whether all that followed from conditions is true now: it may not be, while another thread works
    /// that out.
    #[inline]
    fn fresh(&self) -> (Loaded<Snapshot<S, P, C>>, bool) {
        let snapshot = self.snapshot.load();
        if snapshot.changes == Endpoint::changes() { (snapshot, true) } else { self.refreshed(snapshot) }
    }

    #[cold]
    fn refreshed(&self, old: Loaded<Snapshot<S, P, C>>) -> (Loaded<Snapshot<S, P, C>>, bool) {
        if self.is_refreshing.swap(true, Ordering::SeqCst) {
            return (old, false);
        }
        drop(old);
        let refreshing = Refreshing { flag: &self.is_refreshing, rules: &self.rules };
        self.refresh();
        drop(refreshing);
        let snapshot = self.snapshot.load();
        let is_exact = snapshot.changes == Endpoint::changes();
        (snapshot, is_exact)
    }

    /// Works out what follows from the newest conditions.
    fn refresh(&self) {
        self.change(|present| {
            let changes = Endpoint::changes();
            if present.changes == changes {
                return None;
            }
            let (tables, leaving) = (Arc::clone(&present.tables), Arc::clone(&present.leaving));
            Some(Snapshot::new(tables, leaving, changes, &self.rules))
        });
        self.tell_panics();
    }

    /// Replaces the snapshot by what `next` makes of it, unless that is nothing.
    fn change(&self, mut next: impl FnMut(&Snapshot<S, P, C>) -> Option<Snapshot<S, P, C>>) {
        loop {
            let present = self.snapshot.load_full();
            let Some(next) = next(&present) else { return };
            let next = Arc::new(next);
            let before = self.snapshot.compare_and_swap(&present, Arc::clone(&next));
            if Arc::ptr_eq(&before, &present) {
                return;
            }
        }
    }

    /// Tells which priorities panic now and did not, and the other way round. One thread at a time does, so that what is told
    /// last is true; another that comes meanwhile leaves it what is new.
    fn tell_panics(&self) {
        if self.rules.settings.observer.is_none() {
            return;
        }
        loop {
            if self.is_telling.swap(true, Ordering::SeqCst) {
                return;
            }
            let telling = Telling(&self.is_telling);
            let snapshot = self.snapshot.load_full();
            let levels = snapshot.tables.levels.all().iter().enumerate();
            let panicking =
                levels.filter(|(at, _)| snapshot.outlook.panics(*at)).map(|(_, level)| level.priority);
            let panicking: BTreeSet<u32> = panicking.collect();
            let told = {
                let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
                mem::replace(&mut *told, panicking.clone())
            };
            for &priority in panicking.difference(&told) {
                self.rules.settings.tell(&BalanceEvent::Panic { priority });
            }
            for &priority in told.difference(&panicking) {
                self.rules.settings.tell(&BalanceEvent::Calm { priority });
            }
            drop(telling);
            if Arc::ptr_eq(&snapshot, &self.snapshot.load_full()) {
                return;
            }
        }
    }

    /// Takes over a new list of endpoints.
    fn follow(self: &Arc<Self>, version: u64, list: &Arc<[Endpoint]>) {
        let (mut made, mut refused, mut counts) = (HashMap::new(), None, None);
        let mut taken = Vec::new();
        let now = self.rules.settings.clock.now();
        let list = &*self.rules.settings.used(list);
        self.change(|present| {
            counts = None;
            let tables = &*present.tables;
            if tables.version >= version {
                return None;
            }
            let changes = Endpoint::changes();
            taken.clear();
            let members = join(list, Some(present), &self.rules, &self.make, &mut made, &mut taken);
            let stays: HashSet<EndpointId> = members.iter().map(|member| member.endpoint.id()).collect();
            let left: Vec<&Member<S, P, C>> =
                tables.members.iter().filter(|member| !stays.contains(&member.endpoint.id())).collect();
            let joined = members.len() + left.len() - tables.members.len();
            counts = Some((members.len(), joined, left.len()));
            let until = now + self.rules.settings.drain;
            let before = present.leaving.iter().filter(|(member, _)| !stays.contains(&member.endpoint.id()));
            let leaving = before.cloned().chain(left.into_iter().map(|member| (member.clone(), until)));
            let leaving = leaving.collect();
            match Tables::new(version, members, &self.rules, Some(tables)) {
                Ok(tables) => Some(Snapshot::new(Arc::new(tables), leaving, changes, &self.rules)),
                Err(error) => {
                    refused = Some(error);
                    None
                }
            }
        });
        let settings = &self.rules.settings;
        if let Some(error) = &refused {
            settings.tell(&BalanceEvent::Refused { error });
        } else if let Some((endpoints, joined, left)) = counts {
            // First what has to be done: an observer may panic.
            self.settle(&taken);
            self.ready();
            if left > 0 {
                self.let_go();
            }
            self.sweep();
            self.tell_panics();
            settings.tell(&BalanceEvent::Changed { endpoints, joined, left });
        }
    }

    /// Lets the stations know whose they are, now that a list is in use: those of the endpoints in `taken` have another, and those
    /// that have left are let go with their last call.
    fn settle(&self, taken: &[EndpointId]) {
        let mut present = self.snapshot.load_full();
        loop {
            let Tables { members, by_id, .. } = &*present.tables;
            for member in taken.iter().filter_map(|id| by_id.get(id)).map(|&at| &members[at as usize]) {
                member.station.taken_over_by(&member.endpoint);
            }
            for Member { station, .. } in
                members.iter().filter(|member| member.station.has_left.load(Ordering::SeqCst))
            {
                station.has_left.store(false, Ordering::SeqCst);
            }
            for (member, _) in &*present.leaving {
                member.station.has_left.store(true, Ordering::SeqCst);
            }
            // Another list may have come meanwhile, whose words were overwritten.
            let now = self.snapshot.load_full();
            if Arc::ptr_eq(&now, &present) {
                return;
            }
            present = now;
        }
    }

    /// Looks again for those that have left when their time is over.
    fn let_go(self: &Arc<Self>) {
        let (clock, shared) = (self.rules.settings.clock.clone(), Arc::downgrade(self));
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let time_up = clock.sleep(self.rules.settings.drain);
            runtime.spawn(async move {
                time_up.await;
                if let Some(shared) = Weak::upgrade(&shared) {
                    shared.sweep();
                }
            });
        }
    }

    /// The services of the endpoints that it has now.
    pub(crate) fn made(&self) -> Made<S> {
        let made = |member: &Member<S, P, C>| {
            let service = (member.service.clone(), member.gate.clone());
            (member.endpoint.id(), (member.endpoint.clone(), Some(service)))
        };
        self.snapshot.load().tables.members.iter().map(made).collect()
    }

    pub(crate) fn snapshot(&self) -> Loaded<Snapshot<S, P, C>> {
        self.fresh().0
    }
}

impl<S, P, C> Sweep for Shared<S, P, C>
where
    S: Clone + Send + Sync + 'static,
    P: Policy,
    C: Send + Sync + 'static,
{
    /// Drops the endpoints that have left and have no calls any more, or whose time is over.
    fn sweep(&self) {
        let now = self.rules.settings.clock.now();
        let mut drained: Vec<(EndpointId, u32)> = Vec::new();
        self.change(|present| {
            drained.clear();
            let is_over =
                |(member, until): &&(Member<S, P, C>, Timestamp)| member.station.is_idle() || *until <= now;
            let over = present.leaving.iter().filter(is_over);
            drained.extend(over.map(|(member, _)| (member.endpoint.id(), member.station.load.in_flight())));
            if drained.is_empty() {
                return None;
            }
            let leaving = present.leaving.iter().filter(|entry| !is_over(entry)).cloned().collect();
            Some(present.with_leaving(leaving))
        });
        for &(endpoint, in_flight) in &drained {
            self.rules.settings.tell(&BalanceEvent::Drained { endpoint, in_flight });
        }
    }
}

/// Services that were made, and the endpoints that they were made for.
pub(crate) type Made<S> = HashMap<EndpointId, (Endpoint, Option<(S, Option<Gate>)>)>;

/// Someone tells of priorities that panic, until this is dropped: an observer may panic.
struct Telling<'a>(&'a AtomicBool);

impl Drop for Telling<'_> {
    fn drop(&mut self) {
        // It reads what another thread has written there, and so sees what that has changed before.
        self.0.swap(false, Ordering::SeqCst);
    }
}

/// Someone works out what follows from the newest conditions, until this is dropped: an observer may panic.
struct Refreshing<'a, P, C> {
    flag: &'a AtomicBool,
    rules: &'a Rules<P, C>,
}

impl<P, C> Drop for Refreshing<'_, P, C> {
    fn drop(&mut self) {
        self.flag.store(false, Ordering::SeqCst);
        // A call that looked meanwhile saw what was true before, and may wait for what is true now.
        if self.rules.waiting.load(Ordering::SeqCst) > 0 {
            self.rules.freed.notify_waiters();
        }
    }
}

/// The members of `list`: those of `present` that stay, in their order, and then those that have joined. The stations of those
/// in `taken` are to be [taken over](Station::taken_over_by) once the list is in use.
fn join<S, P: Policy, C>(
    list: &[Endpoint],
    present: Option<&Snapshot<S, P, C>>,
    rules: &Arc<Rules<P, C>>,
    make: &Make<S>,
    made: &mut Made<S>,
    taken: &mut Vec<EndpointId>,
) -> Box<[Member<S, P, C>]>
where
    S: Clone,
{
    let listed: HashMap<EndpointId, &Endpoint> =
        list.iter().map(|endpoint| (endpoint.id(), endpoint)).collect();
    let mut service = |endpoint: &Endpoint| {
        made.entry(endpoint.id()).or_insert_with(|| (endpoint.clone(), make(endpoint))).1.clone()
    };
    let mut members = Vec::with_capacity(list.len());
    for member in present.map_or(&[][..], |present| &present.tables.members) {
        let Some(&endpoint) = listed.get(&member.endpoint.id()) else { continue };
        if endpoint.is_configured_as(&member.endpoint) {
            members.push(Member { endpoint: endpoint.clone(), ..member.clone() });
        } else if let Some((service, gate)) = service(endpoint) {
            taken.push(endpoint.id());
            members.push(Member {
                endpoint: endpoint.clone(),
                station: Arc::clone(&member.station),
                service,
                gate,
            });
        }
    }
    for endpoint in list {
        if present.is_some_and(|present| present.tables.by_id.contains_key(&endpoint.id())) {
            continue;
        }
        if let Some((service, gate)) = service(endpoint) {
            // One that comes back while its calls drain goes on counting them.
            let leaving = present.map_or(&[][..], |present| &present.leaving);
            let same = leaving.iter().find(|(member, _)| member.endpoint.id() == endpoint.id());
            let station = match same {
                Some((member, _)) => {
                    taken.push(endpoint.id());
                    Arc::clone(&member.station)
                }
                None => Arc::new(Station::new(endpoint, Arc::clone(rules))),
            };
            members.push(Member { endpoint: endpoint.clone(), station, service, gate });
        }
    }
    members.into()
}

impl<S, P: Policy, C> fmt::Debug for Shared<S, P, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("endpoints", &self.endpoints).finish_non_exhaustive()
    }
}
