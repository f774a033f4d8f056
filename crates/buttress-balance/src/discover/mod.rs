//! Where endpoints come from.
//!
//! A source keeps a list of [`Endpoints`](buttress_core::Endpoints) up to date, which balancers and health checks follow. It is a
//! future to spawn, and works with or without traffic; when that is dropped it stops, and the list stays as it is.
//!
//! | source | needs | for |
//! |---|---|---|
//! | [`Endpoints::new`](buttress_core::Endpoints::new) | | a list that the program keeps: [`replace`](buttress_core::Endpoints::replace), [`insert`](buttress_core::Endpoints::insert), [`remove`](buttress_core::Endpoints::remove) |
//! | [`Watched`] | | a list that another part of the program sends through a `tokio::sync::watch` channel |
#![cfg_attr(feature = "dns", doc = "| [`Dns`] | feature `dns` | A, AAAA and SRV records |")]
#![cfg_attr(
    feature = "file",
    doc = "| [`File`] | feature `file` | a TOML or JSON file, such as a Kubernetes ConfigMap |"
)]
#![cfg_attr(
    feature = "tower",
    doc = "| [`Discovered`] | feature `tower` | any `tower::discover::Discover`, which brings its services |"
)]
//!
//! All of them keep to this:
//!
//! - What cannot be had, or is wrong, changes nothing: the last good list stays in use. The observer is told what was wrong, and when
//!   the source looks again. No call ever sees an error of discovery.
//! - A list takes the place of the one before as a whole, and endpoints that stay keep their condition.
//! - At the start the list is empty until the source has its first one (a channel has one), and calls wait for it as long as their
//!   balancer lets them.

#[cfg(feature = "dns")]
#[cfg_attr(docsrs, doc(cfg(feature = "dns")))]
mod dns;
mod event;
mod feed;
#[cfg(feature = "file")]
#[cfg_attr(docsrs, doc(cfg(feature = "file")))]
mod file;
#[cfg(feature = "tower")]
#[cfg_attr(docsrs, doc(cfg(feature = "tower")))]
mod services;
mod watched;

#[cfg(feature = "dns")]
pub use dns::{Dns, DnsError};
pub use event::DiscoverEvent;
#[cfg(feature = "file")]
pub use file::{File, FileError};
#[cfg(feature = "tower")]
pub use services::{Discovered, Services};
pub use watched::Watched;
