//! The one place where a call is decided, and its result recorded.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use buttress_core::{
    Clock, Key, Name, Outcome, OutcomeKind, Reject, Rejection, RejectionKind, Timestamp, draw,
};

use crate::breaker::{Admission, Recorded, Refused};
use crate::call::{Admitted, Timed};
use crate::keyed::{Asked, Keyed};
use crate::label::Text;
use crate::tally::{Count, Tally};
use crate::teller::{Teller, guarded};
use crate::units::{Slot, Units};
use crate::{CircuitBreakerEvent, Judged, Rules, Settings, SettingsError, State, Transition};

type Observer = Arc<dyn Fn(&CircuitBreakerEvent<'_>) + Send + Sync>;

/// A layer's settings and its state, shared by the services that it makes.
pub(crate) struct Gate<K, J, C, F> {
    pub(crate) key: K,
    pub(crate) reject: J,
    pub(crate) finish: F,
    pub(crate) judge: Arc<Judge<C>>,
}

/// What a call needs until it is over.
pub(crate) struct Judge<C> {
    pub(crate) classify: C,
    pub(crate) core: Arc<Core>,
}

/// The part that knows nothing of requests and responses, which handles share.
pub(crate) struct Core {
    pub(crate) setup: Setup,
    pub(crate) rules: Rules,
    pub(crate) units: Units,
    pub(crate) tally: Tally,
    /// Whether it matters how long calls take.
    pub(crate) is_timed: bool,
    teller: Teller<Told>,
}

/// What a state is made of.
#[derive(Clone)]
pub(crate) struct Setup {
    pub(crate) settings: Settings,
    pub(crate) capacity: usize,
    pub(crate) slow_to_end: bool,
    pub(crate) open_when_asked: bool,
    pub(crate) name: Name,
    pub(crate) clock: Clock,
    pub(crate) observer: Option<Observer>,
}

/// A transition that is to be told.
struct Told {
    slot: Slot,
    /// The key that had the breaker then.
    key: Option<Name>,
    transition: Transition,
}

/// What an admitted call holds.
pub(crate) struct Held {
    slot: Slot,
    admission: Admission,
    /// Zero where nobody asks how long calls take; the end of time for a call that is not to be slow.
    pub(crate) start: Timestamp,
}

impl Held {
    /// The call is known to stream: it is never slow.
    pub(crate) const fn streams(&mut self) {
        self.start = Timestamp::MAX;
    }
}

/// What an outcome counts as.
#[derive(Clone, Copy)]
pub(crate) struct Weight {
    judged: Judged,
    count: Count,
}

impl Weight {
    pub(crate) const fn is_success(self) -> bool {
        matches!(self.judged, Judged::Success)
    }

    pub(crate) const fn is_ignored(self) -> bool {
        matches!(self.judged, Judged::Ignored)
    }
}

/// The time, read once at most.
pub(crate) struct Now<'a> {
    clock: &'a Clock,
    read: Cell<Option<Timestamp>>,
}

impl Now<'_> {
    #[inline]
    pub(crate) fn get(&self) -> Timestamp {
        if let Some(now) = self.read.get() {
            return now;
        }
        let now = self.clock.now();
        self.read.set(Some(now));
        now
    }
}

impl Setup {
    pub(crate) fn new(settings: Settings) -> Self {
        Self {
            settings,
            capacity: Keyed::DEFAULT_CAPACITY,
            slow_to_end: false,
            open_when_asked: false,
            name: Name::from_static("default"),
            clock: Clock::default(),
            observer: None,
        }
    }
}

impl<K, J, C, F> Gate<K, J, C, F> {
    pub(crate) fn name(&self) -> &Name {
        &self.judge.core.setup.name
    }

    /// Lets the call pass, or refuses it.
    #[inline]
    pub(crate) fn admit<Req>(&self, req: &Req) -> Result<Admitted<C>, Refused>
    where
        K: Key<Req>,
    {
        let core = &*self.judge.core;
        match core.units.hash(&self.key, req) {
            None => match core.units.breaker(Slot::One).let_through() {
                Some(admission) => Ok(self.admitted(Slot::One, admission, &core.now())),
                None => self.admit_one(),
            },
            Some(hash) => self.admit_keyed(req, hash),
        }
    }

    #[inline]
    fn admitted(&self, slot: Slot, admission: Admission, now: &Now<'_>) -> Admitted<C> {
        let start = if self.judge.core.rules.slow_after().is_some() { now.get() } else { Timestamp::ZERO };
        Admitted::new(Arc::clone(&self.judge), Held { slot, admission, start })
    }

    /// A call without a key, where the breaker does not just let all pass.
    #[cold]
    fn admit_one(&self) -> Result<Admitted<C>, Refused> {
        let core = &*self.judge.core;
        let now = core.now();
        let mut moves = Vec::new();
        let breaker = core.units.breaker(Slot::One);
        let answer = breaker.admit(&core.rules, || now.get(), draw, |transition| moves.push(transition));
        self.decided(Slot::One, answer, moves, &now)
    }

