use super::ledger::LedgerState;
use super::{Policy, SlidingLogState, SlidingStrictState, SlidingWindowState};

/// What a [`Limit`](super::Limit) remembers of one key: a word, or for algorithms that need more a box.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LimitState(Held);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Held {
    Word(u64),
    Wide(Box<Wide>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Wide {
    Window(SlidingWindowState),
    Strict(SlidingStrictState),
    Log(SlidingLogState),
    Ledger(LedgerState),
}

impl Default for Held {
    fn default() -> Self {
        Self::Word(0)
    }
}

impl LimitState {
    /// The state of an algorithm that needs one word.
    pub(crate) const fn from_word(word: u64) -> Self {
        Self(Held::Word(word))
    }
}

/// A state that a [`LimitState`] can hold.
pub(super) trait Part: Default + PartialEq {
    /// `None` when it holds another, which a fresh one does.
    fn get(state: &LimitState) -> Option<&Self>;
    fn get_mut(state: &mut LimitState) -> Option<&mut Self>;
    fn hold(self) -> LimitState;
}

/// Shows `policy` its own part of `state`.
#[inline]
pub(super) fn look<P: Policy<State: Part>, T>(
    policy: &P,
    state: &LimitState,
    look: impl FnOnce(&P, &P::State) -> T,
) -> T {
    match Part::get(state) {
        Some(part) => look(policy, part),
        None => look(policy, &P::State::default()),
    }
}

/// Gives `policy` its own part of `state`. What stays fresh is not kept.
#[inline]
pub(super) fn change<P: Policy<State: Part>, T>(
    policy: &P,
    state: &mut LimitState,
    change: impl FnOnce(&P, &mut P::State) -> T,
) -> T {
    if let Some(part) = Part::get_mut(state) {
        return change(policy, part);
    }
    let mut part = P::State::default();
    let result = change(policy, &mut part);
    if part != P::State::default() {
        *state = hold(part);
    }
    result
}

/// A state that holds `part`.
pub(super) fn hold(part: impl Part) -> LimitState {
    part.hold()
}

impl Part for u64 {
    #[inline]
    fn get(state: &LimitState) -> Option<&Self> {
        match &state.0 {
            Held::Word(word) => Some(word),
            Held::Wide(_) => None,
        }
    }

    #[inline]
    fn get_mut(state: &mut LimitState) -> Option<&mut Self> {
        match &mut state.0 {
            Held::Word(word) => Some(word),
            Held::Wide(_) => None,
        }
    }

    fn hold(self) -> LimitState {
        LimitState(Held::Word(self))
    }
}

macro_rules! wide {
    ($($state:ty => $variant:ident),*) => {
        $(impl Part for $state {
            #[inline]
            fn get(state: &LimitState) -> Option<&Self> {
                match &state.0 {
                    Held::Wide(wide) => match &**wide {
                        Wide::$variant(part) => Some(part),
                        _ => None,
                    },
                    Held::Word(_) => None,
                }
            }

            #[inline]
            fn get_mut(state: &mut LimitState) -> Option<&mut Self> {
                match &mut state.0 {
                    Held::Wide(wide) => match &mut **wide {
                        Wide::$variant(part) => Some(part),
                        _ => None,
                    },
                    Held::Word(_) => None,
                }
            }

            fn hold(self) -> LimitState {
                LimitState(Held::Wide(Box::new(Wide::$variant(self))))
            }
        })*
    };
}

wide!(SlidingWindowState => Window, SlidingStrictState => Strict, SlidingLogState => Log,
    LedgerState => Ledger);
