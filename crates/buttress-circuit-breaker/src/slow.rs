use buttress_core::Finish;
use buttress_http::body::{AtEnd, EndForm, Tracked};
use buttress_http::field;
use http::{Request, Response};
use http_body::Body;

use crate::call::Call;

/// Follows bodies as [`AtEnd`] does, and takes the time of each call until there, unless it is known to stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a word: there is nothing to add to it")]
pub struct SlowToEnd;

impl<Q, B, C> Finish<Request<Q>, Response<B>, Call<C>> for SlowToEnd
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

    fn finish(&self, (form, marked): Self::Form, res: Response<B>, mut call: Call<C>) -> Self::Out {
        let marked = marked || res.extensions().get::<field::Streaming>().is_some();
        // The head of a gRPC response does not tell a stream from a single message.
        if marked || field::is_streaming(&res) && !field::is_grpc(res.headers()) {
            call.streams();
        }
        Finish::<Request<Q>, _, _>::finish(&AtEnd, form, res, call)
    }
}
