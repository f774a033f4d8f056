use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use buttress_core::BoxError;
use http::{Response, StatusCode};

use crate::connect::{Connecting, connect};
use crate::connection::{Checkout, Sent};
use crate::error::Unusable;
use crate::policy::{forward_response, forward_switch};
use crate::pool::Pool;
use crate::received::Received;
use crate::upgrade::Asked;
use crate::{Body, Error, ErrorKind};

/// The future of a call to [`Proxy`](crate::Proxy).
///
/// # Cancel safety
///
/// Dropping it closes the connection that the request is on, so the upstream learns of it at once; the place among
/// the open connections is free again. A request that was dropped may have reached the upstream.
#[must_use = "futures do nothing unless polled"]
pub struct ResponseFuture<B> {
    state: State<B>,
    pool: Arc<Pool<B>>,
    asked: Option<Box<Asked>>,
}

pub(crate) enum State<B> {
    /// A connection is being opened; the request begins on it.
    Connecting(Connecting<B>),
    /// The request is on its way.
    Waiting {
        connection: Checkout<B>,
        fresh: bool,
    },
    /// It is known already how the call ends.
    Failed(Error),
    Done,
}

impl<B> ResponseFuture<B> {
    pub(crate) const fn new(state: State<B>, pool: Arc<Pool<B>>, asked: Option<Box<Asked>>) -> Self {
        Self { state, pool, asked }
    }
}

impl<B> Future for ResponseFuture<B>
where
    B: http_body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    type Output = Result<Response<Body>, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        loop {
            match &mut this.state {
                State::Connecting(connecting) => match ready!(connecting.as_mut().poll(cx)) {
                    Ok(connection) => this.state = State::Waiting { connection, fresh: true },
                    Err(error) => this.state = State::Failed(error),
                },
                State::Waiting { connection, .. } => {
                    let sent = ready!(connection.as_mut().poll_answer(cx));
                    let State::Waiting { connection, fresh } =
                        std::mem::replace(&mut this.state, State::Done)
                    else {
                        unreachable!("matched above")
                    };
                    if let Some(result) = this.settle(sent, connection, fresh) {
                        return Poll::Ready(result);
                    }
                }
                State::Failed(_) => {
                    let State::Failed(error) = std::mem::replace(&mut this.state, State::Done) else {
                        unreachable!("matched above")
                    };
                    return Poll::Ready(Err(error));
                }
                State::Done => panic!("polled after it was ready"),
            }
        }
    }
}

impl<B> ResponseFuture<B>
where
    B: http_body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    /// What becomes of the call; `None` when it begins again on a fresh connection.
    fn settle(
        &mut self,
        sent: Sent<B>,
        connection: Checkout<B>,
        fresh: bool,
    ) -> Option<Result<Response<Body>, Error>> {
        let failure = match sent {
            Ok(response) => return Some(self.answer(response, connection)),
            Err(failure) => failure,
        };
        match failure.request {
            // The request came back whole: a pooled connection was dead. A fresh one gets it, once.
            Some(request) if !fresh => {
                drop(connection);
                self.state = match connect(self.pool.clone(), request) {
                    Ok(connecting) => State::Connecting(connecting),
                    Err(error) => State::Failed(error),
                };
                None
            }
            _ => Some(Err(failure.error.at(self.pool.address()))),
        }
    }

    fn answer(
        &mut self,
        mut response: Response<Received>,
        connection: Checkout<B>,
    ) -> Result<Response<Body>, Error> {
        let options = self.pool.options();
        let answer = match self.asked.take() {
            Some(asked) if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
                let protocol = forward_switch(&mut response, &options.fields, self.pool.host());
                asked.taken(&mut response, protocol).map(|protocol| {
                    asked.open(response, &protocol, connection, &options.clock, options.upgrade)
                })
            }
            Some(asked) if asked.is_extended() && response.status().is_success() => {
                Err(Unusable::NotSwitched)
            }
            _ => forward_response(&mut response, &options.fields, self.pool.host())
                .map(|reusable| response.map(|incoming| Body::new(incoming, connection, reusable))),
        };
        answer.map_err(|unusable| Error::new(ErrorKind::BadResponse, unusable).at(self.pool.address()))
    }
}

impl<B> fmt::Debug for ResponseFuture<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            State::Connecting(_) => "connecting",
            State::Waiting { .. } => "waiting",
            State::Failed(_) => "failed",
            State::Done => "done",
        };
        f.debug_struct("ResponseFuture").field("state", &state).finish_non_exhaustive()
    }
}
