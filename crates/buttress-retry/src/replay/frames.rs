use std::collections::VecDeque;

use bytes::Bytes;

/// The frames of a body, in order. The first one has its place here: most bodies that are kept have one alone, and then
/// there is no list.
#[derive(Default)]
pub(crate) struct Frames {
    first: Option<Bytes>,
    more: VecDeque<Bytes>,
}

impl Frames {
    pub(crate) fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.more.len()
    }

    pub(crate) fn get(&self, at: usize) -> Option<&Bytes> {
        match (&self.first, at) {
            (None, at) => self.more.get(at),
            (first, 0) => first.as_ref(),
            (_, at) => self.more.get(at - 1),
        }
    }

    pub(crate) fn push(&mut self, data: Bytes) {
        if self.len() == 0 {
            self.first = Some(data);
        } else {
            self.more.push_back(data);
        }
    }

    /// Takes the first one out.
    pub(crate) fn pop(&mut self) -> Option<Bytes> {
        self.first.take().or_else(|| self.more.pop_front())
    }

    /// Takes the first so many out.
    pub(crate) fn pop_many(&mut self, number: usize) -> Self {
        let mut popped = Self::default();
        (0..number).map_while(|_| self.pop()).for_each(|data| popped.push(data));
        popped
    }

    /// How many bytes they have together.
    pub(crate) fn bytes(&self) -> usize {
        self.first.iter().chain(&self.more).map(Bytes::len).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_come_out_as_they_went_in() {
        let names = ["a", "bc", "def", "ghij"];
        for popped in 0..=names.len() {
            let mut frames = Frames::default();
            names.iter().for_each(|name| frames.push(Bytes::from(*name)));
            assert_eq!((frames.len(), frames.bytes()), (4, 10));

            let mut read = frames.pop_many(popped);

            assert_eq!((read.len(), frames.len()), (popped, 4 - popped));
            frames.push(Bytes::from("k"));
            let rest: Vec<_> = (0..).map_while(|at| frames.get(at).cloned()).collect();
            assert_eq!(rest, [&names[popped..], &["k"]].concat());
            let out: Vec<_> = std::iter::from_fn(|| read.pop()).collect();
            assert_eq!(out, names[..popped]);
        }
    }
}
