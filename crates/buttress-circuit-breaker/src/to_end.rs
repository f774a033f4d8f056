use buttress_core::Finish;
use buttress_http::body::{AtEnd, EndForm, Tracked};
use buttress_http::field;
use http::{Request, Response};
use http_body::Body;

use crate::call::Call;

/// Follows bodies as [`AtEnd`] does, unless a call is known to go on after its head for as long as it likes.
///
/// Made by [`at_end`](crate::CircuitBreakerLayer::at_end) and [`slow_to_end`](crate::CircuitBreakerLayer::slow_to_end). A
/// call that is known to stream, and one that opens a tunnel, is judged at its head and never slow: its end may be hours
/// away, and says nothing of how the service does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a word: there is nothing to add to it")]
pub struct ToEnd;

impl<Q, B, C> Finish<Request<Q>, Response<B>, Call<C>> for ToEnd
where
    B: Body,
    C: Send + Sync + 'static,
{
    /// Also whether the request is marked.
    type Form = (EndForm, bool);
    type Out = Response<Tracked<B, Call<C>>>;

    fn form(&self, req: &Request<Q>) -> Self::Form {
        let form = Finish::<Request<Q>, Response<B>, Call<C>>::form(&AtEnd, req);
        (form, req.extensions().get::<field::Streaming>().is_some())
    }

    fn streams(&self, (_, marked): Self::Form) -> bool {
        marked
    }

    fn finish(&self, (form, marked): Self::Form, res: Response<B>, mut call: Call<C>) -> Self::Out {
        let marked = marked || res.extensions().get::<field::Streaming>().is_some();
        // The head of a gRPC response does not tell a stream from a single message.
        let streams = marked || field::is_streaming(&res) && !field::is_grpc(res.headers());
        if streams || form.opens_tunnel(res.status()) {
            call.streams();
        }
        Finish::<Request<Q>, _, _>::finish(&AtEnd, form, res, call)
    }
}
