use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use buttress_core::{KeyPart, Name, Timestamp, draw};

use crate::breaker::{Breaker, View};
use crate::gate::Core;
use crate::keyed::Keyed as Table;
use crate::label::{Label, Text};
use crate::tally::Count;
use crate::units::Slot;
use crate::{Mode, Rules, State, Transition};

/// Reads and steers the state of a [`CircuitBreakerLayer`](crate::CircuitBreakerLayer), while its services use it.
///
/// ```
/// use buttress_circuit_breaker::{CircuitBreakerLayer, State};
///
/// let layer = CircuitBreakerLayer::default();
/// let handle = layer.handle();
///
/// assert_eq!(handle.state(), State::Closed);
/// handle.isolate("maintenance");
/// assert_eq!(handle.state(), State::Isolated);
/// handle.reset();
/// assert_eq!(handle.state(), State::Closed);
/// ```
///
/// # Keys
///
/// With [`by`](crate::CircuitBreakerLayer::by) each key has a breaker of its own: [`key`](Self::key) gives the handle of
/// one, [`keys`](Self::keys) those of all that are there. The layer's own handle is about the breaker of calls without a
/// key. While that is set by hand (isolated, disabled, ..), calls with a key go by it too; [`reset`](Self::reset) of it
/// resets them all.
#[derive(Clone)]
pub struct Handle {
    core: Arc<Core>,
    key: Option<Keyed>,
}

#[derive(Clone)]
struct Keyed {
    hash: u64,
    name: Name,
}

/// What a circuit breaker layer has done. The counts run from the layer's making, over all of its breakers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Calls that succeeded.
    pub succeeded: u64,
    /// Calls that failed.
    pub failed: u64,
    /// Calls whose service asked for less.
    pub soft: u64,
    /// Calls that panicked, which count as failures as well.
    pub panicked: u64,
    /// Calls that say nothing of the service, a refusal by a layer further down among them.
    pub ignored: u64,
    /// Calls whose caller went away before they were judged, and that count as nothing.
    pub abandoned: u64,
    /// Calls that were slow. They are in one of the counts above as well.
    pub slow: u64,
    /// Results that came after their breaker had changed its state. They are in none of the counts above.
    pub stale: u64,
    /// Calls that were not permitted.
    pub refused: u64,
    /// Keys that made way for others although they were not idle.
    pub evicted: u64,
    /// Calls that passed without a breaker, since there was no room for one, and keys that were steered in vain for that
    /// reason.
    pub crowded: u64,
    /// Keys that have a breaker now.
    pub keys: usize,
}

#[expect(
    clippy::must_use_candidate,
    reason = "whether it was steered: for calls without a key, it always is"
)]
impl Handle {
    pub(crate) const fn new(core: Arc<Core>) -> Self {
        Self { core, key: None }
    }

    /// The handle of this key's breaker, be it there or not. The key is what [`by`](crate::CircuitBreakerLayer::by)
    /// gives: a text, an `IpAddr`, a tuple of them. [`Global`](buttress_core::Global) stands for calls without a key.
    #[must_use]
    pub fn key(&self, key: impl KeyPart) -> Self {
        let key = self.core.units.hash_of(&key).map(|hash| {
            let mut text = Text::default();
            key.write(&mut text);
            Keyed { hash, name: text.into_name() }
        });
        Self { core: Arc::clone(&self.core), key }
    }

    /// The handles of all keys that have a breaker now.
    #[must_use]
    pub fn keys(&self) -> Vec<Self> {
        let Some(table) = self.core.units.keyed_so_far() else { return Vec::new() };
        let named = table.places().filter_map(|(hash, place)| {
            let name = table.label(place).key()?;
            // Else it made way for another key just now.
            table.is_at(place, hash).then_some(Keyed { hash, name })
        });
        named.map(|key| Self { core: Arc::clone(&self.core), key: Some(key) }).collect()
    }

    /// The key that it is about, for people to read: text as it is, four and sixteen bytes as an address, other widths as a
    /// number, with `/` between. `None` for calls without one.
    #[must_use]
    pub fn name(&self) -> Option<&Name> {
        self.key.as_ref().map(|key| &key.name)
    }

    /// The state now. A breaker that is open stays so until a call comes after its wait.
    #[must_use]
    pub fn state(&self) -> State {
        self.view().state
    }

    /// The state now with all that belongs to it: rates, probes, the time left. A key without a breaker looks as one
    /// whose breaker is new.
    #[must_use]
    pub fn view(&self) -> View {
        let core = &*self.core;
        let now = core.setup.clock.now();
        let seen = self.look(|slot| {
            let mut moves = Vec::new();
            let breaker = core.units.breaker(slot);
            breaker.tick(&core.rules, now, draw, |transition| moves.push(transition));
            let view = breaker.view(&core.rules, now);
            core.moved(slot, moves);
            view
        });
        seen.unwrap_or_else(|| Breaker::new(&core.rules).view(&core.rules, now))
    }

    /// Whether a call that came now might pass: what a balancer asks, so as to pass over an endpoint whose breaker is open.
    /// Nothing changes by it.
    #[must_use]
    pub fn might_pass(&self) -> bool {
        let core = &*self.core;
        let seen =
            self.look(|slot| core.units.breaker(slot).might_pass(&core.rules, || core.setup.clock.now()));
        seen.unwrap_or(true)
    }

    /// The reason that was given for the isolation, as long as that lasts.
    #[must_use]
    pub fn note(&self) -> Option<Name> {
        let note = self.look(|slot| self.core.units.label(slot).note()).flatten();
        note.filter(|_| self.state() == State::Isolated)
    }

