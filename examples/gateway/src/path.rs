//! One path, one meaning.
//!
//! Routes are picked by the path, and the path goes to the upstream as it came. Where an upstream makes another path of it
//! (resolves `..`, merges slashes, decodes `%2f`), the request would pass the limits of one route and reach another.
//! So a path that can be read in two ways is refused, and the rest is matched as it reads decoded.

/// What makes `path` ambiguous, in words.
pub(crate) fn ambiguity(path: &str) -> Option<&'static str> {
    let slashes = |bytes: &mut dyn Iterator<Item = u8>| bytes.filter(|&byte| byte == b'/').count();
    if path.split('/').any(is_dots) {
        Some("a segment of dots")
    } else if path.contains("//") {
        Some("an empty segment")
    } else if slashes(&mut decoded(path)) != slashes(&mut path.bytes()) {
        Some("an encoded slash")
    } else if decoded(path).any(|byte| byte == b'\\') {
        Some("a backslash")
    } else {
        None
    }
}

/// `.` and `..` in every spelling, with parameters too: some servers cut `..;x` down to `..`.
fn is_dots(segment: &str) -> bool {
    let mut dots = 0;
    for byte in decoded(segment) {
        match byte {
            b'.' => dots += 1,
            b';' => break,
            _ => return false,
        }
    }
    (1..=2).contains(&dots)
}

/// The bytes of `path`, with what is percent-encoded decoded, once. A `%` that encodes nothing stands for itself.
pub(crate) fn decoded(path: &str) -> impl Iterator<Item = u8> {
    let mut rest = path.as_bytes();
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
