#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod time;

pub use time::{Timestamp, nanos};
