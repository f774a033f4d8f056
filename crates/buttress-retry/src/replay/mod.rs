//! How a request is sent more than once.

#[cfg(feature = "http")]
mod body;
#[cfg(feature = "http")]
mod frames;
mod generic;
mod http;
mod pool;

pub use self::http::Http;
#[cfg(feature = "http")]
pub use self::http::RetrySafe;
#[cfg(feature = "http")]
pub use body::ReplayBody;
pub use generic::{Cloning, Replay, Replaying};
pub use pool::ReplayPool;

/// How a retry layer sends a request more than once.
///
/// | way | made by | for | the inner service gets |
/// |---|---|---|---|
/// | [`Http`] | `RetryLayer::default()` | `http::Request<B>` | `http::Request<ReplayBody<B>>` |
/// | [`Cloning`] | [`RetryLayer::cloning`](crate::RetryLayer::cloning) | any request that is `Clone` | the request |
/// | [`Replaying`] | [`RetryLayer::replaying`](crate::RetryLayer::replaying) | requests that are [`Replay`] | the request |
///
/// It is sealed: [`Replay`] is how a request of your own says how it is sent again.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot send a `{Req}` more than once",
    label = "this retry layer does not know how to send a `{Req}` again",
    note = "for a request that is `Clone`: `RetryLayer::cloning(|request: &{Req}| ..)`, where the closure says which \
            requests may be carried out twice",
    note = "for a request of your own: implement `Replay` for it and write `RetryLayer::replaying()`",
    note = "for an `http::Request`: its body must be `http_body::Body + Unpin`, with an error that turns into a `BoxError`"
)]
pub trait Repeat<Req>: sealed::Again<Req, Sent = <Self as Repeat<Req>>::Sent> {
    /// The request that the inner service gets.
    type Sent;
}

/// How a retry layer reads the answers to requests that it sends in this way: HTTP ones carry refusals and marks, others
/// say nothing besides what the classifier makes of them.
#[diagnostic::on_unimplemented(
    message = "`{Self}` retries HTTP and does not understand `{Res}` as an answer",
    label = "this retry layer expects an `http::Response`",
    note = "for a service that is not HTTP: `RetryLayer::cloning(..)` or `RetryLayer::replaying()`"
)]
pub trait Reads<Res>: sealed::Read<Res> {}

pub(crate) mod sealed {
    use std::task::{Context, Poll};
    use std::time::Duration;

    use buttress_core::{EndpointId, Facts, Timestamp};

    use crate::policy::{Sent, Skip};

    /// What is known of a call before it is made.
    #[derive(Debug)]
    #[expect(unnameable_types, reason = "this seals `Repeat`")]
    pub struct Terms<K> {
        /// What it takes to send the request again, or why that will not be.
        pub(crate) spare: Result<K, Skip>,
        /// Whether carrying it out twice is the same as once, or the caller said that it may be.
        pub(crate) repeatable: bool,
        /// Which attempt this is of a layer above, from 1.
        pub(crate) attempt: u32,
        pub(crate) deadline: Timestamp,
    }

    /// What the layers below are told of a further attempt.
    #[derive(Clone, Copy, Debug)]
    #[expect(unnameable_types, reason = "this seals `Repeat`")]
    pub struct Stamp {
        /// Which attempt it is, from 2.
        pub(crate) attempt: u32,
        pub(crate) deadline: Timestamp,
        /// Where the one before went.
        pub(crate) tried: Option<EndpointId>,
        /// Whether there will be none after it.
        pub(crate) last: bool,
    }

    impl Stamp {
        pub(crate) fn write(self, facts: &mut Facts) {
            facts.attempt = self.attempt;
            // One layer of a stack retries: attempts of two would multiply.
            facts.no_retry = true;
            // What attempts before said when they chose, and what an answer says.
            facts.follow_trail();
            facts.tried.extend(self.tried.filter(|endpoint| !facts.tried.contains(endpoint)));
            if self.deadline != Timestamp::MAX {
                facts.limit_deadline(self.deadline);
            }
        }
    }

    #[expect(unnameable_types, reason = "this seals `Repeat`")]
    pub trait Again<Req> {
        type Sent;
        type Spare;

        /// Begins a call. With `retries` not set, there is one attempt for each; with `trail` set, attempts tell where
        /// they go.
        fn begin(&self, req: Req, retries: bool, trail: bool) -> (Self::Sent, Terms<Self::Spare>);

        /// How far the body of the present attempt got.
        fn sent(&self, spare: &Self::Spare) -> Sent;

        /// Keeps the present attempt from reading on, as far as it has not begun to: then it says no.
        fn stop(&self, spare: &Self::Spare) -> bool {
            let _ = spare;
            true
        }

        /// Waits until the present attempt has given back what it has of the request.
        fn poll_back(&self, spare: &Self::Spare, cx: &Context<'_>) -> Poll<()> {
            let _ = (spare, cx);
            Poll::Ready(())
        }

        /// The request once more, unless its body is still in use.
        fn again(&self, spare: Self::Spare, stamp: Stamp) -> Option<(Self::Sent, Option<Self::Spare>)>;
    }

    /// What an answer says besides how it is judged.
    #[derive(Clone, Copy, Debug, Default)]
    #[expect(unnameable_types, reason = "this seals `Reads`")]
    pub struct Note {
        /// It is a refusal of ours, which may be tried elsewhere or not.
        pub(crate) refusal: Option<bool>,
        /// It says not to try again.
        pub(crate) marked: bool,
        pub(crate) pushback: Option<Duration>,
        /// The fields that were not understood.
        pub(crate) malformed: [Option<&'static str>; 2],
        pub(crate) tried: Option<EndpointId>,
    }

    #[expect(unnameable_types, reason = "this seals `Reads`")]
    pub trait Read<Res> {
        fn read(&self, res: &Res) -> Note;

        /// Tells the layers above not to try again.
        fn mark(&self, res: &mut Res);

        /// Tells them that a refusal is that of one attempt of several, and others may have been carried out.
        fn doubt(&self, res: &mut Res) {
            let _ = res;
        }
    }
}
