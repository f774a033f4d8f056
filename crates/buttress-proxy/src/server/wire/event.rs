use std::net::SocketAddr;

use super::Refusal;

/// What [`Wire::observe`](super::Wire::observe) tells.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum WireEvent<'a> {
    /// A request is refused, for its head or in the middle of its body; its connection ends.
    Refused(&'a Refused<'a>),
}

/// A request that is refused.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Refused<'a> {
    /// Why.
    pub refusal: Refusal,
    /// The other end of the connection.
    pub peer: Option<SocketAddr>,
    /// The number of the request on its connection, from 1.
    pub request: u64,
    /// The name of the field at which it was, where it was at a field; with bytes that are not visible escaped.
    pub field: Option<&'a str>,
    /// The first bytes of its value, for fields that say where a request goes and where it ends: others may be secret.
    pub value: Option<&'a str>,
}
