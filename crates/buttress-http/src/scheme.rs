use http::Request;

/// Whether a request came in by TLS: an extension, which whoever ends the TLS inserts.
///
/// It tells how the connection to *us* was made. What a client or a proxy in front says of itself (the scheme of an
/// HTTP/2 request, `X-Forwarded-Proto`) is not asked, since anybody may say it.
///
/// ```
/// use buttress_http::Scheme;
///
/// let mut request = http::Request::new(());
/// assert_eq!(Scheme::of(&request), Scheme::Http);
///
/// request.extensions_mut().insert(Scheme::Https);
/// assert_eq!(Scheme::of(&request).as_str(), "https");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "with TLS or without: there is no third")]
pub enum Scheme {
    /// Without TLS, and wherever nobody has said anything.
    #[default]
    Http,
    /// By TLS.
    Https,
}

impl Scheme {
    /// The scheme that a request came in by.
    #[inline]
    #[must_use]
    pub fn of<B>(request: &Request<B>) -> Self {
        request.extensions().get().copied().unwrap_or_default()
    }

    /// `http` or `https`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}
