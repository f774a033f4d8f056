use buttress_core::End;
#[cfg(feature = "http")]
use buttress_core::Rejection;
#[cfg(feature = "http")]
use http::{HeaderMap, Response, StatusCode};

use crate::Fault;

/// Tells where a failure comes from, once a classifier has said that it is one.
///
/// Closures from a result to a [`Fault`] do as well: `|result: Result<&Res, &Err>| …`.
pub trait FindFault<Res, Err> {
    /// Where a failure that shows at the head of the response comes from.
    fn fault(&self, result: Result<&Res, &Err>) -> Fault;

    /// Where one that shows at the end of the body comes from. By default a body that breaks off is
    /// [local](Fault::Local), and one that says that the call has failed is the [service](Fault::Service)'s.
    fn at_end(&self, end: &End<'_>) -> Fault {
        if matches!(end, End::Failed) { Fault::Local } else { Fault::Service }
    }
}

impl<F, Res, Err> FindFault<Res, Err> for F
where
    F: Fn(Result<&Res, &Err>) -> Fault,
{
    fn fault(&self, result: Result<&Res, &Err>) -> Fault {
        self(result)
    }
}

/// An error is [local](Fault::Local), a response is the [service](Fault::Service)'s: all that can be said of services of
/// which nothing more is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a word: there is nothing to add to it")]
pub struct ByResult;

impl<Res, Err> FindFault<Res, Err> for ByResult {
    fn fault(&self, result: Result<&Res, &Err>) -> Fault {
        if result.is_ok() { Fault::Service } else { Fault::Local }
    }
}

/// Over HTTP and gRPC: 502, 503 and 504, `UNAVAILABLE` and `DEADLINE_EXCEEDED` are [gateway](Fault::Gateway) failures, as
/// Envoy has them. An error is [local](Fault::Local), and so is a refusal by a layer of ours that was answered with a
/// response, such as a timeout. All else is the [service](Fault::Service)'s.
#[cfg(feature = "http")]
#[cfg_attr(docsrs, doc(cfg(feature = "http")))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a word: there is nothing to add to it")]
pub struct ByStatus;

#[cfg(feature = "http")]
impl<B, Err> FindFault<Response<B>, Err> for ByStatus {
    fn fault(&self, result: Result<&Response<B>, &Err>) -> Fault {
        let Ok(response) = result else { return Fault::Local };
        if response.extensions().get::<Rejection>().is_some() {
            return Fault::Local;
        }
        match response.status() {
            StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => {
                Fault::Gateway
            }
            _ => by_grpc_status(response.headers()),
        }
    }

    fn at_end(&self, end: &End<'_>) -> Fault {
        match end {
            End::Failed => Fault::Local,
            End::Complete { trailers: Some(trailers) } => by_grpc_status(trailers),
            _ => Fault::Service,
        }
    }
}

/// 4 is `DEADLINE_EXCEEDED`, 14 is `UNAVAILABLE`.
#[cfg(feature = "http")]
fn by_grpc_status(headers: &HeaderMap) -> Fault {
    match headers.get("grpc-status").map(|status| status.as_bytes()) {
        Some(b"4" | b"14") => Fault::Gateway,
        _ => Fault::Service,
    }
}
