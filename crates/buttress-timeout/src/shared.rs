use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use buttress_core::{Clock, Name, Rejection, RejectionKind};

use crate::TimeoutEvent;
use crate::policy::Limits;

/// What a layer's services and bodies have in common; fixed once the layer is built.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    pub(crate) limits: Limits,
    pub(crate) watch: Watch,
}

/// The clock, the name and the observer of a layer.
#[derive(Clone)]
pub(crate) struct Watch {
    pub(crate) clock: Clock,
    pub(crate) name: Option<Name>,
    pub(crate) observer: Option<Observer>,
}

type Observer = Arc<dyn Fn(&TimeoutEvent<'_>) + Send + Sync>;

impl Watch {
    pub(crate) fn new() -> Self {
        Self { clock: Clock::default(), name: None, observer: None }
    }

    /// Tells the observer, if there is one, what `event` makes of the layer's name.
    pub(crate) fn tell<'a>(&'a self, event: impl FnOnce(Option<&'a str>) -> TimeoutEvent<'a>) {
        if let Some(observer) = &self.observer {
            observer(&event(self.name.as_deref()));
        }
    }

    /// A rejection in the layer's name.
    pub(crate) fn rejection(&self, kind: RejectionKind) -> Rejection {
        let rejection = Rejection::new(kind);
        match &self.name {
            Some(name) => rejection.with_policy(name.clone()),
            None => rejection,
        }
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch")
            .field("clock", &self.clock)
            .field("name", &self.name)
            .field("observed", &self.observer.is_some())
            .finish()
    }
}

/// Refuses a duration that no call can keep.
///
/// # Panics
///
/// When it is zero.
#[track_caller]
pub(crate) fn checked(field: &str, value: Duration) -> Duration {
    assert!(
        !value.is_zero(),
        "{field} is {value:?}: it must be longer than zero; `Duration::MAX` means none"
    );
    value
}
