//! Which requests a route takes, and where they go.

use std::collections::{BTreeMap, BTreeSet};

use buttress::route;
use http::{HeaderName, HeaderValue, Method, StatusCode, header::CONTENT_TYPE};
use serde::Deserialize;
use toml::Spanned;

use super::{
    Finding, RateLimit, Retry, Timeout,
    extras::Cors,
    value::{Count, Prefix, Text, Wanted},
};

/// What happens to the requests that it takes; see `gateway.toml` for what each key of the file means.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(crate) struct Route {
    path: Option<Spanned<Text<Prefix>>>,
    template: Option<Spanned<String>>,
    host: Option<String>,
    methods: Option<Spanned<Vec<Text<Method>>>>,
    #[serde(default)]
    headers: BTreeMap<String, Wanted>,
    #[serde(default)]
    query: BTreeMap<String, Wanted>,
    #[serde(default)]
    cookies: BTreeMap<String, Wanted>,
    #[serde(default)]
    json: BTreeMap<String, serde_json::Value>,
    #[serde(default)]
    json_has: BTreeSet<String>,
    upstream: Option<Spanned<String>>,
    redirect: Option<Spanned<Redirect>>,
    respond: Option<Spanned<Respond>>,
    pub(super) timeout: Option<Spanned<Timeout>>,
    pub(super) retry: Option<Spanned<Retry>>,
    pub(super) rate_limit: Option<Spanned<RateLimit>>,
    pub(super) cors: Option<Spanned<Cors>>,
    #[serde(default)]
    compression: bool,
    request_id: Option<Spanned<Text<HeaderName>>>,
    max_body: Option<Spanned<Count>>,
    #[serde(default)]
    trace: bool,
}

/// Where the requests of a route go.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target<'a> {
    Upstream(&'a Spanned<String>),
    Redirect(&'a Redirect),
    Respond(&'a Respond),
}

impl Route {
    /// The path as it stands in the file: a prefix or a template.
    pub(crate) fn path(&self) -> &str {
        match (&self.path, &self.template) {
            (Some(prefix), _) => prefix.get_ref().0.as_str(),
            (None, Some(template)) => template.get_ref(),
            (None, None) => "",
        }
    }

    /// What tells it from the others: its path where that is all that it asks for.
    pub(crate) fn name(&self) -> String {
        let whole = self.with_conditions(self.path()).to_string();
        whole.strip_prefix("any method ").unwrap_or(&whole).to_owned()
    }

    /// Where the requests go. `None` is a mistake that [`check`](Self::check) finds.
    pub(crate) fn target(&self) -> Option<Target<'_>> {
        match (&self.upstream, &self.redirect, &self.respond) {
            (Some(upstream), None, None) => Some(Target::Upstream(upstream)),
            (None, Some(redirect), None) => Some(Target::Redirect(redirect.get_ref())),
            (None, None, Some(respond)) => Some(Target::Respond(respond.get_ref())),
            _ => None,
        }
    }

    /// What takes these requests in a router. A prefix in whole segments is three of them: itself, itself with a slash, and what
    /// is below.
    pub(crate) fn patterns(&self) -> Vec<route::Route> {
        let paths = match (&self.path, self.path().trim_end_matches('/')) {
            (Some(_), "") => vec!["/".to_owned(), "/{*rest}".to_owned()],
            (Some(_), prefix) => vec![prefix.to_owned(), format!("{prefix}/"), format!("{prefix}/{{*rest}}")],
            (None, _) => vec![self.path().to_owned()],
        };
        paths.iter().map(|path| self.with_conditions(path)).collect()
    }

    fn with_conditions(&self, path: &str) -> route::Route {
        let mut methods =
            self.methods.iter().flat_map(|methods| methods.get_ref().iter().map(|method| &method.0));
        let mut route = match methods.next() {
            Some(first) => route::Route::method(first.clone(), path),
            None => route::Route::any(path),
        };
        route = methods.fold(route, |route, method| route.or(method.clone()));
        if self.cors.is_some() {
            // Browsers ask beforehand.
            route = route.or(Method::OPTIONS);
        }
        if let Some(host) = &self.host {
            route = route.host(host);
        }
        for (name, wanted) in &self.headers {
            route = match wanted {
                Wanted::Value(value) => route.header(name, value),
                Wanted::Any => route.has_header(name),
            };
        }
        for (name, wanted) in &self.query {
            route = match wanted {
                Wanted::Value(value) => route.query(name, value),
                Wanted::Any => route.has_query(name),
            };
        }
        for (name, wanted) in &self.cookies {
            route = match wanted {
                Wanted::Value(value) => route.cookie(name, value),
                Wanted::Any => route.has_cookie(name),
            };
        }
        route = self.json.iter().fold(route, |route, (pointer, value)| route.json(pointer, value.clone()));
        self.json_has.iter().fold(route, |route, pointer| route.has_json(pointer))
    }

    /// Whether it looks into bodies.
    pub(crate) fn asks_body(&self) -> bool {
        !self.json.is_empty() || !self.json_has.is_empty()
    }

    pub(crate) fn timeout(&self) -> Timeout {
        self.timeout.as_ref().map(|timeout| timeout.get_ref().clone()).unwrap_or_default()
    }

    pub(crate) fn retry(&self) -> Option<&Retry> {
        self.retry.as_ref().map(Spanned::get_ref)
    }

    pub(crate) fn rate_limit(&self) -> Option<&RateLimit> {
        self.rate_limit.as_ref().map(Spanned::get_ref)
    }

    pub(crate) fn cors(&self) -> Option<&Cors> {
        self.cors.as_ref().map(Spanned::get_ref)
    }

    pub(crate) fn compression(&self) -> bool {
        self.compression
    }

    /// The field of the id of a request.
    pub(crate) fn request_id(&self) -> Option<&HeaderName> {
        self.request_id.as_ref().map(|name| &name.get_ref().0)
    }

    /// The most bytes of a request's body.
    pub(crate) fn max_body(&self) -> Option<usize> {
        self.max_body.as_ref().map(|bytes| usize::try_from(bytes.get_ref().0).unwrap_or(usize::MAX))
    }

    pub(crate) fn trace(&self) -> bool {
        self.trace
    }

    pub(super) fn check(&self) -> Result<(), Finding> {
        match (&self.path, &self.template) {
            (Some(_), None) | (None, Some(_)) => {}
            (Some(_), Some(template)) => {
                let message = "path is a prefix and template the whole path: write one of them";
                return Err((Some(template.span()), message.to_owned()));
            }
            (None, None) => {
                let message = "a [[route]] has a path (a prefix such as \"/users\") or a template (such as \"/users/{id}\")";
                return Err((None, message.to_owned()));
            }
        }
        if let Some(methods) = self.methods.as_ref().filter(|methods| methods.get_ref().is_empty()) {
            let message = "methods has none: name some, or leave it out for all of them";
            return Err((Some(methods.span()), message.to_owned()));
        }
        match self.target() {
            Some(Target::Upstream(_)) => return Ok(()),
            Some(Target::Redirect(redirect)) => redirect.check(self)?,
            Some(Target::Respond(respond)) => respond.check(self)?,
            None => {
                let message = "a [[route]] leads to one of these: upstream, redirect, respond";
                return Err((None, message.to_owned()));
            }
        }
        for (key, span) in [
            ("timeout", self.timeout.as_ref().map(Spanned::span)),
            ("retry", self.retry.as_ref().map(Spanned::span)),
            ("rate_limit", self.rate_limit.as_ref().map(Spanned::span)),
            ("cors", self.cors.as_ref().map(Spanned::span)),
            ("request_id", self.request_id.as_ref().map(Spanned::span)),
            ("max_body", self.max_body.as_ref().map(Spanned::span)),
        ] {
            if span.is_some() {
                return Err((span, format!("{key} is for routes to an upstream: leave it out here")));
            }
        }
        Ok(())
    }

    fn redirect_span(&self) -> Option<std::ops::Range<usize>> {
        self.redirect.as_ref().map(Spanned::span)
    }

    fn respond_span(&self) -> Option<std::ops::Range<usize>> {
        self.respond.as_ref().map(Spanned::span)
    }
}

/// Sends clients elsewhere.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(crate) struct Redirect {
    to: Option<String>,
    https: Option<String>,
    status: Option<u16>,
    #[serde(default)]
    drop_query: bool,
}

