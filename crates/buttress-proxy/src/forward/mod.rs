//! A forward proxy: clients name the server that they want, by `CONNECT` or an absolute-form target.
//!
//! What clients may reach is the whole question, since the proxy stands where they do not. By default that is every
//! *public* address at the ports 80 and 443: nothing private, nothing of this machine, no cloud's metadata. The address
//! that is checked is the address that is dialled: a name is looked up once for each request, so one that says something
//! else the next time (DNS rebinding) gains nothing.
//!
//! ```text
//!  Proxy-Authorization ──▶ target ──▶ port ──▶ host ──▶ look-up ──▶ addresses ──▶ dial ──▶ tunnel, or request
//!        407                400        403      403        502         403       502/504
//! ```
//!
//! ```no_run
//! use buttress_http::answer::AnswerErrorsLayer;
//! use buttress_proxy::Error;
//! use buttress_proxy::forward::Forward;
//! use tower::ServiceBuilder;
//!
//! let forward = Forward::new().credentials([("ada", "lovelace")]).allow_hosts(["*.example.com"]);
//! let service = ServiceBuilder::new().layer(AnswerErrorsLayer::new().describe(Error::problem)).service(forward);
//! # fn check<S: tower::Service<http::Request<hyper::body::Incoming>>>(_: S) {}
//! # check(service);
//! ```
//!
//! Something else is better in front of servers of your own: a [`Proxy`](crate::Proxy), whose upstreams you choose and
//! not the client. It caches nothing and does not look into TLS.
//!
//! Under load: [`max_tunnels`](Forward::max_tunnels) bounds the tunnels, each of which is one task and two sockets, and holds
//! bytes only while one side is slower than the other.

mod credentials;
mod hosts;
mod public;
mod rules;
mod service;
mod target;
mod tunnels;

pub use service::{Body, Forward, ForwardFuture};
