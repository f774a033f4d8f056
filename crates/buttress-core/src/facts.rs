use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::Timestamp;

/// What our layers tell each other about one call: its deadline, which attempt it is, where it was tried.
///
/// All of it shares one slot in a request's extensions. An absent slot means a first attempt without a
/// deadline, so the ordinary call carries nothing and allocates nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Facts {
    /// When the caller stops waiting.
    pub deadline: Option<Timestamp>,
    /// Which attempt this is; the first is 1.
    pub attempt: u32,
    /// The endpoints that were tried before, in order, each once.
    pub tried: Vec<EndpointId>,
    /// The endpoint that the call is bound to, as a session is: a balancer takes it where it can serve.
    pub prefer: Option<EndpointId>,
    /// Whether no layer may retry the call, so that retries do not multiply.
    pub no_retry: bool,
    /// Where a layer above wants to be told which endpoint this attempt goes to: see [`chose`](Self::chose).
    pub trail: Option<Trail>,
}

impl Default for Facts {
    fn default() -> Self {
        Self { deadline: None, attempt: 1, tried: Vec::new(), prefer: None, no_retry: false, trail: None }
    }
}

impl Facts {
    /// The facts of a first attempt without a deadline.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Brings the deadline forward to `deadline`; a later one than the present changes nothing.
    pub fn limit_deadline(&mut self, deadline: Timestamp) {
        self.deadline = Some(self.deadline.map_or(deadline, |present| present.min(deadline)));
    }

    /// Tells the layers above which endpoint this attempt goes to, where one of them asks.
    ///
    /// What chooses among endpoints calls it when it has chosen, before it calls: an attempt that fails with an error, or
    /// that is still under way when it is hedged, could not tell later.
    ///
    /// ```
    /// use buttress_core::{EndpointId, Facts, Trail};
    ///
    /// let mut facts = Facts::new();
    /// let trail = facts.trail.insert(Trail::new()).clone(); // above
    /// facts.chose(EndpointId::new(7)); // below
    /// assert_eq!(trail.endpoints(), [EndpointId::new(7)]);
    /// ```
    pub fn chose(&self, endpoint: EndpointId) {
        if let Some(trail) = &self.trail {
            trail.note(endpoint);
        }
    }

    /// Adds to the [`tried`](Self::tried) endpoints those on the trail.
    pub fn follow_trail(&mut self) {
        if let Some(trail) = &self.trail {
            for endpoint in &trail.lock().endpoints {
                if !self.tried.contains(endpoint) {
                    self.tried.push(*endpoint);
                }
            }
        }
    }
}

/// The endpoints that the attempts of one call went to, in order, each once: written down below, read above, while the
/// attempts are under way. A clone is the same trail.
#[derive(Clone, Default)]
pub struct Trail(Arc<Steps>);

#[derive(Default)]
struct Steps {
    gone: Mutex<Gone>,
    above: Option<Trail>,
}

#[derive(Default)]
struct Gone {
    endpoints: Vec<EndpointId>,
    last: Option<EndpointId>,
}

impl Trail {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty one for what goes on below one layer alone: all that is noted on it is noted on this one too, where
    /// attempts that run beside it note theirs.
    ///
    /// ```
    /// use buttress_core::{EndpointId, Trail};
    ///
    /// let (one, other) = (EndpointId::new(1), EndpointId::new(2));
    /// let call = Trail::new();
    /// let (first, hedge) = (call.branch(), call.branch());
    /// first.note(one);
    /// hedge.note(other);
    /// assert_eq!((first.last(), call.endpoints()), (Some(one), vec![one, other]));
    /// ```
    #[must_use]
    pub fn branch(&self) -> Self {
        Self(Arc::new(Steps { gone: Mutex::default(), above: Some(self.clone()) }))
    }

    /// Writes down that an attempt goes to `endpoint`.
    pub fn note(&self, endpoint: EndpointId) {
        let mut trail = Some(self);
        while let Some(here) = trail {
            let mut gone = here.lock();
            gone.last = Some(endpoint);
            if !gone.endpoints.contains(&endpoint) {
                gone.endpoints.push(endpoint);
            }
            drop(gone);
            trail = here.0.above.as_ref();
        }
    }

    /// What was written down so far.
    #[must_use]
    pub fn endpoints(&self) -> Vec<EndpointId> {
        self.lock().endpoints.clone()
    }

    /// What was written down last, be it there before or not.
    #[must_use]
    pub fn last(&self) -> Option<EndpointId> {
        self.lock().last
    }

    fn lock(&self) -> MutexGuard<'_, Gone> {
        self.0.gone.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PartialEq for Trail {
    fn eq(&self, other: &Self) -> bool {
        // One lock at a time, since both may be the same.
        let endpoints = self.endpoints();
        endpoints == other.lock().endpoints
    }
}

impl Eq for Trail {}

impl fmt::Debug for Trail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Trail").field(&self.lock().endpoints).finish()
    }
}

/// Identifies an endpoint within one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndpointId(u64);

impl EndpointId {
    /// Makes an id of a number that its maker keeps unique.
    #[must_use]
    pub const fn new(id: u64) -> Self {
        Self(id)
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// A request that may carry [`Facts`].
///
/// `http::Request` carries them in its extensions. For a request type of your own the provided methods mean
/// "none"; keep them in a field to take part. Text, bytes and numbers carry none.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not say whether it carries facts about a call",
    label = "this layer reads them from the request",
    note = "for a request type that carries none write `impl buttress_core::HasFacts for {Self} {{}}`"
)]
pub trait HasFacts {
    /// The facts, if any were written.
    fn facts(&self) -> Option<&Facts> {
        None
    }

    /// The facts to change, written first where there are none; `None` for a request that cannot carry any.
    fn facts_mut(&mut self) -> Option<&mut Facts> {
        None
    }
}

macro_rules! none {
    ($($request:ty),*) => { $(impl HasFacts for $request {})* };
}

none!(
    (),
    &str,
    String,
    &[u8],
    Vec<u8>,
    bytes::Bytes,
    bool,
    char,
    u8,
    u16,
    u32,
    u64,
    u128,
    usize,
    i8,
    i16,
    i32,
    i64,
    i128,
    isize
);

impl<B> HasFacts for http::Request<B> {
    #[inline]
    fn facts(&self) -> Option<&Facts> {
        self.extensions().get()
    }

    fn facts_mut(&mut self) -> Option<&mut Facts> {
        Some(self.extensions_mut().get_or_insert_default())
    }
}