impl Redirect {
    pub(crate) fn service(&self) -> Result<route::Redirect, String> {
        let redirect = match (&self.to, &self.https, self.status) {
            (Some(to), None, status) => {
                let status = StatusCode::from_u16(status.unwrap_or(308));
                let status = status.map_err(|_| "status: a redirect has 301, 302, 307 or 308".to_owned())?;
                route::Redirect::new(status, to)
            }
            (None, Some(host), None) => route::Redirect::https(host),
            (None, Some(_), Some(_)) => return Err("https has status 308: leave status out".to_owned()),
            _ => {
                return Err("a redirect has to = \"/new/{id}\", or https = \"www.example.com\"".to_owned());
            }
        };
        let redirect = redirect.map_err(|error| error.to_string())?;
        Ok(if self.drop_query { redirect.without_query() } else { redirect })
    }

    /// In words, for the list of routes.
    pub(crate) fn summary(&self) -> String {
        match &self.https {
            Some(host) => format!("308 https://{host}"),
            None => format!("{} {}", self.status.unwrap_or(308), self.to.as_deref().unwrap_or_default()),
        }
    }

    fn check(&self, route: &Route) -> Result<(), Finding> {
        self.service().map(drop).map_err(|message| (route.redirect_span(), message))
    }
}

/// Answers all requests alike.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(crate) struct Respond {
    status: Option<u16>,
    content_type: Option<String>,
    body: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
}

impl Respond {
    pub(crate) fn service(&self) -> Result<route::Fixed, String> {
        let status = self.status.unwrap_or(200);
        let code = StatusCode::from_u16(status).ok().filter(|code| !code.is_informational());
        let code = code.ok_or_else(|| format!("status is {status}: write one from 200 to 999"))?;
        let mut answer = route::Fixed::new(code);
        for (name, value) in &self.headers {
            let name: HeaderName =
                name.parse().map_err(|_| format!("{name:?} is not the name of a field"))?;
            let field = HeaderValue::from_str(value);
            let field = field.map_err(|_| format!("{value:?} is not a value that a field can have"))?;
            if name == CONTENT_TYPE {
                return Err("content-type has a key of its own: content_type".to_owned());
            }
            answer = answer.header(name, field);
        }
        match &self.body {
            None if self.content_type.is_some() => {
                Err("content_type is that of a body: write body as well".to_owned())
            }
            None => Ok(answer),
            Some(_) if matches!(status, 204 | 304) => {
                Err(format!("status {status} has no body: leave body out"))
            }
            Some(body) => {
                let of = self.content_type.as_deref().unwrap_or("text/plain; charset=utf-8");
                let of = HeaderValue::from_str(of)
                    .map_err(|_| "content_type is one such as \"application/json\"".to_owned())?;
                Ok(answer.body(of, body.clone()))
            }
        }
    }

    /// In words, for the list of routes.
    pub(crate) fn summary(&self) -> String {
        self.status.unwrap_or(200).to_string()
    }

    fn check(&self, route: &Route) -> Result<(), Finding> {
        self.service().map(drop).map_err(|message| (route.respond_span(), message))
    }
}
