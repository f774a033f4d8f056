//! TLS at the front door.

mod config;
mod handshakes;
mod names;
mod session;
mod x509;

pub use config::{ServerTls, TlsHandle};
pub(super) use handshakes::Handshakes;
pub use session::TlsSession;
