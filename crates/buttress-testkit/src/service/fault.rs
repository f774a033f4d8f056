use std::convert::Infallible;

use crate::BoxError;

/// An error type that the contract suite can make one of, to see how a layer takes a failing inner service.
///
/// Implemented for [`BoxError`], `String`, `std::io::Error`, `buttress_core::Error` and `Infallible` (of which there is none). For
/// an error of your own, write one line.
pub trait Fault: Sized + Send + 'static {
    /// Makes an error, or says that there are none of this type.
    fn fault() -> Option<Self>;
}

impl Fault for BoxError {
    fn fault() -> Option<Self> {
        Some("the inner service fails, as scripted".into())
    }
}

impl Fault for std::io::Error {
    fn fault() -> Option<Self> {
        Some(Self::other("the inner service fails, as scripted"))
    }
}

impl Fault for String {
    fn fault() -> Option<Self> {
        Some("the inner service fails, as scripted".to_owned())
    }
}

impl<E: Fault> Fault for buttress_core::Error<E> {
    fn fault() -> Option<Self> {
        E::fault().map(Self::Inner)
    }
}

impl Fault for Infallible {
    fn fault() -> Option<Self> {
        None
    }
}
