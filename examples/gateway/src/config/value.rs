//! Values that are written as text: `"250ms"`, `"100/s"`, `"header:x-api-key"`, `"http://127.0.0.1:9001"`.

use std::{fmt, marker::PhantomData, net::SocketAddr, time::Duration};

use buttress::{key::Net, proxy::Address, route};
use http::{HeaderName, Method};
use serde::{Deserialize, Deserializer, de};

/// A value that is parsed from a TOML string, and says what would be right when it cannot be.
pub(crate) trait FromText: Sized {
    const EXPECTED: &'static str;
    fn from_text(text: &str) -> Option<Self>;
}

/// `T` as it stands in the file.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Text<T>(pub(crate) T);

impl<'de, T: FromText> Deserialize<'de> for Text<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor<T>(PhantomData<T>);

        impl<T: FromText> de::Visitor<'_> for Visitor<T> {
            type Value = Text<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(T::EXPECTED)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Text<T>, E> {
                T::from_text(text).map(Text).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }

        deserializer.deserialize_str(Visitor(PhantomData))
    }
}

impl FromText for SocketAddr {
    const EXPECTED: &'static str = "an IP address and a port such as \"127.0.0.1:8080\"";

    fn from_text(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

impl FromText for Net {
    const EXPECTED: &'static str = "a network such as \"10.0.0.0/8\", or one address";

    fn from_text(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

impl FromText for Duration {
    const EXPECTED: &'static str = "a duration above zero such as \"250ms\", \"2s\" or \"1m 30s\"";

    fn from_text(text: &str) -> Option<Self> {
        humantime::parse_duration(text).ok().filter(|duration| !duration.is_zero())
    }
}

/// Where an upstream listens.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Url {
    /// As it stands in the file.
    pub(crate) text: String,
    pub(crate) address: Address,
}

impl FromText for Url {
    const EXPECTED: &'static str = "an origin such as \"http://127.0.0.1:9001\" or \"https://users.internal\" (a host, a port unless it is the usual one, \
                                    no path, no user), or a socket such as \"unix:/run/users.sock\"";

    fn from_text(text: &str) -> Option<Self> {
        Some(Self { text: text.to_owned(), address: text.parse().ok()? })
    }
}

impl From<SocketAddr> for Url {
    fn from(address: SocketAddr) -> Self {
        Self { text: format!("http://{address}"), address: address.into() }
    }
}

/// The path prefix a route answers for, in whole segments.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Prefix(String);

impl Prefix {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromText for Prefix {
    const EXPECTED: &'static str = "a path prefix such as \"/users\" (begins with /, no / at the end, no //, .. or ?), or \"/\" for everything";

    fn from_text(text: &str) -> Option<Self> {
        let segments = text.strip_prefix('/')?;
        let whole = segments.is_empty() || !segments.ends_with('/');
        let plain = text.bytes().all(|b| b.is_ascii_graphic() && !b"?#\"<>\\^`{|}".contains(&b));
        (whole && plain && route::ambiguity(text).is_none()).then(|| Self(text.to_owned()))
    }
}

impl FromText for Method {
    const EXPECTED: &'static str = "a method such as \"GET\"";

    fn from_text(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

/// What a route asks of a field, a query parameter or a cookie: this value, or that it is there.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Wanted {
    Value(String),
    Any,
}

impl<'de> Deserialize<'de> for Wanted {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl de::Visitor<'_> for Visitor {
            type Value = Wanted;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value such as \"beta\", or true for any")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Wanted, E> {
                Ok(Wanted::Value(text.to_owned()))
            }

            fn visit_bool<E: de::Error>(self, any: bool) -> Result<Wanted, E> {
                if any { Ok(Wanted::Any) } else { Err(E::invalid_value(de::Unexpected::Bool(any), &self)) }
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

/// So many per so long.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Rate {
    pub(crate) count: u64,
    pub(crate) per: Duration,
}

impl FromText for Rate {
    const EXPECTED: &'static str =
        "a number above zero per s, m, h, d or a duration, such as \"100/s\", \"12/m\" or \"5/30s\"";

    fn from_text(text: &str) -> Option<Self> {
        let (count, per) = text.split_once('/')?;
        let (count, per) = (count.trim().parse().ok().filter(|&count| count > 0)?, per.trim());
        let per =
            if per.starts_with(|c: char| c.is_ascii_digit()) { per.to_owned() } else { format!("1{per}") };
        Some(Self { count, per: Duration::from_text(&per)? })
    }
}

/// Whose budget a request is charged to.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Key {
    Ip,
    Header(HeaderName),
    Route,
}

impl FromText for Key {
    const EXPECTED: &'static str = "\"ip\", \"route\" or a field by name such as \"header:x-api-key\"";

    fn from_text(text: &str) -> Option<Self> {
        match text {
            "ip" => Some(Self::Ip),
            "route" => Some(Self::Route),
            _ => Some(Self::Header(text.strip_prefix("header:")?.parse().ok()?)),
        }
    }
}

/// What decides about the endpoint of a call.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum BalanceKey {
    None,
    Ip,
    Path,
    Header(HeaderName),
    Cookie(String),
}

impl FromText for BalanceKey {
    const EXPECTED: &'static str = "\"ip\", \"path\", a field by name such as \"header:x-user-id\" or a cookie such as \"cookie:session\"";

    fn from_text(text: &str) -> Option<Self> {
        match text.split_once(':') {
            None if text == "ip" => Some(Self::Ip),
            None if text == "path" => Some(Self::Path),
            Some(("header", name)) => Some(Self::Header(name.parse().ok()?)),
            Some(("cookie", name)) if !name.is_empty() => Some(Self::Cookie(name.to_owned())),
            _ => None,
        }
    }
}

/// A field by its name, or all whose names begin alike.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum FieldNames {
    One(String),
    Beginning(String),
}

impl FromText for FieldNames {
    const EXPECTED: &'static str =
        "the name of a field such as \"x-user-id\", or the beginning of names such as \"x-envoy-*\"";

    fn from_text(text: &str) -> Option<Self> {
        // Without these a request is another request.
        let essential = ["host", "content-length", "transfer-encoding"];
        let name = text.strip_suffix('*').unwrap_or(text).to_ascii_lowercase().replace('_', "-");
        name.parse::<HeaderName>().ok()?;
        if text.ends_with('*') {
            (!essential.iter().any(|other| other.starts_with(&name))).then_some(Self::Beginning(name))
        } else {
            (!essential.contains(&name.as_str())).then_some(Self::One(name))
        }
    }
}

impl FromText for HeaderName {
    const EXPECTED: &'static str = "the name of a field such as \"x-retry-attempt\"";

    fn from_text(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

/// How many: units at once, calls that wait, parts of a window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Count(pub(crate) u64);

impl Count {
    /// As the limiter takes costs and queues; more than 4 billion of either is no different from that.
    pub(crate) fn at_most_u32(self) -> u32 {
        u32::try_from(self.0).unwrap_or(u32::MAX)
    }
}

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl de::Visitor<'_> for Visitor {
            type Value = Count;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number above zero such as 10")
            }

            // TOML has no other integers.
            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Count, E> {
                let count = u64::try_from(number).ok().filter(|&count| count > 0);
                count.map(Count).ok_or_else(|| E::invalid_value(de::Unexpected::Signed(number), &self))
            }
        }

        deserializer.deserialize_u64(Visitor)
    }
}
