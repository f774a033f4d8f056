use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use buttress_core::{Key, KeySink, Outcome, Timestamp};

use crate::{Hashing, Load, Node, Order, PolicyError};

/// How a balancer chooses among endpoints: settings, of which a [`Picker`] is built for each set of endpoints.
///
/// Those of this crate are made by [`ConsistentHash`](crate::ConsistentHash), [`Static`](crate::Static) and
/// [`LeastLoad`](crate::LeastLoad).
pub trait Policy: Send + Sync + 'static {
    /// What chooses among the endpoints of one set.
    type Picker: Picker;

    /// Builds a picker for endpoints at these positions. The order of the list says what the positions mean, and nothing
    /// else.
    ///
    /// # Errors
    ///
    /// When the settings do not fit these endpoints.
    fn build(&self, nodes: &[Node]) -> Result<Self::Picker, PolicyError>;

    /// Builds a picker where `present` is that of another set, of which most may have stayed.
    ///
    /// # Errors
    ///
    /// As [`build`](Self::build).
    fn rebuild(&self, present: &Self::Picker, nodes: &[Node]) -> Result<Self::Picker, PolicyError> {
        let _ = present;
        self.build(nodes)
    }

    /// How the keys of calls are hashed.
    fn hashing(&self) -> Hashing {
        Hashing::default()
    }

    /// Whether [`ended`](Self::ended) has to be told of calls. It costs each call two looks at the clock.
    fn is_timed(&self) -> bool {
        false
    }

    /// Whether [`received`](Self::received) has to be told of the bytes of responses. It costs each frame of a body that is followed a
    /// look at the clock.
    fn counts_bytes(&self) -> bool {
        false
    }

    /// A call has been answered, as far as its classifier has to see, or dropped: notes in `load`, that of its endpoint, what
    /// later picks go by. Asked for by [`is_timed`](Self::is_timed).
    fn ended(&self, load: &Load, call: &Ended<'_>) {
        let _ = (load, call);
    }

    /// So many bytes of a response's body have come, where the body is followed. Asked for by
    /// [`counts_bytes`](Self::counts_bytes).
    fn received(&self, load: &Load, bytes: u64, now: Timestamp) {
        let _ = (load, bytes, now);
    }
}

/// Chooses an endpoint for each call.
pub trait Picker: Send + Sync + 'static {
    /// Chooses one of the endpoints: one that [`admit`](Among::admit) took the call for, after which no other is asked. `None` where none
    /// did, of all that [`is_usable`](Among::is_usable) let through.
    ///
    /// `hash` is that of the call's key, or random where it has none, and even over 64 bits.
    fn pick(&self, hash: u64, among: &impl Among) -> Option<usize>;
}

/// The endpoints that a [`Picker`] chooses among, as they are for one call.
pub trait Among {
    /// Whether the endpoint may have the call.
    fn is_usable(&self, endpoint: usize) -> bool;

    /// Takes a place for the call at the endpoint, if it is usable and has one. The call then goes there.
    fn admit(&self, endpoint: usize) -> bool;

    /// What is known of the endpoint's load.
    fn load(&self, endpoint: usize) -> &Load;

    /// The time, read once at most.
    fn now(&self) -> Timestamp;
}

/// How a call ended, as [`Policy::ended`] is told.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Ended<'a> {
    /// When the call was admitted.
    pub started: Timestamp,
    /// When it was answered.
    pub now: Timestamp,
    /// How it ended; `None` where it was dropped before that was known.
    pub outcome: Option<&'a Outcome>,
}

impl<'a> Ended<'a> {
    /// A call that was admitted at `started` and ended now, with this outcome, or dropped.
    #[inline]
    #[must_use]
    pub const fn new(started: Timestamp, now: Timestamp, outcome: Option<&'a Outcome>) -> Self {
        Self { started, now, outcome }
    }

    /// How long it took, in nanoseconds.
    #[inline]
    pub(crate) const fn nanos(&self) -> u64 {
        self.now.as_nanos().saturating_sub(self.started.as_nanos())
    }
}

/// A picker over an [`Order`]: the first of a hash's candidates that takes the call.
#[derive(Clone, Debug)]
pub struct ByHash<O>(O);

impl<O: Order> ByHash<O> {
    /// Picks by `order`.
    pub const fn new(order: O) -> Self {
        Self(order)
    }

    /// The order.
    pub const fn order(&self) -> &O {
        &self.0
    }
}

impl<O: Order + Send + Sync + 'static> Picker for ByHash<O> {
    #[inline]
    fn pick(&self, hash: u64, among: &impl Among) -> Option<usize> {
        self.0.pick(hash, |endpoint| among.admit(endpoint))
    }
}

/// A picker over an [`Order`] that goes by turns: each pick is the next turn, whatever the call's key.
pub struct ByTurn<O> {
    order: O,
    turn: AtomicU64,
}

impl<O: Order> ByTurn<O> {
    /// Picks by `order`, beginning with this turn.
    pub const fn new(order: O, turn: u64) -> Self {
        Self { order, turn: AtomicU64::new(turn) }
    }

    /// The number of the next turn.
    pub fn turn(&self) -> u64 {
        self.turn.load(Ordering::Relaxed)
    }
}

impl<O: Order + Send + Sync + 'static> Picker for ByTurn<O> {
    #[inline]
    fn pick(&self, _: u64, among: &impl Among) -> Option<usize> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        self.order.pick(turn, |endpoint| among.admit(endpoint))
    }
}

impl<O: fmt::Debug> fmt::Debug for ByTurn<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ByTurn").field("order", &self.order).field("turn", &self.turn).finish()
    }
}

/// The policy of a balancer that is given none.
pub type DefaultPolicy = crate::LeastLoadRules<crate::PeakEwma>;

/// The key of calls that have none: each goes where chance, turns or load say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a word: there is nothing to add to it")]
pub struct NoKey;

impl<Req> Key<Req> for NoKey {
    #[inline]
    fn key<K: KeySink>(&self, _: &Req, _: &mut K) -> bool {
        false
    }
}
