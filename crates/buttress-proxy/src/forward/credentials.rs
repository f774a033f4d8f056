//! Who may use the proxy.

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use http::header::{HeaderMap, PROXY_AUTHORIZATION};
use subtle::{Choice, ConstantTimeEq};

/// Who is asked whether a client may use the proxy.
#[derive(Clone, Default)]
pub(super) enum Credentials {
    /// Nobody: everyone may.
    #[default]
    Open,
    /// `user:password` in Base64, each.
    Basic(Arc<[Box<str>]>),
    By(Arc<dyn Fn(Option<&HeaderValue>) -> bool + Send + Sync>),
}

impl Credentials {
    /// # Panics
    ///
    /// When there are none, or a user name has a colon in it.
    pub(super) fn basic<U: AsRef<str>, P: AsRef<str>>(pairs: impl IntoIterator<Item = (U, P)>) -> Self {
        let encode = |(user, password): (U, P)| {
            let user = user.as_ref();
            assert!(!user.contains(':'), "credentials: the user name `{user}` must not have a colon in it");
            STANDARD.encode(format!("{user}:{}", password.as_ref())).into_boxed_str()
        };
        let known: Arc<[Box<str>]> = pairs.into_iter().map(encode).collect();
        assert!(!known.is_empty(), "credentials must be at least one pair, else nobody could use the proxy");
        Self::Basic(known)
    }

    /// Whether the client of a request may use the proxy. Of more than one field nobody can say which counts.
    pub(super) fn allow(&self, fields: &HeaderMap) -> bool {
        let mut given = fields.get_all(PROXY_AUTHORIZATION).into_iter();
        let (given, more) = (given.next(), given.next().is_some());
        match self {
            Self::Open => true,
            _ if more => false,
            Self::Basic(known) => given.is_some_and(|given| is_known(known, given.as_bytes())),
            Self::By(allow) => allow(given),
        }
    }
}

/// How long it takes tells no more than how long what was given is: all pairs are looked at, whole.
fn is_known(known: &[Box<str>], given: &[u8]) -> bool {
    let Some((scheme, token)) = given.split_at_checked(6) else { return false };
    if !scheme.eq_ignore_ascii_case(b"basic ") {
        return false;
    }
    let token = token.trim_ascii();
    known.iter().fold(Choice::from(0), |found, known| found | known.as_bytes().ct_eq(token)).into()
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never what they are.
        f.write_str(match self {
            Self::Open => "Open",
            Self::Basic(_) => "Basic",
            Self::By(_) => "By",
        })
    }
}
