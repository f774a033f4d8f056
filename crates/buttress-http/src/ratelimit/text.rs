//! Values of fields, written by hand: they stand on every answer.

use bytes::Bytes;
use http::HeaderValue;

/// The greatest number that structured fields can carry: 15 digits.
const MOST: u64 = 999_999_999_999_999;

/// How much text is written without asking for memory first: what is left of half a dozen limits.
const ROOM: usize = 128;

/// Makes a value of what `write` writes, from its end to its beginning, in one allocation.
#[inline]
pub(super) fn value(write: impl Fn(&mut Pen<'_>)) -> HeaderValue {
    let mut page = [0; ROOM];
    let mut pen = Pen::new(&mut page);
    write(&mut pen);
    let length = pen.length;
    let value = match ROOM.checked_sub(length).and_then(|start| page.get(start..)) {
        Some(text) => HeaderValue::from_bytes(text),
        // Only now it is known how much it takes.
        None => {
            let mut text = vec![0; length];
            write(&mut Pen::new(&mut text));
            HeaderValue::from_maybe_shared(Bytes::from(text))
        }
    };
    value.expect("printable ASCII is a value")
}

/// Three numbers as values, which share one allocation.
pub(super) fn numbers(numbers: [u64; 3]) -> [HeaderValue; 3] {
    struct Page([u8; PAGE]);
    impl AsRef<[u8]> for Page {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }
    const PAGE: usize = 3 * 15;

    let mut page = Page([0; PAGE]);
    let mut pen = Pen::new(&mut page.0);
    let places = numbers.map(|number| {
        let end = PAGE - pen.length;
        pen.number(number);
        PAGE - pen.length..end
    });
    let text = Bytes::from_owner(page);
    places.map(|place| HeaderValue::from_maybe_shared(text.slice(place)).expect("digits are a value"))
}

/// Writes printable ASCII from the end to the beginning, as numbers come. What does not fit on the page is counted, not
/// written.
pub(super) struct Pen<'a> {
    page: &'a mut [u8],
    length: usize,
}

impl<'a> Pen<'a> {
    const fn new(page: &'a mut [u8]) -> Self {
        Self { page, length: 0 }
    }

    /// The room for so many bytes before those that are there.
    #[inline]
    fn room(&mut self, bytes: usize) -> Option<&mut [u8]> {
        self.length += bytes;
        let start = self.page.len().checked_sub(self.length)?;
        self.page.get_mut(start..start + bytes)
    }

    /// Writes `text`, which is printable ASCII.
    #[inline]
    pub(super) fn text(&mut self, text: &[u8]) {
        if let Some(room) = self.room(text.len()) {
            room.copy_from_slice(text);
        }
    }

    /// Writes the number, or the greatest there is.
    #[inline]
    pub(super) fn number(&mut self, number: u64) {
        let mut digits = [0; 16];
        let (mut start, mut rest) = (digits.len(), number.min(MOST));
        for pair in digits.as_chunks_mut::<2>().0.iter_mut().rev() {
            *pair = [b'0' + (rest % 100 / 10) as u8, b'0' + (rest % 10) as u8];
            start -= 2;
            rest /= 100;
            if rest == 0 {
                start += usize::from(pair[0] == b'0');
                break;
            }
        }
        self.text(&digits[start..]);
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