    #[inline(never)]
    fn admit_keyed<Req>(&self, req: &Req, hash: u64) -> Result<Admitted<C>, Refused>
    where
        K: Key<Req>,
    {
        let core = &*self.judge.core;
        let (units, now) = (&core.units, core.now());
        // While that is set by hand, all calls go by it.
        if units.breaker(Slot::One).state().is_forced() {
            return self.admit_one();
        }
        let name = || {
            let mut text = Text::default();
            self.key.key(req, &mut text);
            Some(text.into_name())
        };
        loop {
            let mut moves = Vec::new();
            let tell = |transition| moves.push(transition);
            match units.keyed().ask(&core.rules, hash, now.get(), draw, tell, name) {
                Ok(Asked { place: Some(place), answer: Some(answer) }) => {
                    return self.decided(Slot::Of(place), answer, moves, &now);
                }
                // There was no room for its breaker.
                Ok(_) => return Ok(Admitted::crowded()),
                // What has moved is of the key that has the breaker now.
                Err(place) => core.moved(Slot::Of(place), moves),
            }
        }
    }

    /// What the breaker has said, and the steps that it made.
    #[inline]
    fn decided(
        &self,
        slot: Slot,
        answer: Result<Admission, Refused>,
        moves: Vec<Transition>,
        now: &Now<'_>,
    ) -> Result<Admitted<C>, Refused> {
        let core = &*self.judge.core;
        match answer {
            Ok(admission) => {
                // From here on the call is held, since what follows may panic.
                let call = self.admitted(slot, admission, now);
                core.moved(slot, moves);
                Ok(call)
            }
            Err(refused) => {
                core.tally.count(Count::Refused);
                core.moved(slot, moves);
                core.refused(slot, refused);
                Err(refused)
            }
        }
    }

    /// The answer to a call that is refused.
    pub(crate) fn refuse<Req, Res, Err>(&self, req: &Req, refused: &Refused) -> Result<Res, Err>
    where
        J: Reject<Req, Res, Err>,
    {
        let rejection = Rejection::new(RejectionKind::CircuitOpen).with_policy(self.name().clone());
        let mut rejection = rejection.with_elsewhere();
        rejection.retry_after = refused.retry_after;
        self.reject.reject(self.reject.form(req), rejection)
    }
}

impl Core {
    pub(crate) fn new(setup: Setup) -> Result<Self, SettingsError> {
        if !(1..=Keyed::MAX_CAPACITY).contains(&setup.capacity) {
            return Err(SettingsError::new("capacity", setup.capacity, "must be between 1 and 1000000 keys"));
        }
        let rules = setup.settings.rules()?;
        let units = Units::new(&rules, setup.capacity);
        let is_timed = rules.slow_after().is_some() || setup.slow_to_end;
        Ok(Self { setup, rules, units, tally: Tally::default(), is_timed, teller: Teller::default() })
    }

