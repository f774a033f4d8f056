use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net};

/// The addresses of this machine: `127.0.0.0/8` and `::1`.
pub const LOOPBACK: [&str; 2] = ["127.0.0.0/8", "::1"];

/// The addresses of this machine and of private networks (RFC 1918, RFC 4193).
pub const PRIVATE: [&str; 6] =
    ["127.0.0.0/8", "::1", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"];

/// A network: `10.0.0.0/8`, `2001:db8::/32`, or one address.
///
/// A network of IPv4 addresses mapped into IPv6 is the IPv4 network: `::ffff:10.0.0.0/104` is `10.0.0.0/8`.
///
/// ```
/// use buttress_http::key::Net;
///
/// let net: Net = "10.0.0.0/8".parse()?;
/// assert!(net.contains([10, 1, 2, 3].into()));
/// # Ok::<_, buttress_http::key::NetError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Net(IpNet);

impl Net {
    /// Whether `address` is in the network.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address.to_canonical())
    }

    /// Whether it is the network of all addresses.
    pub(super) fn is_everything(&self) -> bool {
        self.0.prefix_len() == 0
    }

    /// Folds IPv4 mapped into IPv6, by the bits and not by the spelling.
    fn canonical(net: IpNet) -> Self {
        const MAPPED: u8 = 96;
        if let IpNet::V6(v6) = net
            && let Some(prefix) = v6.prefix_len().checked_sub(MAPPED)
            && let Some(v4) = v6.addr().to_ipv4_mapped()
        {
            return Self(Ipv4Net::new(v4, prefix).expect("128 - 96 bits are at most 32").into());
        }
        Self(net)
    }
}

impl From<IpAddr> for Net {
    fn from(address: IpAddr) -> Self {
        Self(address.to_canonical().into())
    }
}

impl FromStr for Net {
    type Err = NetError;

    fn from_str(text: &str) -> Result<Self, NetError> {
        text.parse::<IpNet>()
            .map(Self::canonical)
            .or_else(|_| text.parse::<IpAddr>().map(Self::from))
            .map_err(|_| NetError { text: text.to_owned() })
    }
}

impl TryFrom<&str> for Net {
    type Error = NetError;

    fn try_from(text: &str) -> Result<Self, NetError> {
        text.parse()
    }
}

impl TryFrom<String> for Net {
    type Error = NetError;

    fn try_from(text: String) -> Result<Self, NetError> {
        text.parse()
    }
}

impl fmt::Display for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A text that is no [`Net`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is neither a network such as 10.0.0.0/8 or 2001:db8::/32 nor an address")]
#[non_exhaustive]
pub struct NetError {
    /// The text.
    pub text: String,
}
