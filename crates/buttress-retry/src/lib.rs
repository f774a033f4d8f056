#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod budget;
mod ledger;
mod policy;
mod sync;

pub use budget::Budget;
pub use policy::SettingError;
