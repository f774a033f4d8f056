//! What is known of one endpoint by its probes, and when it is to be probed again.
//!
//! ```text
//!              1 pass                    fails in a row, or one that decides alone
//! Unknown ─────────────▶ Healthy/Degraded ─────────────────────────────────▶ Unhealthy
//!    │                        ▲                                                 │ ▲
//!    │                        └─── passes in a row, none of them held back ─────┘ │
//!    └──────────────────────────────── 1 failure ────────────────────────────────┘
//! ```
//!
//! An opposite result counts, and at the threshold the state flips; a result that agrees clears the count. Names and
//! defaults are those of Envoy and HAProxy (`rise`, `fall`, `fastinter`, `downinter`); the damping of flaps is our own.

mod damping;
mod report;
mod rules;

use std::time::Duration;

use buttress_core::{Activity, Health, Timestamp, nanos};

use self::damping::Damping;
pub use self::report::{Admin, Failure, Finding, ProbeReport};
pub use self::rules::{CheckError, CheckRules};
pub(crate) use self::rules::{Init, Settings};

/// What the probes of one endpoint have shown so far.
///
/// ```
/// use buttress_core::{Health, Timestamp};
/// use buttress_health::{Check, CheckRules, Failure, ProbeReport};
///
/// let (rules, now) = (CheckRules::default(), Timestamp::ZERO);
/// let mut check = Check::new();
/// check.record(&rules, check.epoch(), ProbeReport::pass(), now);
/// for _ in 0..3 {
///     assert_eq!(check.health(), Health::Healthy);
///     check.record(&rules, check.epoch(), ProbeReport::fail(Failure::Timeout), now);
/// }
/// assert_eq!(check.health(), Health::Unhealthy);
/// ```
#[derive(Clone, Debug)]
pub struct Check {
    health: Health,
    /// Nothing was found yet, since the start or since the target changed: the next result decides.
    first: bool,
    /// Opposite results in a row.
    run: u32,
    /// Failures since it went down, which the wait grows by.
    down: u32,
    damping: Damping,
    epoch: u64,
    probed: Timestamp,
    /// By how much chance made the last wait longer: the fast ones that follow make up for it.
    owed: Duration,
}

/// What came of a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Recorded {
    /// The state is what it was.
    Same,
    /// The state has changed, from this one.
    Changed {
        /// The state before.
        from: Health,
    },
    /// The result is of a target or a configuration that is no more, and was ignored.
    Late,
}

impl Check {
    /// One of which nothing is known.
    #[must_use]
    pub fn new() -> Self {
        Self {
            health: Health::Unknown,
            first: true,
            run: 0,
            down: 0,
            damping: Damping::default(),
            epoch: 0,
            probed: Timestamp::ZERO,
            owed: Duration::ZERO,
        }
    }

    /// What is known now.
    #[must_use]
    pub const fn health(&self) -> Health {
        self.health
    }

    /// How many results in a row have said the opposite.
    #[must_use]
    pub const fn opposite(&self) -> u32 {
        self.run
    }

    /// The epoch that a probe which begins now belongs to.
    #[must_use]
    pub const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The configuration has changed: probes that are on their way come too late, and counting begins anew.
    pub const fn reconfigure(&mut self) {
        self.epoch += 1;
        self.run = 0;
        self.owed = Duration::ZERO;
    }

    /// Another target has taken its place: its state stays until the first result, which decides.
    pub fn retarget(&mut self) {
        *self = Self { health: self.health, epoch: self.epoch + 1, ..Self::new() };
    }

