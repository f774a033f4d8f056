use std::fmt;
use std::mem;
use std::sync::Arc;

use buttress_core::Timestamp;

use super::choice::{self, MOST_CHOICES};
use crate::hash::nth;
use crate::{
    Among, Bandwidth, Connections, Ended, HotCold, Load, Node, PeakEwma, Picker, Policy, PolicyError, Random,
    ReportedRules, ResponseTime,
};

/// Policies that look at load: each has a score, and of some endpoints by chance the one of the least score gets the call.
///
/// | policy | score | take it when |
/// |---|---|---|
/// | [`peak_ewma`](Self::peak_ewma) | peak of response times, with failures penalised · (in flight + 1) / weight | in doubt: it is the default of a balancer |
/// | [`connections`](Self::connections) | in flight / weight | calls hold a place for long, as tunnels and streams do, or nothing is known of times |
/// | [`response_time`](Self::response_time) | mean of response times · (in flight + 1) / weight | single slow calls say nothing of their endpoint |
/// | [`bandwidth`](Self::bandwidth) | bytes of responses in the last 10 s / weight | the network is what is short, and bodies differ |
/// | [`hot_cold`](Self::hot_cold) | peak of response times; after all these, where in flight / weight is among the highest, that | load that others put on the endpoints shows in the times, late |
/// | [`reported`](Self::reported) | turns by qps / (utilisation + failures) as the endpoints report them | endpoints of different sizes tell their load (ORCA) |
///
/// # Two choices
///
/// A pick draws two endpoints by chance and takes the better one ("the power of two choices": Mitzenmacher 2001), which is nearly as even as
/// to look at all, costs the same for any number of endpoints, and does not send the calls of many balancers to one endpoint that all
/// of them find best. [`choices`](LeastLoadRules::choices) draws more, [`all`](LeastLoadRules::all) takes all.
///
/// They are drawn among the usable ones by their weights, no one twice, and of equal scores the first drawn is taken. A call with a key has
/// two choices of its own, the same ones each time. Where the better one has no place the other is asked, and then all the others: a
/// call is placed as long as one takes it.
///
/// ```
/// use buttress_balance::LeastLoad;
/// use std::time::Duration;
///
/// let careful = LeastLoad::peak_ewma().penalty(Duration::from_secs(20));
/// let as_nginx_does = LeastLoad::connections().all();
/// # let _ = (careful, as_nginx_does);
/// ```
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_structs, reason = "a name for constructors")]
pub struct LeastLoad;

impl LeastLoad {
    /// The fewest calls in flight: [`Connections`].
    pub const fn connections() -> LeastLoadRules<Connections> {
        LeastLoadRules::new(Connections::NEW)
    }

    /// The least mean of response times: [`ResponseTime`].
    pub const fn response_time() -> LeastLoadRules<ResponseTime> {
        LeastLoadRules::new(ResponseTime::NEW)
    }

    /// The fewest bytes: [`Bandwidth`].
    pub const fn bandwidth() -> LeastLoadRules<Bandwidth> {
        LeastLoadRules::new(Bandwidth::NEW)
    }

    /// The least peak of response times, where failures count as slow: [`PeakEwma`].
    pub const fn peak_ewma() -> LeastLoadRules<PeakEwma> {
        LeastLoadRules::new(PeakEwma::NEW)
    }

    /// The fastest of those that do not have more calls than most: [`HotCold`].
    pub const fn hot_cold() -> LeastLoadRules<HotCold> {
        LeastLoadRules::new(HotCold::NEW)
    }

    /// Turns by what the endpoints report of their load: [`Reported`](crate::Reported).
    pub const fn reported() -> ReportedRules {
        ReportedRules::NEW
    }

    /// A score of your own, over the calls in flight and what it counts itself.
    pub const fn by<S: Score>(score: S) -> LeastLoadRules<S> {
        LeastLoadRules::new(score)
    }
}

/// What a [`LeastLoad`] policy goes by: one of [`Connections`], [`ResponseTime`], [`Bandwidth`], [`PeakEwma`] and [`HotCold`], or your own.
pub trait Score: Clone + fmt::Debug + Send + Sync + 'static {
    /// What picks leave for later ones. It outlives changes of the set.
    type Seen: Default + Send + Sync + 'static;

    /// Whether the score needs the time, or what comes at the end of calls ([`Policy::is_timed`]).
    const TIMED: bool;

    /// Whether the score goes by the bytes of responses ([`Policy::counts_bytes`]).
    const COUNTS_BYTES: bool = false;

    /// Looks whether the settings can work.
    ///
    /// # Errors
    ///
    /// When one is out of range.
    fn check(&self) -> Result<(), PolicyError> {
        Ok(())
    }

    /// The score of an endpoint of this load: the least is best. Never NaN. `now` is that of the pick where the score is
    /// [`TIMED`](Self::TIMED).
    fn score(&self, seen: &Self::Seen, load: &Load, now: Timestamp) -> f64;

    /// Sees the load of an endpoint that was drawn by chance, which `hash` decided: once for each pick.
    #[inline]
    fn note(&self, seen: &Self::Seen, load: &Load, hash: u64) {
        let _ = (seen, load, hash);
    }

    /// A call has ended ([`Policy::ended`]).
    #[inline]
    fn ended(&self, load: &Load, call: &Ended<'_>) {
        let _ = (load, call);
    }

    /// Bytes have come ([`Policy::received`]), where it [counts them](Self::COUNTS_BYTES).
    #[inline]
    fn received(&self, load: &Load, bytes: u64, now: Timestamp) {
        let _ = (load, bytes, now);
    }
}

