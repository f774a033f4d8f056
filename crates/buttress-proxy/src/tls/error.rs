use std::borrow::Cow;
use std::fmt;

/// A certificate, a key or a name that TLS cannot be spoken with.
///
/// It names the field and the rule that its value breaks. Values are not repeated: one of them is a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsError {
    field: &'static str,
    kind: TlsErrorKind,
    detail: Cow<'static, str>,
}

/// The kinds of [`TlsError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TlsErrorKind {
    /// It is not PEM, or breaks off.
    Unreadable,
    /// It is PEM, and what is needed is not in it.
    Missing,
    /// It is there, and is of no use: not X.509, a key of an unknown kind, no name of a server.
    Invalid,
    /// The private key is not the one of the certificate.
    KeyMismatch,
    /// The certificate has expired.
    Expired,
    /// The certificate is not valid yet.
    NotYetValid,
}

impl TlsError {
    pub(crate) fn new(field: &'static str, kind: TlsErrorKind, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { field, kind, detail: detail.into() }
    }

    /// What was given: `certificate`, `private key`, `roots` or `server name`.
    #[must_use]
    pub const fn field(&self) -> &'static str {
        self.field
    }

    /// What kind of error it is.
    #[must_use]
    pub const fn kind(&self) -> TlsErrorKind {
        self.kind
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.detail)
    }
}

impl std::error::Error for TlsError {}
