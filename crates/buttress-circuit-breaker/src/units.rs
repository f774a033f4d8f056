//! The breakers of a layer: one for all calls, and one for each key.

use std::sync::OnceLock;
use std::time::Duration;

use buttress_core::{HashSeeds, HashSink, Key, KeyPart, KeySink};

use crate::Rules;
use crate::breaker::Breaker;
use crate::keyed::{Keyed, Place};
use crate::label::Label;

/// The breakers of a layer.
pub(crate) struct Units {
    one: Breaker,
    label: Label,
    keyed: OnceLock<Keyed>,
    capacity: usize,
    idle: Duration,
    seeds: HashSeeds,
}

/// Which breaker a call goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slot {
    /// That of all calls without a key.
    One,
    Of(Place),
}

impl Units {
    pub(crate) fn new(rules: &Rules, capacity: usize) -> Self {
        let (one, label) = (Breaker::new(rules), Label::default());
        let idle = Keyed::DEFAULT_IDLE.max(rules.longest().saturating_mul(10));
        Self { one, label, keyed: OnceLock::new(), capacity, idle, seeds: HashSeeds::get() }
    }

    /// The hash of a request's key; `None` when it has none.
    #[inline]
    pub(crate) fn hash<Req, K: Key<Req>>(&self, key: &K, req: &Req) -> Option<u64> {
        let mut sink = Sink { seeds: self.seeds, hash: None };
        // A key of several parts may have written some of them.
        if key.key(req, &mut sink) { sink.finish() } else { None }
    }

    /// That of a key that is given; `None` for [`Global`](buttress_core::Global).
    pub(crate) fn hash_of(&self, part: &impl KeyPart) -> Option<u64> {
        let mut sink = Sink { seeds: self.seeds, hash: None };
        part.write(&mut sink);
        sink.finish()
    }

    /// The breakers of keys, made when the first key comes.
    #[inline]
    pub(crate) fn keyed(&self) -> &Keyed {
        self.keyed.get_or_init(|| Keyed::new(self.capacity, self.idle))
    }

    /// The same, if there are any.
    pub(crate) fn keyed_so_far(&self) -> Option<&Keyed> {
        self.keyed.get()
    }

    #[inline]
    pub(crate) fn breaker(&self, slot: Slot) -> &Breaker {
        match slot {
            Slot::One => &self.one,
            Slot::Of(place) => self.keyed().breaker(place),
        }
    }

    #[inline]
    pub(crate) fn label(&self, slot: Slot) -> &Label {
        match slot {
            Slot::One => &self.label,
            Slot::Of(place) => self.keyed().label(place),
        }
    }
}

/// The key of a call: its hash, or nothing until the first part is written.
struct Sink {
    seeds: HashSeeds,
    hash: Option<HashSink>,
}

impl Sink {
    /// Never 0, as the table has it.
    #[inline]
    fn finish(self) -> Option<u64> {
        self.hash.map(|hash| hash.finish().max(1))
    }
}

impl KeySink for Sink {
    #[inline]
    fn bytes(&mut self, part: &[u8]) {
        self.hash.get_or_insert_with(|| HashSink::with(self.seeds)).bytes(part);
    }

    #[inline]
    fn fixed<const N: usize>(&mut self, part: [u8; N]) {
        self.hash.get_or_insert_with(|| HashSink::with(self.seeds)).fixed(part);
    }
}
