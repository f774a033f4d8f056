use std::convert::Infallible;
use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use http::Uri;
use http::uri::{Authority, Scheme};

/// Where an upstream listens: an address and port, a host name and port, or the path of a UNIX socket.
///
/// It is made from a [`SocketAddr`], a [`Uri`] or text:
///
/// | text | upstream |
/// |---|---|
/// | `127.0.0.1:9000`, `[::1]:9000`, `users.internal:9000` | TCP |
/// | `http://users.internal` | TCP, port 80 where none is given |
/// | `https://users.internal` | TLS, port 443 where none is given (with the feature `tls`) |
/// | `unix:/run/users.sock`, `unix:///run/users.sock`, `http://unix:/run/users.sock` | a UNIX socket |
///
/// A host name is looked up at each connect, so a changed address is found when the next connection is opened:
/// [`Proxy::max_age`](crate::Proxy::max_age) sees to it that there is a next one.
///
/// ```
/// use buttress_proxy::Address;
///
/// assert_eq!("http://users.internal".parse::<Address>()?.to_string(), "users.internal:80");
/// assert_eq!("unix:///run/users.sock".parse::<Address>()?.to_string(), "unix:/run/users.sock");
///
/// let wrong = "ftp://users.internal".parse::<Address>().unwrap_err();
/// assert_eq!(
///     wrong.to_string(),
///     "upstream `ftp://users.internal`: the scheme must be `http`, `https` or left out"
/// );
/// # Ok::<(), buttress_proxy::AddressError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Address {
    place: Place,
    tls: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Place {
    Socket(SocketAddr),
    Name(Arc<str>, u16),
    Unix(Arc<Path>),
}

/// The longest path of a UNIX socket that Linux takes; others take a little less.
const LONGEST_PATH: usize = 107;

impl Address {
    /// A socket address is taken as it is, so its port is looked at here.
    pub(crate) fn checked(self) -> Result<Self, AddressError> {
        match self.place {
            Place::Socket(address) if address.port() == 0 => {
                Err(AddressError { value: address.to_string(), rule: Rule::Port })
            }
            _ => Ok(self),
        }
    }

    /// Only TCP itself, for what forwards bytes.
    #[cfg(feature = "tcp")]
    pub(crate) fn tcp(self) -> Result<Self, AddressError> {
        if self.tls || matches!(self.place, Place::Unix(_)) {
            return Err(AddressError { value: self.to_string(), rule: Rule::Tcp });
        }
        self.checked()
    }

    pub(crate) const fn place(&self) -> &Place {
        &self.place
    }

    /// Whether the address itself asks for TLS.
    #[cfg(feature = "tls")]
    pub(crate) const fn tls(&self) -> bool {
        self.tls
    }

    /// What `Host` says when it names the upstream: without the port that goes without saying (RFC 9110 §7.2).
    pub(crate) fn host(&self) -> String {
        let usual = if self.tls { 443 } else { 80 };
        match &self.place {
            Place::Socket(SocketAddr::V6(address)) if address.port() == usual => {
                format!("[{}]", address.ip())
            }
            Place::Socket(address) if address.port() == usual => address.ip().to_string(),
            Place::Socket(address) => address.to_string(),
            Place::Name(host, port) if *port == usual => host.to_string(),
            Place::Name(host, port) => format!("{host}:{port}"),
            Place::Unix(_) => "localhost".to_owned(),
        }
    }

    fn unix(path: &str) -> Result<Self, Rule> {
        if !path.starts_with('/') || path.len() > LONGEST_PATH || path.contains('\0') {
            return Err(Rule::Unix);
        }
        Ok(Self { place: Place::Unix(Path::new(path).into()), tls: false })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.tls {
            f.write_str("https://")?;
        }
        match &self.place {
            Place::Socket(address) => address.fmt(f),
            Place::Name(host, port) => write!(f, "{host}:{port}"),
            Place::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self { place: Place::Socket(address), tls: false }
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
        let (tls, default_port) = match uri.scheme() {
            None => (false, None),
            Some(scheme) if *scheme == Scheme::HTTP => (false, Some(80)),
            Some(scheme) if *scheme == Scheme::HTTPS && cfg!(feature = "tls") => (true, Some(443)),
            Some(scheme) if *scheme == Scheme::HTTPS => return Err(wrong(Rule::Tls)),
            Some(_) => return Err(wrong(Rule::Scheme)),
        };
        if uri.path_and_query().is_some_and(|path| path != "/" && !path.as_str().is_empty()) {
            return Err(wrong(Rule::Path));
        }
        let place = from_authority(authority, default_port).map_err(wrong)?;
        Ok(Self { place, tls })
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
        let unix = text.strip_prefix("http://").unwrap_or(text).strip_prefix("unix:");
        if let Some(path) = unix {
            // `unix:///path` is the path as a URI writes it.
            let path = path.strip_prefix("//").unwrap_or(path);
            return Self::unix(path).map_err(|rule| AddressError { value: text.to_owned(), rule });
        }
        let uri =
            text.parse::<Uri>().map_err(|_| AddressError { value: text.to_owned(), rule: Rule::Syntax })?;
        Self::try_from(&uri).map_err(|error| AddressError { value: text.to_owned(), rule: error.rule })
    }
}

fn from_authority(authority: &Authority, default_port: Option<u16>) -> Result<Place, Rule> {
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
        Ok(ip) => Ok(Place::Socket(SocketAddr::new(ip, port))),
        Err(_) if bare.len() != host.len() => Err(Rule::Host),
        Err(_) => Ok(Place::Name(bare.into(), port)),
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
    #[cfg(feature = "tcp")]
    Tcp,
    Syntax,
    Scheme,
    Host,
    Port,
    UserInfo,
    Path,
    Tls,
    Unix,
}

impl Rule {
    const fn as_str(self) -> &'static str {
        match self {
            #[cfg(feature = "tcp")]
            Self::Tcp => "TCP forwarding goes to an address or a name with a port",
            Self::Syntax => "must be `host:port`, `http://host`, `https://host` or `unix:/path`",
            Self::Scheme => "the scheme must be `http`, `https` or left out",
            Self::Host => "the host must be a name, an IPv4 address, or an IPv6 address in brackets",
            Self::Port => "a port from 1 to 65535 must follow the host, as in `host:9000`",
            Self::UserInfo => "must not hold a user name or password",
            Self::Tls => "`https` needs the feature `tls`, which is off",
            Self::Unix => "a UNIX socket is `unix:` and an absolute path of at most 107 bytes",
            Self::Path => "must not have a path or query: the request's own target is sent on as it came",
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
