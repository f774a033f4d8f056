use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::task::{Context, Poll};

use buttress_core::OnCall;
use buttress_http::Problem;
use buttress_http::body::ReplyBody;
use buttress_http::reject::Form;
use bytes::Bytes;
use http::header::ALLOW;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body::Body;
use tower::util::BoxCloneSyncService;
use tower_service::Service;

use crate::builder::{AsTheyAre, Boxing};
use crate::policy::{Found, Head, Json, Table, ambiguity};
use crate::{Fixed, Matched, PeekBody, ReadFuture, Redirect, RouterBuilder, RouterFuture};

/// Passes each request to the service of the most specific route that takes it.
///
/// A clone is two reference counts, whatever the number of routes. A call clones the one service of its route, readies that
/// clone and calls it, so the router itself is always ready: what [`OnCall`] says of back-pressure holds here.
///
/// `M` says what is looked at: [`Heads`], or [`JsonBodies`] as well.
pub struct Router<S, M = Heads> {
    shared: Arc<Shared<S>>,
    mode: PhantomData<fn() -> M>,
}

/// The router looks at heads alone, and services get the request as it is.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Heads;

/// The router looks into bodies of JSON where a route asks for it, and services get a [`PeekBody`].
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct JsonBodies;

#[expect(unnameable_types, reason = "this seals the two modes")]
pub trait Mode {
    const READS: bool;
}

impl Mode for Heads {
    const READS: bool = false;
}

impl Mode for JsonBodies {
    const READS: bool = true;
}

impl<S> Router<S> {
    /// Begins a router whose services are all of one type. Nothing is boxed.
    pub const fn builder() -> RouterBuilder<S, AsTheyAre> {
        RouterBuilder::new()
    }
}

impl<Req, Res, E> Router<BoxCloneSyncService<Req, Res, E>> {
    /// Begins a router whose services are of any type. Each is boxed: two allocations a call, one for the clone of the
    /// service and one for its future.
    ///
    /// ```
    /// use std::convert::Infallible;
    ///
    /// use buttress_route::{Fixed, Route, Router};
    /// use bytes::Bytes;
    /// use http::{Request, Response, StatusCode};
    /// use http_body_util::Full;
    /// use tower::service_fn;
    ///
    /// let hello = service_fn(|_: Request<()>| async { Ok::<_, Infallible>(Response::new(Full::<Bytes>::from("hello"))) });
    /// let router = Router::boxed()
    ///     .route(Route::get("/hello"), hello)
    ///     .route(Route::get("/gone"), Fixed::new(StatusCode::GONE))
    ///     .build()?;
    /// # let _ = router;
    /// # Ok::<(), buttress_route::BuildError>(())
    /// ```
    pub const fn boxed() -> RouterBuilder<BoxCloneSyncService<Req, Res, E>, Boxing> {
        RouterBuilder::new()
    }
}

impl<S, M> Router<S, M> {
    pub(crate) fn of(shared: Shared<S>) -> Self {
        Self { shared: Arc::new(shared), mode: PhantomData }
    }

    /// The route that takes `request` by its head. `None` where none does, where the path is refused as ambiguous, and where
    /// only the body can tell.
    #[must_use]
    pub fn find<B>(&self, request: &Request<B>) -> Option<Matched> {
        match self.shared.choose(request, Json::Unread) {
            Choice::Route(_, matched) => Some(matched),
            _ => None,
        }
    }
}

impl<S, M> Clone for Router<S, M> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone(), mode: PhantomData }
    }
}

impl<S, M> fmt::Debug for Router<S, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Router").field("routes", &self.shared.endpoints.len()).finish_non_exhaustive()
    }
}

/// What a route leads to.
pub(crate) enum Endpoint<S> {
    Service(S),
    Redirect(Redirect),
    Fixed(Fixed),
}

/// What all clones of a router share.
pub(crate) struct Shared<S> {
    table: Arc<Table>,
    endpoints: Box<[Endpoint<S>]>,
    fallback: Option<S>,
    strict: bool,
}

/// What is done with a request.
pub(crate) enum Choice {
    Route(u32, Matched),
    AskBody,
    Fallback,
    Refuse(Refusal),
}

/// Why the router answers itself.
pub(crate) enum Refusal {
    Ambiguous(&'static str),
    Method(String),
}

impl<S> Shared<S> {
    pub(crate) fn new(
        table: Table,
        endpoints: Box<[Endpoint<S>]>,
        fallback: Option<S>,
        strict: bool,
    ) -> Self {
        Self { table: Arc::new(table), endpoints, fallback, strict }
    }

