//! What clients may reach.

use std::net::{IpAddr, SocketAddr};

use buttress_http::key::Net;

use super::hosts::Hosts;
use super::public::{is_public, within};
use super::target::Target;

#[derive(Clone, Debug)]
pub(super) struct Rules {
    /// `None` is any.
    pub(super) ports: Option<Vec<u16>>,
    /// `None` is any.
    pub(super) allowed_hosts: Option<Hosts>,
    pub(super) denied_hosts: Hosts,
    /// Beside the public addresses.
    pub(super) allowed_nets: Vec<Net>,
    pub(super) denied_nets: Vec<Net>,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            ports: Some(vec![80, 443]),
            allowed_hosts: None,
            denied_hosts: Hosts::default(),
            allowed_nets: Vec::new(),
            denied_nets: Vec::new(),
        }
    }
}

impl Rules {
    /// Looks at what is known before the host is looked up; why it is refused, else.
    pub(super) fn check(&self, target: &Target) -> Result<(), &'static str> {
        if self.ports.as_ref().is_some_and(|ports| !ports.contains(&target.port)) {
            return Err("the target's port is not allowed");
        }
        let allowed = self.allowed_hosts.as_ref().is_none_or(|hosts| hosts.contain(&target.host));
        if !allowed || self.denied_hosts.contain(&target.host) {
            return Err("the target's host is not allowed");
        }
        Ok(())
    }

    /// Leaves the addresses that may be dialled.
    pub(super) fn filter(&self, mut found: Vec<SocketAddr>) -> Vec<SocketAddr> {
        found.retain(|address| self.allows(address.ip()));
        found
    }

    fn allows(&self, address: IpAddr) -> bool {
        let on = |nets: &[Net], address| nets.iter().any(|net| net.contains(address));
        let end = match address {
            IpAddr::V6(address) => within(address).map_or(IpAddr::V6(address), IpAddr::V4),
            address => address,
        };
        !on(&self.denied_nets, address)
            && !on(&self.denied_nets, end)
            && (is_public(address) || on(&self.allowed_nets, address))
    }
}
