//! What outlives a configuration.

use std::{collections::HashMap, mem};

/// Values with state of their own, by name. One whose settings stay the same from one configuration to the next stays itself.
#[derive(Debug)]
pub(crate) struct Kept<K, V> {
    present: HashMap<String, (K, V)>,
    next: HashMap<String, (K, V)>,
}

impl<K: PartialEq, V: Clone> Kept<K, V> {
    pub(crate) fn new() -> Self {
        Self { present: HashMap::new(), next: HashMap::new() }
    }

    /// The value of this name for the next configuration: the present one if it has these settings, else what `make` makes.
    pub(crate) fn keep(&mut self, name: &str, settings: K, make: impl FnOnce() -> V) -> V {
        let value = match self.present.remove(name) {
            Some((same, value)) if same == settings => value,
            _ => make(),
        };
        self.next.insert(name.to_owned(), (settings, value.clone()));
        value
    }

    /// Drops what the next configuration has not asked for; that is the present one now.
    pub(crate) fn turn(&mut self) {
        self.present = mem::take(&mut self.next);
    }
}
