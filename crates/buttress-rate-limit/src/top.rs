//! Which keys are refused most: a sketch of bounded size.
//!
//! *SpaceSaving* (Metwally, Agrawal and El Abbadi 2005): a key that is not among the counted ones takes the place of
//! the one with the least count, and that count as its own. Counts are so never too low; one is too high by `over` at
//! most. Whoever is refused more often than every `n`th time is among the `n`.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use buttress_core::{HashSink, Key, KeySink};

/// How much of a key is kept.
const LONGEST: usize = 64;

/// One of the keys that are refused most.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopKey {
    /// The key for people to read: text as it is, four and sixteen bytes as an address, other widths as a number,
    /// with `/` between. It ends after 64 bytes. Empty where calls have no key.
    pub key: String,
    /// How often it was refused. Never too low.
    pub refused: u64,
    /// By how much the count may be too high.
    pub over: u64,
}

pub(crate) struct Top(Mutex<Vec<Entry>>, usize);

struct Entry {
    hash: u64,
    count: u64,
    over: u64,
    key: Text,
}

impl Top {
    pub(crate) fn new(keys: usize) -> Self {
        Self(Mutex::new(Vec::with_capacity(keys)), keys)
    }

    /// An empty one of the same size.
    pub(crate) fn fresh(&self) -> Self {
        Self::new(self.1)
    }

    /// Counts a refusal. Writes the key once for its hash, and once more where it is new here.
    pub(crate) fn count<Req>(&self, key: &impl Key<Req>, req: &Req) {
        let mut hash = HashSink::new();
        // User code: before the lock.
        let keyed = key.key(req, &mut hash);
        let hash = if keyed { hash.finish() } else { 0 };
        {
            let mut entries = self.lock();
            if let Some(entry) = entries.iter_mut().find(|entry| entry.hash == hash) {
                entry.count += 1;
                return;
            }
        }

        let mut text = Text::default();
        if keyed {
            key.key(req, &mut text);
        }
        let mut entries = self.lock();
        // Another thread may have been quicker.
        if let Some(entry) = entries.iter_mut().find(|entry| entry.hash == hash) {
            entry.count += 1;
        } else if entries.len() < self.1 {
            entries.push(Entry { hash, count: 1, over: 0, key: text });
        } else if let Some(least) = entries.iter_mut().min_by_key(|entry| entry.count) {
            *least = Entry { hash, count: least.count + 1, over: least.count, key: text };
        }
    }

    /// The keys, the one refused most first.
    pub(crate) fn list(&self) -> Vec<TopKey> {
        let mut keys: Vec<_> = self
            .lock()
            .iter()
            .map(|entry| TopKey { key: entry.key.to_string(), refused: entry.count, over: entry.over })
            .collect();
        keys.sort_by_key(|key| std::cmp::Reverse(key.refused));
        keys
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Top {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Top").field(&self.1).finish()
    }
}

/// A key as people read it, cut off where it gets long.
struct Text {
    bytes: [u8; LONGEST],
    length: usize,
    parts: usize,
}

impl Default for Text {
    fn default() -> Self {
        Self { bytes: [0; LONGEST], length: 0, parts: 0 }
    }
}

impl Text {
    fn part(&mut self) {
        if self.parts > 0 {
            self.push(b"/");
        }
        self.parts += 1;
    }

    fn push(&mut self, bytes: &[u8]) {
        let room = &mut self.bytes[self.length..];
        let taken = bytes.len().min(room.len());
        room[..taken].copy_from_slice(&bytes[..taken]);
        self.length += taken;
    }
}

impl fmt::Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.push(text.as_bytes());
        Ok(())
    }
}

impl KeySink for Text {
    fn bytes(&mut self, part: &[u8]) {
        self.part();
        self.push(part);
    }

    fn fixed<const N: usize>(&mut self, part: [u8; N]) {
        use std::fmt::Write;
        use std::net::{Ipv4Addr, Ipv6Addr};

        self.part();
        let bytes = part.as_slice();
        // Writing into an array does not fail.
        let _ = if let Ok(octets) = <[u8; 4]>::try_from(bytes) {
            write!(self, "{}", Ipv4Addr::from(octets))
        } else if let Ok(octets) = <[u8; 16]>::try_from(bytes) {
            write!(self, "{}", Ipv6Addr::from(octets))
        } else {
            let number = bytes.iter().fold(0, |number: u128, byte| number << 8 | u128::from(*byte));
            write!(self, "{number}")
        };
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.bytes[..self.length]))
    }
}
