//! Settling: a call is charged an estimate before, and what it really took once its answer tells.
//!
//! What was charged before is *held*: no other call can spend it meanwhile, so calls at the same time cannot pass
//! together on what is enough for one. A call that fails with an error, or is dropped before its answer, is not
//! settled, and what it held stays charged. Nobody can tell what it took, and a client that hangs up early must not
//! get its guesses for nothing.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use buttress_core::Store;
#[cfg(feature = "http")]
use buttress_core::{End, Finish, Guard};

use crate::Memory;
use crate::gate::Core;

/// What one call was charged, to be corrected when it is known what the call took.
///
/// It is given to the closure of [`RateLimitLayer::settle_with`](crate::RateLimitLayer::settle_with), which may move
/// it into a body or a task. Dropped unsettled, the charge stays as it is.
#[must_use = "a charge that is dropped stays as it was made; `settle` corrects it"]
pub struct Charge<St: Store = Memory>(Option<Held<St>>);

struct Held<St: Store> {
    core: Arc<Core<St>>,
    decision: St::Decision,
    cost: u32,
}

impl<St: Store> Charge<St> {
    pub(crate) const fn new(core: Arc<Core<St>>, decision: St::Decision, cost: u32) -> Self {
        Self(Some(Held { core, decision, cost }))
    }

    pub(crate) const fn none() -> Self {
        Self(None)
    }

    /// How many units were charged. 0 for a call that is not counted.
    #[must_use]
    pub fn held(&self) -> u32 {
        self.0.as_ref().map_or(0, |held| held.cost)
    }

    /// Corrects the charge to `actual` units. 0 gives all of it back; more than was charged is owed, beyond the limit
    /// if need be, and by one more full limit at most.
    pub fn settle(mut self, actual: u32) {
        if let Some(held) = self.0.take() {
            held.core.settle(&held.decision, held.cost, actual);
        }
    }
}

impl<St: Store> fmt::Debug for Charge<St> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Charge").field("held", &self.held()).finish_non_exhaustive()
    }
}

/// How a call is settled. Closures become one by the `settle` steps of the layer.
pub trait Settle<Req, Res, St: Store> {
    /// What is kept of the request.
    type Form: Copy;
    /// The response, as it leaves the layer.
    type Out;
    /// Whether anything is settled at all.
    const SETTLES: bool = true;

    /// Reads what following the response depends on.
    fn form(&self, req: &Req) -> Self::Form;

    /// Settles `charge` by `res`, now or later.
    fn settle(&self, form: Self::Form, res: Res, charge: Charge<St>) -> Self::Out;

    /// Polls for the answer, which is passed on as it is. It is not asked where calls are [settled](Self::SETTLES).
    fn poll_unsettled<F, Err>(future: Pin<&mut F>, cx: &mut Context<'_>) -> Poll<Result<Self::Out, Err>>
    where
        F: Future<Output = Result<Res, Err>>,
    {
        let _ = (future, cx);
        unreachable!("a call that is settled knows its charge")
    }
}

/// A call stays charged as it was: the default.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::exhaustive_structs, reason = "a word: there is nothing to add to it")]
pub struct AsCharged;

impl<Req, Res, St: Store> Settle<Req, Res, St> for AsCharged {
    type Form = ();
    type Out = Res;
    const SETTLES: bool = false;

    #[inline]
    fn form(&self, _: &Req) {}

    #[inline]
    fn settle(&self, (): (), res: Res, _: Charge<St>) -> Res {
        res
    }

    #[inline]
    fn poll_unsettled<F, Err>(future: Pin<&mut F>, cx: &mut Context<'_>) -> Poll<Result<Res, Err>>
    where
        F: Future<Output = Result<Res, Err>>,
    {
        future.poll(cx)
    }
}

/// Settled by the head of the answer.
#[derive(Clone, Copy)]
pub struct ByHead<F>(pub(crate) F);

impl<Req, Res, St, F> Settle<Req, Res, St> for ByHead<F>
where
    St: Store,
    F: Fn(&Res) -> u32,
{
    type Form = ();
    type Out = Res;

    #[inline]
    fn form(&self, _: &Req) {}

    #[inline]
    fn settle(&self, (): (), res: Res, charge: Charge<St>) -> Res {
        if charge.0.is_some() {
            charge.settle((self.0)(&res));
        }
        res
    }
}

/// Settled by whatever a closure gives the charge to.
#[derive(Clone, Copy)]
pub struct ByCharge<F>(pub(crate) F);

impl<Req, Res, St, F, Out> Settle<Req, Res, St> for ByCharge<F>
where
    St: Store,
    F: Fn(Res, Charge<St>) -> Out,
{
    type Form = ();
    type Out = Out;

    #[inline]
    fn form(&self, _: &Req) {}

    #[inline]
    fn settle(&self, (): (), res: Res, charge: Charge<St>) -> Out {
        (self.0)(res, charge)
    }
}

/// Settled by the end of the answer's body.
#[cfg(feature = "http")]
#[cfg_attr(docsrs, doc(cfg(feature = "http")))]
#[derive(Clone, Copy)]
pub struct ByEnd<F>(pub(crate) F);

/// What the body of an answer holds until it ends, to settle the call then.
#[cfg(feature = "http")]
#[cfg_attr(docsrs, doc(cfg(feature = "http")))]
pub struct SettleAtEnd<St: Store, F> {
    charge: Charge<St>,
    actual: F,
}

#[cfg(feature = "http")]
impl<St, F> Guard for SettleAtEnd<St, F>
where
    St: Store,
    F: Fn(&End<'_>) -> Option<u32>,
{
    fn end(&mut self, end: &End<'_>) {
        let charge = std::mem::replace(&mut self.charge, Charge::none());
        if charge.0.is_some()
            && let Some(actual) = (self.actual)(end)
        {
            charge.settle(actual);
        }
    }
}

#[cfg(feature = "http")]
impl<St: Store, F> fmt::Debug for SettleAtEnd<St, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SettleAtEnd").field("charge", &self.charge).finish_non_exhaustive()
    }
}

#[cfg(feature = "http")]
impl<Req, Res, St, F> Settle<Req, Res, St> for ByEnd<F>
where
    St: Store,
    F: Fn(&End<'_>) -> Option<u32> + Clone,
    buttress_http::body::AtEnd: Finish<Req, Res, SettleAtEnd<St, F>>,
{
    type Form = <buttress_http::body::AtEnd as Finish<Req, Res, SettleAtEnd<St, F>>>::Form;
    type Out = <buttress_http::body::AtEnd as Finish<Req, Res, SettleAtEnd<St, F>>>::Out;

    #[inline]
    fn form(&self, req: &Req) -> Self::Form {
        buttress_http::body::AtEnd.form(req)
    }

    #[inline]
    fn settle(&self, form: Self::Form, res: Res, charge: Charge<St>) -> Self::Out {
        buttress_http::body::AtEnd.finish(form, res, SettleAtEnd { charge, actual: self.0.clone() })
    }
}

macro_rules! debug_as_word {
    ($($word:ident),*) => {$(
        impl<F> fmt::Debug for $word<F> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(stringify!($word))
            }
        }
    )*};
}

debug_as_word!(ByHead, ByCharge);
#[cfg(feature = "http")]
debug_as_word!(ByEnd);
