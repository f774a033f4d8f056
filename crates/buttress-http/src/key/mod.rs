//! Keys over HTTP: whose budget, whose breaker, whose place on the ring a request counts for.
//!
//! | key | the parts | no key when |
//! |---|---|---|
//! | [`client_ip()`] | the client's address, IPv6 by /64 | no peer address is known |
//! | [`header(name)`](header) | the first line of a header field | it is absent |
//! | [`authority()`] | the host asked for, in lower case, with its port | neither the URI nor `Host` has one |
//! | [`path()`] | the path as sent | never |
//! | [`method()`] | the method | never |
//! | `route()` | the template of the matched route (feature `axum`) | no route matched |
//!
//! Several in a tuple are one key: `(key::client_ip(), key::method())`. Anything else is a closure from the
//! request to an `Option` of parts:
//!
//! ```
//! use buttress_core::Key;
//! use http::Request;
//!
//! fn by_tenant() -> impl Key<Request<()>> {
//!     |request: &Request<()>| request.extensions().get::<u64>().copied()
//! }
//! # let _ = by_tenant();
//! ```

mod client_ip;
mod forwarded;
mod net;
mod part;

pub use client_ip::{ClientIp, client_ip};
pub use net::{LOOPBACK, Net, NetError, PRIVATE};
pub use part::{Authority, Header, Method, Path, authority, header, method, path};
#[cfg(feature = "axum")]
pub use part::{Route, route};
