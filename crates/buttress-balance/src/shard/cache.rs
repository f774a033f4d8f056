//! What a directory remembers: answers for a while, a bounded number of them, and which lookups are under way.
//!
//! Answers are kept in two generations of half the capacity each. A new answer, and one that is asked for again, goes to the
//! young one; when that is full it becomes the old one, and the old one is forgotten: a least-recently-used order, by halves,
//! without lists.
//!
//! ```text
//!            begin(id)            land(id)
//!   absent ───────────▶ under way ─────────▶ remembered ──▶ absent (after the time to live, or for want of room)
//!      ▲                    │ invalidated, abandoned, failed
//!      └────────────────────┘   a lookup whose id is not under way any more is late, and its answer is not kept
//! ```

use std::collections::HashMap;
use std::hash::Hash;
use std::mem;
use std::time::Duration;

use buttress_core::Timestamp;

use super::Located;

/// `F` is a lookup that is under way.
#[derive(Debug)]
pub(crate) struct Cache<K, F> {
    half: usize,
    young: HashMap<K, Entry>,
    old: HashMap<K, Entry>,
    flights: HashMap<K, (u64, Timestamp, F)>,
    last: u64,
    evicted: u64,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    located: Located,
    /// It holds from here on, and for so long.
    since: Timestamp,
    ttl: Duration,
}

impl Entry {
    /// A clock that went back ends it as well.
    fn is_fresh(&self, now: Timestamp) -> bool {
        self.since <= now && now - self.since < self.ttl
    }
}

impl<K: Hash + Eq, F> Cache<K, F> {
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            half: capacity / 2,
            young: HashMap::new(),
            old: HashMap::new(),
            flights: HashMap::new(),
            last: 0,
            evicted: 0,
        }
    }

    /// How many answers are remembered.
    pub(crate) fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }

    pub(crate) fn under_way(&self) -> usize {
        self.flights.len()
    }

    pub(crate) fn evicted(&self) -> u64 {
        self.evicted
    }

    pub(crate) fn get(&mut self, key: &K, now: Timestamp) -> Option<Located> {
        if let Some(entry) = self.young.get(key) {
            if entry.is_fresh(now) {
                return Some(entry.located);
            }
            self.young.remove(key);
            return None;
        }
        let (key, entry) = self.old.remove_entry(key)?;
        entry.is_fresh(now).then(|| self.keep(key, entry).located)
    }

    fn keep(&mut self, key: K, entry: Entry) -> Entry {
        self.old.remove(&key);
        if self.young.len() >= self.half && !self.young.contains_key(&key) {
            let forgotten = mem::replace(&mut self.old, mem::take(&mut self.young));
            self.evicted += forgotten.len() as u64;
        }
        self.young.insert(key, entry);
        entry
    }

    /// The lookup of this key that is under way, if it has not been for longer than `patience`.
    pub(crate) fn flight(&self, key: &K, now: Timestamp, patience: Duration) -> Option<&F> {
        let (_, since, flight) = self.flights.get(key)?;
        (now - *since < patience).then_some(flight)
    }

    /// A number for the next lookup.
    pub(crate) const fn next_id(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    pub(crate) fn begin(&mut self, key: K, id: u64, flight: F, now: Timestamp) {
        self.flights.insert(key, (id, now, flight));
    }

    /// Ends a lookup; `false` when it is late.
    pub(crate) fn end(&mut self, key: &K, id: u64) -> bool {
        let current = self.flights.get(key).is_some_and(|flight| flight.0 == id);
        if current {
            self.flights.remove(key);
        }
        current
    }

    /// Remembers an answer for `ttl`; nothing for no time.
    pub(crate) fn remember(&mut self, key: K, located: Located, ttl: Duration, now: Timestamp) {
        if !ttl.is_zero() {
            self.keep(key, Entry { located, since: now, ttl });
        }
    }

    /// Forgets what is known of a key, and what is being looked up.
    pub(crate) fn invalidate(&mut self, key: &K) {
        self.young.remove(key);
        self.old.remove(key);
        self.flights.remove(key);
    }

    pub(crate) fn clear(&mut self) {
        self.young.clear();
        self.old.clear();
        self.flights.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_nanos(10);

    fn cache(capacity: usize) -> Cache<u32, ()> {
        Cache::new(capacity)
    }

    #[test]
    fn an_answer_is_remembered_until_its_time_is_over() {
        let mut cache = cache(4);
        let at = Timestamp::from_nanos;
        cache.remember(1, Located::At(7), TTL, at(100));

        assert_eq!(cache.get(&1, at(109)), Some(Located::At(7)));
        assert_eq!(cache.get(&1, at(110)), None);
        cache.remember(1, Located::At(7), TTL, at(100));
        assert_eq!(cache.get(&1, at(99)), None, "the clock went back");
        cache.remember(1, Located::At(7), Duration::ZERO, at(100));
        assert_eq!(cache.get(&1, at(100)), None, "no time is not at all");
    }

    #[test]
    fn no_more_answers_are_held_than_there_is_room_for_and_those_in_use_stay() {
        for capacity in 2..9 {
            let mut cache = cache(capacity);
            cache.remember(0, Located::At(0), TTL, Timestamp::ZERO);
            for key in 1..1000 {
                cache.remember(key, Located::At(0), TTL, Timestamp::ZERO);
                assert!(cache.len() <= capacity, "{} of {capacity}", cache.len());
                assert!(cache.get(&key, Timestamp::ZERO).is_some());
                if capacity >= 4 {
                    assert!(cache.get(&0, Timestamp::ZERO).is_some(), "it is asked for all the time");
                }
            }
            assert!(cache.evicted() >= 900);
        }
    }
}
