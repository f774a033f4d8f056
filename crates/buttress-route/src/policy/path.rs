//! One path, one meaning.

/// What makes `path` one that not every server reads alike, in words; `None` for most paths.
///
/// A segment `.` or `..` (also `%2e`, and `..;x`, which some servers cut down to `..`), an empty segment `//`, an encoded
/// slash `%2f` and a backslash (also `%5c`) are read in two ways: where the service behind makes another path of them, a
/// request passes the stack of one route and reaches another. A [`Router`](crate::Router) refuses them with 400 unless it is
/// told to take them.
///
/// ```
/// assert_eq!(buttress_route::ambiguity("/files/a.txt"), None);
/// assert_eq!(buttress_route::ambiguity("/files/%2e%2E/etc"), Some("a segment of dots"));
/// ```
#[must_use]
pub fn ambiguity(path: &str) -> Option<&'static str> {
    let mut before = 0;
    // No early return, and a look at two bytes at most: most paths are clean, and this is all that they cost.
    let mut doubtful = false;
    for &byte in path.as_bytes() {
        doubtful |= byte == b'%' || byte == b'\\' || (before == b'/' && (byte == b'/' || byte == b'.'));
        before = byte;
    }
    if doubtful || path.starts_with('.') { which(path) } else { None }
}

#[cold]
fn which(path: &str) -> Option<&'static str> {
    let slashes = |bytes: &mut dyn Iterator<Item = u8>| bytes.filter(|&byte| byte == b'/').count();
    if path.split('/').any(is_dots) {
        Some("a segment of dots")
    } else if path.contains("//") {
        Some("an empty segment")
    } else if slashes(&mut decoded(path.as_bytes())) != slashes(&mut path.bytes()) {
        Some("an encoded slash")
    } else if decoded(path.as_bytes()).any(|byte| byte == b'\\') {
        Some("a backslash")
    } else {
        None
    }
}

/// `.` and `..` in every spelling, with parameters too.
fn is_dots(segment: &str) -> bool {
    let mut dots = 0;
    for byte in decoded(segment.as_bytes()) {
        match byte {
            b'.' => dots += 1,
            b';' => break,
            _ => return false,
        }
    }
    (1..=2).contains(&dots)
}

/// The bytes of `text`, with what is percent-encoded decoded, once. A `%` that encodes nothing stands for itself.
pub(crate) fn decoded(text: &[u8]) -> impl Iterator<Item = u8> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (&byte, after) = rest.split_first()?;
        if let (b'%', [high, low, after @ ..]) = (byte, after)
            && let (Some(high), Some(low)) = (hex(*high), hex(*low))
        {
            rest = after;
            return Some(high * 16 + low);
        }
        rest = after;
        Some(byte)
    })
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|digit| digit.try_into().ok())
}
