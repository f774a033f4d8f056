//! The algorithms once more, as plainly as they can be written: whole numbers of 128 bits and lists of all that was
//! counted. Where a policy has a formula for a time, the model is asked what holds then and a nanosecond before.

use std::collections::BTreeMap;

use buttress_core::nanos;
use buttress_rate_limit::Gcra;

/// What a limiter counts, as a plain list or number.
pub(crate) trait Model {
    fn limit(&self) -> u128;

    /// Whether `cost` units would pass. Less passes wherever more does, and later whatever does now.
    fn admits(&self, now: u128, cost: u128) -> bool;

    /// Whether `units` calls of one unit each would pass.
    fn admits_units(&self, now: u128, units: u128) -> bool {
        self.admits(now, units)
    }

    /// Counts what passes.
    fn add(&mut self, now: u64, cost: u128);
    fn force(&mut self, now: u64, cost: u128);
    fn refund(&mut self, at: u64, now: u64, cost: u128);

    fn delay(&self, _: u64, _: u128) -> u128 {
        0
    }

    fn charge(&mut self, now: u64, cost: u128) -> bool {
        // A look costs nothing, in debt too.
        let passes = cost == 0 || cost <= self.limit() && self.admits(now.into(), cost);
        if passes && cost > 0 {
            self.add(now, cost);
        }
        passes
    }

    /// Whether so many calls of one unit pass, and no more.
    fn remains(&self, now: u64, units: u128) -> bool {
        let full = units >= self.limit() || !self.admits_units(now.into(), units + 1);
        units <= self.limit() && full && (units == 0 || self.admits_units(now.into(), units))
    }

    /// Whether one unit more than `remaining` is left after `wait`, and not before.
    fn resets(&self, now: u64, remaining: u128, wait: u128) -> bool {
        if remaining == self.limit() {
            return wait == 0;
        }
        is_first(wait, |wait| self.admits_units(u128::from(now) + wait, remaining + 1))
    }

    /// Whether a call passes after `wait`, and not before; or whether it never does.
    fn retries(&self, now: u64, cost: u128, wait: Option<u128>) -> bool {
        match wait {
            None => cost > self.limit(),
            Some(_) if cost > self.limit() => false,
            Some(wait) if cost == 0 => wait == 0,
            Some(wait) => is_first(wait, |wait| self.admits(u128::from(now) + wait, cost)),
        }
    }
}

fn is_first(number: u128, good: impl Fn(u128) -> bool) -> bool {
    good(number) && (number == 0 || !good(number - 1))
}

/// A bucket that drains `drain` per nanosecond and that each unit pours `pour` into, with room for `burst` units.
pub(crate) struct Bucket {
    pour: u128,
    drain: u128,
    burst: u128,
    /// The longest a call may wait, in what drains meanwhile.
    wait: u128,
    /// When it has all drained, times `drain`.
    empty_at: u128,
    queue: bool,
}

impl Bucket {
    /// The bucket of the rate that is kept: the one asked for wherever its ticks come out even.
    pub(crate) fn of(gcra: &Gcra) -> Self {
        let ticks_per_period = gcra.period().as_nanos() * u128::from(gcra.ticks_per_nano());
        let (pour, drain) = if ticks_per_period.is_multiple_of(u128::from(gcra.rate())) {
            (gcra.period().as_nanos(), u128::from(gcra.rate()))
        } else {
            (u128::from(gcra.ticks_per_unit()), u128::from(gcra.ticks_per_nano()))
        };
        Self { pour, drain, burst: gcra.burst().into(), wait: 0, empty_at: 0, queue: false }
    }

    /// The same, where up to `queue` calls may wait for up to `wait` nanoseconds.
    pub(crate) fn queue(gcra: &Gcra, wait: std::time::Duration, queue: u32) -> Self {
        let bucket = Self::of(gcra);
        let wait = (u128::from(nanos(wait)) * bucket.drain).min(u128::from(queue) * bucket.pour);
        Self { wait, queue: true, ..bucket }
    }

    fn full(&self) -> u128 {
        self.burst * self.pour + self.wait
    }

    /// What is in it.
    fn level(&self, now: u128) -> u128 {
        self.empty_at.saturating_sub(now * self.drain)
    }

    fn take_back(&mut self, poured: u128, now: u64) {
        let given = self.empty_at.saturating_sub(poured).max(u128::from(now) * self.drain);
        self.empty_at = self.empty_at.min(given);
    }

    /// How long a call of `cost` waits that brings the level to `level`, times `drain`: until the bucket holds its
    /// cost, or is full.
    fn turn(&self, level: u128, cost: u128) -> u128 {
        level.saturating_sub(self.burst.max(cost) * self.pour)
    }
}

impl Model for Bucket {
    fn limit(&self) -> u128 {
        self.full() / self.pour
    }

    fn admits(&self, now: u128, cost: u128) -> bool {
        self.turn(self.level(now) + cost * self.pour, cost) <= self.wait
    }

    fn admits_units(&self, now: u128, units: u128) -> bool {
        self.level(now) + units * self.pour <= self.full()
    }

    fn add(&mut self, now: u64, cost: u128) {
        self.empty_at = self.empty_at.max(u128::from(now) * self.drain) + cost * self.pour;
    }

    fn force(&mut self, now: u64, cost: u128) {
        let most = u128::from(now) * self.drain + 2 * self.full();
        let before = self.empty_at;
        self.add(now, cost);
        self.empty_at = self.empty_at.min(most).max(before);
    }

