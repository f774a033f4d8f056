use std::sync::Arc;

use buttress_core::{AtHead, Timestamp};

use crate::shared::Shared;

/// How far a timeout layer reaches: to the head of a response, or to the end of its body.
///
/// [`AtHead`] leaves the response type alone, and any request and response will do. `AtEnd` (feature `http`)
/// takes an `http::Request` and gives `http::Response<TimeoutBody<B>>`. A layer is `AtHead` until it is given
/// an idle or a total timeout.
pub trait Reach<Req, Res>: sealed::Carry<Req, Res, Out = <Self as Reach<Req, Res>>::Out> {
    /// The response that the layer gives.
    type Out;
}

impl<Req, Res> Reach<Req, Res> for AtHead {
    type Out = Res;
}

#[cfg(feature = "http")]
impl<A, B> Reach<http::Request<A>, http::Response<B>> for buttress_http::body::AtEnd {
    type Out = http::Response<crate::TimeoutBody<B>>;
}

pub(crate) mod sealed {
    use super::{Arc, AtHead, Shared, Timestamp};

    /// Carries the limits from the head into the body.
    #[expect(unnameable_types, reason = "this seals `Reach`")]
    pub trait Carry<Req, Res> {
        type Out;

        /// Whether the request is marked as one whose answer streams.
        fn streams(&self, req: &Req) -> bool;

        fn carry(&self, res: Res, call: Call) -> Self::Out;
    }

    /// A call that has got its head.
    #[derive(Debug)]
    #[expect(unnameable_types, reason = "this seals `Reach`")]
    pub struct Call {
        pub(crate) shared: Arc<Shared>,
        pub(crate) start: Timestamp,
        /// When its total time is over.
        pub(crate) end: Timestamp,
    }

    impl<Req, Res> Carry<Req, Res> for AtHead {
        type Out = Res;

        #[inline]
        fn streams(&self, _: &Req) -> bool {
            false
        }

        #[inline]
        fn carry(&self, res: Res, _: Call) -> Res {
            res
        }
    }

    #[cfg(feature = "http")]
    impl<A, B> Carry<http::Request<A>, http::Response<B>> for buttress_http::body::AtEnd {
        type Out = http::Response<crate::TimeoutBody<B>>;

        fn streams(&self, req: &http::Request<A>) -> bool {
            req.extensions().get::<buttress_http::field::Streaming>().is_some()
        }

        fn carry(&self, res: http::Response<B>, mut call: Call) -> Self::Out {
            if buttress_http::field::is_streaming(&res) {
                call.end = Timestamp::MAX;
            }
            res.map(|body| crate::TimeoutBody::new(body, call))
        }
    }
}
