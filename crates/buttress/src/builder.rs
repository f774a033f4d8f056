//! Our layers that have no number to configure, as methods of tower's builder.

use buttress_core::LiftErrorsLayer;
#[cfg(feature = "http")]
use buttress_http::{LiftBodiesLayer, answer::AnswerErrorsLayer};
use tower::ServiceBuilder;
use tower_layer::Stack;

mod sealed {
    #[expect(unnameable_types, reason = "that it has no name is what seals it")]
    pub trait Sealed {}
    impl<L> Sealed for tower::ServiceBuilder<L> {}
}

/// Adds our layers without numbers to [`ServiceBuilder`]; those with numbers go through
/// [`ServiceBuilder::layer`].
///
/// A builder runs from the top down, so [`answer_errors`](ServiceBuilderExt::answer_errors) is its first line
/// and the two that lift are its last.
///
/// ```
/// use buttress::{Error, ServiceBuilderExt};
/// use tower::ServiceBuilder;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// # use tower::ServiceExt;
/// let service = ServiceBuilder::new()
///     .lift_errors()
///     .service_fn(|text: String| async move { text.parse::<u16>() });
///
/// assert_eq!(service.clone().oneshot("7".to_owned()).await, Ok(7));
/// assert!(matches!(service.oneshot("seven".to_owned()).await, Err(Error::Inner(_))));
/// # }
/// ```
pub trait ServiceBuilderExt<L>: sealed::Sealed + Sized {
    /// Lifts the error `E` of the service below to [`Error<E>`](crate::Error), which can carry a refusal.
    ///
    /// For services whose error is fixed by someone else, such as `reqwest::Client`.
    fn lift_errors(self) -> ServiceBuilder<Stack<LiftErrorsLayer, L>>;

    /// Lifts the response body `B` of the service below to `Either<Full<Bytes>, B>`, of which an answer can be
    /// made.
    ///
    /// For services whose body is read from a connection, such as `hyper::body::Incoming`.
    #[cfg(feature = "http")]
    #[cfg_attr(docsrs, doc(cfg(feature = "http")))]
    fn lift_bodies(self) -> ServiceBuilder<Stack<LiftBodiesLayer, L>>;

    /// Answers every error of the layers and the service below with a response: the error becomes
    /// [`Infallible`](std::convert::Infallible), as axum asks for.
    #[cfg(feature = "http")]
    #[cfg_attr(docsrs, doc(cfg(feature = "http")))]
    fn answer_errors(self) -> ServiceBuilder<Stack<AnswerErrorsLayer, L>>;
}

impl<L> ServiceBuilderExt<L> for ServiceBuilder<L> {
    fn lift_errors(self) -> ServiceBuilder<Stack<LiftErrorsLayer, L>> {
        self.layer(LiftErrorsLayer::new())
    }

    #[cfg(feature = "http")]
    fn lift_bodies(self) -> ServiceBuilder<Stack<LiftBodiesLayer, L>> {
        self.layer(LiftBodiesLayer::new())
    }

    #[cfg(feature = "http")]
    fn answer_errors(self) -> ServiceBuilder<Stack<AnswerErrorsLayer, L>> {
        self.layer(AnswerErrorsLayer::new())
    }
}
