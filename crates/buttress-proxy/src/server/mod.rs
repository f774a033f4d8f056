//! The front door: what stands between clients and a service.

mod wire;
