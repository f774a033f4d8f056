use std::convert::Infallible;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use http::Uri;
use http::uri::{Authority, Scheme};

/// Where an upstream listens: an address and port, or a host name and port.
///
/// It is made from a [`SocketAddr`], a [`Uri`] or text: `127.0.0.1:9000`, `[::1]:9000`, `users.internal:9000`,
/// `http://users.internal` (port 80). A host name is looked up at each connect, so a changed address is found
/// when the next connection is opened.
///
/// ```
/// use buttress_proxy::Address;
///
/// assert_eq!("http://users.internal".parse::<Address>()?.to_string(), "users.internal:80");
///
/// let wrong = "https://users.internal".parse::<Address>().unwrap_err();
/// assert_eq!(
///     wrong.to_string(),
///     "upstream `https://users.internal`: the scheme must be `http` or left out, since TLS to upstreams is not supported"
/// );
/// # Ok::<(), buttress_proxy::AddressError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Address(Place);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Place {
    Socket(SocketAddr),
    Name(Arc<str>, u16),
}

impl Address {
    /// A socket address is taken as it is, so its port is looked at here.
    pub(crate) fn checked(self) -> Result<Self, AddressError> {
        match self.0 {
            Place::Socket(address) if address.port() == 0 => {
                Err(AddressError { value: address.to_string(), rule: Rule::Port })
            }
            _ => Ok(self),
        }
    }

    pub(crate) const fn place(&self) -> &Place {
        &self.0
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Place::Socket(address) => address.fmt(f),
            Place::Name(host, port) => write!(f, "{host}:{port}"),
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self(Place::Socket(address))
    }
}

impl TryFrom<Uri> for Address {
    type Error = AddressError;

    fn try_from(uri: Uri) -> Result<Self, AddressError> {
        Self::try_from(&uri)
    }
}

impl TryFrom<&Uri> for Address {
    type Error = AddressError;

    fn try_from(uri: &Uri) -> Result<Self, AddressError> {
        let wrong = |rule| AddressError { value: uri.to_string(), rule };
        let authority = uri.authority().ok_or_else(|| wrong(Rule::Host))?;
        if uri.scheme().is_some_and(|scheme| *scheme != Scheme::HTTP) {
            return Err(wrong(Rule::Scheme));
        }
        if uri.path_and_query().is_some_and(|path| path != "/" && !path.as_str().is_empty()) {
            return Err(wrong(Rule::Path));
        }
        let default_port = uri.scheme().map(|_| 80);
        from_authority(authority, default_port).map_err(wrong)
    }
}

impl TryFrom<&str> for Address {
    type Error = AddressError;

    fn try_from(text: &str) -> Result<Self, AddressError> {
        text.parse()
    }
}

impl TryFrom<String> for Address {
    type Error = AddressError;

    fn try_from(text: String) -> Result<Self, AddressError> {
        text.parse()
    }
}

impl TryFrom<&String> for Address {
    type Error = AddressError;

    fn try_from(text: &String) -> Result<Self, AddressError> {
        text.parse()
    }
}

impl std::str::FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Self::from(address).checked();
        }
        let uri =
            text.parse::<Uri>().map_err(|_| AddressError { value: text.to_owned(), rule: Rule::Syntax })?;
        Self::try_from(&uri).map_err(|error| AddressError { value: text.to_owned(), rule: error.rule })
    }
}

fn from_authority(authority: &Authority, default_port: Option<u16>) -> Result<Address, Rule> {
    if authority.as_str().contains('@') {
        return Err(Rule::UserInfo);
    }
    let host = authority.host();
    if host.is_empty() {
        return Err(Rule::Host);
    }
    // `port_u16` has no answer both where no port is given and where what is given is no port.
    let written = authority.as_str()[host.len()..].strip_prefix(':');
    let port = match written {
        Some(text) => text.parse().map_err(|_| Rule::Port)?,
        None => default_port.ok_or(Rule::Port)?,
    };
    if port == 0 {
        return Err(Rule::Port);
    }
    // An address in brackets is an IPv6 address; the look-up wants it bare.
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    match bare.parse() {
        Ok(ip) => Ok(SocketAddr::new(ip, port).into()),
        Err(_) if bare.len() != host.len() => Err(Rule::Host),
        Err(_) => Ok(Address(Place::Name(bare.into(), port))),
    }
}

/// An address that no upstream can have.
///
/// It names the field (`upstream`), the value as given, and the rule that the value breaks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("upstream `{value}`: {rule}")]
pub struct AddressError {
    value: String,
    rule: Rule,
}

impl AddressError {
    /// The value as it was given.
    #[must_use]
    pub fn value(&self) -> &str {
        &self.value
    }

    /// What a value must be, in words.
    #[must_use]
    pub const fn rule(&self) -> &'static str {
        self.rule.as_str()
    }
}

impl From<Infallible> for AddressError {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    Syntax,
    Scheme,
    Host,
    Port,
    UserInfo,
    Path,
}

impl Rule {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Syntax => "must be `host:port` or `http://host:port`",
            Self::Scheme => "the scheme must be `http` or left out, since TLS to upstreams is not supported",
            Self::Host => "the host must be a name, an IPv4 address, or an IPv6 address in brackets",
            Self::Port => "a port from 1 to 65535 must follow the host, as in `host:9000`",
            Self::UserInfo => "must not hold a user name or password",
            Self::Path => "must not have a path or query: the request's own target is sent on as it came",
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
