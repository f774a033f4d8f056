use http::Extensions;

/// Whether a request came in by TLS: an extension, which the server that ends the TLS inserts.
///
/// It tells how the connection to *us* was made. What a client or a proxy in front says of itself (the scheme of an
/// HTTP/2 request, `X-Forwarded-Proto`) is not asked, since anybody may say it. Whoever ends the TLS elsewhere, and knows
/// better, may insert it too.
///
/// ```
/// use buttress_http::Scheme;
///
/// let mut request = http::Request::new(());
/// assert_eq!(Scheme::of(request.extensions()), Scheme::Http);
///
/// request.extensions_mut().insert(Scheme::Https);
/// assert_eq!(Scheme::of(request.extensions()).as_str(), "https");
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
    /// What the extensions of a request say; [`Scheme::Http`] where they say nothing.
    #[inline]
    #[must_use]
    pub fn of(extensions: &Extensions) -> Self {
        extensions.get().copied().unwrap_or_default()
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
