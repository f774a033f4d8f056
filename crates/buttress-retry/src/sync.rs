//! What threads share, replaced by loom's under `--cfg buttress_loom`.

#[cfg(buttress_loom)]
pub(crate) use loom::sync::atomic::AtomicU64;

#[cfg(not(buttress_loom))]
pub(crate) use std::sync::atomic::AtomicU64;
