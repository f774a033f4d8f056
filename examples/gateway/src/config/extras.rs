//! What tower-http does for a route.

use std::time::Duration;

use http::{HeaderName, HeaderValue, Method};
use serde::Deserialize;
use toml::Spanned;
use tower_http::cors::{AllowOrigin, Any, CorsLayer};

use super::{
    Finding, said,
    value::{FromText, Text},
};

/// Which pages of other origins may ask; see `gateway.toml` for what each key of the file means.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(crate) struct Cors {
    origins: Spanned<Vec<Text<Origin>>>,
    methods: Option<Vec<Text<Method>>>,
    headers: Option<Vec<Text<HeaderName>>>,
    #[serde(default)]
    expose: Vec<Text<HeaderName>>,
    #[serde(default)]
    credentials: bool,
    max_age: Option<Spanned<Text<Duration>>>,
}

/// An origin, or all of them.
#[derive(Clone, Debug, PartialEq)]
enum Origin {
    Any,
    One(HeaderValue),
}

impl FromText for Origin {
    const EXPECTED: &'static str =
        "an origin such as \"https://app.example.com\" (no path), or \"*\" for all";

    fn from_text(text: &str) -> Option<Self> {
        if text == "*" {
            return Some(Self::Any);
        }
        let uri: http::Uri = text.parse().ok()?;
        let alone = uri.scheme().is_some() && uri.authority().is_some() && !text.ends_with('/');
        (alone && uri.path() == "/" && uri.query().is_none()).then(|| text.parse().ok().map(Self::One))?
    }
}

impl Cors {
    pub(crate) fn layer(&self) -> CorsLayer {
        let layer = CorsLayer::new().allow_credentials(self.credentials);
        let origins = self.origins.get_ref().iter().map(|origin| match &origin.0 {
            Origin::Any => None,
            Origin::One(origin) => Some(origin.clone()),
        });
        let layer = match origins.collect::<Option<Vec<_>>>() {
            Some(origins) => layer.allow_origin(AllowOrigin::list(origins)),
            None => layer.allow_origin(Any),
        };
        let methods = self.methods.as_ref().map_or_else(
            || vec![Method::GET, Method::HEAD, Method::POST],
            |methods| methods.iter().map(|method| method.0.clone()).collect(),
        );
        let layer = layer.allow_methods(methods);
        let names = |names: &[Text<HeaderName>]| names.iter().map(|name| name.0.clone()).collect::<Vec<_>>();
        let layer = layer.allow_headers(names(self.headers.as_deref().unwrap_or_default()));
        let layer = layer.expose_headers(names(&self.expose));
        match said(self.max_age.as_ref()) {
            Some(age) => layer.max_age(age),
            None => layer,
        }
    }

    pub(super) fn check(&self) -> Result<(), Finding> {
        super::check::wait("max_age", self.max_age.as_ref())?;
        let origins = self.origins.get_ref();
        let any = origins.iter().any(|origin| origin.0 == Origin::Any);
        if origins.is_empty() || (any && origins.len() > 1) {
            let message = "origins are some, or \"*\" alone";
            return Err((Some(self.origins.span()), message.to_owned()));
        }
        if any && self.credentials {
            let message = "credentials = true and all origins: browsers refuse that; name the origins";
            return Err((Some(self.origins.span()), message.to_owned()));
        }
        Ok(())
    }
}
