//! Where a read goes: a function of what was written and reported, and of the time.
//!
//! *Writes* are remembered by the hash of their key in a table of a fixed number of places. Two keys that share a place share
//! what is remembered: the later time, and the higher token. So the table is never full, nothing is ever forgotten for want of
//! room, and what a full table costs is reads that go to the primary without need.
//!
//! *Lag.* A replica that was `lag` behind at one moment is at most `lag` plus the time since then behind at a later one: what it
//! has it keeps. So a report says until when a replica is within the bound, and one that falls silent is skipped when that
//! time is over.
//!
//! *The window.* A write that was answered at `t` is on every replica that is within the bound at `t + bound` or later. The
//! margin is for clocks and reports that are late.
//!
//! *The token.* A replica that has reported it has the write, whatever the time.

use std::fmt;
use std::time::Duration;

use buttress_core::{Timestamp, nanos};

use super::ReplicaError;
use crate::sync::{AtomicU64, Ordering};

const MOST_RECENT: usize = 1 << 26;

/// How long a write holds reads at the primary, and which replicas may serve.
///
/// | setting | default | because |
/// |---|---|---|
/// | [`lag_bound`](Self::lag_bound) | 2 s | asynchronous replication is most often well below; it is what web frameworks wait |
/// | [`margin`](Self::margin) | 500 ms | reports and clocks are late by less |
/// | [`recent`](Self::recent) | 65 536 | 1 MiB; with 1 000 writes/s, in the 2.5 s of the window, 4 % of all reads go to the primary without need |
/// | [`trusting`](Self::trusting) | no | a replica that nobody has heard of may be days behind |
/// | [`refusing`](Self::refusing) | no | the primary has all data |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplicaRules {
    pub(super) lag_bound: Duration,
    pub(super) margin: Duration,
    pub(super) recent: usize,
    pub(super) trusting: bool,
    pub(super) refusing: bool,
}

impl ReplicaRules {
    /// Skips replicas that are further behind than this, and holds reads at the primary for so long after a write, and the
    /// margin.
    #[must_use]
    pub const fn lag_bound(mut self, lag: Duration) -> Self {
        self.lag_bound = lag;
        self
    }

    /// Holds reads at the primary for so much longer: at least the time that a report of lag takes to arrive, and what the clock
    /// may be off.
    #[must_use]
    pub const fn margin(mut self, margin: Duration) -> Self {
        self.margin = margin;
        self
    }

    /// Remembers writes in so many places of 16 bytes, from 1 to 2^26. Where `w` writes are made in a window, a share of about
    /// `w / recent` of the reads of other keys goes to the primary without need.
    #[must_use]
    pub const fn recent(mut self, places: usize) -> Self {
        self.recent = places;
        self
    }

    /// Takes replicas to be within the bound until a report says otherwise, and then until the next one: for stores whose lag
    /// nobody reports. That they keep the bound is then your promise.
    #[must_use]
    pub const fn trusting(mut self) -> Self {
        self.trusting = true;
        self
    }

    /// Refuses reads while no replica is within the bound, instead of giving the primary what all replicas served. Reads within
    /// the window of a write go there all the same.
    #[must_use]
    pub const fn refusing(mut self) -> Self {
        self.refusing = true;
        self
    }
}

impl Default for ReplicaRules {
    fn default() -> Self {
        Self {
            lag_bound: Duration::from_secs(2),
            margin: Duration::from_millis(500),
            recent: 65_536,
            trusting: false,
            refusing: false,
        }
    }
}

/// Where a read goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Route {
    /// To the replica at this position.
    Replica(usize),
    /// To the primary.
    Primary(Diverted),
    /// Nowhere.
    Refused,
}

/// Why a read goes to the primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Diverted {
    /// Its key was written within the window.
    Recent,
    /// No replica within the bound has reported the token of the last write.
    Token,
    /// No replica is within the bound.
    NoReplica,
}

/// Decides which replica may serve a read so that it sees what its key, or its session, has written before.
///
/// It reads no clock and draws no lots: [`ReplicaSplit`](crate::ReplicaSplit) is the service around it.
///
/// ```
/// use buttress_balance::{Diverted, ReplicaPolicy, ReplicaRules, Route};
/// use buttress_core::Timestamp;
/// use std::time::Duration;
///
/// # fn main() -> Result<(), buttress_balance::ReplicaError> {
/// let policy = ReplicaPolicy::new(1, ReplicaRules::default())?;
/// let first = |usable: &mut dyn FnMut(usize) -> bool| usable(0).then_some(0);
/// let now = Timestamp::ZERO;
/// policy.report_lag(0, Duration::ZERO, now);
///
/// // A write that gave the token 7: its key reads at the primary until a replica is as far.
/// policy.wrote(Some(17), Some(7), now);
/// assert_eq!(policy.read(Some(17), None, now, first), Route::Primary(Diverted::Token));
/// policy.report_position(0, 7);
/// assert_eq!(policy.read(Some(17), None, now, first), Route::Replica(0));
/// # Ok(())
/// # }
/// ```
pub struct ReplicaPolicy {
    rules: ReplicaRules,
    replicas: Box<[Replica]>,
    recent: Box<[Recent]>,
    /// Of writes without a key, which hold all reads.
    keyless: Recent,
    /// How often another primary has taken over.
    epoch: AtomicU64,
}

