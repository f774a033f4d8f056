//! TCP forwarding: connections instead of requests, on the same balancer, retries and probes.
//!
//! ```text
//!            ┌ Server ────────────────────────────────┐     ┌ your stack ────────────────┐
//! client ──▶ │ accept, PROXY header, ClientHello, cap │ ──▶ │ Retry ▶ Balancer ▶ Connect │ ──▶ upstream
//!            │ bytes both ways ◀───────────── Upstream│ ◀── └────────────────────────────┘
//!            └────────────────────────────────────────┘
//! ```
//!
//! The request of the stack is a [`Connection`], which says who wants to go where and does not hold the socket; its
//! answer is an [`Upstream`], a connection that is open. So what is between them is any Tower service: a balancer picks an
//! endpoint, a retry layer asks for another one when the first cannot be connected to (nothing was sent yet), a rate
//! limiter goes by the client's address. Then the [`Server`] carries bytes until both sides have ended, nothing moves for
//! too long, or a drain is over.
//!
//! ```no_run
//! use buttress_proxy::tcp::{Connect, Server};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let database = Connect::to("10.0.0.5:5432")?;
//! Server::bind("0.0.0.0:5432").await?.serve(database).await;
//! # Ok(())
//! # }
//! ```
//!
//! It is for what is not HTTP, and for TLS that is to stay closed: [`ByServerName`] routes by the name that a TLS client
//! asks for, without a certificate. For HTTP a [`Proxy`](crate::Proxy) is better: it balances requests, not connections.
//!
//! Under load: a side that does not read stops the other one, and at most 16 KiB (or, on Linux, one pipe of the kernel) is
//! held on the way. At [`max_connections`](Server::max_connections) new ones wait in the listener's backlog.

mod by_server_name;
mod client_hello;
mod connect;
mod connection;
mod event;
mod proxy_protocol;
mod server;
mod sockets;
mod upstream;

pub use by_server_name::{ByServerName, NameError};
pub use client_hello::ClientHelloError;
pub use connect::{Connect, Connecting};
pub use connection::Connection;
pub use event::{Event, Refused, Why};
pub use proxy_protocol::{ProxyProtocolError, Version};
pub use server::{ProxyProtocol, Server};
pub use upstream::{AtClose, Upstream};
