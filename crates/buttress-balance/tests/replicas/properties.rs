//! No stale own read, in many random steps of writers, readers, replicas and those who report of them.

use std::time::Duration;

use buttress_balance::{ReplicaPolicy, ReplicaRules, Route};
use buttress_core::Timestamp;

use super::Random;

const BOUND: u64 = 1000;
const MARGIN: u64 = 50;
const REPLICAS: usize = 3;
const SESSIONS: usize = 64;

/// A store: what was committed, and how much of it each replica has.
struct World {
    random: Random,
    now: u64,
    /// The sessions of all commits, in their order, with their times.
    log: Vec<(usize, u64)>,
    /// How many commits each replica has.
    applied: [usize; REPLICAS],
    /// Until when a replica applies nothing.
    stalled: [u64; REPLICAS],
    /// The number of each session's last commit that was answered.
    wrote: [usize; SESSIONS],
    /// Writes that are committed and not yet answered: when, whose, which.
    answers: Vec<(u64, usize, usize)>,
    /// The longest that a replica is stalled.
    longest: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Found {
    reads: u64,
    replica_reads: u64,
    stale: u64,
    /// Stale reads of a replica whose true lag was within the bound.
    stale_within: u64,
    exceeded: u64,
    /// Stale reads after which the replica's next report was not counted.
    uncounted: u64,
}

impl World {
    fn new(seed: u64, longest: u64) -> Self {
        Self {
            random: Random::new(seed),
            now: 0,
            log: Vec::new(),
            applied: [0; REPLICAS],
            stalled: [0; REPLICAS],
            wrote: [0; SESSIONS],
            answers: Vec::new(),
            longest,
        }
    }

    /// How long ago the primary had what this replica has: since the commit after that.
    fn lag(&self, replica: usize) -> u64 {
        self.log.get(self.applied[replica]).map_or(0, |(_, at)| self.now - at)
    }

    fn advance(&mut self) {
        self.now += self.random.below(40);
        for replica in 0..REPLICAS {
            if self.now < self.stalled[replica] {
                continue;
            }
            match self.random.below(40) {
                // The lag of a stall, at most `longest`, ends with all that was missed.
                0 => self.stalled[replica] = self.now + self.random.below(self.longest.max(1)),
                _ => self.applied[replica] = self.log.len(),
            }
        }
        // No commit is older on a replica than the longest stall.
        for replica in 0..REPLICAS {
            while self.lag(replica) > self.longest {
                self.applied[replica] += 1;
            }
        }
    }

    fn run(
        mut self,
        steps: u64,
        policy: &ReplicaPolicy,
        tokens: bool,
        reports_of: impl Fn(&Self, usize) -> u64,
    ) -> Found {
        let time = Timestamp::from_nanos;
        let hash = |session: usize| (session as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut found = Found::default();
        let mut suspects = [0; REPLICAS];
        for _ in 0..steps {
            let session = self.random.below(SESSIONS as u64) as usize;
            match self.random.below(8) {
                0 => {
                    self.log.push((session, self.now));
                    let answered = self.now + self.random.below(100);
                    self.answers.push((answered, session, self.log.len()));
                }
                1 => {
                    let replica = self.random.below(REPLICAS as u64) as usize;
                    let lag = Duration::from_nanos(reports_of(&self, replica));
                    let exceeded = policy.report_lag(replica, lag, time(self.now));
                    found.exceeded += u64::from(exceeded);
                    if suspects[replica] > 0 && lag.as_nanos() as u64 > BOUND {
                        found.uncounted += u64::from(!exceeded);
                        suspects[replica] = 0;
                    }
                }
                2 => {
                    let replica = self.random.below(REPLICAS as u64) as usize;
                    policy.report_position(replica, self.applied[replica] as u64);
                }
                3 | 4 => self.advance(),
                _ => {
                    found.reads += 1;
                    let turn = self.random.below(REPLICAS as u64) as usize;
                    let order = (0..REPLICAS).map(|at| (at + turn) % REPLICAS);
                    let pick = |usable: &mut dyn FnMut(usize) -> bool| order.clone().find(|at| usable(*at));
                    let Route::Replica(replica) =
                        policy.read(Some(hash(session)), None, time(self.now), pick)
                    else {
                        continue;
                    };
                    found.replica_reads += 1;
                    if self.applied[replica] < self.wrote[session] {
                        found.stale += 1;
                        found.stale_within += u64::from(self.lag(replica) <= BOUND);
                        suspects[replica] += 1;
                    }
                }
            }
            let now = self.now;
            let (due, later) =
                self.answers.drain(..).partition(|answer: &(u64, usize, usize)| answer.0 <= now);
            self.answers = later;
            for (_, session, number) in due {
                self.wrote[session] = self.wrote[session].max(number);
                policy.wrote(Some(hash(session)), tokens.then_some(number as u64), time(now));
            }
        }
        found
    }
}

/// Four sessions to a place, so that places are shared.
fn policy(rules: ReplicaRules) -> ReplicaPolicy {
    let (bound, margin) = (Duration::from_nanos(BOUND), Duration::from_nanos(MARGIN));
    ReplicaPolicy::new(REPLICAS, rules.lag_bound(bound).margin(margin).recent(16)).unwrap()
}

const STEPS: u64 = 1_000_000;

#[test]
fn with_the_token_no_own_read_is_stale_whatever_the_lag() {
    // No one reports a lag: only the token keeps reads from replicas that are far behind.
    let found =
        World::new(1, 20 * BOUND).run(STEPS, &policy(ReplicaRules::default().trusting()), true, |_, _| 0);

    assert_eq!(found.stale, 0, "{found:?}");
    assert!(found.replica_reads > found.reads / 20, "{found:?}");
}

#[test]
fn with_the_window_no_own_read_is_stale_while_reports_are_true() {
    let rules = ReplicaRules::default();
    let found = World::new(2, 20 * BOUND).run(STEPS, &policy(rules), false, World::lag);

    assert_eq!((found.stale, found.exceeded), (0, 0), "{found:?}");
    assert!(found.replica_reads > found.reads / 100, "{found:?}");
}

#[test]
fn with_the_window_no_own_read_is_stale_while_the_true_lag_stays_under_the_bound() {
    let rules = ReplicaRules::default().trusting();
    let found = World::new(3, BOUND).run(STEPS, &policy(rules), false, World::lag);

    assert_eq!((found.stale, found.exceeded), (0, 0), "{found:?}");
    assert!(found.replica_reads > found.reads / 100, "{found:?}");
}

#[test]
fn a_true_lag_above_the_bound_is_counted_when_it_is_reported_and_no_other_read_is_stale() {
    let rules = ReplicaRules::default().trusting();
    let found = World::new(4, 4 * BOUND).run(STEPS, &policy(rules), false, World::lag);

    assert!(found.stale > 0, "the property looks at something: {found:?}");
    assert_eq!((found.stale_within, found.uncounted), (0, 0), "{found:?}");
    assert!(found.exceeded > 0, "{found:?}");
}
