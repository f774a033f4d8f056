use http::header::{self, HeaderMap, HeaderName};

/// Which fields a message has, of those that a proxy acts on.
///
/// It is made in one pass over the names: most messages have few of them, and each that is known to be missing is a
/// look into the map that is not needed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Names(u32);

impl Names {
    pub(crate) const CONNECTION: Self = Self(1);
    pub(crate) const KEEP_ALIVE: Self = Self(1 << 1);
    pub(crate) const PROXY_CONNECTION: Self = Self(1 << 2);
    pub(crate) const PROXY_AUTHENTICATE: Self = Self(1 << 3);
    pub(crate) const PROXY_AUTHENTICATION_INFO: Self = Self(1 << 4);
    pub(crate) const PROXY_AUTHORIZATION: Self = Self(1 << 5);
    pub(crate) const TE: Self = Self(1 << 6);
    pub(crate) const TRANSFER_ENCODING: Self = Self(1 << 7);
    pub(crate) const UPGRADE: Self = Self(1 << 8);
    /// Every field that concerns one connection only.
    pub(crate) const HOP_BY_HOP: Self = Self((1 << 9) - 1);

    pub(crate) const HOST: Self = Self(1 << 9);
    pub(crate) const CONTENT_LENGTH: Self = Self(1 << 10);
    pub(crate) const EXPECT: Self = Self(1 << 11);
    pub(crate) const VIA: Self = Self(1 << 12);
    pub(crate) const COOKIE: Self = Self(1 << 13);
    pub(crate) const FORWARDED: Self = Self(1 << 14);
    pub(crate) const X_FORWARDED_FOR: Self = Self(1 << 15);
    pub(crate) const X_FORWARDED_PROTO: Self = Self(1 << 16);
    pub(crate) const X_FORWARDED_HOST: Self = Self(1 << 17);
    pub(crate) const X_REAL_IP: Self = Self(1 << 18);

    pub(crate) fn of(fields: &HeaderMap) -> Self {
        Self(fields.keys().fold(0, |seen, name| seen | Self::one(name).0))
    }

    /// Whether one of `these` is among them.
    pub(crate) const fn any(self, these: Self) -> bool {
        self.0 & these.0 != 0
    }

    fn one(name: &HeaderName) -> Self {
        match *name {
            header::HOST => Self::HOST,
            header::CONTENT_LENGTH => Self::CONTENT_LENGTH,
            header::COOKIE => Self::COOKIE,
            header::CONNECTION => Self::CONNECTION,
            header::TE => Self::TE,
            header::TRANSFER_ENCODING => Self::TRANSFER_ENCODING,
            header::UPGRADE => Self::UPGRADE,
            header::EXPECT => Self::EXPECT,
            header::VIA => Self::VIA,
            header::PROXY_AUTHENTICATE => Self::PROXY_AUTHENTICATE,
            header::PROXY_AUTHORIZATION => Self::PROXY_AUTHORIZATION,
            header::FORWARDED => Self::FORWARDED,
            // The `http` crate has no constants for these.
            _ => match name.as_str() {
                "keep-alive" => Self::KEEP_ALIVE,
                "proxy-connection" => Self::PROXY_CONNECTION,
                "proxy-authentication-info" => Self::PROXY_AUTHENTICATION_INFO,
                "x-forwarded-for" => Self::X_FORWARDED_FOR,
                "x-forwarded-proto" => Self::X_FORWARDED_PROTO,
                "x-forwarded-host" => Self::X_FORWARDED_HOST,
                "x-real-ip" => Self::X_REAL_IP,
                _ => Self(0),
            },
        }
    }
}
