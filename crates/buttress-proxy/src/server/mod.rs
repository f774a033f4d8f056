//! The front door: what stands between clients and a service.
//!
//! hyper speaks HTTP; [`Server`] adds what hyper leaves to whoever faces the internet: bounds on connections, time limits
//! on clients that are slow to send or to take, TLS, and an end in order. The crate's page has the bounds in a table, with
//! the reason for each.
//!
//! A server with all of it (features `server` and `tls`, on Linux):
//!
//! ```no_run
//! # #[cfg(all(feature = "tls", target_os = "linux"))]
//! # async fn run(
//! #     stack: impl buttress_proxy::server::Handler,
//! #     (stopping, aborting): (impl Future<Output = ()> + Send + 'static, impl Future<Output = ()> + Send + 'static),
//! # ) -> Result<(), Box<dyn std::error::Error>> {
//! use buttress_proxy::server::{Server, ServerTls, Takeover, TlsHandle, Workers};
//!
//! // Exchanged later by `tls.reload(ServerTls::new(…)?)`.
//! let tls = TlsHandle::new(ServerTls::new(std::fs::read("a.pem")?, std::fs::read("a.key")?)?);
//! // The ports of the process before this one, where there is one.
//! let mut takeover = Takeover::at("/run/gateway/takeover.sock").await?;
//!
//! let ended = Server::on(takeover.listen("[::]:8443").await?.tls(tls.clone()))
//!     .and(takeover.listen("[::]:8080").await?)
//!     .workers(Workers::per_core())
//!     // `stopping()` and `aborting()` of buttress-health's `Shutdown`.
//!     .shutdown(stopping)
//!     .abort(aborting)
//!     .takeover(takeover)
//!     .serve(stack)
//!     .await?;
//! eprintln!("{} connections were cut off", ended.cut);
//! # Ok(())
//! # }
//! ```

mod accept;
mod body;
mod builder;
mod caps;
mod connection;
mod event;
#[cfg(feature = "http2")]
mod frames;
mod front;
mod handler;
mod head;
#[cfg(feature = "http2")]
mod http2;
mod listener;
mod options;
mod path;
mod race;
mod rate;
mod reply;
mod serve;
mod shared;
mod sniff;
mod socket;
mod stage;
#[cfg(feature = "http2")]
mod streams;
#[cfg(target_os = "linux")]
mod takeover;
#[cfg(feature = "http2")]
mod timer;
#[cfg(feature = "tls")]
mod tls;
pub mod wire;
mod workers;

pub use body::{Body, BodyError};
pub use builder::Server;
pub use event::{Event, Refusal};
pub use handler::Handler;
pub use listener::Listener;
pub use serve::Ended;
#[cfg(target_os = "linux")]
pub use takeover::Takeover;
#[cfg(feature = "tls")]
pub use tls::{ServerTls, TlsHandle, TlsSession};
pub use workers::Workers;
