//! The end of a service, in order.
