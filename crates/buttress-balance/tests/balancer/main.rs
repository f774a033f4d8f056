//! The balancer as its users see it.

mod again;
mod changes;
mod choice;
mod contract;
mod ready;
mod support;
mod waiting;
