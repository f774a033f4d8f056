//! How a layer refuses a call: with an error or with a response.

use crate::{FromRejection, Quota, Rejection};

/// How a layer refuses a call: with an error, or with a response.
///
/// The default is [`Fail`]. Servers take `buttress_http::reject::respond()`, which answers.
///
/// The inner service takes the request away, so what the answer needs to know of it (is it gRPC? is it HEAD?)
/// is read first, as the `Form`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot refuse a `{Req}` with a `Result<{Res}, {Err}>`",
    label = "this layer's refusals do not fit the service below it",
    note = "an error type that has no place for a refusal: on a server answer with `.on_reject(reject::respond())`, \
            on a client lift the errors at the bottom of the stack with `.lift_errors()`",
    note = "a response body that cannot be made of bytes: lift the bodies at the bottom with `.lift_bodies()`"
)]
pub trait Reject<Req, Res, Err> {
    /// What is kept of the request.
    type Form: Copy;

    /// Reads what the answer depends on. It runs on every call, so it is cheap and does not allocate.
    fn form(&self, req: &Req) -> Self::Form;

    /// Makes the answer to a refused call.
    ///
    /// # Errors
    ///
    /// When refusing means failing, as with [`Fail`].
    fn reject(&self, form: Self::Form, rejection: Rejection) -> Result<Res, Err>;

    /// Reports what is left of the limits that the call was counted against, on answers and refusals alike.
    fn annotate(&self, form: Self::Form, res: &mut Res, quotas: &[Quota]) {
        let _ = (form, res, quotas);
    }
}

/// Refuses with an error: the default.
///
/// The error type must be able to carry a refusal, see [`FromRejection`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a word: there is nothing to add to it")]
pub struct Fail;

impl<Req, Res, Err> Reject<Req, Res, Err> for Fail
where
    Err: FromRejection,
{
    type Form = ();

    #[inline]
    fn form(&self, _: &Req) {}

    fn reject(&self, (): (), rejection: Rejection) -> Result<Res, Err> {
        Err(Err::from_rejection(rejection))
    }
}

/// Refuses with whatever a closure makes of the rejection. Made by [`with`].
#[derive(Clone, Copy, Debug)]
pub struct With<F>(F);

/// Refuses with what `f` makes of the rejection: a response or an error.
///
/// ```
/// use buttress_core::{Rejection, reject};
///
/// let refuse = reject::with(|rejection: Rejection| Ok::<_, std::convert::Infallible>(rejection.to_string()));
/// # fn check<J: buttress_core::Reject<(), String, std::convert::Infallible>>(_: J) {}
/// # check(refuse);
/// ```
pub const fn with<F>(f: F) -> With<F> {
    With(f)
}

impl<F, Req, Res, Err> Reject<Req, Res, Err> for With<F>
where
    F: Fn(Rejection) -> Result<Res, Err>,
{
    type Form = ();

    #[inline]
    fn form(&self, _: &Req) {}

    fn reject(&self, (): (), rejection: Rejection) -> Result<Res, Err> {
        (self.0)(rejection)
    }
}
