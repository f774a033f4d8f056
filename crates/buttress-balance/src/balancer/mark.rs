use buttress_core::{AtHead, Finish};
use http::{Request, Response};

use super::Flight;
use crate::Policy;

/// Writes into each answer which endpoint gave it, as an [`EndpointId`](buttress_core::EndpointId) in its extensions; when the
/// call is over `F` says. Made by [`Balancer::mark_endpoint`](crate::Balancer::mark_endpoint).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MarkEndpoint<F = AtHead>(F);

impl<F> MarkEndpoint<F> {
    pub(super) const fn new(finish: F) -> Self {
        Self(finish)
    }
}

impl<Q, B, P, C, F> Finish<Request<Q>, Response<B>, Flight<P, C>> for MarkEndpoint<F>
where
    P: Policy,
    F: Finish<Request<Q>, Response<B>, Flight<P, C>>,
{
    type Form = F::Form;
    type Out = F::Out;

    fn form(&self, req: &Request<Q>) -> F::Form {
        self.0.form(req)
    }

    fn streams(&self, form: F::Form) -> bool {
        self.0.streams(form)
    }

    fn finish(&self, form: F::Form, mut res: Response<B>, flight: Flight<P, C>) -> F::Out {
        res.extensions_mut().insert(flight.endpoint());
        self.0.finish(form, res, flight)
    }
}
