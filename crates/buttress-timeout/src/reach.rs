use buttress_core::AtHead;

/// What a timeout layer makes of a request before its inner service gets it.
///
/// [`AtHead`] and `AtEnd` hand it on as it is. `AfterUpload` (feature `http`) takes an `http::Request<B>` and hands on
/// `http::Request<UploadBody<B>>`. A layer is `AfterUpload` once it is given an upload timeout.
pub trait Sends<Req>: sealed::Begin<Req, Sent = <Self as Sends<Req>>::Sent> {
    /// The request that the inner service gets.
    type Sent;
}

/// How far a layer reaches: to the head of a response, or to the end of its body.
///
/// [`AtHead`] leaves the response type alone, and any response will do. `AtEnd` (feature `http`) makes
/// `http::Response<TimeoutBody<B>>` of an `http::Response<B>`. A timeout layer is `AtHead` until it is given an idle or a
/// total timeout.
pub trait Reach<Res>: sealed::Carry<Res, Out = <Self as Reach<Res>>::Out> {
    /// The response that the layer gives.
    type Out;
}

impl<Req> Sends<Req> for AtHead {
    type Sent = Req;
}

impl<Res> Reach<Res> for AtHead {
    type Out = Res;
}

pub(crate) mod sealed {
    use std::task::Context;

    use buttress_core::AtHead;

    use crate::call::Call;
    use crate::policy::{Due, Stage};

    /// Begins a call.
    #[expect(unnameable_types, reason = "this seals `Sends`")]
    pub trait Begin<Req> {
        type Sent;
        type Progress: Progress;

        /// Whether the request is marked as one whose answer streams.
        fn streams(&self, req: &Req) -> bool;

        fn begin(&self, req: Req, call: &Call) -> (Self::Sent, Self::Progress);
    }

    /// How far the request of a call has got.
    #[expect(unnameable_types, reason = "this seals `Sends`")]
    pub trait Progress {
        /// The task is about to poll the call.
        fn awake(&mut self);

        /// The task is about to sleep, at most until what this gives.
        fn sleep(&mut self, cx: &Context<'_>, call: &Call) -> Due;
    }

    /// The request counts as sent from the start.
    impl Progress for () {
        #[inline]
        fn awake(&mut self) {}

        #[inline]
        fn sleep(&mut self, _: &Context<'_>, call: &Call) -> Due {
            call.shared.limits.until_head(Stage::Sent, call.end.since, call.end)
        }
    }

    /// Carries the limits from the head into the body.
    #[expect(unnameable_types, reason = "this seals `Reach`")]
    pub trait Carry<Res> {
        type Out;

        fn carry(&self, res: Res, call: Call) -> Self::Out;
    }

    impl<Req> Begin<Req> for AtHead {
        type Sent = Req;
        type Progress = ();

        #[inline]
        fn streams(&self, _: &Req) -> bool {
            false
        }

        #[inline]
        fn begin(&self, req: Req, _: &Call) -> (Req, ()) {
            (req, ())
        }
    }

    impl<Res> Carry<Res> for AtHead {
        type Out = Res;

        #[inline]
        fn carry(&self, res: Res, _: Call) -> Res {
            res
        }
    }
}

#[cfg(feature = "http")]
pub(crate) use over_http::Mode;

#[cfg(feature = "http")]
mod over_http {
    use std::time::Duration;

    use buttress_core::{AtHead, Timestamp};
    use buttress_http::body::AtEnd;
    use buttress_http::field::{Streaming, is_streaming};
    use http::{Request, Response};
    use http_body::Body;

    use super::sealed::{Begin, Carry};
    use super::{Reach, Sends};
    use crate::call::Call;
    use crate::policy::Phase;
    use crate::upload::Watching;
    use crate::{AfterUpload, TimeoutBody, UploadBody};

    impl<A> Sends<Request<A>> for AtEnd {
        type Sent = Request<A>;
    }

    impl<A> Begin<Request<A>> for AtEnd {
        type Sent = Request<A>;
        type Progress = ();

        #[inline]
        fn streams(&self, req: &Request<A>) -> bool {
            req.extensions().get::<Streaming>().is_some()
        }

        #[inline]
        fn begin(&self, req: Request<A>, _: &Call) -> (Request<A>, ()) {
            (req, ())
        }
    }

    impl<B> Reach<Response<B>> for AtEnd {
        type Out = Response<TimeoutBody<B>>;
    }

    impl<B> Carry<Response<B>> for AtEnd {
        type Out = Response<TimeoutBody<B>>;

        fn carry(&self, res: Response<B>, mut call: Call) -> Self::Out {
            if call.end.by == Phase::Total && is_streaming(&res) {
                call.end.at = Timestamp::MAX;
            }
            let endless = call.end.at == Timestamp::MAX && call.shared.limits.idle == Duration::MAX;
            res.map(|body| if endless { TimeoutBody::untimed(body) } else { TimeoutBody::new(body, call) })
        }
    }

    impl<A, M> Sends<Request<A>> for AfterUpload<M>
    where
        A: Body,
        M: Sends<Request<A>>,
    {
        type Sent = Request<UploadBody<A>>;
    }

    impl<A, M> Begin<Request<A>> for AfterUpload<M>
    where
        A: Body,
        M: Begin<Request<A>>,
    {
        type Sent = Request<UploadBody<A>>;
        type Progress = Option<Watching>;

        #[inline]
        fn streams(&self, req: &Request<A>) -> bool {
            self.0.streams(req)
        }

        fn begin(&self, req: Request<A>, call: &Call) -> (Self::Sent, Option<Watching>) {
            let (head, body) = req.into_parts();
            let (body, progress) = UploadBody::begin(body, call);
            (Request::from_parts(head, body), progress)
        }
    }

    impl<Res, M: Reach<Res>> Reach<Res> for AfterUpload<M> {
        type Out = <M as Reach<Res>>::Out;
    }

    impl<Res, M: Reach<Res>> Carry<Res> for AfterUpload<M> {
        type Out = <M as Reach<Res>>::Out;

        #[inline]
        fn carry(&self, res: Res, call: Call) -> Self::Out {
            self.0.carry(res, call)
        }
    }

    /// What a layer reaches into: a word that changes as timeouts are added.
    #[expect(unnameable_types, reason = "there is no mode but ours")]
    pub trait Mode: Sized {
        /// The response body as well.
        type ToEnd: Mode;
        /// The request body as well.
        type AfterUpload: Mode;

        fn to_end(self) -> Self::ToEnd;
        fn after_upload(self) -> Self::AfterUpload;
    }

    impl Mode for AtHead {
        type ToEnd = AtEnd;
        type AfterUpload = AfterUpload<Self>;

        fn to_end(self) -> AtEnd {
            AtEnd
        }

        fn after_upload(self) -> AfterUpload<Self> {
            AfterUpload(self)
        }
    }

    impl Mode for AtEnd {
        type ToEnd = Self;
        type AfterUpload = AfterUpload<Self>;

        fn to_end(self) -> Self {
            self
        }

        fn after_upload(self) -> AfterUpload<Self> {
            AfterUpload(self)
        }
    }

    impl<M: Mode> Mode for AfterUpload<M> {
        type ToEnd = AfterUpload<M::ToEnd>;
        type AfterUpload = Self;

        fn to_end(self) -> Self::ToEnd {
            AfterUpload(self.0.to_end())
        }

        fn after_upload(self) -> Self {
            self
        }
    }
}
