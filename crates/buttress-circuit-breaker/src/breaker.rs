//! One breaker: the words of `policy`, shared by threads.
//!
//! | word | what | written by |
//! |---|---|---|
//! | `word` | state, generation, permits, counts of probes | compare-and-swap; each success is one step |
//! | `until` | when the state ends, tagged with its generation | the one who made the transition, right after it |
//! | `row` | failures in a row, tagged likewise | those who count results |
//! | `results` | the window | those who count results |
//!
//! The first decides alone. The others belong to a generation and say nothing in another, so that it does not matter
//! when they are written.

use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::time::Duration;

use buttress_core::Timestamp;

use crate::policy::{Judged, Marks, Mode, Reason, Rules, Span, State, Step, Sums, Transition, Until, Word};
use crate::sync::{AtomicU32, AtomicU64};
use crate::window::{Counted, Results};

/// A circuit breaker on its own, for calls that are no Tower service: ask it, make the call, tell it how that went.
///
/// All methods take `&self` and no lock, and may be called from any thread at any time. There is no clock or random
/// source inside: `now` is asked for when a step needs the time, which a call through a closed breaker that judges the
/// last N calls does not, and `draw` when chance decides, uniform over all of `u64`. Each [`Transition`] is told by the
/// call that made it, after it was made.
///
/// Every method takes the [`Rules`] that the breaker was made with; many breakers share one.
///
/// ```
/// use buttress_circuit_breaker::{Breaker, Judged, Settings, State, Window};
/// use buttress_core::Timestamp;
///
/// let rules = Settings::default().window(Window::last(2)).minimum_calls(2).rules()?;
/// let breaker = Breaker::new(&rules);
/// let (now, draw) = (|| Timestamp::ZERO, || 0);
///
/// for _ in 0..2 {
///     let admission = breaker.admit(&rules, now, draw, |_| {})?;
///     breaker.record(&rules, admission, Judged::Failure, false, now, draw, |transition| {
///         assert_eq!(transition.to, State::Open);
///     });
/// }
///
/// let refused = breaker.admit(&rules, now, draw, |_| {}).unwrap_err();
/// assert_eq!(refused.retry_after, Some(std::time::Duration::from_secs(5)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Breaker {
    word: AtomicU64,
    until: AtomicU64,
    results: Results,
    row: AtomicU32,
    stale: AtomicU32,
}

/// A call that was let through. Its result goes to [`Breaker::record`] of the same breaker, once:
///
/// ```compile_fail,E0382
/// # use buttress_circuit_breaker::{Breaker, Judged, Settings};
/// # use buttress_core::Timestamp;
/// # let rules = Settings::default().rules().unwrap();
/// # let breaker = Breaker::new(&rules);
/// # let (now, draw) = (|| Timestamp::ZERO, || 0);
/// let admission = breaker.admit(&rules, now, draw, |_| {}).unwrap();
/// breaker.record(&rules, admission, Judged::Success, false, now, draw, |_| {});
/// breaker.record(&rules, admission, Judged::Success, false, now, draw, |_| {});
/// ```
#[derive(Debug, PartialEq, Eq)]
#[must_use = "its result is to be recorded, or a probe's permit is kept until the probes are overdue"]
pub struct Admission {
    /// Its generation; of a probe that is answered, with [`ANSWERED`].
    ticket: u32,
    state: State,
}

/// Generations have 31 bits. A ticket with this one is that of no generation, so that the closed path need not look.
const ANSWERED: u32 = 1 << 31;

impl Admission {
    #[inline]
    const fn new(word: Word) -> Self {
        Self { ticket: word.generation(), state: word.state() }
    }

    /// The generation it was let through in. In another, its result comes too late.
    #[must_use]
    pub const fn generation(&self) -> u32 {
        self.ticket & !ANSWERED
    }

    /// The state it was let through in.
    #[must_use]
    pub const fn state(&self) -> State {
        self.state
    }

    /// Whether it is one of the probes of a half-open breaker.
    #[must_use]
    pub const fn is_probe(&self) -> bool {
        matches!(self.state, State::HalfOpen)
    }
}