    /// Takes in the result of a probe that began in `epoch`.
    pub fn record(
        &mut self,
        rules: &CheckRules,
        epoch: u64,
        report: ProbeReport,
        now: Timestamp,
    ) -> Recorded {
        if epoch != self.epoch {
            return Recorded::Late;
        }
        let from = self.health;
        if report.finding == Finding::Fail(Failure::OutOfFiles) {
            // The fault is ours. Else one leak of files would take all endpoints out at once.
            return Recorded::Same;
        }
        self.probed = now;
        let next = match report.finding {
            Finding::Pass => Health::Healthy,
            Finding::Degraded => Health::Degraded,
            Finding::Fail(_) => Health::Unhealthy,
        };
        let was_up = matches!(from, Health::Healthy | Health::Degraded);
        if self.first {
            // Unknown -> any: the first result decides.
            self.first = false;
            self.settle(next, was_up && !report.is_pass(), now);
        } else if was_up == report.is_pass() {
            // It agrees. Healthy <-> Degraded is what the last pass says.
            self.run = 0;
            self.owed = Duration::ZERO;
            self.health = next;
            if !was_up {
                self.down = self.down.saturating_add(1);
            }
        } else {
            self.run = self.run.saturating_add(1);
            if was_up {
                // Healthy -> Unhealthy: enough failures in a row, or one that decides alone.
                if report.at_once || self.run >= rules.fails {
                    self.settle(next, true, now);
                }
            } else if self.run >= self.passes_asked(rules, report.at_once)
                && self.damping.held_for(rules, now).is_zero()
            {
                // Unhealthy -> Healthy: enough passes in a row, and it did not flap.
                self.settle(next, false, now);
            }
        }
        if self.health == from { Recorded::Same } else { Recorded::Changed { from } }
    }

    fn settle(&mut self, health: Health, flips: bool, now: Timestamp) {
        self.health = health;
        (self.run, self.down, self.owed) = (0, 0, Duration::ZERO);
        if flips {
            self.damping.flip(now);
        }
    }

    fn passes_asked(&self, rules: &CheckRules, at_once: bool) -> u32 {
        self.damping.passes(if at_once { 1 } else { rules.passes })
    }

    /// How long to wait from the end of a probe to the next one. `chance` is uniform over all of `u64`.
    pub fn wait(&mut self, rules: &CheckRules, activity: Activity, now: Timestamp, chance: u64) -> Duration {
        let up = matches!(self.health, Health::Healthy | Health::Degraded);
        if self.run > 0 {
            let held = self.damping.held_for(rules, now);
            if up || held.is_zero() || self.run < self.passes_asked(rules, false) {
                // Something is about to change. What chance added to the wait before is taken back, so that the bound holds.
                let owed = self.owed.min(rules.fast);
                self.owed -= owed;
                return rules.fast - owed;
            }
            // It has what it takes, and is held back for having flapped.
            return held.min(rules.interval).max(rules.fast);
        }
        let (wait, most) = match self.health {
            Health::Unhealthy => {
                let grown =
                    rules.down.saturating_mul(1_u32.checked_shl(self.down.min(31)).unwrap_or(u32::MAX));
                (grown.min(rules.longest_down), Duration::MAX)
            }
            Health::Healthy if rules.passive_first && is_idle(rules, activity, now) => {
                (rules.no_traffic, Duration::MAX)
            }
            // No more than the fast waits can make up for.
            _ => (rules.interval, rules.fast.saturating_mul(rules.fails - 1)),
        };
        let (longer, by) = jitter(wait, rules.jitter_ppm, chance);
        if longer {
            let by = by.min(most);
            self.owed = if up { by } else { Duration::ZERO };
            wait.saturating_add(by)
        } else {
            self.owed = Duration::ZERO;
            wait - by
        }
    }

    /// Whether a probe that is due can be left out, since calls show that the endpoint serves: then for how long to wait.
    #[must_use]
    pub fn skip(&self, rules: &CheckRules, activity: Activity, now: Timestamp) -> Option<Duration> {
        // What is in transition or degraded is asked, and each one is now and then: calls do not tell that it wants to go.
        let steady = self.health == Health::Healthy && !self.first && self.run == 0;
        if !rules.passive_first || !steady || now - self.probed >= rules.no_traffic || now < self.probed {
            return None;
        }
        let succeeded = activity.succeeded.filter(|&at| at <= now)?;
        let left = rules.interval.checked_sub(now - succeeded)?;
        (!left.is_zero()).then_some(left)
    }
}

impl Default for Check {
    fn default() -> Self {
        Self::new()
    }
}

/// No call was sent to it for so long that it need not be known soon whether it serves.
fn is_idle(rules: &CheckRules, activity: Activity, now: Timestamp) -> bool {
    activity.used.is_none_or(|at| now - at >= rules.no_traffic)
}

/// Whether the wait becomes longer, and by how much: uniform up to `ppm` millionths of it, either way.
fn jitter(wait: Duration, ppm: u64, chance: u64) -> (bool, Duration) {
    let most = u128::from(nanos(wait)) * u128::from(ppm) / 1_000_000;
    let by = (most * u128::from(chance >> 1)) >> 63;
    // At most half of a `u64`.
    (chance & 1 == 1, Duration::from_nanos(by as u64))
}