/// What a replica has said of itself.
#[repr(align(64))]
struct Replica {
    /// Until when it is within the bound; 0 is not at all.
    within: AtomicU64,
    /// Its position and 1; 0 before it has reported one.
    position: AtomicU64,
    /// The last lag that was reported.
    lag: AtomicU64,
}

/// What was written of the keys that have this place.
struct Recent {
    /// Until when they are read at the primary.
    until: AtomicU64,
    /// The highest token of their writes and 1; 0 where none had one.
    token: AtomicU64,
}

impl ReplicaPolicy {
    /// For this many replicas.
    ///
    /// # Errors
    ///
    /// When there are none, or there is no room for what is to be remembered.
    pub fn new(replicas: usize, rules: ReplicaRules) -> Result<Self, ReplicaError> {
        if replicas == 0 {
            return Err(ReplicaError::NoReplicas);
        }
        if !(1..=MOST_RECENT).contains(&rules.recent) {
            return Err(ReplicaError::Recent { recent: rules.recent, most: MOST_RECENT });
        }
        let within = if rules.trusting { u64::MAX } else { 0 };
        let replica = |_| Replica {
            within: AtomicU64::new(within),
            position: AtomicU64::new(0),
            lag: AtomicU64::new(u64::MAX),
        };
        Ok(Self {
            rules,
            replicas: (0..replicas).map(replica).collect(),
            recent: (0..rules.recent).map(|_| Recent::new()).collect(),
            keyless: Recent::new(),
            epoch: AtomicU64::new(0),
        })
    }

    /// The rules that it goes by.
    #[must_use]
    pub const fn rules(&self) -> &ReplicaRules {
        &self.rules
    }

    /// How many replicas there are.
    #[must_use]
    pub const fn replicas(&self) -> usize {
        self.replicas.len()
    }

    /// Remembers a write that is over, whatever came of it. `key` is the hash of its key, or `None` for one that may have changed any
    /// key; `token` the position that the primary had reached with it, or `None` where that is not known.
    ///
    /// The token is one of the present [`epoch`](Self::epoch): see [`wrote_in`](Self::wrote_in).
    pub fn wrote(&self, key: Option<u64>, token: Option<u64>, now: Timestamp) {
        self.wrote_in(self.epoch(), key, token, now);
    }

    /// Remembers a write as [`wrote`](Self::wrote) does, that was begun in this [`epoch`](Self::epoch). Where that is over, the token is
    /// none: it is of a history that is no longer that of the primary.
    pub fn wrote_in(&self, epoch: u64, key: Option<u64>, token: Option<u64>, now: Timestamp) {
        let recent = key.map_or(&self.keyless, |hash| self.place(hash));
        if let Some(token) = token.filter(|_| epoch == self.epoch()) {
            let token = token.saturating_add(1);
            recent.token.fetch_max(token, Ordering::AcqRel);
            // Who writes it after it was wiped has seen, by that, that the epoch is over.
            if epoch == self.epoch() {
                return;
            }
            // A token of the new history that was lower is lost with it: the window stands for both.
            recent.hold(now, &self.rules);
            let _ = recent.token.compare_exchange(token, 0, Ordering::AcqRel, Ordering::Relaxed);
        } else {
            recent.hold(now, &self.rules);
        }
    }

    /// Chooses where a read goes. `asked` is a token that came with it; `pick` gives one of the replicas that are usable, or `None` where
    /// it finds none, as [`Order::pick`](crate::Order::pick) does.
    pub fn read(
        &self,
        key: Option<u64>,
        asked: Option<u64>,
        now: Timestamp,
        pick: impl FnOnce(&mut dyn FnMut(usize) -> bool) -> Option<usize>,
    ) -> Route {
        let (token, until) = key.map_or((0, 0), |hash| self.place(hash).load());
        // Last: whoever takes tokens away has set this window before, so one that is missed above is made up for here.
        let (every_token, every_until) = self.keyless.load();
        if now.as_nanos() < until.max(every_until) {
            return Route::Primary(Diverted::Recent);
        }
        let asked = asked.map_or(0, |token| token.saturating_add(1));
        let token = token.max(every_token).max(asked);
        let mut within = false;
        let picked = pick(&mut |at| {
            let Some(replica) = self.replicas.get(at) else { return false };
            if !replica.is_within(now) {
                return false;
            }
            within = true;
            replica.position.load(Ordering::Acquire) >= token
        });
        match picked {
            Some(replica) => Route::Replica(replica),
            None if !within && self.rules.refusing => Route::Refused,
            None if within => Route::Primary(Diverted::Token),
            None => Route::Primary(Diverted::NoReplica),
        }
    }

