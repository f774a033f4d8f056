//! Values of fields, written by hand into one allocation.

use bytes::Bytes;
use http::HeaderValue;

/// The greatest number that structured fields can carry: 15 digits.
const MOST: u64 = 999_999_999_999_999;

/// How much text fits beside its count of references: two fields of half a dozen limits.
const ROOM: usize = 256;

struct Page {
    text: [u8; ROOM],
    end: usize,
}

impl AsRef<[u8]> for Page {
    fn as_ref(&self) -> &[u8] {
        &self.text[..self.end]
    }
}

/// Writes `N` values; `write` gives where each of them ends.
///
/// They share one allocation, or two where the text is long.
pub(super) fn values<const N: usize>(write: impl Fn(&mut Pen<'_>) -> [usize; N]) -> [HeaderValue; N] {
    let mut page = Page { text: [0; ROOM], end: 0 };
    let mut pen = Pen { page: &mut page.text, at: 0 };
    let ends = write(&mut pen);
    let text = match pen.at {
        end if end <= ROOM => {
            page.end = end;
            Bytes::from_owner(page)
        }
        // Only now it is known how much it takes.
        end => {
            let mut text = vec![0; end];
            write(&mut Pen { page: &mut text, at: 0 });
            Bytes::from(text)
        }
    };
    let mut start = 0;
    ends.map(|end| {
        let value = text.slice(start..end);
        start = end;
        HeaderValue::from_maybe_shared(value).expect("printable ASCII is a value")
    })
}

/// Writes printable ASCII. What does not fit on the page is counted, not written.
pub(super) struct Pen<'a> {
    page: &'a mut [u8],
    at: usize,
}

impl Pen<'_> {
    /// How much has been written.
    pub(super) const fn at(&self) -> usize {
        self.at
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
    pub(super) fn number(&mut self, number: u64) {
        let mut rest = number.min(MOST);
        let mut digits = [b'0'; 15];
        let mut start = digits.len();
        loop {
            start -= 1;
            digits[start] += (rest % 10) as u8;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        self.text(&digits[start..]);
    }

    /// Writes a structured string (RFC 9651, section 3.3.3). It is printable ASCII: any other character becomes `?`.
    pub(super) fn string(&mut self, string: &str) {
        let plain = |byte: u8| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\';
        self.text(b"\"");
        if string.bytes().all(plain) {
            self.text(string.as_bytes());
        } else {
            for char in string.chars() {
                match char {
                    '"' => self.text(b"\\\""),
                    '\\' => self.text(b"\\\\"),
                    ' '..='~' => self.text(&[char as u8]),
                    _ => self.text(b"?"),
                }
            }
        }
        self.text(b"\"");
    }
}
