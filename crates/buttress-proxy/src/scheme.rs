use http::Extensions;

/// An extension of requests: the scheme of the connection that a request came in by.
///
/// The server says [`Https`](Self::Https) of what came over TLS, and nothing of what did not. Whoever
/// terminates TLS elsewhere and knows better may insert it too. `X-Forwarded-Proto` and `Forwarded` are made from it.
///
/// ```
/// use buttress_proxy::Scheme;
///
/// let mut request = http::Request::new(());
/// assert_eq!(Scheme::of(request.extensions()), Scheme::Http);
///
/// request.extensions_mut().insert(Scheme::Https);
/// assert_eq!(Scheme::of(request.extensions()).as_str(), "https");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "HTTP has these two")]
pub enum Scheme {
    /// Plain text.
    #[default]
    Http,
    /// Over TLS.
    Https,
}

impl Scheme {
    /// What the extensions of a request say; [`Scheme::Http`] where they say nothing.
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
