use buttress_core::Name;

/// What a sticky layer tells its observer, outside every lock. A call that is served where it is bound to is not told.
///
/// ```
/// use buttress_balance::{StickyEvent, StickyLayer};
/// use buttress_core::Endpoints;
///
/// # fn layer(endpoints: &Endpoints, secret: [u8; 32]) -> StickyLayer {
/// StickyLayer::cookie("SERVERID").key(secret).over(endpoints).observe(|event| match event {
///     StickyEvent::Moved { from, to, .. } => eprintln!("a session moves from {from} to {to}"),
///     StickyEvent::Unknown { .. } => eprintln!("a cookie that we have not signed, or of an endpoint that is gone"),
///     _ => {}
/// })
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StickyEvent<'a> {
    /// A request came with a cookie that stands for no endpoint: it is forged, or its endpoint or its key is gone. It counts
    /// as absent.
    #[non_exhaustive]
    Unknown {
        /// The layer's name.
        policy: &'a Name,
    },
    /// A request is bound to an endpoint that drains, and is not kept there.
    #[non_exhaustive]
    Released {
        /// The layer's name.
        policy: &'a Name,
        /// The endpoint.
        from: &'a Name,
    },
    /// A client that was bound to none is bound to the endpoint that served it.
    #[non_exhaustive]
    Bound {
        /// The layer's name.
        policy: &'a Name,
        /// The endpoint.
        to: &'a Name,
    },
    /// A client is bound to another endpoint, which served it.
    #[non_exhaustive]
    Moved {
        /// The layer's name.
        policy: &'a Name,
        /// Where it was bound to.
        from: &'a Name,
        /// The endpoint that served it.
        to: &'a Name,
    },
    /// A client gets a cookie of the first key for one of the former.
    #[non_exhaustive]
    Renewed {
        /// The layer's name.
        policy: &'a Name,
        /// The endpoint, which is the same.
        to: &'a Name,
    },
}
