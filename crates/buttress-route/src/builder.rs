use std::fmt;
use std::marker::PhantomData;

use tower::util::BoxCloneSyncService;
use tower_service::Service;

use crate::policy::Table;
use crate::router::{Endpoint, Heads, JsonBodies, Mode, Shared};
use crate::{BuildError, Fixed, Redirect, Route, Router};

/// Collects the routes of a [`Router`]. Made by [`Router::builder`] and [`Router::boxed`].
///
/// | setting | default | why |
/// |---|---|---|
/// | [`fallback`](Self::fallback) | a problem with status 404 | |
/// | [`allow_ambiguous_paths`](Self::allow_ambiguous_paths) | refused, with 400 | a request must not pass one route's stack and reach another's service |
/// | [`json_bodies`](RouterBuilder::json_bodies) | no body is read | services get the request's body as it is |
#[must_use = "a builder does nothing until it is built"]
pub struct RouterBuilder<S, I = AsTheyAre, M = Heads> {
    routes: Vec<(Route, Endpoint<S>)>,
    fallback: Option<S>,
    strict: bool,
    kind: PhantomData<fn() -> (I, M)>,
}

/// Services go into the router as they are: all of one type.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct AsTheyAre;

/// Services are boxed on their way into the router: of any type.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Boxing;

/// How a service of type `T` goes into a router of `S`: as it is ([`AsTheyAre`]) or boxed ([`Boxing`]).
#[diagnostic::on_unimplemented(
    message = "a router of `{S}` does not take a `{T}`",
    note = "services of several types go into a router that is made by `Router::boxed()`: each is `Clone + Send + Sync`, \
            with the same request, response and error, and a future that is `Send`"
)]
pub trait Takes<T, S> {
    /// The service as the router holds it.
    fn take(service: T) -> S;
}

impl<S> Takes<S, S> for AsTheyAre {
    fn take(service: S) -> S {
        service
    }
}

impl<T, Req, Res, E> Takes<T, BoxCloneSyncService<Req, Res, E>> for Boxing
where
    T: Service<Req, Response = Res, Error = E> + Clone + Send + Sync + 'static,
    T::Future: Send + 'static,
{
    fn take(service: T) -> BoxCloneSyncService<Req, Res, E> {
        BoxCloneSyncService::new(service)
    }
}

impl<S, I> RouterBuilder<S, I> {
    pub(crate) const fn new() -> Self {
        Self { routes: Vec::new(), fallback: None, strict: true, kind: PhantomData }
    }

    /// Reads bodies of JSON, up to 64 KiB, where a route asks for a field of it ([`Route::json`]).
    ///
    /// Services then get a [`PeekBody`](crate::PeekBody), in which the body is as it was. A body is read when nothing but it
    /// can tell, and only if its `Content-Type` is `application/json` or ends in `+json` (streams of gRPC and Connect do not count). One that is longer, in more than
    /// 1024 frames, broken off or no JSON meets no such condition, and is no error by itself. The router waits for as long as
    /// the client sends: put a timeout above it.
    pub fn json_bodies(self) -> RouterBuilder<S, I, JsonBodies> {
        let Self { routes, fallback, strict, .. } = self;
        RouterBuilder { routes, fallback, strict, kind: PhantomData }
    }
}

impl<S, I, M: Mode> RouterBuilder<S, I, M> {
    /// Adds a route to a service: one with its own stack of layers, or one that others share.
    pub fn route<T>(self, route: Route, service: T) -> Self
    where
        I: Takes<T, S>,
    {
        self.endpoint(route, Endpoint::Service(I::take(service)))
    }

    /// Adds a route that is redirected.
    pub fn redirect(self, route: Route, redirect: Redirect) -> Self {
        self.endpoint(route, Endpoint::Redirect(redirect))
    }

    /// Adds a route with one answer to all requests.
    pub fn respond(self, route: Route, answer: Fixed) -> Self {
        self.endpoint(route, Endpoint::Fixed(answer))
    }

    /// Passes requests that no route takes to this service, in place of a 404. Where only the method is wrong, the answer
    /// is 405 all the same.
    pub fn fallback<T>(mut self, service: T) -> Self
    where
        I: Takes<T, S>,
    {
        self.fallback = Some(I::take(service));
        self
    }

    /// Takes paths that can be read in two ways, see [`ambiguity`](crate::ambiguity()). They are matched by their segments as
    /// these were sent: nothing is resolved, and `%2F` parts no segment. For services that read paths in this way too, such
    /// as object stores with slashes in their keys.
    pub const fn allow_ambiguous_paths(mut self) -> Self {
        self.strict = false;
        self
    }

    fn endpoint(mut self, route: Route, endpoint: Endpoint<S>) -> Self {
        self.routes.push((route, endpoint));
        self
    }

    /// Makes the router.
    ///
    /// # Errors
    ///
    /// When a route is not well formed, and when two take the same requests and neither is the more specific one: the error
    /// names both.
    pub fn build(self) -> Result<Router<S, M>, BuildError> {
        let mut parsed = Vec::with_capacity(self.routes.len());
        for (route, endpoint) in &self.routes {
            let named = route.parse()?;
            if route.asks_body() && !M::READS {
                return Err(BuildError::BodyNotRead { route: route.to_string() });
            }
            if let Endpoint::Redirect(redirect) = endpoint {
                let known = |name: &str| named.info.names.iter().any(|known| **known == *name);
                if let Some(unknown) = redirect.params().find(|name| !known(name)) {
                    let parameter = unknown.to_owned();
                    return Err(BuildError::Parameter { route: route.to_string(), parameter });
                }
            }
            parsed.push(named);
        }
        let name = |at: usize| self.routes[at].0.to_string();
        let table = Table::new(parsed)
            .map_err(|(first, second)| BuildError::Ambiguous { first: name(first), second: name(second) })?;
        let endpoints = self.routes.into_iter().map(|(_, endpoint)| endpoint).collect();
        Ok(Router::of(Shared::new(table, endpoints, self.fallback, self.strict)))
    }
}

impl<S, I, M> fmt::Debug for RouterBuilder<S, I, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let routes: Vec<_> = self.routes.iter().map(|(route, _)| route.to_string()).collect();
        f.debug_struct("RouterBuilder").field("routes", &routes).finish_non_exhaustive()
    }
}