/// What a [`Least`] is built by.
///
/// | | default | why |
/// |---|---|---|
/// | choices | 2 | the second choice is what counts; more add little and make balancers of one mind |
#[derive(Clone, Copy, Debug, PartialEq)]
#[must_use = "rules do nothing until a balancer takes them"]
pub struct LeastLoadRules<S> {
    pub(super) score: S,
    /// `None` is all.
    choices: Option<usize>,
}

impl<S> LeastLoadRules<S> {
    const fn new(score: S) -> Self {
        Self { score, choices: Some(2) }
    }

    /// Looks at so many endpoints by chance, from 1 to 8. 2 by default. 1 is chance alone.
    pub const fn choices(mut self, choices: usize) -> Self {
        self.choices = Some(choices);
        self
    }

    /// Looks at all endpoints, as nginx does (`least_conn`, `least_time`). It takes time in proportion to their number, and suits one balancer
    /// over a few endpoints: many balancers would all go to the same one.
    pub const fn all(mut self) -> Self {
        self.choices = None;
        self
    }
}

impl<S: Score + Default> Default for LeastLoadRules<S> {
    fn default() -> Self {
        Self::new(S::default())
    }
}

impl<S: Score> LeastLoadRules<S> {
    fn picker(&self, nodes: &[Node], seen: Arc<S::Seen>) -> Result<Least<S>, PolicyError> {
        if self.choices.is_some_and(|choices| !(1..=MOST_CHOICES).contains(&choices)) {
            let choices = self.choices.unwrap_or_default();
            return Err(PolicyError::Choices { choices, most: MOST_CHOICES });
        }
        self.score.check()?;
        Ok(Least { score: self.score.clone(), choices: self.choices, order: Random::new(nodes)?, seen })
    }
}

impl<S: Score> Policy for LeastLoadRules<S> {
    type Picker = Least<S>;

    fn build(&self, nodes: &[Node]) -> Result<Least<S>, PolicyError> {
        self.picker(nodes, Arc::default())
    }

    fn rebuild(&self, present: &Least<S>, nodes: &[Node]) -> Result<Least<S>, PolicyError> {
        self.picker(nodes, present.seen.clone())
    }

    #[inline]
    fn is_timed(&self) -> bool {
        S::TIMED
    }

    #[inline]
    fn counts_bytes(&self) -> bool {
        S::COUNTS_BYTES
    }

    #[inline]
    fn ended(&self, load: &Load, call: &Ended<'_>) {
        self.score.ended(load, call);
    }

    #[inline]
    fn received(&self, load: &Load, bytes: u64, now: Timestamp) {
        self.score.received(load, bytes, now);
    }
}

/// Picks the endpoint of the least score, of a few or of all. Built by [`LeastLoadRules`].
pub struct Least<S: Score> {
    score: S,
    choices: Option<usize>,
    order: Random,
    /// What picks have seen, and later ones go by.
    seen: Arc<S::Seen>,
}

impl<S: Score> Least<S> {
    /// The score of an endpoint of this load: the least is best. It is finite and not negative, and comparable with others of this moment
    /// alone. Its formula stands with each score.
    #[inline]
    #[must_use]
    pub fn score(&self, load: &Load, now: Timestamp) -> f64 {
        self.score.score(&self.seen, load, now)
    }
}

impl<S: Score> Picker for Least<S> {
    #[inline]
    fn pick(&self, hash: u64, among: &impl Among) -> Option<usize> {
        // Whoever shared out the hashes among levels has looked at their upper bits.
        let hash = nth(hash, 1);
        let now = if S::TIMED { among.now() } else { Timestamp::ZERO };
        let mut is_first = true;
        let cost = |endpoint| {
            let load = among.load(endpoint);
            if mem::take(&mut is_first) {
                self.score.note(&self.seen, load, hash);
            }
            self.score(load, now)
        };
        match self.choices {
            Some(choices) => choice::few(&self.order, choices, hash, among, &[], cost),
            None => choice::all(&self.order, hash, among, cost),
        }
    }
}

impl<S: Score> fmt::Debug for Least<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { score, choices, order, .. } = self;
        let mut f = f.debug_struct("Least");
        f.field("score", score).field("choices", choices).field("order", order).finish_non_exhaustive()
    }
}
