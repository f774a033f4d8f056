use http::header::{CONTENT_LENGTH, HeaderMap, HeaderValue};

use crate::error::Unusable;

/// Leaves one `Content-Length` where there are several that say the same.
///
/// Equal repetitions (`5, 5`, or two lines) become one, so that no recipient further on can read them in another way.
///
/// # Errors
///
/// Where they contradict each other or are no number, and where a `Transfer-Encoding` frames the message: whoever wrote
/// that means something else by the bytes that follow than we can know (RFC 9112 §6.3).
pub(crate) fn settle_content_length(fields: &mut HeaderMap, transfer_encoding: bool) -> Result<(), Unusable> {
    if transfer_encoding {
        return Err(Unusable::LengthAndCoding);
    }
    let mut lines = fields.get_all(CONTENT_LENGTH).iter();
    let Some(first) = lines.next() else { return Ok(()) };
    if lines.next().is_none() && is_number(first.as_bytes()) {
        return Ok(());
    }
    let length = agreed(fields).ok_or(Unusable::Lengths)?;
    fields.insert(CONTENT_LENGTH, length);
    Ok(())
}

fn agreed(fields: &HeaderMap) -> Option<HeaderValue> {
    let mut all = fields
        .get_all(CONTENT_LENGTH)
        .iter()
        .flat_map(|line| line.as_bytes().split(|&byte| byte == b','))
        .map(<[u8]>::trim_ascii);
    let first = all.next()?;
    if is_number(first) && all.all(|other| other == first) {
        HeaderValue::from_bytes(first).ok()
    } else {
        None
    }
}

fn is_number(text: &[u8]) -> bool {
    !text.is_empty() && text.len() <= 19 && text.iter().all(u8::is_ascii_digit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settled(lines: &[&'static str]) -> Result<Vec<HeaderValue>, Unusable> {
        let mut fields = HeaderMap::new();
        for line in lines {
            fields.append(CONTENT_LENGTH, HeaderValue::from_static(line));
        }
        settle_content_length(&mut fields, false)?;
        Ok(fields.get_all(CONTENT_LENGTH).iter().cloned().collect())
    }

    #[test]
    fn one_length_stays_and_equal_ones_become_one() {
        for lines in [&["5"][..], &["5", "5"], &["5, 5"]] {
            assert_eq!(settled(lines), Ok(vec![HeaderValue::from_static("5")]));
        }
        assert_eq!(settled(&[]), Ok(vec![]));
    }

    #[test]
    fn contradictions_nonsense_and_a_length_beside_a_coding_are_refused() {
        for lines in [&["5", "6"][..], &["5, 6"], &["+5"], &["5,"], &[""], &["99999999999999999999"]] {
            assert_eq!(settled(lines), Err(Unusable::Lengths), "{lines:?}");
        }
        assert_eq!(settle_content_length(&mut HeaderMap::new(), true), Err(Unusable::LengthAndCoding));
    }
}