    #[inline]
    pub(crate) fn now(&self) -> Now<'_> {
        Now { clock: &self.setup.clock, read: Cell::new(None) }
    }

    /// What an outcome counts as.
    #[inline]
    pub(crate) fn weigh(&self, outcome: &Outcome) -> Weight {
        let (judged, count) = match &outcome.kind {
            OutcomeKind::Success => (Judged::Success, Count::Succeeded),
            OutcomeKind::Failure => {
                (self.asked(outcome).map_or(Judged::Failure, Judged::OpenFor), Count::Failed)
            }
            OutcomeKind::Soft => (self.asked(outcome).map_or(Judged::Soft, Judged::OpenFor), Count::Soft),
            OutcomeKind::Rejected(rejection) if is_too_slow(rejection) => (Judged::Failure, Count::Failed),
            // Ignored, a refusal of ours further down, and what is to come.
            _ => (Judged::Ignored, Count::Ignored),
        };
        Weight { judged, count }
    }

    /// How long the service asks to be left alone, where that is heard.
    fn asked(&self, outcome: &Outcome) -> Option<Duration> {
        outcome.retry_after.filter(|wait| self.setup.open_when_asked && !wait.is_zero())
    }

    /// The head of a call is good, and the call is judged at its end.
    #[inline]
    pub(crate) fn answered(&self, held: &mut Held, timed: Timed) {
        if held.admission.is_probe() {
            self.probe_answered(held, timed);
        }
    }

    #[cold]
    fn probe_answered(&self, held: &mut Held, timed: Timed) {
        let slow_at = match timed {
            // Not so good.
            Timed::AtHead(true) => return,
            Timed::AtHead(false) | Timed::Never => None,
            Timed::ThenAndThere => self.rules.slow_after().map(|threshold| held.start + threshold),
        };
        self.units.breaker(held.slot).answered(&mut held.admission, self.setup.clock.now(), slow_at);
    }

    /// A panic in our own frame.
    #[cold]
    pub(crate) fn panicked(&self, held: Held) {
        let weight = Weight { judged: Judged::Failure, count: Count::Panicked };
        self.record_any(held.slot, held.admission, weight, false, None);
    }

    /// The caller went away before the call was judged.
    #[cold]
    pub(crate) fn abandon(&self, held: Held, timed: Timed) {
        let now = self.now();
        let slow = timed.is_slow(self, &held, &now);
        let fails = self.rules.marks(Judged::Cancelled, slow).is_some();
        let count = if fails { Count::Failed } else { Count::Abandoned };
        self.record_any(
            held.slot,
            held.admission,
            Weight { judged: Judged::Cancelled, count },
            fails,
            now.read.get(),
        );
    }

    #[inline]
    pub(crate) fn is_slow(&self, start: Timestamp, now: &Now<'_>) -> bool {
        self.rules.slow_after().is_some_and(|threshold| now.get() - start >= threshold)
    }

    /// Records how a call went, where it does not matter how long it took.
    ///
    /// Here is the usual case, a success while closed; all others are below.
    #[inline]
    pub(crate) fn record_untimed(&self, held: Held, weight: Weight) {
        if matches!(weight.judged, Judged::Success) {
            let (breaker, now) = (self.units.breaker(held.slot), || self.setup.clock.now());
            if breaker.record_success(&self.rules, &held.admission, now) {
                return self.tally.count(weight.count);
            }
        }
        self.record_any(held.slot, held.admission, weight, false, None);
    }

    /// Records how a call went.
    pub(crate) fn record(&self, held: Held, weight: Weight, timed: Timed) {
        let now = self.now();
        let slow = timed.is_slow(self, &held, &now);
        self.record_any(held.slot, held.admission, weight, slow, now.read.get());
    }

    #[inline(never)]
    fn record_any(
        &self,
        slot: Slot,
        admission: Admission,
        Weight { judged, count }: Weight,
        slow: bool,
        now: Option<Timestamp>,
    ) {
        let now = Now { clock: &self.setup.clock, read: Cell::new(now) };
        let mut moves = Vec::new();
        let breaker = self.units.breaker(slot);
        let (generation, state) = (admission.generation(), admission.state());
        let recorded = breaker.record(
            &self.rules,
            admission,
            judged,
            slow,
            || now.get(),
            draw,
            |transition| {
                moves.push(transition);
            },
        );
        let stale = recorded == Recorded::Stale;
        if stale {
            self.tally.count(Count::Stale);
        } else if state != State::Disabled {
            self.tally.count(count);
            if slow {
                self.tally.count(Count::Slow);
            }
        }
        self.moved(slot, moves);
        if stale {
            self.stale(slot, generation);
        }
    }

    /// A breaker has changed its state. Before anything else that may panic, as a transition that is lost holds up those
    /// after it; and no permit may hang on it, as the observer may panic.
    #[inline]
    pub(crate) fn moved(&self, slot: Slot, transitions: Vec<Transition>) {
        if !transitions.is_empty() {
            self.moved_indeed(slot, transitions);
        }
    }

    #[cold]
    fn moved_indeed(&self, slot: Slot, transitions: Vec<Transition>) {
        for transition in transitions {
            self.tally.count_transition(transition.from, transition.to);
            let key = self.units.label(slot).key_in(transition.generation);
            self.teller.push(Told { slot, key, transition });
        }
        self.tell_moves();
    }

    fn tell_moves(&self) {
        let next = |told: &Told| self.units.label(told.slot).may_tell(told.transition.generation);
        self.teller.drain(next, |Told { slot, key, transition }| {
            let (key, note) = (key.as_ref(), self.note(*slot, transition.to));
            let note = note.as_ref();
            self.tell(|policy| CircuitBreakerEvent::Transition { policy, key, transition, note });
        });
    }

    #[cold]
    fn refused(&self, slot: Slot, Refused { state, retry_after, .. }: Refused) {
        if self.setup.observer.is_some() {
            let (key, note) = (self.units.label(slot).key(), self.note(slot, state));
            let (key, note) = (key.as_ref(), note.as_ref());
            self.tell(|policy| CircuitBreakerEvent::Refused { policy, key, state, retry_after, note });
        }
    }

    #[cold]
    fn stale(&self, slot: Slot, generation: u32) {
        if self.setup.observer.is_some() {
            let key = self.units.label(slot).key_in(generation);
            // It may be told while a thread unwinds, where a second panic would end the process.
            guarded(|| {
                self.tell(|policy| CircuitBreakerEvent::Stale { policy, key: key.as_ref() });
            });
        }
    }

    fn note(&self, slot: Slot, state: State) -> Option<Name> {
        if state == State::Isolated { self.units.label(slot).note() } else { None }
    }

    fn tell<'a>(&'a self, event: impl FnOnce(&'a Name) -> CircuitBreakerEvent<'a>) {
        if let Some(observer) = &self.setup.observer {
            observer(&event(&self.setup.name));
        }
    }
}

/// A refusal of ours further down tells nothing of the service, unless it is that the service took too long.
fn is_too_slow(rejection: &Rejection) -> bool {
    matches!(rejection.kind, RejectionKind::Timeout | RejectionKind::DeadlineExceeded)
}