    /// Takes how far behind the replica at this position is at `now`: by how long ago the primary had what the replica has. The last
    /// report counts. Returns whether the replica was in use and is above the bound: then reads since the report before may
    /// have been stale.
    ///
    /// # Panics
    ///
    /// When there is no such replica.
    pub fn report_lag(&self, replica: usize, lag: Duration, now: Timestamp) -> bool {
        let replica = &self.replicas[replica];
        let above = lag > self.rules.lag_bound;
        let within = match (above, self.rules.trusting) {
            (true, _) => 0,
            (false, true) => u64::MAX,
            (false, false) => (now + (self.rules.lag_bound - lag)).as_nanos(),
        };
        replica.lag.store(nanos(lag), Ordering::Relaxed);
        let before = replica.within.swap(within, Ordering::AcqRel);
        above && before > 0 && now.as_nanos() <= before
    }

    /// Takes the position that the replica has reached: it has every write with a token up to it. The last report counts, also where it is
    /// lower than one before, as of a replica that was built anew.
    ///
    /// The position is one of the present [`epoch`](Self::epoch): see [`report_position_in`](Self::report_position_in).
    ///
    /// # Panics
    ///
    /// When there is no such replica.
    pub fn report_position(&self, replica: usize, position: u64) {
        self.report_position_in(self.epoch(), replica, position);
    }

    /// Takes a position as [`report_position`](Self::report_position) does, that was asked for in this [`epoch`](Self::epoch). Where that is
    /// over it counts for nothing: it may be one of the former history, in which the same number says something else.
    ///
    /// # Panics
    ///
    /// When there is no such replica.
    pub fn report_position_in(&self, epoch: u64, replica: usize, position: u64) {
        // The two highest tokens are never reached, so that no position is taken for one above it.
        let position = position.min(u64::MAX - 2) + 1;
        let at = &self.replicas[replica].position;
        if epoch != self.epoch() {
            return;
        }
        // Who writes it after it was wiped has seen, by that, that the epoch is over.
        at.swap(position, Ordering::AcqRel);
        if epoch != self.epoch() {
            let _ = at.compare_exchange(position, 0, Ordering::AcqRel, Ordering::Relaxed);
        }
    }

    /// How often another primary has taken over: what tokens and positions belong to. Ask for it before the position that you
    /// report, and before the write whose token you tell.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Whether the replica is within the bound.
    ///
    /// # Panics
    ///
    /// When there is no such replica.
    #[must_use]
    pub fn is_within(&self, replica: usize, now: Timestamp) -> bool {
        self.replicas[replica].is_within(now)
    }

    /// The position that the replica has reported last.
    ///
    /// # Panics
    ///
    /// When there is no such replica.
    #[must_use]
    pub fn position(&self, replica: usize) -> Option<u64> {
        self.replicas[replica].position.load(Ordering::Acquire).checked_sub(1)
    }

    /// The lag that was reported last.
    ///
    /// # Panics
    ///
    /// When there is no such replica.
    #[must_use]
    pub fn lag(&self, replica: usize) -> Option<Duration> {
        let lag = self.replicas[replica].lag.load(Ordering::Relaxed);
        (lag != u64::MAX).then(|| Duration::from_nanos(lag))
    }

    /// Forgets all tokens, and holds all reads at the primary for one window: when another primary takes over, whose positions
    /// are not those of the former one. It begins another [`epoch`](Self::epoch).
    pub fn fail_over(&self, now: Timestamp) {
        // Before tokens and positions are wiped, so that none of the former ones is written after that and stays.
        self.epoch.fetch_add(1, Ordering::AcqRel);
        // The window before the wiping too, so that there is no moment without either.
        self.keyless.hold(now, &self.rules);
        for replica in &self.replicas {
            replica.position.swap(0, Ordering::AcqRel);
        }
        for recent in self.recent.iter().chain([&self.keyless]) {
            recent.token.swap(0, Ordering::AcqRel);
        }
    }

    #[inline]
    fn place(&self, hash: u64) -> &Recent {
        &self.recent[crate::hash::scale(hash, self.recent.len() as u64) as usize]
    }
}

impl Replica {
    fn is_within(&self, now: Timestamp) -> bool {
        let within = self.within.load(Ordering::Acquire);
        within > 0 && now.as_nanos() <= within
    }
}

impl Recent {
    fn new() -> Self {
        Self { until: AtomicU64::new(0), token: AtomicU64::new(0) }
    }

    /// Holds its keys at the primary for one window.
    fn hold(&self, now: Timestamp, rules: &ReplicaRules) {
        let until = now + rules.lag_bound + rules.margin;
        self.until.fetch_max(until.as_nanos(), Ordering::AcqRel);
    }

    /// The token that its keys ask for, and then until when they are read at the primary.
    fn load(&self) -> (u64, u64) {
        let token = self.token.load(Ordering::Acquire);
        (token, self.until.load(Ordering::Acquire))
    }
}

impl fmt::Debug for ReplicaPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplicaPolicy")
            .field("rules", &self.rules)
            .field("replicas", &self.replicas.len())
            .finish_non_exhaustive()
    }
}
