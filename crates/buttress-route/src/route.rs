use std::fmt;

use http::{HeaderName, HeaderValue, Method};
use serde_json::Value;

use crate::BuildError;
use crate::policy::{Conditions, HostPattern, Methods, Parsed, RouteInfo};

/// Which requests a route takes: its path and method, and as much more as is asked for.
///
/// ```
/// use buttress_route::Route;
///
/// let route = Route::get("/users/{id}").host("*.example.com").header("x-version", "2");
/// assert_eq!(route.to_string(), r#"GET *.example.com/users/{id} [header "x-version" = "2"]"#);
/// ```
///
/// # Paths
///
/// A path is a template of whole segments: a literal; a parameter `{name}`, which is one segment that is not empty; and,
/// as the last one, `{*name}`, which is the rest of the path and not empty either. `{{` and `}}` are the braces themselves.
/// `/users` and `/users/` are two paths. A path has 128 segments and 16 parameters at most.
///
/// Requests are matched as they read decoded: `/%75sers` is `/users`, and `%2F` is a slash inside a segment that never parts
/// it. Literals may be written encoded or not.
///
/// # Conditions
///
/// A header, a query parameter, a cookie, a field of a JSON body: with a value, or with the mere fact that it is there. Of
/// several with one name the first counts. Values are compared byte by byte. All conditions are to be met.
///
/// Mistakes in any of these are told when the router is built.
#[derive(Clone, Debug)]
pub struct Route {
    methods: Methods,
    host: Option<String>,
    path: String,
    headers: Vec<(String, Option<String>)>,
    query: Vec<(String, Option<String>)>,
    cookies: Vec<(String, Option<String>)>,
    json: Vec<(String, Option<Value>)>,
}

impl Route {
    /// Takes every method.
    #[must_use]
    pub fn any(path: impl Into<String>) -> Self {
        Self {
            methods: Methods::any(),
            host: None,
            path: path.into(),
            headers: Vec::new(),
            query: Vec::new(),
            cookies: Vec::new(),
            json: Vec::new(),
        }
    }

    /// Takes this method; GET stands for HEAD as well, where no route names HEAD. More by [`or`](Self::or).
    #[must_use]
    pub fn method(method: Method, path: impl Into<String>) -> Self {
        let mut route = Self::any(path);
        route.methods = Methods::default();
        route.methods.add(method);
        route
    }

    /// Takes GET, and HEAD where no route names that.
    #[must_use]
    pub fn get(path: impl Into<String>) -> Self {
        Self::method(Method::GET, path)
    }

    /// Takes POST.
    #[must_use]
    pub fn post(path: impl Into<String>) -> Self {
        Self::method(Method::POST, path)
    }

    /// Takes PUT.
    #[must_use]
    pub fn put(path: impl Into<String>) -> Self {
        Self::method(Method::PUT, path)
    }

    /// Takes PATCH.
    #[must_use]
    pub fn patch(path: impl Into<String>) -> Self {
        Self::method(Method::PATCH, path)
    }

    /// Takes DELETE.
    #[must_use]
    pub fn delete(path: impl Into<String>) -> Self {
        Self::method(Method::DELETE, path)
    }

    /// Takes this method as well. A route that takes every method stays as it is.
    #[must_use]
    pub fn or(mut self, method: Method) -> Self {
        if !self.methods.is_any() {
            self.methods.add(method);
        }
        self
    }

    /// Takes requests to this host only: a name, an address (IPv6 in brackets), or `*.` and a name, for the names with one or
    /// more labels before it. Letters' case, the port and a last dot do not count.
    ///
    /// The authority of the request's URI counts, and without one the field `Host`; a request with two such fields is to no
    /// host that is known.
    #[must_use]
    pub fn host(mut self, host: impl Into<String>) -> Self {
        self.host = Some(host.into());
        self
    }

