//! Requests that are not HTTP.

use buttress_core::{HasFacts, Timestamp};

use super::sealed::{Again, Note, Read, Stamp, Terms};
use super::{Reads, Repeat};
use crate::policy::{Sent, Skip};

/// A request of your own that a [`RetryLayer::replaying`](crate::RetryLayer::replaying) may send more than once.
///
/// ```
/// use buttress_core::HasFacts;
/// use buttress_retry::Replay;
///
/// enum Command {
///     Get(String),
///     Append(String, Vec<u8>),
///     Stream(std::fs::File),
/// }
///
/// impl HasFacts for Command {}
///
/// impl Replay for Command {
///     fn is_idempotent(&self) -> bool {
///         matches!(self, Self::Get(_))
///     }
///
///     fn replay(&self) -> Option<Self> {
///         match self {
///             Self::Get(key) => Some(Self::Get(key.clone())),
///             Self::Append(key, value) => Some(Self::Append(key.clone(), value.clone())),
///             // It can be read only once: it goes out once, and that is no error.
///             Self::Stream(_) => None,
///         }
///     }
/// }
/// ```
pub trait Replay: HasFacts + Sized {
    /// Whether it may be carried out twice, as that is the same as once. What may not is sent again only where it is
    /// certain that the service did not begin to work on it.
    ///
    /// No, unless said otherwise.
    fn is_idempotent(&self) -> bool {
        false
    }

    /// The same request once more. `None` where it cannot be had: then it is sent once.
    fn replay(&self) -> Option<Self>;
}

/// Sends a copy of a request that is `Clone`. Made by [`RetryLayer::cloning`](crate::RetryLayer::cloning).
#[derive(Clone, Copy, Debug)]
pub struct Cloning<F> {
    is_idempotent: F,
}

impl<F> Cloning<F> {
    pub(crate) const fn new(is_idempotent: F) -> Self {
        Self { is_idempotent }
    }
}

impl<F, Req> Repeat<Req> for Cloning<F>
where
    F: Fn(&Req) -> bool,
    Req: Clone + HasFacts,
{
    type Sent = Req;
}

impl<F, Req> Again<Req> for Cloning<F>
where
    F: Fn(&Req) -> bool,
    Req: Clone + HasFacts,
{
    type Sent = Req;
    type Spare = Req;

    fn begin(&self, req: Req, retries: bool, trail: bool) -> (Req, Terms<Req>) {
        let repeatable = (self.is_idempotent)(&req);
        begin(req, repeatable, retries, trail, |req| Some(req.clone()))
    }

    fn sent(&self, _: &Req) -> Sent {
        Sent::All
    }

    fn again(&self, spare: Req, stamp: Stamp) -> Option<(Req, Option<Req>)> {
        Some(again(spare, stamp, |spare| Some(spare.clone())))
    }
}

/// Sends a request again as its [`Replay`] says. Made by
/// [`RetryLayer::replaying`](crate::RetryLayer::replaying).
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Replaying;

impl<Req: Replay> Repeat<Req> for Replaying {
    type Sent = Req;
}

impl<Req: Replay> Again<Req> for Replaying {
    type Sent = Req;
    type Spare = Req;

    fn begin(&self, req: Req, retries: bool, trail: bool) -> (Req, Terms<Req>) {
        let repeatable = req.is_idempotent();
        begin(req, repeatable, retries, trail, Req::replay)
    }

    fn sent(&self, _: &Req) -> Sent {
        Sent::All
    }

    fn again(&self, spare: Req, stamp: Stamp) -> Option<(Req, Option<Req>)> {
        Some(again(spare, stamp, Req::replay))
    }
}

fn begin<Req: HasFacts>(
    mut req: Req,
    repeatable: bool,
    retries: bool,
    trail: bool,
    copy: impl FnOnce(&Req) -> Option<Req>,
) -> (Req, Terms<Req>) {
    let facts = req.facts();
    let (attempt, marked) = facts.map_or((1, false), |facts| (facts.attempt, facts.no_retry));
    let deadline = facts.and_then(|facts| facts.deadline).unwrap_or(Timestamp::MAX);
    let spare = if !retries {
        Err(Skip::Attempts)
    } else if marked {
        Err(Skip::Marked)
    } else {
        if trail && let Some(facts) = req.facts_mut() {
            facts.trail.get_or_insert_default();
        }
        copy(&req).ok_or(Skip::BodyTooLarge)
    };
    (req, Terms { spare, repeatable, attempt, deadline })
}

fn again<Req: HasFacts>(
    mut spare: Req,
    stamp: Stamp,
    copy: impl FnOnce(&Req) -> Option<Req>,
) -> (Req, Option<Req>) {
    let last = stamp.last;
    if let Some(facts) = spare.facts_mut() {
        stamp.write(facts);
    }
    let copy = if last { None } else { copy(&spare) };
    (spare, copy)
}

impl<F, Res> Reads<Res> for Cloning<F> {}
impl<Res> Reads<Res> for Replaying {}

impl<F, Res> Read<Res> for Cloning<F> {
    fn read(&self, _: &Res) -> Note {
        Note::default()
    }

    fn mark(&self, _: &mut Res) {}
}

impl<Res> Read<Res> for Replaying {
    fn read(&self, _: &Res) -> Note {
        Note::default()
    }

    fn mark(&self, _: &mut Res) {}
}
