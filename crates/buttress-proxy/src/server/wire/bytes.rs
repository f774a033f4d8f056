//! Which bytes may stand where, and the search for the end of a line.

const ONES: u64 = u64::from_ne_bytes([1; 8]);
const HIGH: u64 = ONES << 7;

/// The first byte that is neither visible, nor a space, a tab or above ASCII: a line's end, or one that may not be there.
///
/// Eight bytes at a time: a byte below 0x20 borrows, and 0x7f carries, into its high bit. So may others above such a
/// byte, or above 0xff, but none below: what is found is looked at, and the search goes on behind it.
#[inline]
pub(super) fn control(bytes: &[u8], from: usize) -> Option<usize> {
    let mut rest = bytes.get(from..)?;
    // No early end, so that the compiler takes the sixteen in one step.
    while let Some((wide, after)) = rest.split_first_chunk::<16>()
        && !wide.iter().fold(false, |found, &byte| found | (byte < 0x20) | (byte == 0x7f))
    {
        rest = after;
    }
    while let Some((word, after)) = rest.split_first_chunk::<8>() {
        let bits = u64::from_le_bytes(*word);
        let hits = (bits.wrapping_sub(ONES * 0x20) | bits.wrapping_add(ONES)) & !bits & HIGH;
        if hits == 0 {
            rest = after;
            continue;
        }
        let at = hits.trailing_zeros() as usize / 8;
        if is_control(word[at]) {
            return Some(bytes.len() - rest.len() + at);
        }
        rest = &rest[at + 1..];
    }
    let at = rest.iter().position(|&byte| is_control(byte))?;
    Some(bytes.len() - rest.len() + at)
}

const fn is_control(byte: u8) -> bool {
    byte.is_ascii_control() && byte != b'\t'
}

/// How many of the first bytes may be part of a field name: [`token`], faster for the letters and dashes that names
/// are made of.
#[inline]
pub(super) fn name(bytes: &[u8]) -> usize {
    let mut rest = bytes;
    while let Some((word, after)) = rest.split_first_chunk::<8>() {
        let bits = u64::from_le_bytes(*word);
        let lower = (bits | (ONES * 0x20)) & !HIGH;
        let letters = lower.wrapping_add(ONES * 0x1f) & !lower.wrapping_add(ONES * 0x05);
        let dashes = !((bits ^ (ONES * 0x2d)) & !HIGH).wrapping_add(ONES * 0x7f);
        let others = (bits | !(letters | dashes)) & HIGH;
        if others == 0 {
            rest = after;
            continue;
        }
        rest = &rest[others.trailing_zeros() as usize / 8..];
        break;
    }
    bytes.len() - rest.len() + token(rest)
}

const TOKEN: u8 = 1;
const PATH: u8 = 2;
const QUERY: u8 = 4;
const HOST: u8 = 8;

static CLASSES: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut classes = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let it = byte as u8;
        if it.is_ascii_alphanumeric() {
            classes[byte] |= TOKEN | HOST;
        }
        // RFC 9110 §5.6.2.
        if matches!(
            it,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        ) {
            classes[byte] |= TOKEN;
        }
        // The unreserved ones of RFC 3986 §2.3.
        if matches!(it, b'-' | b'.' | b'_' | b'~') {
            classes[byte] |= HOST;
        }
        // What `http::Uri` takes: more than RFC 3986 does, as clients send it.
        if matches!(it, 0x21 | b'"' | 0x24..=0x3b | 0x3d | 0x40..=0x5f | 0x61..=0x7e | 0x80..) {
            classes[byte] |= PATH;
        }
        if matches!(it, 0x21 | 0x24..=0x3b | 0x3d | 0x3f..=0x7e | 0x80..) {
            classes[byte] |= QUERY;
        }
        byte += 1;
    }
    classes
}

const fn is(byte: u8, class: u8) -> bool {
    CLASSES[byte as usize] & class != 0
}

/// How many of the first bytes may be part of a token.
pub(super) fn token(bytes: &[u8]) -> usize {
    bytes.iter().position(|&byte| !is(byte, TOKEN)).unwrap_or(bytes.len())
}

/// How many of the first bytes may be part of a registered name. Percent signs and delimiters are not: no name that
/// can be looked up has them, and readers differ about them.
pub(super) fn host(bytes: &[u8]) -> usize {
    bytes.iter().position(|&byte| !is(byte, HOST)).unwrap_or(bytes.len())
}

/// How many of the first bytes may be part of a path with or without a query, as `http::Uri` understands it, without a
/// fragment. Those above ASCII have to be UTF-8 besides.
#[inline]
pub(super) fn path_and_query(bytes: &[u8]) -> usize {
    let path = bytes.iter().position(|&byte| !is(byte, PATH)).unwrap_or(bytes.len());
    match &bytes[path..] {
        [b'?', query @ ..] => {
            path + 1 + query.iter().position(|&byte| !is(byte, QUERY)).unwrap_or(query.len())
        }
        _ => path,
    }
}

/// Without the spaces and tabs around it.
#[inline]
pub(super) fn trimmed(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = value {
        value = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Bytes at the edges of what the searches look for, and any others.
    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        let edges = b"\0\t\n\r\x1f !,-./09:@AZ[`az{~\x7f\x80\xff".to_vec();
        let byte = prop_oneof![8 => Just(b'x'), 3 => prop::sample::select(edges), 1 => any::<u8>()];
        prop::collection::vec(byte, 0..70)
    }

    proptest! {
        #[test]
        fn the_wide_searches_find_what_a_look_at_each_byte_finds(bytes in bytes(), from in 0..70_usize) {
            let first = bytes.iter().skip(from).position(|&byte| is_control(byte)).map(|at| from + at);
            prop_assert_eq!(control(&bytes, from), first);
            prop_assert_eq!(name(&bytes), token(&bytes));
        }
    }

    #[test]
    fn each_byte_is_told_wherever_it_stands() {
        for byte in 0..=0xff {
            for at in 0..40 {
                let mut bytes = [b'x'; 40];
                bytes[at] = byte;
                assert_eq!(control(&bytes, 0), is_control(byte).then_some(at), "{byte:#x} at {at}");
                assert_eq!(name(&bytes), token(&bytes), "{byte:#x} at {at}");
            }
        }
    }
}