/// A call that was not let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("circuit breaker is {state}")]
#[non_exhaustive]
pub struct Refused {
    /// The state that refused it.
    pub state: State,
    /// How long that state lasts at most; `None` when no time ends it, or when it may let the next call pass.
    pub retry_after: Option<Duration>,
}

/// What became of a result that was recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Recorded {
    /// It was counted, or its permit given back.
    InTime,
    /// It came too late to say anything: the breaker has changed its state since. It was counted as stale.
    Stale,
}

/// A look at a breaker.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct View {
    /// The state. An open breaker whose wait is over stays open until a call comes.
    pub state: State,
    /// How many transitions there were.
    pub generation: u32,
    /// How often it has opened since it was last closed, not counting the first time.
    pub growth: u32,
    /// The results that it judges by now: those in the window, of the probes, or of a ramp's step.
    pub sums: Sums,
    /// The share of failures among these; `None` while they are fewer than it takes to judge.
    pub failure_rate: Option<f64>,
    /// The share of slow calls among these; `None` while they are fewer than it takes to judge.
    pub slow_rate: Option<f64>,
    /// Probes that have not come back.
    pub probes_in_flight: u32,
    /// How long it has been half-open.
    pub half_open_for: Option<Duration>,
    /// How long the state lasts at most; `None` where no time ends it.
    pub lasts: Option<Duration>,
    /// The share of calls that is let through, in percent.
    pub lets_through: u32,
    /// Results that came too late, since the breaker was made (modulo 2^32).
    pub stale: u32,
}

/// How far the clocks' readings of two calls may be apart, in nanoseconds: the one that has read first may be the one that
/// has waited. A clock that has gone back by no more than this is noticed that much later.
const SKEW: u64 = 1_000_000_000;

/// Told of each transition.
type Tell<'a> = &'a mut dyn FnMut(Transition);
/// Draws a number.
type Draw<'a> = &'a mut dyn FnMut() -> u64;

impl Breaker {
    /// A closed breaker.
    #[must_use]
    pub fn new(rules: &Rules) -> Self {
        Self {
            word: AtomicU64::new(Word::NEW.0),
            until: AtomicU64::new(Until::new(Word::NEW, Timestamp::MAX).0),
            results: Results::new(rules.span),
            row: AtomicU32::new(0),
            stale: AtomicU32::new(0),
        }
    }

    /// Lets a call through, or does not.
    ///
    /// The closed path is one load.
    ///
    /// # Errors
    ///
    /// When the breaker is open or half-open with all its probes given out, ramping and chance is against it, or
    /// forced open or isolated.
    #[inline]
    pub fn admit(
        &self,
        rules: &Rules,
        now: impl FnOnce() -> Timestamp,
        mut draw: impl FnMut() -> u64,
        mut tell: impl FnMut(Transition),
    ) -> Result<Admission, Refused> {
        let word = self.load();
        if lets_all_through(word.state()) {
            return Ok(Admission::new(word));
        }
        self.admit_some(rules, now, &mut draw, &mut tell)
    }

    /// [`admit`](Self::admit) while closed; `None` in other states, some of which let calls through too.
    #[inline]
    pub(crate) fn let_through(&self) -> Option<Admission> {
        let word = self.load();
        word.counts().then_some(Admission::new(word))
    }

    /// [`record`](Self::record) of a success that was not slow, where that is just counted. `false` where it is
    /// not: it is still to be recorded then.
    #[inline]
    pub(crate) fn record_success(
        &self,
        rules: &Rules,
        admission: &Admission,
        now: impl Fn() -> Timestamp,
    ) -> bool {
        let word = self.load();
        if word.generation() != admission.ticket || !word.counts() || rules.consecutive() > 0 {
            return false;
        }
        let marks = Marks { failed: false, slow: false };
        self.count(rules, word, marks, now).1 != Counted::Stale
    }

