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
    /// The endpoints that were tried before, in order.
    pub tried: Vec<EndpointId>,
    /// Whether no layer may retry the call, so that retries do not multiply.
    pub no_retry: bool,
}

impl Default for Facts {
    fn default() -> Self {
        Self { deadline: None, attempt: 1, tried: Vec::new(), no_retry: false }
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
/// "none"; keep them in a field to take part.
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

impl<B> HasFacts for http::Request<B> {
    #[inline]
    fn facts(&self) -> Option<&Facts> {
        self.extensions().get()
    }

    fn facts_mut(&mut self) -> Option<&mut Facts> {
        Some(self.extensions_mut().get_or_insert_default())
    }
}
