//! What a layer asks of each call beside its key: what it costs, which plan it is under, whether it is on a list,
//! and what it took in the end.
//!
//! The closures that are given to a [`RateLimitLayer`](crate::RateLimitLayer) are kept in its [`Rules`], one type
//! parameter for each. These types are here to be named in a struct; nobody has to write them otherwise.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use buttress_core::{Key, Name, Store};

use crate::settle::{AsCharged, Settle};
use crate::{Charge, Pick};

/// All that a layer asks of a call beside its key. Made by the steps of the layer.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rules<C = KeyCost, P = OnePlan, L = NoLists, A = AsCharged> {
    pub(crate) cost: C,
    pub(crate) plan: P,
    pub(crate) lists: L,
    pub(crate) settle: A,
}

/// What [`Rules`] are to a service: asked of each call in this order.
#[diagnostic::on_unimplemented(
    message = "the closures of this rate limit do not fit calls of `{Req}` that are answered with `{Res}`",
    note = "a closure takes the request, or for `settle` the response, of the service below: `|req: &Request<Body>| …`",
    note = "`settle_at_end` needs responses with a body, and `settle` a number as its closure's result"
)]
pub trait Terms<Req, K, Res, St: Store> {
    /// What is kept of the request for the settlement.
    type Form: Copy;
    /// The response of the layer's service.
    type Out;
    /// Whether calls are settled after their answer.
    const SETTLES: bool;

    /// Whether the call is on a list.
    fn standing(&self, req: &Req) -> Standing;

    /// Which of `plans` the call is under, where they differ.
    fn plan(&self, req: &Req, plans: &[Name]) -> Planned;

    /// What the call costs.
    fn cost(&self, key: &K, req: &Req) -> u32;

    /// Reads what the settlement depends on.
    fn form(&self, req: &Req) -> Self::Form;

    /// Lets the answer say what the call took.
    fn settle(&self, form: Self::Form, res: Res, charge: Charge<St>) -> Self::Out;

    /// Polls for the answer, which is passed on as it is. It is not asked where calls are [settled](Self::SETTLES).
    fn poll_unsettled<F, Err>(future: Pin<&mut F>, cx: &mut Context<'_>) -> Poll<Result<Self::Out, Err>>
    where
        F: Future<Output = Result<Res, Err>>;
}

impl<Req, K, Res, St, C, P, L, A> Terms<Req, K, Res, St> for Rules<C, P, L, A>
where
    St: Store,
    C: Cost<Req, K>,
    P: Plan<Req>,
    L: Lists<Req>,
    A: Settle<Req, Res, St>,
{
    type Form = A::Form;
    type Out = A::Out;
    const SETTLES: bool = A::SETTLES;

    #[inline]
    fn standing(&self, req: &Req) -> Standing {
        self.lists.standing(req)
    }

    #[inline]
    fn plan(&self, req: &Req, plans: &[Name]) -> Planned {
        self.plan.plan(req, plans)
    }

    #[inline]
    fn cost(&self, key: &K, req: &Req) -> u32 {
        self.cost.cost(key, req)
    }

    #[inline]
    fn form(&self, req: &Req) -> A::Form {
        self.settle.form(req)
    }

    #[inline]
    fn settle(&self, form: A::Form, res: Res, charge: Charge<St>) -> A::Out {
        self.settle.settle(form, res, charge)
    }

    #[inline]
    fn poll_unsettled<F, Err>(future: Pin<&mut F>, cx: &mut Context<'_>) -> Poll<Result<A::Out, Err>>
    where
        F: Future<Output = Result<Res, Err>>,
    {
        A::poll_unsettled(future, cx)
    }
}

/// Says what a call costs.
pub trait Cost<Req, K> {
    /// How many units `req` costs.
    fn cost(&self, key: &K, req: &Req) -> u32;
}

/// The cost that the key names, which is 1 unless it says otherwise: the default.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::exhaustive_structs, reason = "a word: there is nothing to add to it")]
pub struct KeyCost;

impl<Req, K: Key<Req>> Cost<Req, K> for KeyCost {
    #[inline]
    fn cost(&self, key: &K, req: &Req) -> u32 {
        key.cost(req)
    }
}

impl<Req, K, F: Fn(&Req) -> u32> Cost<Req, K> for F {
    #[inline]
    fn cost(&self, _: &K, req: &Req) -> u32 {
        self(req)
    }
}

/// The plan of one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "one, this one, or one that is not there: there is no fourth")]
pub enum Planned {
    /// There is only one.
    One,
    /// The one with this index.
    Of(usize),
    /// One that is not there.
    Unknown,
}

/// Says which plan a call is under.
pub trait Plan<Req> {
    /// Finds the plan of `req` among `plans`.
    fn plan(&self, req: &Req, plans: &[Name]) -> Planned;
}

/// The only plan: the default.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::exhaustive_structs, reason = "a word: there is nothing to add to it")]
pub struct OnePlan;

impl<Req> Plan<Req> for OnePlan {
    #[inline]
    fn plan(&self, _: &Req, _: &[Name]) -> Planned {
        Planned::One
    }
}

/// The plan that a closure names. Made by [`Plans::plan`](crate::Plans::plan).
#[derive(Clone, Copy)]
pub struct PlanBy<F>(pub(crate) F);

impl<Req, F, N> Plan<Req> for PlanBy<F>
where
    F: Fn(&Req) -> N,
    N: Pick,
{
    #[inline]
    fn plan(&self, req: &Req, plans: &[Name]) -> Planned {
        match (self.0)(req).find(plans) {
            Some(index) => Planned::Of(index),
            None => Planned::Unknown,
        }
    }
}

impl<F> fmt::Debug for PlanBy<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PlanBy")
    }
}

/// Whether a call is on a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "on the one, on the other, on neither: there is no fourth")]
pub enum Standing {
    /// On no list.
    Counted,
    /// On the allow list.
    Allowed,
    /// On the deny list.
    Denied,
}

/// Says whether a call is on a list.
pub trait Lists<Req> {
    /// Looks `req` up.
    fn standing(&self, req: &Req) -> Standing;
}

/// There are no lists: the default.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::exhaustive_structs, reason = "a word: there is nothing to add to it")]
pub struct NoLists;

impl<Req> Lists<Req> for NoLists {
    #[inline]
    fn standing(&self, _: &Req) -> Standing {
        Standing::Counted
    }
}

/// Lets pass what `F` says, unless the lists before deny it.
#[derive(Clone, Copy)]
pub struct AllowIf<L, F>(pub(crate) L, pub(crate) F);

impl<Req, L: Lists<Req>, F: Fn(&Req) -> bool> Lists<Req> for AllowIf<L, F> {
    #[inline]
    fn standing(&self, req: &Req) -> Standing {
        match self.0.standing(req) {
            Standing::Counted if (self.1)(req) => Standing::Allowed,
            standing => standing,
        }
    }
}

/// Refuses what `F` says, whatever the lists before say.
#[derive(Clone, Copy)]
pub struct DenyIf<L, F>(pub(crate) L, pub(crate) F);

impl<Req, L: Lists<Req>, F: Fn(&Req) -> bool> Lists<Req> for DenyIf<L, F> {
    #[inline]
    fn standing(&self, req: &Req) -> Standing {
        if (self.1)(req) { Standing::Denied } else { self.0.standing(req) }
    }
}

impl<L: fmt::Debug, F> fmt::Debug for AllowIf<L, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AllowIf").field(&self.0).finish_non_exhaustive()
    }
}

impl<L: fmt::Debug, F> fmt::Debug for DenyIf<L, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DenyIf").field(&self.0).finish_non_exhaustive()
    }
}
