use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

/// What completes first: `one` as `Ok`, `other` as `Err`. In a tie `one` wins.
pub(super) async fn race<A: Future, B: Future>(one: A, other: B) -> Result<A::Output, B::Output> {
    let mut one = pin!(one);
    let mut other = pin!(other);
    poll_fn(|cx| match one.as_mut().poll(cx) {
        Poll::Ready(done) => Poll::Ready(Ok(done)),
        Poll::Pending => other.as_mut().poll(cx).map(Err),
    })
    .await
}
