//! A body made from bytes: what a refusal answers with.

use buttress_core::Guard;
use bytes::Bytes;
use http_body::Body;
use http_body_util::combinators::{BoxBody, UnsyncBoxBody};
use http_body_util::{BodyExt, Either, Full};

use super::Tracked;

/// Makes a response body from bytes.
///
/// A layer that answers a refused request with a response needs this of the response's body. It is there for
/// `Full<Bytes>`, [`BoxBody`], [`UnsyncBoxBody`], `Either<Full<Bytes>, B>`, [`Tracked`], and behind features for
/// `axum::body::Body`, `tonic::body::Body` and `reqwest::Body`.
///
/// Other bodies (`hyper::body::Incoming`, say) cannot be made from bytes. [`LiftBodies`](crate::LiftBodies), once at the
/// bottom of the stack, turns such a `B` into `Either<Full<Bytes>, B>`. Or implement it for a body of your own:
///
/// ```
/// # use std::{convert::Infallible, pin::Pin, task::{Context, Poll}};
/// # use bytes::Bytes;
/// # use http_body::Frame;
/// use buttress_http::body::ReplyBody;
///
/// struct Page(Option<Bytes>);
///
/// impl ReplyBody for Page {
///     fn reply(bytes: Bytes) -> Self {
///         Page(Some(bytes))
///     }
/// }
/// # impl http_body::Body for Page {
/// #     type Data = Bytes;
/// #     type Error = Infallible;
/// #     fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
/// #         Poll::Ready(self.0.take().map(|bytes| Ok(Frame::data(bytes))))
/// #     }
/// # }
/// ```
#[diagnostic::on_unimplemented(
    message = "a refusal cannot be answered with a body of type `{Self}`",
    label = "this response body cannot be made from bytes",
    note = "lift the bodies once, at the bottom of the stack: `.lift_bodies()` directly above the innermost service",
    note = "or implement `buttress_http::body::ReplyBody` for your own body type",
    note = "axum, tonic and reqwest bodies need the feature `axum`, `tonic` or `reqwest`"
)]
pub trait ReplyBody {
    /// A body that consists of these bytes. Empty bytes make a body that is at its end.
    fn reply(bytes: Bytes) -> Self;
}

impl ReplyBody for Full<Bytes> {
    fn reply(bytes: Bytes) -> Self {
        Self::new(bytes)
    }
}

impl<E: 'static> ReplyBody for BoxBody<Bytes, E> {
    fn reply(bytes: Bytes) -> Self {
        Full::new(bytes).map_err(|never| match never {}).boxed()
    }
}

impl<E: 'static> ReplyBody for UnsyncBoxBody<Bytes, E> {
    fn reply(bytes: Bytes) -> Self {
        Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
    }
}

impl<B> ReplyBody for Either<Full<Bytes>, B> {
    fn reply(bytes: Bytes) -> Self {
        Self::Left(Full::new(bytes))
    }
}

/// A reply holds nothing: it has no guard.
impl<B: ReplyBody + Body, G: Guard> ReplyBody for Tracked<B, G> {
    fn reply(bytes: Bytes) -> Self {
        Self::untracked(B::reply(bytes))
    }
}

#[cfg(feature = "axum")]
#[cfg_attr(docsrs, doc(cfg(feature = "axum")))]
impl ReplyBody for axum::body::Body {
    fn reply(bytes: Bytes) -> Self {
        Self::from(bytes)
    }
}

#[cfg(feature = "tonic")]
#[cfg_attr(docsrs, doc(cfg(feature = "tonic")))]
impl ReplyBody for tonic::body::Body {
    fn reply(bytes: Bytes) -> Self {
        Self::new(Full::new(bytes))
    }
}

#[cfg(feature = "reqwest")]
#[cfg_attr(docsrs, doc(cfg(feature = "reqwest")))]
impl ReplyBody for reqwest::Body {
    fn reply(bytes: Bytes) -> Self {
        Self::from(bytes)
    }
}
