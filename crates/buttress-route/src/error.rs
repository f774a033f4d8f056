use thiserror::Error;

/// Why a router cannot be built.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum BuildError {
    /// A path is no template.
    #[error("path `{path}`: {rule}")]
    #[non_exhaustive]
    Path {
        /// The path as it was given.
        path: String,
        /// What it has to be.
        rule: &'static str,
    },
    /// A host is neither a name nor a name behind `*.`.
    #[error("host `{host}`: {rule}")]
    #[non_exhaustive]
    Host {
        /// The host as it was given.
        host: String,
        /// What it has to be.
        rule: &'static str,
    },
    /// A condition cannot be met, or cannot be read.
    #[error("route `{route}`: {condition}: {rule}")]
    #[non_exhaustive]
    Condition {
        /// The route.
        route: String,
        /// The condition, as it was given.
        condition: String,
        /// What it has to be.
        rule: &'static str,
    },
    /// Two routes take the same requests, and neither is the more specific one.
    #[error("routes `{first}` and `{second}` take the same requests: give one of them another condition")]
    #[non_exhaustive]
    Ambiguous {
        /// The one that was added first.
        first: String,
        /// The other one.
        second: String,
    },
    /// A route asks for a field of the body, and the router does not read bodies.
    #[error("route `{route}` looks into the body: make the router with `json_bodies()`")]
    #[non_exhaustive]
    BodyNotRead {
        /// The route.
        route: String,
    },
    /// The target of a redirect asks for a parameter that its route does not have.
    #[error("route `{route}` has no parameter `{parameter}` for its redirect")]
    #[non_exhaustive]
    Parameter {
        /// The route.
        route: String,
        /// The parameter that the target asks for.
        parameter: String,
    },
}

/// Why a redirect cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RedirectError {
    /// The status is not one that redirects.
    #[error("status {status}: a redirect has 301, 302, 307 or 308")]
    #[non_exhaustive]
    Status {
        /// The status as it was given.
        status: u16,
    },
    /// The target is no template of a location.
    #[error("target `{target}`: {rule}")]
    #[non_exhaustive]
    Target {
        /// The target as it was given.
        target: String,
        /// What it has to be.
        rule: &'static str,
    },
}
