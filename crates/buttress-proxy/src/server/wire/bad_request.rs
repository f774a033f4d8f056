use std::net::SocketAddr;

use super::Violation;

/// A request that is refused, for its head or in the middle of its body: what [`Wire::observe`](super::Wire::observe)
/// tells.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct BadRequest<'a> {
    /// Why.
    pub violation: Violation,
    /// The other end of the connection.
    pub peer: Option<SocketAddr>,
    /// The number of the request on its connection, from 1.
    pub request: u64,
    /// The name of the field at which it was, where it was at a field; bytes that are not visible are escaped.
    pub field: Option<&'a str>,
    /// The first bytes of its value, for fields that say where a request goes and where it ends: others may be secret.
    pub value: Option<&'a str>,
}
