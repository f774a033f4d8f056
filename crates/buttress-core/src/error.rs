use std::convert::Infallible;
use std::error::Error as StdError;
use std::fmt;
use std::io;

use crate::Rejection;

/// Any error, as `tower` and `axum` pass them on.
pub type BoxError = Box<dyn StdError + Send + Sync>;

/// An error type that can carry a [`Rejection`].
///
/// No Buttress layer changes the error type of the service it wraps. A layer that refuses a call with an error
/// (the default, [`Fail`](crate::Fail)) therefore needs an error type with a place for the refusal. It is
/// implemented for [`BoxError`] and [`Error<E>`]; for an error of your own it is one function:
///
/// ```
/// use buttress_core::{FromRejection, Rejection};
///
/// enum MyError {
///     Refused(Rejection),
///     Database(std::io::Error),
/// }
///
/// impl FromRejection for MyError {
///     fn from_rejection(rejection: Rejection) -> Self {
///         Self::Refused(rejection)
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot carry a rejection",
    label = "a layer that fails with an error needs a place in `{Self}` for the refusal",
    note = "on a server, answer instead of failing: `.on_reject(reject::respond())`",
    note = "on a client, lift the errors once at the bottom of the stack: `.lift_errors()`",
    note = "or implement `FromRejection` for your own error type"
)]
pub trait FromRejection {
    /// Wraps the refusal.
    fn from_rejection(rejection: Rejection) -> Self;
}

impl FromRejection for BoxError {
    fn from_rejection(rejection: Rejection) -> Self {
        Box::new(rejection)
    }
}

impl FromRejection for Rejection {
    fn from_rejection(rejection: Rejection) -> Self {
        rejection
    }
}

impl<E> FromRejection for Error<E> {
    fn from_rejection(rejection: Rejection) -> Self {
        Self::Rejected(rejection)
    }
}

/// A refusal of ours, or the inner service's own error: what `lift_errors` makes of the error type `E`.
///
/// Both variants display as what they carry, and `source()` gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "there is nothing between a refusal and an error of the service")]
pub enum Error<E> {
    /// A layer refused the call.
    Rejected(Rejection),
    /// The inner service failed.
    Inner(E),
}

impl<E> From<E> for Error<E> {
    fn from(error: E) -> Self {
        Self::Inner(error)
    }
}

impl<E: fmt::Display> fmt::Display for Error<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rejected(rejection) => rejection.fmt(f),
            Self::Inner(error) => error.fmt(f),
        }
    }
}

impl<E: StdError + 'static> StdError for Error<E> {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Rejected(rejection) => Some(rejection),
            Self::Inner(error) => Some(error),
        }
    }
}

/// Finds what is ours in an error: a [`Rejection`], or the mark that nothing was sent.
///
/// Implemented type by type, since a blanket form for all errors would exclude [`BoxError`]. For an error type
/// of your own it is one line:
///
/// ```
/// # #[derive(Debug)] struct MyError;
/// # impl std::fmt::Display for MyError {
/// #     fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { f.write_str("mine") }
/// # }
/// # impl std::error::Error for MyError {}
/// impl buttress_core::Cause for MyError {
///     fn cause(&self) -> Option<&(dyn std::error::Error + 'static)> {
///         Some(self)
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "Buttress cannot look into `{Self}` for a rejection",
    note = "lift the errors once at the bottom of the stack with `.lift_errors()`, or implement `Cause` for `{Self}`: \
            `impl Cause for {Self} {{ fn cause(&self) -> Option<&(dyn Error + 'static)> {{ Some(self) }} }}`"
)]
pub trait Cause {
    /// The error at which the search along `source()` begins.
    fn cause(&self) -> Option<&(dyn StdError + 'static)>;

    /// Our refusal, where the error is one or was caused by one.
    fn rejection(&self) -> Option<&Rejection> {
        chain(self.cause()).find_map(|error| error.downcast_ref())
    }

    /// Whether it is certain that not one byte of the request reached a server, so that even a request which
    /// is not idempotent may be sent again.
    fn nothing_sent(&self) -> bool {
        // Only the mark counts. An `io::Error` of kind `ConnectionRefused` may as well come from a connection that
        // the service made after it had begun to work.
        chain(self.cause())
            .take_while(|error| !error.is::<MaybeSent>())
            .any(|error| error.is::<NothingSent>())
    }

    /// The same error, but that nothing in it proves any more that the call was not carried out.
    ///
    /// A layer that makes several attempts of a call says so of the last one's error, where an attempt before it may have
    /// reached a server. [`BoxError`] puts [`MaybeSent`] around, a [`Rejection`] is [marked](Rejection::maybe_sent), and
    /// so is the one in [`Error<E>`]; the `E` in it has no place for a mark and stays as it is, as does each type that
    /// does not say otherwise.
    #[must_use]
    fn maybe_sent(self) -> Self
    where
        Self: Sized,
    {
        self
    }
}

/// Whether a refusal in `error` says nothing of the whole call: it is that of one exchange of several.
pub(crate) fn is_unsure<E: Cause>(error: &E) -> bool {
    chain(error.cause()).take_while(|error| !error.is::<Rejection>()).any(|error| error.is::<MaybeSent>())
}

/// The longest chain of causes that is searched: a cycle must not hold up a call.
const LONGEST_CHAIN: usize = 64;

fn chain<'a>(
    first: Option<&'a (dyn StdError + 'static)>,
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(first, |&error| error.source()).take(LONGEST_CHAIN)
}