    /// Takes requests with this value in a header field.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), Some(value.into())));
        self
    }

    /// Takes requests with this header field.
    #[must_use]
    pub fn has_header(mut self, name: impl Into<String>) -> Self {
        self.headers.push((name.into(), None));
        self
    }

    /// Takes requests with this value of a query parameter, decoded.
    #[must_use]
    pub fn query(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.query.push((name.into(), Some(value.into())));
        self
    }

    /// Takes requests with this query parameter.
    #[must_use]
    pub fn has_query(mut self, name: impl Into<String>) -> Self {
        self.query.push((name.into(), None));
        self
    }

    /// Takes requests with this value of a cookie.
    #[must_use]
    pub fn cookie(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.cookies.push((name.into(), Some(value.into())));
        self
    }

    /// Takes requests with this cookie.
    #[must_use]
    pub fn has_cookie(mut self, name: impl Into<String>) -> Self {
        self.cookies.push((name.into(), None));
        self
    }

    /// Takes requests whose JSON body has this value where `pointer` (RFC 6901) points. The router is to be made with
    /// [`json_bodies`](crate::RouterBuilder::json_bodies).
    ///
    /// Of members with one name the last counts. `1` and `1.0` are two values.
    #[must_use]
    pub fn json(mut self, pointer: impl Into<String>, value: impl Into<Value>) -> Self {
        self.json.push((pointer.into(), Some(value.into())));
        self
    }

    /// Takes requests whose JSON body has something, be it `null`, where `pointer` (RFC 6901) points.
    #[must_use]
    pub fn has_json(mut self, pointer: impl Into<String>) -> Self {
        self.json.push((pointer.into(), None));
        self
    }

    /// The field of the body that it asks for is one the router has to read.
    pub(crate) const fn asks_body(&self) -> bool {
        !self.json.is_empty()
    }

    pub(crate) fn parse(&self) -> Result<Parsed, BuildError> {
        let template = crate::policy::Template::parse(&self.path)
            .map_err(|rule| BuildError::Path { path: self.path.clone(), rule })?;
        let host = match &self.host {
            None => HostPattern::Any,
            Some(host) => {
                HostPattern::parse(host).map_err(|rule| BuildError::Host { host: host.clone(), rule })?
            }
        };
        let info = RouteInfo {
            path: self.path.as_str().into(),
            host: self.host.as_deref().map(Into::into),
            names: template.names.clone(),
            methods: self.methods.clone(),
            conditions: self.conditions()?,
        };
        Ok(Parsed { host, template, info })
    }

    fn conditions(&self) -> Result<Conditions, BuildError> {
        let wrong =
            |condition: String, rule| BuildError::Condition { route: self.to_string(), condition, rule };
        let mut headers = Vec::with_capacity(self.headers.len());
        for (name, value) in &self.headers {
            let Ok(field) = HeaderName::try_from(name) else {
                return Err(wrong(format!("header `{name}`"), "that is not the name of a field"));
            };
            let value = value.as_ref().map(HeaderValue::try_from).transpose();
            let Ok(value) = value else {
                return Err(wrong(format!("header `{name}`"), "the value is not one that a field can have"));
            };
            headers.push((field, value));
        }
        for (name, value) in &self.cookies {
            let good = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b';');
            if name.is_empty() || name.contains('=') || !good(name) || !value.as_deref().is_none_or(good) {
                let rule = "names and values of cookies are visible ASCII without `;`, and names without `=`";
                return Err(wrong(format!("cookie `{name}`"), rule));
            }
        }
        for (pointer, _) in &self.json {
            if !pointer.is_empty() && !pointer.starts_with('/') {
                return Err(wrong(format!("JSON field `{pointer}`"), "a pointer begins with `/` (RFC 6901)"));
            }
        }
        let mut conditions = Conditions {
            headers,
            query: self.query.clone(),
            cookies: self.cookies.clone(),
            json: self.json.clone(),
        };
        conditions.settle().map_err(|what| wrong(what, "there is one condition for each name"))?;
        Ok(conditions)
    }
}

/// The route in one line: its methods, host and path, and its conditions.
impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.methods.is_any() {
            f.write_str("any method")?;
        } else {
            self.methods.fmt(f)?;
        }
        write!(f, " {}{}", self.host.as_deref().unwrap_or_default(), self.path)?;
        let show = |f: &mut fmt::Formatter<'_>, kind: &str, name: &str, value: Option<&str>| match value {
            Some(value) => write!(f, " [{kind} {name:?} = {value:?}]"),
            None => write!(f, " [{kind} {name:?}]"),
        };
        for (kind, all) in [("header", &self.headers), ("query", &self.query), ("cookie", &self.cookies)] {
            for (name, value) in all {
                show(f, kind, name, value.as_deref())?;
            }
        }
        for (pointer, value) in &self.json {
            show(f, "json", pointer, value.as_ref().map(Value::to_string).as_deref())?;
        }
        Ok(())
    }
}
