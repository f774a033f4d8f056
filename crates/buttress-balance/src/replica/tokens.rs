use std::fmt;

/// What is known of how far a replica has to be: consistency tokens.
///
/// A token is a position in the history of the primary that only grows: a log sequence number (PostgreSQL's `pg_lsn`, SQL
/// Server's LSN), a GTID's sequence, a commit timestamp. A replica that has reported it has all that was written up to it.
pub trait Tokens<Req, Res> {
    /// The token that comes with a request, where the caller keeps its own.
    fn asked(&self, req: &Req) -> Option<u64>;

    /// The token that the answer to a write gives.
    fn written(&self, res: &Res) -> Option<u64>;
}

/// No tokens: reads go to the primary for the time after a write that
/// [`ReplicaRules`](crate::ReplicaRules) says. The default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a word: there is nothing to add to it")]
pub struct NoTokens;

impl<Req, Res> Tokens<Req, Res> for NoTokens {
    fn asked(&self, _: &Req) -> Option<u64> {
        None
    }

    fn written(&self, _: &Res) -> Option<u64> {
        None
    }
}

/// Tokens from the answers to writes. Made by [`ReplicaSplit::tokens`](crate::ReplicaSplit::tokens).
#[derive(Clone, Copy)]
pub struct WrittenTokens<W>(pub(crate) W);

impl<Req, Res, W> Tokens<Req, Res> for WrittenTokens<W>
where
    W: Fn(&Res) -> Option<u64>,
{
    fn asked(&self, _: &Req) -> Option<u64> {
        None
    }

    fn written(&self, res: &Res) -> Option<u64> {
        (self.0)(res)
    }
}

/// Tokens from the answers to writes and with requests. Made by
/// [`ReplicaSplit::carried_tokens`](crate::ReplicaSplit::carried_tokens).
#[derive(Clone, Copy)]
pub struct CarriedTokens<A, W>(pub(crate) A, pub(crate) W);

impl<Req, Res, A, W> Tokens<Req, Res> for CarriedTokens<A, W>
where
    A: Fn(&Req) -> Option<u64>,
    W: Fn(&Res) -> Option<u64>,
{
    fn asked(&self, req: &Req) -> Option<u64> {
        (self.0)(req)
    }

    fn written(&self, res: &Res) -> Option<u64> {
        (self.1)(res)
    }
}

impl<W> fmt::Debug for WrittenTokens<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WrittenTokens").finish_non_exhaustive()
    }
}

impl<A, W> fmt::Debug for CarriedTokens<A, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CarriedTokens").finish_non_exhaustive()
    }
}
