use buttress_core::Timestamp;

use crate::{Load, Score};

/// The calls in flight of an endpoint by its weight: least connections, which nginx calls `least_conn`, HAProxy `leastconn` and Envoy
/// `LEAST_REQUEST`.
///
/// ```text
/// score = in flight / weight
/// ```
///
/// It needs no time. An endpoint that fails fast has few calls in flight and so gets many: combine it with outlier ejection, or take
/// [`PeakEwma`](crate::PeakEwma).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Connections(());

impl Connections {
    pub(super) const NEW: Self = Self(());
}

impl Score for Connections {
    type Seen = ();
    const TIMED: bool = false;

    #[inline]
    fn score(&self, (): &(), load: &Load, _: Timestamp) -> f64 {
        f64::from(load.in_flight()) / load.divisor()
    }
}
