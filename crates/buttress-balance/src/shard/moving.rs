//! A key on its way from one shard to another.
//!
//! ```text
//!            begin                      finish
//!   at `from` ────▶ copying ──────────────▶ at `to`
//!
//!   writes  from      to                      to
//!   reads   from      to, and if that has     to
//!                     no such key: from
//! ```
//!
//! A key has one owner for writes at each moment, so there are no two copies that differ in what came last.

use std::fmt;

use buttress_core::{Access, AccessOf, BySafety};

/// A key on its way from one shard to another: both have to be asked for it.
///
/// Writes go to the shard that is to have the key. Reads go there too, and where that says that it has no such key, to the
/// one that had it. So a key that was written since the move began is found at its new place, and one that was not at either.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_structs, reason = "a move has two ends")]
pub struct Moving {
    /// The shard that had it.
    pub from: usize,
    /// The shard that is to have it.
    pub to: usize,
}

impl Moving {
    /// The shard that is asked first.
    #[must_use]
    pub const fn first(self) -> usize {
        self.to
    }

    /// The shard that is asked when the first has no such key.
    #[must_use]
    pub const fn then(self, access: Access) -> Option<usize> {
        match access {
            Access::Read => Some(self.from),
            Access::Write => None,
        }
    }
}

/// What [`Shards`](crate::Shards) needs to know to serve keys that move: [`Still`] or [`Movable`].
pub trait Moves<Req, Res, Err> {
    /// Whether the request reads or writes; `None` where no key may move.
    fn access(&self, req: &Req) -> Option<Access>;

    /// The request once more, for the second shard.
    fn again(&self, req: &Req) -> Option<Req>;

    /// Whether a shard says that it has no such key.
    fn not_found(&self, result: Result<&Res, &Err>) -> bool;
}

/// Keys stay where they are: the default. A directory that says that a key moves is taken at its word, and the call is
/// refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a word: there is nothing to add to it")]
pub struct Still;

impl<Req, Res, Err> Moves<Req, Res, Err> for Still {
    fn access(&self, _: &Req) -> Option<Access> {
        None
    }

    fn again(&self, _: &Req) -> Option<Req> {
        None
    }

    fn not_found(&self, _: Result<&Res, &Err>) -> bool {
        false
    }
}

/// Keys may move. Made by [`Shards::movable`](crate::Shards::movable).
#[derive(Clone, Copy)]
pub struct Movable<N, A = BySafety> {
    not_found: N,
    access: A,
}

impl<N, A> Movable<N, A> {
    pub(crate) const fn new(not_found: N, access: A) -> Self {
        Self { not_found, access }
    }
}

impl<Req, Res, Err, N, A> Moves<Req, Res, Err> for Movable<N, A>
where
    Req: Clone,
    N: Fn(Result<&Res, &Err>) -> bool,
    A: AccessOf<Req>,
{
    fn access(&self, req: &Req) -> Option<Access> {
        Some(self.access.access(req))
    }

    fn again(&self, req: &Req) -> Option<Req> {
        Some(req.clone())
    }

    fn not_found(&self, result: Result<&Res, &Err>) -> bool {
        (self.not_found)(result)
    }
}

impl<N, A> fmt::Debug for Movable<N, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Movable").finish_non_exhaustive()
    }
}