impl Cause for BoxError {
    fn cause(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&**self)
    }

    fn maybe_sent(self) -> Self {
        match self.downcast::<Rejection>() {
            Ok(rejection) => Box::new(rejection.with_maybe_sent()),
            Err(error) => Box::new(MaybeSent::new(error)),
        }
    }
}

impl Cause for Infallible {
    fn cause(&self) -> Option<&(dyn StdError + 'static)> {
        match *self {}
    }
}

impl Cause for Rejection {
    fn cause(&self) -> Option<&(dyn StdError + 'static)> {
        Some(self)
    }

    fn maybe_sent(self) -> Self {
        self.with_maybe_sent()
    }
}

impl Cause for io::Error {
    fn cause(&self) -> Option<&(dyn StdError + 'static)> {
        Some(self)
    }
}

impl<E: StdError + 'static> Cause for Error<E> {
    fn cause(&self) -> Option<&(dyn StdError + 'static)> {
        Some(self)
    }

    fn maybe_sent(self) -> Self {
        match self {
            Self::Rejected(rejection) => Self::Rejected(rejection.with_maybe_sent()),
            inner => inner,
        }
    }
}

/// Marks an error: not one byte of the request was sent.
///
/// A leaf service puts it into its `source()` chain (around the error that kept it from sending) where that is
/// certain; [`Cause::nothing_sent`] finds it.
#[derive(Debug, thiserror::Error)]
#[error("nothing was sent: {0}")]
pub struct NothingSent(#[source] BoxError);

impl NothingSent {
    /// Marks `error`.
    pub fn new(error: impl Into<BoxError>) -> Self {
        Self(error.into())
    }

    /// The error that kept the request from being sent.
    #[must_use]
    pub fn into_inner(self) -> BoxError {
        self.0
    }
}

/// Marks an error: the request may have been carried out, whatever the errors below say.
///
/// A service that makes more than one exchange for a call (it follows redirects, tries again by itself, asks several
/// servers) puts it around the error of the last one. That error may say that nothing was sent, or that a stream was
/// refused unread, and be right about its own exchange: the ones before it have reached a server.
/// [`Cause::nothing_sent`] does not look below it, nor does a retry layer look there for proof.
///
/// ```
/// use buttress_core::{BoxError, Cause, MaybeSent, NothingSent};
///
/// // The first answer was a redirect, and nobody listens where it led to.
/// let second_hop: BoxError = NothingSent::new("connection refused").into();
/// assert!(second_hop.nothing_sent());
///
/// let call: BoxError = MaybeSent::new(second_hop).into();
/// assert!(!call.nothing_sent());
/// ```
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct MaybeSent(#[source] BoxError);

impl MaybeSent {
    /// Marks `error`.
    pub fn new(error: impl Into<BoxError>) -> Self {
        Self(error.into())
    }

    /// The error of the last exchange.
    #[must_use]
    pub fn into_inner(self) -> BoxError {
        self.0
    }
}
