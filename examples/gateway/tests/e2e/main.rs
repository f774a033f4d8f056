//! Does the program do what its README and its own output say? The built binary, real sockets, real clients.

mod access_log;
mod admin;
mod big;
mod clients;
mod configuration;
mod drain;
mod forwarding;
mod grpc;
mod kills;
mod limits;
mod paths;
mod ports;
mod protocols;
mod reload;
mod resilience;
mod routes;
mod start;
mod streaming;
mod support;
mod tour;
mod traffic;
mod uploads;
mod upstream_faults;
mod websocket;
