//! TLS by rustls.

mod client;
mod error;
pub(crate) mod pem;

pub use client::ClientTls;
pub(crate) use client::{Wall, config, connect, handshake_refused};
pub use error::{TlsError, TlsErrorKind};
