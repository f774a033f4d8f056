//! Values of fields, written by hand: they stand on every answer.

use bytes::Bytes;
use http::HeaderValue;

/// The greatest number that structured fields can carry: 15 digits.
const MOST: u64 = 999_999_999_999_999;

/// How much text is written without asking for memory first: what is left of half a dozen limits.
const ROOM: usize = 128;

/// Makes a value of what `write` writes, in one allocation.
#[inline]
pub(super) fn value(write: impl Fn(&mut Pen<'_>)) -> HeaderValue {
    let mut page = [0; ROOM];
    let mut pen = Pen::new(&mut page);
    write(&mut pen);
    let end = pen.at;
    let value = match page.get(..end) {
        Some(text) => HeaderValue::from_bytes(text),
        // Only now it is known how much it takes.
        None => {
            let mut text = vec![0; end];
            write(&mut Pen::new(&mut text));
            HeaderValue::from_maybe_shared(Bytes::from(text))
        }
    };
    value.expect("printable ASCII is a value")
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
        let start = pen.at;
        pen.number(number);
        start..pen.at
    });
    let text = Bytes::from_owner(page);
    places.map(|place| HeaderValue::from_maybe_shared(text.slice(place)).expect("digits are a value"))
}

/// Writes printable ASCII. What does not fit on the page is counted, not written.
pub(super) struct Pen<'a> {
    page: &'a mut [u8],
    at: usize,
}

impl<'a> Pen<'a> {
    const fn new(page: &'a mut [u8]) -> Self {
        Self { page, at: 0 }
    }

    /// Writes `text`, which is printable ASCII.
    #[inline]
    pub(super) fn text(&mut self, text: &[u8]) {
        let end = self.at + text.len();
        if let Some(room) = self.page.get_mut(self.at..end) {
            room.copy_from_slice(text);
        }
        self.at = end;
    }

    /// Writes the number, or the greatest there is.
    #[inline]
    pub(super) fn number(&mut self, number: u64) {
        let mut rest = number.min(MOST);
        // Most are small, so counting their digits is quicker than a logarithm.
        let (mut end, mut power) = (self.at + 1, 10);
        while rest >= power {
            end += 1;
            power *= 10;
        }
        if let Some(room) = self.page.get_mut(self.at..end) {
            for digit in room.iter_mut().rev() {
                *digit = b'0' + (rest % 10) as u8;
                rest /= 10;
            }
        }
        self.at = end;
    }
}

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
