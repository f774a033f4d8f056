/// What chose the side of a request, as [`SplitEvent::Chose`](crate::SplitEvent::Chose) says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Chosen {
    /// The hash of its key.
    Key,
    /// Chance, since it has no key.
    Chance,
    /// It has no key, and such ones go to the first side of a weight.
    First,
    /// The override.
    Override,
}

impl Chosen {
    pub(crate) const ALL: [Self; 4] = [Self::Key, Self::Chance, Self::First, Self::Override];
}
