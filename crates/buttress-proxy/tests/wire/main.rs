//! The raw reader in front of hyper: its rules, its agreement with hyper, and what a client sees on the socket.
#![cfg(feature = "server")]

mod allocations;
mod differential;
mod framing;
mod guard;
mod properties;
mod rules;
mod serve;
#[path = "../server_support/mod.rs"]
mod server_support;
mod sockets;
mod streams;
#[path = "../support/mod.rs"]
mod support;
