use super::field::{may_be_trailer, split};
use super::line::Lines;
use super::{Limits, Violation};

/// The most bytes of chunk extensions in a body: as hyper, which fails at this many without saying why to the client.
const EXTENSION_BYTES: usize = 16 * 1024;
/// Sixteen hexadecimal digits are 64 bits.
const SIZE_DIGITS: u8 = 16;

/// Where in a chunked body the next byte is (RFC 9112 §7.1).
///
/// ```text
/// Size -- CR --> SizeLf -- LF --> Data --> DataCr --> DataLf --> Size
///   |              ^         \-- size 0 --> the trailer section
///   SP, TAB, ;     |
///   v              CR
/// Space -- ; --> Extension
/// ```
#[derive(Clone, Copy, Debug)]
enum At {
    Size { digits: u8 },
    Space,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
}

/// A chunked body up to its trailer section.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chunks {
    at: At,
    /// What has been read of a size, then what is left of a chunk.
    size: u64,
    extensions: usize,
}

impl Chunks {
    pub(super) const fn new() -> Self {
        Self { at: At::Size { digits: 0 }, size: 0, extensions: 0 }
    }

    /// Reads on, and says how many bytes were right, and whether the last chunk has ended with them.
    pub(super) fn read(&mut self, bytes: &[u8]) -> (usize, Result<bool, Violation>) {
        let mut read = 0;
        while let Some(&byte) = bytes.get(read) {
            if let At::Data = self.at {
                let there = (bytes.len() - read) as u64;
                let taken = there.min(self.size);
                self.size -= taken;
                // Not more than the length of a slice.
                read += taken as usize;
                if self.size == 0 {
                    self.at = At::DataCr;
                }
                continue;
            }
            match self.step(byte) {
                Ok(false) => read += 1,
                Ok(true) => return (read + 1, Ok(true)),
                Err(violation) => return (read, Err(violation)),
            }
        }
        (read, Ok(false))
    }

    fn step(&mut self, byte: u8) -> Result<bool, Violation> {
        self.at = match (self.at, byte) {
            (At::Size { digits }, _) if byte.is_ascii_hexdigit() => {
                let digit = char::from(byte).to_digit(16).map_or(0, u64::from);
                self.size = (self.size << 4) | digit;
                if digits == SIZE_DIGITS || i64::try_from(self.size).is_err() {
                    return Err(Violation::ChunkSize);
                }
                At::Size { digits: digits + 1 }
            }
            (At::Size { digits: 0 }, _) => return Err(Violation::ChunkSize),
            (At::Size { .. } | At::Extension, b'\r') => At::SizeLf,
            (At::Size { .. } | At::Space, b';') => At::Extension,
            // White space before an extension is to be read, and nowhere to be sent (RFC 9112 §7.1.1).
            (At::Size { .. } | At::Space, b' ' | b'\t') => self.extension(At::Space)?,
            (At::Size { .. } | At::Space, _) => return Err(Violation::ChunkSize),
            (At::Extension, 0) => return Err(Violation::Nul),
            (At::Extension, b'\n') => return Err(Violation::BareLf),
            (At::Extension, _) if byte.is_ascii_control() && byte != b'\t' => {
                return Err(Violation::ChunkExtension);
            }
            (At::Extension, _) => self.extension(At::Extension)?,
            (At::SizeLf, b'\n') if self.size == 0 => return Ok(true),
            (At::SizeLf, b'\n') => At::Data,
            (At::SizeLf, _) => return Err(Violation::BareCr),
            (At::DataCr, b'\r') => At::DataLf,
            (At::DataLf, b'\n') => At::Size { digits: 0 },
            (At::Data | At::DataCr | At::DataLf, _) => return Err(Violation::ChunkEnd),
        };
        Ok(false)
    }

    fn extension(&mut self, at: At) -> Result<At, Violation> {
        self.extensions += 1;
        if self.extensions < EXTENSION_BYTES { Ok(at) } else { Err(Violation::ChunkExtension) }
    }
}

/// What is known of a trailer section of which a part has come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Trailers {
    lines: Lines,
    fields: usize,
}

impl Trailers {
    pub(super) const fn new() -> Self {
        Self { lines: Lines::new(), fields: 0 }
    }

    /// How many bytes it takes; `None` where its end has not come. `bytes` begin where it does, at every call.
    pub(super) fn look(&mut self, bytes: &[u8], limits: &Limits) -> Result<Option<usize>, Violation> {
        let bytes = &bytes[..bytes.len().min(limits.trailer_bytes)];
        loop {
            match self.lines.next(bytes)? {
                None if bytes.len() < limits.trailer_bytes => return Ok(None),
                None => return Err(Violation::TrailersTooLarge),
                Some([]) => return Ok(Some(self.lines.end())),
                Some(line) => {
                    self.fields += 1;
                    if self.fields > limits.fields {
                        return Err(Violation::TooManyFields);
                    }
                    if !may_be_trailer(split(line)?.0) {
                        return Err(Violation::TrailerForbidden);
                    }
                }
            }
        }
    }
}