    fn refund(&mut self, at: u64, now: u64, cost: u128) {
        let last = self.turn(self.empty_at, cost).div_ceil(self.drain) == u128::from(at);
        let bucket = self.level(now.into()) <= self.burst * self.pour && self.burst > 1;
        if self.queue && last {
            self.take_back(cost * self.pour, now);
        } else if !self.queue || bucket {
            // What was poured in then had all drained when a full bucket of then has, and cannot be taken back.
            let cost_then = if self.queue { cost } else { 0 };
            let drained = u128::from(at) * self.drain + self.burst.max(cost_then) * self.pour;
            let left = drained.saturating_sub(u128::from(now) * self.drain);
            self.take_back(left.min(cost * self.pour), now);
        }
    }

    fn delay(&self, now: u64, cost: u128) -> u128 {
        if cost == 0 {
            return 0;
        }
        self.turn(self.level(now.into()), cost).div_ceil(self.drain)
    }
}

/// How the windows of a grid are weighed.
pub(crate) enum Weigh {
    /// The current one alone.
    Fixed,
    /// The current one, and of the one before what has not slid out.
    Counter,
    /// The current one and so many before.
    Strict(u128),
}

/// Counts by the window of a grid that they were counted in.
pub(crate) struct Grid {
    weigh: Weigh,
    limit: u128,
    /// The most that a window may be forced to.
    most: u128,
    window: u128,
    counts: BTreeMap<u128, u128>,
    /// The last window that anything was counted in.
    newest: u128,
}

impl Grid {
    pub(crate) fn new(weigh: Weigh, limit: u64, window: u64) -> Self {
        let limit = u128::from(limit);
        let most = 2 * limit;
        Self { weigh, limit, most, window: window.into(), counts: BTreeMap::new(), newest: 0 }
    }

    pub(crate) fn most(self, most: u32) -> Self {
        Self { most: self.most.min(most.into()), ..self }
    }

    fn current(&self, now: u128) -> u128 {
        self.newest.max(now / self.window)
    }

    fn count(&self, index: u128) -> u128 {
        self.counts.get(&index).copied().unwrap_or(0)
    }

    fn reach(&self) -> u128 {
        match self.weigh {
            Weigh::Fixed => 0,
            Weigh::Counter => 1,
            Weigh::Strict(parts) => parts,
        }
    }

    /// All that is counted at `now`, times the window.
    fn weight(&self, now: u128) -> u128 {
        let current = self.current(now);
        let into = now.saturating_sub(current * self.window);
        self.counts
            .range(current.saturating_sub(self.reach())..=current)
            .map(|(&index, &count)| {
                let slid = matches!(self.weigh, Weigh::Counter) && index < current;
                count * (self.window - if slid { into } else { 0 })
            })
            .sum()
    }
}

impl Model for Grid {
    fn limit(&self) -> u128 {
        self.limit
    }

    fn admits(&self, now: u128, cost: u128) -> bool {
        self.weight(now) + cost * self.window <= self.limit * self.window
    }

    fn add(&mut self, now: u64, cost: u128) {
        self.newest = self.current(now.into());
        *self.counts.entry(self.newest).or_default() += cost;
        let (newest, reach) = (self.newest, self.reach());
        self.counts.retain(|index, _| index + reach >= newest);
    }

    fn force(&mut self, now: u64, cost: u128) {
        if cost > 0 {
            self.add(now, 0);
            let counted: u128 = match self.weigh {
                Weigh::Strict(_) => self.counts.values().sum(),
                _ => self.count(self.newest),
            };
            let room = match self.weigh {
                Weigh::Strict(_) => (2 * self.limit).saturating_sub(counted),
                _ => self.most.saturating_sub(counted),
            };
            let room = room.min(self.most.saturating_sub(self.count(self.newest)));
            self.add(now, cost.min(room));
        }
    }

    fn refund(&mut self, at: u64, now: u64, cost: u128) {
        let index = u128::from(at) / self.window;
        let over = matches!(self.weigh, Weigh::Fixed) && u128::from(now) / self.window > self.newest;
        if !over && let Some(count) = self.counts.get_mut(&index) {
            *count = count.saturating_sub(cost);
        }
    }

    fn resets(&self, now: u64, remaining: u128, wait: u128) -> bool {
        let now = u128::from(now);
        match self.weigh {
            // The window ends whether anything was counted or not.
            Weigh::Fixed => now + wait == (self.current(now) + 1) * self.window,
            _ if remaining == self.limit => wait == 0,
            _ => is_first(wait, |wait| self.admits(now + wait, remaining + 1)),
        }
    }
}

/// The time of each unit.
pub(crate) struct Log {
    limit: usize,
    window: u64,
    times: Vec<u64>,
}

impl Log {
    pub(crate) const fn new(limit: u64, window: u64) -> Self {
        Self { limit: limit as usize, window, times: Vec::new() }
    }
}

impl Model for Log {
    fn limit(&self) -> u128 {
        self.limit as u128
    }

    fn admits(&self, now: u128, cost: u128) -> bool {
        let out = self.times.partition_point(|&time| u128::from(time) + u128::from(self.window) <= now);
        (self.times.len() - out) as u128 + cost <= self.limit as u128
    }

    fn add(&mut self, now: u64, cost: u128) {
        let time = self.times.last().map_or(now, |&last| last.max(now));
        self.times.extend((0..cost.min(self.limit as u128)).map(|_| time));
        let forgotten = self.times.len().saturating_sub(self.limit);
        self.times.drain(..forgotten);
    }

    fn force(&mut self, now: u64, cost: u128) {
        self.add(now, cost);
    }

    fn refund(&mut self, at: u64, now: u64, cost: u128) {
        for _ in 0..cost.min(self.limit as u128) {
            match self.times.iter().position(|&time| time == at && at.saturating_add(self.window) > now) {
                Some(unit) => drop(self.times.remove(unit)),
                None => break,
            }
        }
    }
}