    pub(crate) fn choose<B>(&self, request: &Request<B>, body: Json<'_>) -> Choice {
        let uri = request.uri();
        if self.strict
            && let Some(what) = ambiguity(uri.path())
        {
            return Choice::Refuse(Refusal::Ambiguous(what));
        }
        let head = Head { method: request.method(), uri, headers: request.headers() };
        match self.table.find(head, body) {
            Found::Route(route, ranges) => {
                let path = uri.path_and_query().expect("a path that begins with `/` is one").clone();
                Choice::Route(route, Matched::new(self.table.clone(), path, route, ranges))
            }
            Found::AskBody => Choice::AskBody,
            Found::None => match self.table.allowed(head) {
                Some(methods) => Choice::Refuse(Refusal::Method(methods.to_string())),
                None => Choice::Fallback,
            },
        }
    }

    /// Does with the request what was chosen.
    #[inline]
    pub(crate) fn answer<B, R>(&self, mut request: Request<B>, choice: Choice) -> RouterFuture<S, Request<B>>
    where
        S: Service<Request<B>, Response = Response<R>> + Clone,
        R: ReplyBody,
    {
        let service = match choice {
            Choice::Route(route, matched) => match &self.endpoints[route as usize] {
                Endpoint::Service(service) => {
                    request.extensions_mut().insert(matched);
                    service
                }
                Endpoint::Redirect(redirect) => {
                    return RouterFuture::now(redirect.respond(Some(&matched), &request));
                }
                Endpoint::Fixed(fixed) => return RouterFuture::now(fixed.respond(request.method())),
            },
            Choice::Fallback | Choice::AskBody => match &self.fallback {
                Some(service) => service,
                None => {
                    return RouterFuture::now(problem(
                        StatusCode::NOT_FOUND,
                        "no route takes this",
                        &request,
                    ));
                }
            },
            Choice::Refuse(refusal) => return RouterFuture::now(refusal.respond(&request)),
        };
        RouterFuture::called(OnCall::new(service.clone()).call(request))
    }
}

fn problem<B, R: ReplyBody>(
    status: StatusCode,
    detail: impl Into<std::borrow::Cow<'static, str>>,
    request: &Request<B>,
) -> Response<R> {
    Problem::new(status).with_detail(detail).reply(Form::of(request))
}

impl Refusal {
    #[cold]
    fn respond<B, R: ReplyBody>(self, request: &Request<B>) -> Response<R> {
        match self {
            Self::Ambiguous(what) => {
                let detail = format!("the path has {what}, which not every server reads alike");
                problem(StatusCode::BAD_REQUEST, detail, request)
            }
            Self::Method(allowed) => {
                let mut response =
                    problem(StatusCode::METHOD_NOT_ALLOWED, "no route takes this method here", request);
                // An answer of gRPC has its own code, and status 200.
                if response.status() == StatusCode::METHOD_NOT_ALLOWED {
                    let allowed = HeaderValue::try_from(allowed).expect("methods are tokens");
                    response.headers_mut().insert(ALLOW, allowed);
                }
                response
            }
        }
    }
}

impl<S, B, R> Service<Request<B>> for Router<S>
where
    S: Service<Request<B>, Response = Response<R>> + Clone,
    R: ReplyBody,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = RouterFuture<S, Request<B>>;

    #[inline]
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }

    #[inline]
    fn call(&mut self, request: Request<B>) -> Self::Future {
        let choice = self.shared.choose(&request, Json::None);
        self.shared.answer(request, choice)
    }
}

impl<S, B, R> Service<Request<B>> for Router<S, JsonBodies>
where
    S: Service<Request<PeekBody<B>>, Response = Response<R>> + Clone,
    B: Body<Data = Bytes> + Unpin,
    R: ReplyBody,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = ReadFuture<S, B>;

    #[inline]
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }

    #[inline]
    fn call(&mut self, request: Request<B>) -> Self::Future {
        let request = request.map(PeekBody::new);
        match self.shared.choose(&request, Json::Unread) {
            Choice::AskBody if request.body().may_be_json(request.headers()) => {
                ReadFuture::read(self.shared.clone(), request)
            }
            Choice::AskBody => {
                let choice = self.shared.choose(&request, Json::None);
                ReadFuture::called(self.shared.answer(request, choice))
            }
            choice => ReadFuture::called(self.shared.answer(request, choice)),
        }
    }
}
