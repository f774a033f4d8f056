//! Bodies: when a response is really over, and what a refusal's reply is made of.
//!
//! - [`Tracked`] wraps a body with the guard of its call. The guard is told once how the body ended.
//! - [`AtEnd`] is the [`Finish`](buttress_core::Finish) that puts it there: the call is over when the body is.
//! - [`UntilUpgradeEnds`] keeps the guard when there is no body to wait for: after a 101, or a CONNECT that opened a
//!   tunnel.
//! - [`ReplyBody`] makes a body from bytes, so that a layer can answer with a response of its own.
//!
//! # When is a body over
//!
//! Mostly it is not polled to its end: hyper drops an HTTP/1 body that has a length as soon as the length is written,
//! and never polls the body of an answer to HEAD. So [`Tracked`] does not wait for `None`. It tells the guard
//! [`Complete`](buttress_core::End::Complete) on the first of these:
//!
//! | seen | trailers told |
//! |---|---|
//! | there is no body: the status is 1xx, 204 or 304 | none |
//! | the inner body's `is_end_stream()` is true (before the first poll too) | none |
//! | the exact `size_hint()`, or the declared `Content-Length`, has been handed out, and no trailers are announced | none |
//! | a frame of trailers | those |
//! | `None` | none |
//! | it is dropped when `is_end_stream()` is true, or after the length has been handed out, except of gRPC | none |
//!
//! The answer to HEAD ends with [`Head`](buttress_core::End::Head): what its body would have told is not known.
//!
//! An error frame, or a panic of the inner body in our poll, is [`Failed`](buttress_core::End::Failed). A drop at any
//! other time is [`Aborted`](buttress_core::End::Aborted): the client went away, or whoever read the body stopped.
//!
//! Trailers are announced by a `Trailer` field, or by a gRPC content type. A body with a known length whose trailers
//! are not announced settles on its last data frame, and its guard does not see the trailers (they still pass through).
//! With gRPC the answer itself is in the trailers, so that a drop before them is always [`Aborted`](buttress_core::End::Aborted).
//! "Handed out" means given to whoever reads the body. Bytes still on their way through a socket do not hold the guard.

mod at_end;
mod reply;
mod tracked;
mod upgrade;

pub use at_end::{AtEnd, EndForm};
pub use reply::ReplyBody;
pub use tracked::Tracked;
pub use upgrade::UntilUpgradeEnds;
