//! The call is over when the body is.

use buttress_core::{End, Finish, Guard};
use http::{Method, Request, Response, StatusCode};
use http_body::Body;

use super::{Tracked, UntilUpgradeEnds};

/// Ends a call at the end of its response's body.
///
/// The response's body becomes [`Tracked`], and its guard is told how the body ended. The other choice,
/// [`AtHead`](buttress_core::AtHead), ends the call with the head and leaves the response's type alone.
///
/// After a 101, and after a 2xx to CONNECT, the guard moves into the response's extensions as [`UntilUpgradeEnds`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a word: there is nothing to add to it")]
pub struct AtEnd;

/// What [`AtEnd`] keeps of a request: whether its answer has a body, or opens a tunnel.
#[derive(Clone, Copy, Debug)]
pub struct EndForm(Asked);

impl EndForm {
    /// Whether an answer with this status opens a tunnel: a 101, and a 2xx to CONNECT (RFC 9110, sections 15.2.2 and 9.3.6).
    #[must_use]
    pub fn opens_tunnel(self, status: StatusCode) -> bool {
        status == StatusCode::SWITCHING_PROTOCOLS || (self.0 == Asked::Tunnel && status.is_success())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Body,
    HeadOnly,
    Tunnel,
}

impl<Q, B, G> Finish<Request<Q>, Response<B>, G> for AtEnd
where
    B: Body,
    G: Guard + Send + 'static,
{
    type Form = EndForm;
    type Out = Response<Tracked<B, G>>;

    fn form(&self, req: &Request<Q>) -> EndForm {
        EndForm(match *req.method() {
            Method::HEAD => Asked::HeadOnly,
            Method::CONNECT => Asked::Tunnel,
            _ => Asked::Body,
        })
    }

    fn finish(&self, form: EndForm, res: Response<B>, mut guard: G) -> Self::Out {
        let (mut head, body) = res.into_parts();
        let body = if form.opens_tunnel(head.status) {
            UntilUpgradeEnds::hold_in(&mut head.extensions, guard);
            Tracked::untracked(body)
        } else if form.0 == Asked::HeadOnly {
            // GET might have had trailers: the head is all that anyone can know.
            guard.end(&End::Head);
            Tracked::untracked(body)
        } else if has_no_body(head.status) {
            guard.end(&End::Complete { trailers: None });
            Tracked::untracked(body)
        } else {
            Tracked::described(&head.headers, body, guard)
        };
        Response::from_parts(head, body)
    }
}

/// RFC 9112, section 6.3.
fn has_no_body(status: StatusCode) -> bool {
    status.is_informational() || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}
