//! Which route takes a request: `buttress::route`, as `gateway.toml` says it.

use buttress::{
    Router,
    route::{AsTheyAre, BuildError, JsonBodies, PeekBody, RouterBuilder},
};
use http::Request;
use tower::util::{Either, MapRequest};

use crate::{
    config::{Config, Route, Target},
    inbound::Inbound,
};

/// Looks into bodies only where a route asks for it.
pub(crate) type Routes<S> = Either<Router<S>, Router<Unpeeked<S>, JsonBodies>>;

type Unpeeked<S> = MapRequest<S, fn(Request<PeekBody<Inbound>>) -> Request<Inbound>>;

fn unpeek(request: Request<PeekBody<Inbound>>) -> Request<Inbound> {
    request.map(Inbound::peeked)
}

/// The routes of `config`; `service` makes what stands behind one that leads to an upstream.
pub(crate) fn routes<S: Clone>(
    config: &Config,
    mut service: impl FnMut(&Route) -> S,
) -> Result<Routes<S>, BuildError> {
    if config.routes().any(Route::asks_body) {
        let unpeeked = |service| MapRequest::new(service, unpeek as fn(_) -> _);
        let builder = filled(Router::builder(), config.routes(), |route| unpeeked(service(route)));
        Ok(Either::Right(builder.json_bodies().build()?))
    } else {
        Ok(Either::Left(filled(Router::builder(), config.routes(), service).build()?))
    }
}

fn filled<'a, S: Clone>(
    mut builder: RouterBuilder<S, AsTheyAre>,
    routes: impl IntoIterator<Item = &'a Route>,
    mut service: impl FnMut(&Route) -> S,
) -> RouterBuilder<S, AsTheyAre> {
    const CHECKED: &str = "checked when the configuration was read";
    for route in routes {
        let patterns = route.patterns().into_iter();
        builder = match route.target().expect(CHECKED) {
            Target::Upstream(_) => {
                let service = service(route);
                patterns.fold(builder, |builder, pattern| builder.route(pattern, service.clone()))
            }
            Target::Redirect(redirect) => {
                let redirect = redirect.service().expect(CHECKED);
                patterns.fold(builder, |builder, pattern| builder.redirect(pattern, redirect.clone()))
            }
            Target::Respond(respond) => {
                let answer = respond.service().expect(CHECKED);
                patterns.fold(builder, |builder, pattern| builder.respond(pattern, answer.clone()))
            }
        };
    }
    builder
}

/// The first two routes that take the same requests, or a route that is not well formed, and what is wrong.
pub(crate) fn mistake(config: &Config) -> Option<(Vec<usize>, BuildError)> {
    let error = routes(config, |_| ()).err()?;
    let numbers = match &error {
        BuildError::Ambiguous { first, second, .. } => {
            let mut taking = config.routes().enumerate().flat_map(|(number, route)| {
                route.patterns().into_iter().map(move |pattern| (number, pattern.to_string()))
            });
            let one = taking.by_ref().find(|(_, pattern)| pattern == first);
            let other = taking.find(|(_, pattern)| pattern == second);
            one.into_iter().chain(other).map(|(number, _)| number).collect()
        }
        // Alone it is as wrong as among the others.
        _ => {
            let alone =
                |route: &Route| filled(Router::builder(), [route], |_| ()).json_bodies().build().is_err();
            config.routes().position(alone).into_iter().collect()
        }
    };
    Some((numbers, error))
}
