#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod body;
mod builder;
mod error;
mod fixed;
mod future;
pub mod key;
mod matched;
mod policy;
mod redirect;
mod route;
mod router;

pub use body::PeekBody;
pub use builder::{AsTheyAre, Boxing, RouterBuilder, Takes};
pub use error::{BuildError, RedirectError};
pub use fixed::Fixed;
pub use future::{ReadFuture, RouterFuture};
pub use matched::Matched;
pub use policy::ambiguity;
pub use redirect::Redirect;
pub use route::Route;
pub use router::{Heads, JsonBodies, Router};
