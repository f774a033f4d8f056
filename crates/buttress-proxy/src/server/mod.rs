//! The front door: what stands between clients and a service.
//!
//! hyper speaks HTTP; [`Server`] adds what hyper leaves to whoever faces the internet: bounds on connections, time limits
//! on clients that are slow to send or to take, and an end in order.

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
