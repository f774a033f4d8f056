#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod address;
mod age;
mod body;
mod certificate;
mod connect;
mod connection;
#[cfg(any(feature = "forward", feature = "tcp"))]
mod dial;
mod draining;
mod error;
mod expect;
mod fields;
#[cfg(feature = "forward")]
#[cfg_attr(docsrs, doc(cfg(feature = "forward")))]
pub mod forward;
mod future;
#[cfg(feature = "http2")]
mod http2;
mod identity;
mod io;
mod options;
mod policy;
mod pool;
mod preconnect;
mod received;
#[cfg(feature = "server")]
pub mod server;
mod service;
#[cfg(feature = "tcp")]
#[cfg_attr(docsrs, doc(cfg(feature = "tcp")))]
pub mod tcp;
#[cfg(feature = "tls")]
mod tls;
#[cfg_attr(not(any(test, feature = "tcp")), expect(dead_code, reason = "how a tunnel ended is told for TCP"))]
mod tunnel;
mod upgrade;

pub use address::{Address, AddressError};
pub use body::Body;
pub use buttress_http::Scheme;
pub use certificate::ClientCertificate;
pub use draining::{Drain, Draining};
pub use error::{Error, ErrorKind};
pub use fields::{ForwardedFields, XForwarded};
pub use future::ResponseFuture;
pub use identity::{ClientCert, Identity, IdentityLayer};
pub use policy::{HopByHop, remove_hop_by_hop};
pub use pool::Connections;
pub use service::Proxy;
#[cfg(feature = "tls")]
pub use tls::{ClientTls, TlsError, TlsErrorKind};
pub use upgrade::Upgrades;
