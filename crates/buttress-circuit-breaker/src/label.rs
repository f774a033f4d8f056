use std::fmt::Write;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use buttress_core::{KeySink, Name};

/// What people are told of a breaker: whose it is, why it is isolated, and how far its transitions were told.
#[derive(Debug, Default)]
pub(crate) struct Label {
    /// The first generation of the key that this is about.
    since: AtomicU32,
    /// The generation that was told last.
    told: AtomicU32,
    words: Mutex<Option<Box<Words>>>,
}

#[derive(Debug, Default)]
struct Words {
    key: Option<Name>,
    note: Option<Name>,
}

/// Generations have 31 bits.
const GENERATIONS: u32 = 1 << 31;

impl Label {
    /// From this generation on it is about this key.
    pub(crate) fn write(&self, key: Option<Name>, since: u32) {
        let mut words = self.lock();
        if key.is_some() || words.is_some() {
            **words.get_or_insert_default() = Words { key, note: None };
        }
        self.since.store(since, Relaxed);
        self.told.store(since, Relaxed);
    }

    pub(crate) fn key(&self) -> Option<Name> {
        self.lock().as_ref()?.key.clone()
    }

    /// The key that had the breaker in this generation, if it still has it.
    pub(crate) fn key_in(&self, generation: u32) -> Option<Name> {
        let words = self.lock();
        let ahead = generation.wrapping_sub(self.since.load(Relaxed)) % GENERATIONS;
        if ahead <= GENERATIONS / 2 { words.as_ref()?.key.clone() } else { None }
    }

    /// The reason that an operator gave.
    pub(crate) fn note(&self) -> Option<Name> {
        self.lock().as_ref()?.note.clone()
    }

    /// Sets the reason that an operator gives, and makes the step that it is for: nobody's step comes between them.
    pub(crate) fn set_note(&self, note: Option<Name>, step: impl FnOnce()) {
        let mut words = self.lock();
        words.get_or_insert_default().note = note;
        step();
    }

    /// Whether the transition into this generation may be told: all before it were. It then counts as told.
    ///
    /// One that is older than what was told belongs to the key that was here before.
    pub(crate) fn may_tell(&self, generation: u32) -> bool {
        let mut told = self.told.load(Relaxed);
        loop {
            let ahead = generation.wrapping_sub(told) % GENERATIONS;
            if ahead != 1 {
                return ahead == 0 || ahead > GENERATIONS / 2;
            }
            // Another key may get the breaker in between.
            match self.told.compare_exchange(told, generation, Relaxed, Relaxed) {
                Ok(_) => return true,
                Err(now) => told = now,
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Box<Words>>> {
        self.words.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A key as people read it: text as it is, four and sixteen bytes as an address, other widths as a number, with `/`
/// between. It ends after some 64 bytes.
#[derive(Default)]
pub(crate) struct Text(String);

const LONGEST: usize = 64;

impl Text {
    fn part(&mut self, part: impl FnOnce(&mut String)) {
        if self.0.len() < LONGEST {
            if !self.0.is_empty() {
                self.0.push('/');
            }
            part(&mut self.0);
        }
    }

    pub(crate) fn into_name(self) -> Name {
        self.0.into()
    }
}

impl KeySink for Text {
    fn bytes(&mut self, part: &[u8]) {
        self.part(|text| text.push_str(&String::from_utf8_lossy(&part[..part.len().min(LONGEST)])));
    }

    fn fixed<const N: usize>(&mut self, part: [u8; N]) {
        let bytes = part.as_slice();
        self.part(|text| {
            // Writing into a string does not fail.
            let _ = if let Ok(octets) = <[u8; 4]>::try_from(bytes) {
                write!(text, "{}", Ipv4Addr::from(octets))
            } else if let Ok(octets) = <[u8; 16]>::try_from(bytes) {
                write!(text, "{}", Ipv6Addr::from(octets))
            } else {
                let number = bytes.iter().fold(0, |number: u128, byte| number << 8 | u128::from(*byte));
                write!(text, "{number}")
            };
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transitions_are_told_when_all_before_them_were() {
        let label = Label::default();

        assert!(!label.may_tell(2));
        assert!(label.may_tell(1));
        assert!(label.may_tell(2));
        assert!(!label.may_tell(4));
    }

    #[test]
    fn another_key_begins_where_its_breaker_is_and_waits_for_nothing_of_the_key_before() {
        let label = Label::default();
        label.write(Some("a".into()), 0);

        // Two steps of the first key were never told, as its breaker was reset for the next.
        label.write(Some("b".into()), 2);

        assert!(label.may_tell(3));
        assert!(label.may_tell(1), "a late one of the first key is told at once");
        assert!(label.may_tell(4), "and moves nothing");
        assert_eq!(label.key_in(1), None, "who that was, nobody knows any more");
        assert_eq!(label.key_in(2), Some(Name::from("b")));
    }

    #[test]
    fn no_other_reason_comes_between_a_reason_and_its_step() {
        let label = Label::default();
        let mut done = false;

        label.set_note(Some("maintenance".into()), || {
            assert!(label.words.try_lock().is_err(), "another hand waits");
            done = true;
        });

        assert!(done && label.note() == Some(Name::from("maintenance")));
    }

    #[test]
    fn the_highest_generation_is_followed_by_the_lowest() {
        let label = Label::default();
        label.write(Some("a".into()), GENERATIONS - 1);

        assert!(label.may_tell(0));
        assert!(label.may_tell(1));
    }

    #[test]
    fn a_key_is_text_for_people() {
        let mut text = Text::default();
        text.bytes(b"orders");
        text.fixed([10, 0, 0, 1]);
        text.fixed(7_u16.to_be_bytes());

        assert_eq!(text.into_name(), "orders/10.0.0.1/7");
    }
}
