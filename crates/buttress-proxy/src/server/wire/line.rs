use super::Violation;
use super::bytes::{control, name};

/// How far the lines of a head or a trailer section have been read: where the present one begins, and how much of it
/// has been looked at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lines {
    line: usize,
    looked: usize,
    last: usize,
}

impl Lines {
    pub(super) const fn new() -> Self {
        Self { line: 0, looked: 0, last: 0 }
    }

    /// The next line, without its CRLF; `None` where its end has not come.
    ///
    /// `bytes` begin where the section does, at every call.
    #[inline]
    pub(super) fn next<'a>(&mut self, bytes: &'a [u8]) -> Result<Option<&'a [u8]>, Violation> {
        let Some(at) = control(bytes, self.looked) else {
            self.looked = bytes.len();
            return Ok(None);
        };
        self.looked = at;
        self.last = self.line;
        match (bytes[at], bytes.get(at + 1)) {
            (b'\r', Some(b'\n')) => {
                let line = &bytes[self.line..at];
                self.skip_to(at + 2);
                Ok(Some(line))
            }
            (b'\r', None) => Ok(None),
            (b'\r', Some(_)) => Err(Violation::BareCr),
            (b'\n', _) => Err(Violation::BareLf),
            (0, _) => Err(Violation::Nul),
            _ => Err(Violation::ControlByte),
        }
    }

    /// Whether nothing has been looked at.
    pub(super) const fn is_untouched(&self) -> bool {
        self.looked == 0
    }

    /// Goes on with the line that begins at `next`.
    pub(super) const fn skip_to(&mut self, next: usize) {
        self.last = self.line;
        self.line = next;
        self.looked = next;
    }

    /// The name and the value of the next line, where it is all there at the first look and nothing is wrong with it: so
    /// are nearly all. Else [`next`](Self::next) tells what it is.
    #[inline]
    pub(super) fn field<'a>(&mut self, bytes: &'a [u8]) -> Option<(&'a [u8], &'a [u8])> {
        if self.looked != self.line {
            return None;
        }
        let line = bytes.get(self.line..)?;
        let colon = name(line);
        if colon == 0 || *line.get(colon)? != b':' {
            return None;
        }
        let end = control(line, colon + 1)?;
        if line[end..].first_chunk() != Some(b"\r\n") {
            return None;
        }
        self.skip_to(self.line + end + 2);
        Some((&line[..colon], &line[colon + 1..end]))
    }

    /// Where the next line begins: behind those that were handed out.
    pub(super) const fn end(&self) -> usize {
        self.line
    }

    /// Where the line begins that was handed out last, or could not be.
    pub(super) const fn last(&self) -> usize {
        self.last
    }
}
