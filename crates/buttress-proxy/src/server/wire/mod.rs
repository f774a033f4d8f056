//! Reads HTTP/1 before hyper does, and refuses what two readers could understand differently.
