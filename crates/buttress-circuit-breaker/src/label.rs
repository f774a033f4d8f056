use std::fmt::Write;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use buttress_core::{KeySink, Name};

/// What people are told of a breaker: whose it is, why it is isolated, and how far its transitions were told.
#[derive(Debug, Default)]
pub(crate) struct Label {
    /// The hash of the key that this is about.
    hash: AtomicU64,
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
    /// Whether it is about the key with this hash.
    #[inline]
    pub(crate) fn is_of(&self, hash: u64) -> bool {
        self.hash.load(Relaxed) == hash
    }

    /// From now on it is about this key, whose breaker is in this generation.
    pub(crate) fn write(&self, hash: u64, key: Name, generation: u32) {
        let mut words = self.lock();
        if self.is_of(hash) {
            // Another thread was quicker, and may have told of a transition since.
            return;
        }
        **words.get_or_insert_default() = Words { key: Some(key), note: None };
        self.told.store(generation, Relaxed);
        self.hash.store(hash, Relaxed);
    }

    pub(crate) fn key(&self) -> Option<Name> {
        self.lock().as_ref()?.key.clone()
    }

    /// The hash of the key and the key; `None` before the first call.
    pub(crate) fn hash_and_key(&self) -> Option<(u64, Name)> {
        let key = self.key()?;
        Some((self.hash.load(Relaxed), key))
    }

    /// The reason that an operator gave.
    pub(crate) fn note(&self) -> Option<Name> {
        self.lock().as_ref()?.note.clone()
    }

    pub(crate) fn set_note(&self, note: Option<Name>) {
        self.lock().get_or_insert_default().note = note;
    }

    /// Whether the transition into this generation may be told: all before it were. It then counts as told.
    ///
    /// One that is older than what was told belongs to the key that was here before.
    pub(crate) fn may_tell(&self, generation: u32) -> bool {
        let ahead = generation.wrapping_sub(self.told.load(Relaxed)) % GENERATIONS;
        if ahead == 1 {
            self.told.store(generation, Relaxed);
        }
        ahead <= 1 || ahead > GENERATIONS / 2
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
    fn a_thread_that_writes_the_key_a_second_time_does_not_make_told_transitions_untold() {
        let label = Label::default();
        label.write(7, "a".into(), 0);
        assert!(label.may_tell(1));

        label.write(7, "a".into(), 0);

        assert!(label.may_tell(2), "and not only when 1 is told again");
    }

    #[test]
    fn another_key_begins_where_its_breaker_is_and_waits_for_nothing_of_the_key_before() {
        let label = Label::default();
        label.write(7, "a".into(), 0);

        // Two steps of the first key were never told, as its breaker was reset for the next.
        label.write(8, "b".into(), 2);

        assert!(label.may_tell(3));
        assert!(label.may_tell(1), "a late one of the first key is told at once");
        assert!(label.may_tell(4), "and moves nothing");
        assert_eq!(label.hash_and_key(), Some((8, Name::from("b"))));
    }

    #[test]
    fn the_highest_generation_is_followed_by_the_lowest() {
        let label = Label::default();
        label.write(7, "a".into(), GENERATIONS - 1);

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