    /// What all breakers of the layer have done together.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let sum = |what| self.core.tally.sum(what);
        let keyed = self.core.units.keyed_so_far();
        Counts {
            succeeded: sum(Count::Succeeded),
            failed: sum(Count::Failed),
            soft: sum(Count::Soft),
            panicked: sum(Count::Panicked),
            ignored: sum(Count::Ignored),
            abandoned: sum(Count::Abandoned),
            slow: sum(Count::Slow),
            stale: sum(Count::Stale),
            refused: sum(Count::Refused),
            evicted: keyed.map_or(0, Table::evicted),
            crowded: keyed.map_or(0, Table::crowded),
            keys: keyed.map_or(0, Table::len),
        }
    }

    /// How often a breaker of the layer has gone from one state into the other. Where a key makes way, its breaker goes with
    /// it in whatever state that was, and this counts nothing.
    #[must_use]
    pub fn transitions(&self, from: State, to: State) -> u64 {
        self.core.tally.transitions(from, to)
    }

    /// Lets no call pass until [`reset`](Self::reset), since the service is to be left alone; `note` says why, in events.
    ///
    /// This and the other steps give `false` when there is no room for the key's breaker, since all that it could replace
    /// are open or were set by hand. Nothing has changed then, and it counts as [crowded](Counts::crowded). The breaker of
    /// calls without a key always has room.
    pub fn isolate(&self, note: impl Into<Name>) -> bool {
        self.force(Mode::Isolated, Some(note.into()))
    }

    /// Lets no call pass until [`reset`](Self::reset). `false` when there is no room, as [`isolate`](Self::isolate) has it.
    pub fn force_open(&self) -> bool {
        self.force(Mode::ForcedOpen, None)
    }

    /// Lets all calls pass, and counts nothing, until [`reset`](Self::reset). `false` when there is no room, as
    /// [`isolate`](Self::isolate) has it.
    pub fn disable(&self) -> bool {
        self.force(Mode::Disabled, None)
    }

    /// Lets all calls pass and counts them, and never opens, until [`reset`](Self::reset). `false` when there is no room, as
    /// [`isolate`](Self::isolate) has it.
    pub fn metrics_only(&self) -> bool {
        self.force(Mode::MetricsOnly, None)
    }

    /// Opens for so long, or for the longest open time if that is less, unless the state was set by hand. `false` when there
    /// is no room, as [`isolate`](Self::isolate) has it.
    pub fn open_for(&self, wait: Duration) -> bool {
        self.steer(|breaker, _, rules, now, tell| breaker.open_for(rules, wait, now, tell))
    }

    /// Closes with nothing counted, as if it were new; the layer's own handle resets the breakers of all keys as well.
    /// Results of calls that are on their way come too late. The [`counts`](Self::counts) stay.
    pub fn reset(&self) {
        let units = &self.core.units;
        match (&self.key, units.keyed_so_far()) {
            (Some(key), Some(table)) => {
                let held =
                    table.steer_held(key.hash, |place, breaker| (Slot::Of(place), self.renew(breaker)));
                if let Some((slot, moves)) = held {
                    self.core.moved(slot, moves);
                }
            }
            // One that is not there is as good as new.
            (Some(_), None) => {}
            (None, table) => {
                self.core.moved(Slot::One, self.renew(units.breaker(Slot::One)));
                for (table, (_, place)) in
                    table.iter().flat_map(|table| table.places().map(move |at| (table, at)))
                {
                    let moves = table.steer_at(place, |breaker| self.renew(breaker));
                    self.core.moved(Slot::Of(place), moves);
                }
            }
        }
    }

    fn renew(&self, breaker: &Breaker) -> Vec<Transition> {
        let mut moves = Vec::new();
        breaker.reset(&self.core.rules, self.core.setup.clock.now(), |transition| moves.push(transition));
        moves
    }

    fn force(&self, mode: Mode, note: Option<Name>) -> bool {
        self.steer(|breaker, label, rules, now, tell| {
            label.set_note(note, || breaker.force(rules, mode, now, tell));
        })
    }

    /// Changes the breaker, made if it is not there; `false` when there is no room for it.
    fn steer(
        &self,
        steer: impl FnOnce(&Breaker, &Label, &Rules, Timestamp, &mut dyn FnMut(Transition)),
    ) -> bool {
        let Core { setup, rules, units, .. } = &*self.core;
        let (now, mut moves) = (setup.clock.now(), Vec::new());
        let mut tell = |transition| moves.push(transition);
        let slot = match &self.key {
            None => {
                steer(units.breaker(Slot::One), units.label(Slot::One), rules, now, &mut tell);
                Some(Slot::One)
            }
            Some(Keyed { hash, name }) => {
                let name = Some(name.clone());
                units.keyed().steer_named(rules, *hash, now, name, |place, breaker, label| {
                    steer(breaker, label, rules, now, &mut tell);
                    Slot::Of(place)
                })
            }
        };
        // Told when no lock is held.
        if let Some(slot) = slot {
            self.core.moved(slot, moves);
        }
        slot.is_some()
    }

    /// Looks at where the breaker is, if it is there.
    fn look<R>(&self, look: impl Fn(Slot) -> R) -> Option<R> {
        let Some(Keyed { hash, .. }) = &self.key else { return Some(look(Slot::One)) };
        let table = self.core.units.keyed_so_far()?;
        loop {
            let place = table.place(*hash)?;
            let seen = look(Slot::Of(place));
            if table.is_at(place, *hash) {
                return Some(seen);
            }
        }
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle")
            .field("name", &self.core.setup.name)
            .field("key", &self.name())
            .finish_non_exhaustive()
    }
}
