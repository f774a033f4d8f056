//! TLS by rustls.

mod client;
mod error;
pub(crate) mod pem;
mod validity;

pub use client::ClientTls;
#[cfg(feature = "server")]
pub(crate) use client::Wall;
pub(crate) use client::{config, connect, handshake_refused};
pub use error::{TlsError, TlsErrorKind};
#[cfg(feature = "server")]
pub(crate) use validity::parsed;
pub(crate) use validity::valid;
