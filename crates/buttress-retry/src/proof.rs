//! Proof, in an error, that the service did not begin to work on a request.

use buttress_core::{Cause, Outcome};

/// Whether nothing was sent, or what was sent was refused unread.
pub(crate) fn nothing_processed<E: Cause>(error: &E) -> bool {
    error.nothing_sent() || over_http2::refused(error.cause())
}

/// Whether a layer above takes `error` for proof that the service did not begin to work on the call.
pub(crate) fn is_in<E: Cause>(error: &E) -> bool {
    nothing_processed(error) || Outcome::of_error(error).unprocessed
}

/// The error of a call whose attempts before may have been carried out: no layer above takes it for proof of the whole. Where
/// `E` has no place for such a mark it is the one `before`, which is none.
pub(crate) fn without<E: Cause>(error: E, before: Option<Box<E>>) -> E {
    if !is_in(&error) {
        return error;
    }
    let error = error.maybe_sent();
    match before {
        Some(before) if is_in(&error) => *before,
        _ => error,
    }
}

#[cfg(feature = "http")]
mod over_http2 {
    use std::error::Error;
    use std::iter::successors;

    use buttress_core::MaybeSent;

    /// The longest chain of causes that is searched: a cycle must not hold up a call.
    const LONGEST_CHAIN: usize = 64;

    /// Whether the server of an HTTP/2 connection says that it did not look at the request: it reset the stream with
    /// `REFUSED_STREAM` (RFC 9113, section 8.7), or its `GOAWAY` names a stream before this one (section 6.8), which is
    /// when h2 ends a stream with the peer's `GOAWAY`.
    pub(super) fn refused(first: Option<&(dyn Error + 'static)>) -> bool {
        successors(first, |&error| error.source())
            .take(LONGEST_CHAIN)
            .take_while(|error| !error.is::<MaybeSent>())
            .filter_map(|error| error.downcast_ref::<h2::Error>())
            .any(|error| {
                let refused = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
                error.is_remote() && (refused || error.is_go_away())
            })
    }
}

#[cfg(not(feature = "http"))]
mod over_http2 {
    use std::error::Error;

    pub(super) const fn refused(_: Option<&(dyn Error + 'static)>) -> bool {
        false
    }
}
