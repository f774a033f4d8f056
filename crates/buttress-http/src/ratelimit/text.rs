//! Values of fields, written by hand: they stand on every answer.

use std::mem;

use bytes::Bytes;
use http::HeaderValue;

/// The greatest number that structured fields can carry: 15 digits.
const MOST: u64 = 999_999_999_999_999;

/// The size of a page: what is left of half a dozen limits.
const ROOM: usize = 128;

/// Makes a value of what `write` writes, from its end to its beginning, in one allocation.
#[inline]
pub(super) fn value(write: impl Fn(&mut Pen<'_>)) -> HeaderValue {
    let mut page = [0; ROOM];
    match written(&mut page, &write) {
        Some(value) => value,
        None => long_value(write),
    }
}

/// The same for what does not fit on a page of the usual size.
#[cold]
fn long_value(write: impl Fn(&mut Pen<'_>)) -> HeaderValue {
    let mut page = vec![0; 2 * ROOM];
    loop {
        if let Some(value) = written(&mut page, &write) {
            return value;
        }
        page.resize(2 * page.len(), 0);
    }
}

#[inline]
fn written(page: &mut [u8], write: &impl Fn(&mut Pen<'_>)) -> Option<HeaderValue> {
    let mut pen = Pen::new(page);
    write(&mut pen);
    if pen.full {
        return None;
    }
    let start = pen.room.len();
    Some(HeaderValue::from_bytes(&page[start..]).expect("printable ASCII is a value"))
}

/// Three numbers as values, which share one allocation.
pub(super) fn numbers(numbers: [u64; 3]) -> [HeaderValue; 3] {
    struct Page([u8; 3 * 15]);
    impl AsRef<[u8]> for Page {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }

    let mut page = Page([0; 45]);
    let mut pen = Pen::new(&mut page.0);
    let places = numbers.map(|number| {
        let end = pen.room.len();
        pen.number(number);
        pen.room.len()..end
    });
    let text = Bytes::from_owner(page);
    places.map(|place| HeaderValue::from_maybe_shared(text.slice(place)).expect("digits are a value"))
}

/// Writes printable ASCII from the end to the beginning, since that is how the digits of a number come.
pub(super) struct Pen<'a> {
    room: &'a mut [u8],
    /// There was no room for something.
    full: bool,
}

impl<'a> Pen<'a> {
    const fn new(page: &'a mut [u8]) -> Self {
        Self { room: page, full: false }
    }

    /// Writes `text`, which is printable ASCII.
    #[inline]
    pub(super) fn text(&mut self, text: &[u8]) {
        let Some(start) = self.room.len().checked_sub(text.len()) else {
            self.full = true;
            return;
        };
        let (room, place) = mem::take(&mut self.room).split_at_mut(start);
        place.copy_from_slice(text);
        self.room = room;
    }

    /// Writes the number, or the greatest there is.
    #[inline]
    pub(super) fn number(&mut self, number: u64) {
        let mut rest = number.min(MOST);
        while rest >= 10 {
            self.text(&PAIRS[(rest % 100) as usize]);
            rest /= 100;
            if rest == 0 {
                return;
            }
        }
        self.text(&[b'0' + rest as u8]);
    }
}

/// The numbers below 100, in two digits.
const PAIRS: [[u8; 2]; 100] = {
    let mut pairs = [[0; 2]; 100];
    let mut number = 0;
    while number < 100 {
        pairs[number] = [b'0' + number as u8 / 10, b'0' + number as u8 % 10];
        number += 1;
    }
    pairs
};

/// A structured string (RFC 9651, section 3.3.3). It is printable ASCII: any other character becomes `?`.
pub(super) fn quoted(string: &str) -> Box<[u8]> {
    let mut text = Vec::with_capacity(string.len() + 2);
    text.push(b'"');
    for char in string.chars() {
        match char {
            '"' | '\\' => text.extend([b'\\', char as u8]),
            ' '..='~' => text.push(char as u8),
            _ => text.push(b'?'),
        }
    }
    text.push(b'"');
    text.into()
}
