//! Which stack answers a path: the longest prefix that matches whole segments.

use std::{cmp::Reverse, convert::Infallible, sync::Arc};

use buttress::{Problem, reject::Form};
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use tower::ServiceExt;

use crate::{
    config::{Config, Prefix},
    path,
    stack::{Stack, stack},
    upstream::upstreams,
    watch::Watch,
};

/// All routes; a clone shares their limits and their upstream connections.
pub(crate) struct Routes<S>(Arc<[(Prefix, S)]>);

/// The routes of `config`. Those to one upstream share it.
pub(crate) fn routes(config: &Config, watch: &Watch) -> Routes<impl Stack + use<>> {
    let upstreams = upstreams(config, watch);
    let mut routes: Vec<_> = config
        .routes
        .iter()
        .enumerate()
        .map(|(number, route)| {
            let upstream = upstreams[route.upstream()].clone();
            (route.prefix().clone(), stack(config, number, route, upstream, watch))
        })
        .collect();
    routes.sort_by_key(|(prefix, _)| Reverse(prefix.decoded().len()));
    Routes(routes.into())
}

impl<S: Stack> Routes<S> {
    /// Answers `request`, with a 404 when no route does, and with a 400 when it is not certain which one should.
    pub(crate) async fn call(self, request: Request<Incoming>) -> Result<Response<S::Body>, Infallible> {
        let path = request.uri().path();
        if let Some(what) = path::ambiguity(path) {
            let detail = format!("the path has {what}, which not every server reads alike");
            return Ok(Problem::new(StatusCode::BAD_REQUEST).with_detail(detail).reply(Form::of(&request)));
        }
        match self.0.iter().find(|(prefix, _)| prefix.matches(path)) {
            Some((_, stack)) => stack.clone().oneshot(request).await,
            None => {
                let problem = Problem::new(StatusCode::NOT_FOUND).with_detail(format!("no route for {path}"));
                Ok(problem.reply(Form::of(&request)))
            }
        }
    }
}

impl<S> Clone for Routes<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}
