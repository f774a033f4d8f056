//! Proof, in an error, that the service did not begin to work on a request.

use buttress_core::Cause;

/// Whether nothing was sent, or what was sent was refused unread.
pub(crate) fn nothing_processed<E: Cause>(error: &E) -> bool {
    error.nothing_sent() || over_http2::refused(error.cause())
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