    /// Takes a good answer whose end is still to come: the head of a response, say, whose body may last for long. For calls
    /// that are recorded as soon as they are answered, there is nothing to say here.
    ///
    /// A probe keeps its permit until it is recorded, and is judged by that. Where the time for the probes is over before,
    /// it went well; one that is not answered is overdue then. `slow_at` is when the call will have been slow, where its time
    /// is taken to its end: a probe that would be slow by the end of that time has to be back by then.
    pub fn answered(&self, admission: &mut Admission, now: Timestamp, slow_at: Option<Timestamp>) {
        while admission.is_probe() && admission.ticket & ANSWERED == 0 {
            let word = self.load();
            if word.generation() != admission.ticket || !word.holds(false) {
                return;
            }
            let until = Until(self.until.load(SeqCst)).of(word).unwrap_or(Timestamp::MAX);
            if is_over(until, now) || slow_at.is_some_and(|slow_at| slow_at <= until) {
                return;
            }
            if self.swap(word, word.answered()) {
                admission.ticket |= ANSWERED;
            }
        }
    }

    /// Takes the result of a call that was let through.
    ///
    /// A result that comes after the state has changed is counted as stale and moves nothing, and its permit is gone
    /// with the state it was given in. [`Judged::Ignored`] and [`Judged::Cancelled`] give the permit back. `slow` says
    /// whether the call took as long as [`Rules::slow_after`].
    #[inline]
    #[expect(
        clippy::too_many_arguments,
        reason = "what is known of a call, and what the breaker has not inside"
    )]
    #[expect(clippy::needless_pass_by_value, reason = "a call is recorded once")]
    pub fn record(
        &self,
        rules: &Rules,
        admission: Admission,
        judged: Judged,
        slow: bool,
        now: impl Fn() -> Timestamp,
        mut draw: impl FnMut() -> u64,
        mut tell: impl FnMut(Transition),
    ) -> Recorded {
        let word = self.load();
        let counted = matches!(judged, Judged::Success | Judged::Failure | Judged::Soft);
        if !(counted && word.generation() == admission.ticket && word.counts()) {
            return self.record_some(rules, admission.ticket, judged, slow, &now, &mut draw, &mut tell);
        }
        let marks = Marks { failed: judged != Judged::Success, slow };
        let (at, counted) = self.count(rules, word, marks, &now);
        if counted == Counted::Good && rules.consecutive() == 0 {
            return Recorded::InTime;
        }
        self.judge(rules, word, judged, counted, at.unwrap_or_else(now), &mut draw, &mut tell)
    }

    /// Sets the state by hand. Neither time nor results leave it; [`reset`](Self::reset) and another mode do.
    pub fn force(&self, rules: &Rules, mode: Mode, now: Timestamp, mut tell: impl FnMut(Transition)) {
        self.put(rules, mode.into(), now, &mut tell);
    }

    /// Closes it with nothing counted, whatever its state, as if it were new. Calls that are on their way come too late.
    pub fn reset(&self, rules: &Rules, now: Timestamp, mut tell: impl FnMut(Transition)) {
        self.put(rules, State::Closed, now, &mut tell);
    }

    /// Opens it for so long, or for the longest open time if that is less, unless its state was set by hand.
    pub fn open_for(&self, rules: &Rules, wait: Duration, now: Timestamp, mut tell: impl FnMut(Transition)) {
        loop {
            let word = self.load();
            if word.state().is_forced() {
                return;
            }
            let next = Next { to: State::Open, reason: Reason::ByHand, at: now, sums: None };
            let lasts = Some(rules.asked(wait));
            if self.go(rules, word, word.next(State::Open), next, lasts, &mut tell) {
                return;
            }
        }
    }

    /// Ends a state whose time is over. Calls do this themselves; it is for those who want to see the state of now while
    /// no calls come.
    ///
    /// An open breaker stays open until a call comes: only a call can be a probe.
    pub fn tick(
        &self,
        rules: &Rules,
        now: Timestamp,
        mut draw: impl FnMut() -> u64,
        mut tell: impl FnMut(Transition),
    ) {
        loop {
            let word = self.load();
            if !matches!(word.state(), State::HalfOpen | State::Ramping) {
                return;
            }
            let Some(until) = self.until(rules, word, now) else { continue };
            if !is_over(until, now) {
                return;
            }
            self.lapse(rules, word, until, now, &mut draw, &mut tell);
        }
    }

    /// Looks at it without changing anything.
    pub fn view(&self, rules: &Rules, now: Timestamp) -> View {
        let word = self.load();
        let state = word.state();
        let until = Until(self.until.load(SeqCst)).of(word);
        let left = until.filter(|until| *until != Timestamp::MAX).map(|until| until - now);
        let (sums, enough) = match state {
            State::Closed | State::MetricsOnly => {
                (self.results.sums(rules.span, word.generation(), now), rules.minimum)
            }
            State::HalfOpen => (word.probes(), 1),
            State::Ramping => (word.step_sums(), 1),
            _ => (Sums::default(), 1),
        };
        let rate = |rate: f64| (sums.total >= enough).then_some(rate);
        View {
            state,
            generation: word.generation(),
            growth: word.growth(),
            sums,
            failure_rate: rate(sums.failure_rate()),
            slow_rate: rate(sums.slow_rate()),
            probes_in_flight: if state == State::HalfOpen { word.in_flight() } else { 0 },
            half_open_for: (state == State::HalfOpen)
                .then(|| Some(rules.lasts(word)?.saturating_sub(left?)))
                .flatten(),
            lasts: left,
            lets_through: match state {
                State::Ramping => Rules::share(rules.step(word, now, until.unwrap_or(Timestamp::MAX))) as u32,
                State::Closed | State::MetricsOnly | State::Disabled => 100,
                _ => 0,
            },
            stale: self.stale.load(Relaxed),
        }
    }

    /// Whether a call that came now might pass. Nothing changes by it.
    pub fn might_pass(&self, rules: &Rules, now: impl FnOnce() -> Timestamp) -> bool {
        let word = self.load();
        let is_over = || Until(self.until.load(SeqCst)).of(word).is_some_and(|until| until <= now());
        match word.state() {
            State::Closed | State::MetricsOnly | State::Disabled | State::Ramping => true,
            State::HalfOpen => word.in_flight() + word.probes().total < rules.probes() || is_over(),
            State::Open => is_over(),
            State::ForcedOpen | State::Isolated => false,
        }
    }

    /// What is lost when another key gets it, and the word that says so.
    pub(crate) fn worth(&self, rules: &Rules, now: Timestamp) -> (Worth, Word) {
        let word = self.load();
        let worth = match word.state() {
            State::Closed => Worth::Little,
            state if state.is_forced() => Worth::All,
            state => {
                let until = Until(self.until.load(SeqCst)).of(word).unwrap_or(Timestamp::MAX);
                let left = until.as_nanos().saturating_sub(now.as_nanos());
                let most = rules.lasts_at_most(word).saturating_add(SKEW);
                // Its time is over, or was over before the clock has gone back.
                if left == 0 || until != Timestamp::MAX && left > most {
                    Worth::Little
                } else if state == State::Open {
                    Worth::All
                } else {
                    Worth::Some
                }
            }
        };
        (worth, word)
    }

    /// Makes it new for another key, unless it has changed its state since; gives the generation. It is not told: nobody's
    /// breaker has changed.
    pub(crate) fn clear(&self, rules: &Rules, word: Word, now: Timestamp) -> Option<u32> {
        let next = word.next(State::Closed);
        let how = Next { to: State::Closed, reason: Reason::ByHand, at: now, sums: None };
        self.go(rules, word, next, how, None, &mut |_| {}).then_some(next.generation())
    }

    /// The state. An open breaker whose wait is over stays open until a call comes.
    #[must_use]
    pub fn state(&self) -> State {
        self.load().state()
    }

    #[cold]
    fn admit_some(
        &self,
        rules: &Rules,
        now: impl FnOnce() -> Timestamp,
        draw: Draw<'_>,
        tell: Tell<'_>,
    ) -> Result<Admission, Refused> {
        let mut word = self.load();
        if matches!(word.state(), State::ForcedOpen | State::Isolated) {
            return Err(Refused { state: word.state(), retry_after: None });
        }
        let now = now();
        loop {
            let state = word.state();
            if lets_all_through(state) {
                return Ok(Admission::new(word));
            }
            if matches!(state, State::ForcedOpen | State::Isolated) {
                return Err(Refused { state, retry_after: None });
            }
            if let Some(until) = self.until(rules, word, now) {
                match state {
                    // Open -> HalfOpen: the wait is over, and this call is the first probe.
                    State::Open if is_over(until, now) => {
                        let next = word.next(State::HalfOpen);
                        let next = next.probe(rules.probes()).expect("there is at least one probe");
                        let lasts = rules.lasts(next);
                        let how = Next { to: State::HalfOpen, reason: Reason::WaitOver, at: now, sums: None };
                        if self.go(rules, word, next, how, lasts, tell) {
                            return Ok(Admission::new(next));
                        }
                    }
                    State::Open => return Err(Refused { state, retry_after: left(until, now) }),
                    _ if is_over(until, now) => self.lapse(rules, word, until, now, draw, tell),
                    State::HalfOpen => match word.probe(rules.probes()) {
                        Some(next) => {
                            if self.swap(word, next) {
                                return Ok(Admission::new(word));
                            }
                        }
                        None => return Err(Refused { state, retry_after: left(until, now) }),
                    },
                    _ => {
                        let step = rules.step(word, now, until);
                        return if Rules::lets_through(step, draw()) {
                            Ok(Admission::new(word))
                        } else {
                            Err(Refused { state, retry_after: None })
                        };
                    }
                }
            }
            word = self.load();
        }
    }

    /// Whatever is not a plain result in a closed breaker.
    #[cold]
    #[expect(clippy::too_many_arguments, reason = "what is known of a call that has ended")]
    fn record_some(
        &self,
        rules: &Rules,
        ticket: u32,
        judged: Judged,
        slow: bool,
        now: &dyn Fn() -> Timestamp,
        draw: Draw<'_>,
        tell: Tell<'_>,
    ) -> Recorded {
        let word = self.load();
        let marks = rules.marks(judged, slow);
        if word.generation() != ticket & !ANSWERED {
            return self.too_late(marks);
        }
        match (word.state(), marks) {
            (State::Closed | State::MetricsOnly, Some(marks)) => {
                let (at, counted) = self.count(rules, word, marks, now);
                self.judge(rules, word, judged, counted, at.unwrap_or_else(now), draw, tell)
            }
            (State::HalfOpen | State::Ramping, marks) => {
                self.record_trial(rules, ticket, judged, marks, now(), draw, tell)
            }
            _ => Recorded::InTime,
        }
    }

    /// Counts a result in the window, and gives the time if that was read.
    #[inline]
    fn count(
        &self,
        rules: &Rules,
        word: Word,
        marks: Marks,
        now: impl Fn() -> Timestamp,
    ) -> (Option<Timestamp>, Counted) {
        let at = matches!(rules.span, Span::Slices(_)).then(now);
        let is_current = || self.is_in(word);
        let time = at.unwrap_or_default();
        (at, self.results.count(rules.span, word.generation(), marks, time, is_current))
    }

    /// Opens a closed breaker if the result that was just counted says so.
    #[inline(never)]
    #[expect(clippy::too_many_arguments, reason = "what is known of a call that has ended")]
    fn judge(
        &self,
        rules: &Rules,
        word: Word,
        judged: Judged,
        counted: Counted,
        now: Timestamp,
        draw: Draw<'_>,
        tell: Tell<'_>,
    ) -> Recorded {
        let sums = match counted {
            Counted::Stale => {
                self.stale.fetch_add(1, Relaxed);
                return Recorded::Stale;
            }
            Counted::Good => None,
            Counted::Bad(sums) => Some(sums),
        };
        let row = rules.consecutive() > 0 && self.count_in_row(rules, word, judged);
        let (reason, asked) = match judged {
            _ if word.state() != State::Closed => return Recorded::InTime,
            Judged::OpenFor(wait) => (Some(Reason::Asked), Some(rules.asked(wait))),
            _ if row => (Some(Reason::ConsecutiveFailures), None),
            _ => (sums.and_then(|sums| rules.verdict(sums)), None),
        };
        // Closed -> Open. Where this fails, someone else has opened it, or has set its state by hand.
        if let Some(reason) = reason {
            let next = word.next(State::Open);
            let lasts = asked.unwrap_or_else(|| rules.open_time(next.growth(), draw()));
            self.go(rules, word, next, Next { to: State::Open, reason, at: now, sums }, Some(lasts), tell);
        }
        Recorded::InTime
    }

    /// A result, or none, of a probe or of a call of a ramp.
    #[cold]
    #[expect(clippy::too_many_arguments, reason = "what is known of a call that has ended")]
    fn record_trial(
        &self,
        rules: &Rules,
        ticket: u32,
        judged: Judged,
        marks: Option<Marks>,
        now: Timestamp,
        draw: Draw<'_>,
        tell: Tell<'_>,
    ) -> Recorded {
        let asked = if let Judged::OpenFor(wait) = judged { Some(rules.asked(wait)) } else { None };
        let (generation, answered) = (ticket & !ANSWERED, ticket & ANSWERED != 0);
        let mut row = None;
        loop {
            let word = self.load();
            // Where no probe is on its way, it is one of another breaker.
            if word.generation() != generation || word.state() == State::HalfOpen && !word.holds(answered) {
                return self.too_late(marks);
            }
            let Some(until) = self.until(rules, word, now) else { continue };
            if is_over(until, now) {
                self.lapse(rules, word, until, now, draw, tell);
                continue;
            }
            let step = match (word.state(), marks) {
                (State::HalfOpen, _) => word.probed(answered, marks, rules),
                (_, Some(marks)) => {
                    let count = || rules.consecutive() > 0 && self.count_in_row(rules, word, judged);
                    // Once, however often the step is tried.
                    let row = *row.get_or_insert_with(count);
                    word.stepped(rules.step(word, now, until), marks, row, rules)
                }
                (_, None) => return Recorded::InTime,
            };
            let done = match (step, asked) {
                (Step::Stay(next), None) => self.swap(word, next),
                (step, asked) => {
                    let (to, reason, sums) = match (step, asked) {
                        (Step::Go(to, reason, sums), None) => (to, reason, Some(sums)),
                        _ => (State::Open, Reason::Asked, None),
                    };
                    let next = word.next(to);
                    let lasts = match to {
                        State::Open => Some(asked.unwrap_or_else(|| rules.open_time(next.growth(), draw()))),
                        _ => rules.lasts(next),
                    };
                    self.go(rules, word, next, Next { to, reason, at: now, sums }, lasts, tell)
                }
            };
            if done {
                return Recorded::InTime;
            }
        }
    }

    /// The time of this half-open or ramping state was over at `until`.
    fn lapse(
        &self,
        rules: &Rules,
        word: Word,
        until: Timestamp,
        now: Timestamp,
        draw: Draw<'_>,
        tell: Tell<'_>,
    ) {
        let (to, reason, sums) = if word.state() == State::HalfOpen {
            word.overdue(rules)
        } else {
            (State::Closed, Reason::RampOver, word.step_sums())
        };
        let next = word.next(to);
        let lasts = match to {
            State::Open => Some(rules.open_time(next.growth(), draw())),
            _ => rules.lasts(next),
        };
        // A service that comes back cold has had no calls meanwhile: its ramp is not over by then.
        let at = if to == State::Ramping { now } else { until };
        self.go(rules, word, next, Next { to, reason, at, sums: Some(sums) }, lasts, tell);
    }

    fn put(&self, rules: &Rules, to: State, now: Timestamp, tell: Tell<'_>) {
        loop {
            let word = self.load();
            let next = Next { to, reason: Reason::ByHand, at: now, sums: None };
            if self.go(rules, word, word.next(to), next, None, tell) {
                return;
            }
        }
    }

    /// A transition: the one step, then what goes with it, then the word of it.
    fn go(
        &self,
        rules: &Rules,
        word: Word,
        next: Word,
        Next { to, reason, at, sums }: Next,
        lasts: Option<Duration>,
        tell: Tell<'_>,
    ) -> bool {
        if !self.swap(word, next) {
            return false;
        }
        let until = Until::new(next, lasts.map_or(Timestamp::MAX, |lasts| at + lasts));
        let mut seen = self.until.load(SeqCst);
        while self.is_in(next) {
            match self.until.compare_exchange_weak(seen, until.0, SeqCst, SeqCst) {
                Ok(_) => break,
                Err(word) => seen = word,
            }
        }
        if rules.consecutive() > 0 {
            self.renew_row(next);
        }
        self.results.renew(rules.span, next.generation(), at, || self.is_in(next));
        tell(Transition { from: word.state(), to, reason, generation: next.generation(), at, lasts, sums });
        true
    }

    /// When the state of this word ends; `None` when the word has changed.
    fn until(&self, rules: &Rules, word: Word, now: Timestamp) -> Option<Timestamp> {
        let seen = self.until.load(SeqCst);
        let known = Until(seen).of(word);
        let most = rules.lasts_at_most(word);
        let until = match known {
            Some(until) if until.as_nanos().saturating_sub(now.as_nanos()) <= most => return Some(until),
            // The clock has gone back since.
            Some(_) => now + Duration::from_nanos(most),
            // It was not said yet.
            None => rules.lasts(word).map_or(Timestamp::MAX, |lasts| now + lasts),
        };
        let mine = Until::new(word, until);
        if !self.is_in(word) || self.until.compare_exchange(seen, mine.0, SeqCst, SeqCst).is_err() {
            return None;
        }
        mine.of(word)
    }

    /// Counts failures in a row; whether there are too many now.
    fn count_in_row(&self, rules: &Rules, word: Word, judged: Judged) -> bool {
        let tag = word.generation() << 16;
        let mut seen = self.row.load(SeqCst);
        loop {
            let known = seen ^ tag <= u32::from(u16::MAX);
            let row = if known { seen & u32::from(u16::MAX) } else { 0 };
            let next = match judged {
                Judged::Soft => row,
                Judged::Success => 0,
                _ => (row + 1).min(u32::from(u16::MAX)),
            };
            if known && next == row {
                return next >= rules.consecutive();
            }
            if !known && !self.is_in(word) {
                return false;
            }
            match self.row.compare_exchange_weak(seen, tag | next, SeqCst, SeqCst) {
                Ok(_) => return next >= rules.consecutive(),
                Err(row) => seen = row,
            }
        }
    }

    /// Begins it for a new generation, so that it is no older than one and its few bits tell it.
    fn renew_row(&self, word: Word) {
        let empty = word.generation() << 16;
        let mut seen = self.row.load(SeqCst);
        while seen ^ empty > u32::from(u16::MAX) && self.is_in(word) {
            match self.row.compare_exchange_weak(seen, empty, SeqCst, SeqCst) {
                Ok(_) => return,
                Err(row) => seen = row,
            }
        }
    }

    fn too_late(&self, marks: Option<Marks>) -> Recorded {
        if marks.is_none() {
            // It had nothing to say.
            return Recorded::InTime;
        }
        self.stale.fetch_add(1, Relaxed);
        Recorded::Stale
    }

    #[inline]
    fn load(&self) -> Word {
        Word(self.word.load(SeqCst))
    }

    fn swap(&self, word: Word, next: Word) -> bool {
        self.word.compare_exchange(word.0, next.0, SeqCst, SeqCst).is_ok()
    }

    /// Whether it is still in the generation of this word.
    fn is_in(&self, word: Word) -> bool {
        self.load().generation() == word.generation()
    }
}

/// How much is lost with a breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Worth {
    /// It is closed, or its state has lasted for long enough.
    Little,
    /// It is half-open or ramping.
    Some,
    /// It keeps calls from a service that fails, or was set by hand.
    All,
}

/// What a transition is told as.
struct Next {
    to: State,
    reason: Reason,
    at: Timestamp,
    sums: Option<Sums>,
}

#[inline]
const fn lets_all_through(state: State) -> bool {
    matches!(state, State::Closed | State::MetricsOnly | State::Disabled)
}

/// The end of time never comes.
fn is_over(until: Timestamp, now: Timestamp) -> bool {
    until != Timestamp::MAX && now >= until
}

fn left(until: Timestamp, now: Timestamp) -> Option<Duration> {
    (until != Timestamp::MAX).then(|| until - now)
}
