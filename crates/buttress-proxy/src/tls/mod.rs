//! TLS by rustls.

mod client;
mod error;
mod pem;

pub use client::ClientTls;
pub(crate) use client::{config, connect, handshake_refused};
pub use error::{TlsError, TlsErrorKind};
