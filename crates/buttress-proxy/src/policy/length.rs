use http::header::{CONTENT_LENGTH, HeaderMap, HeaderValue};

/// Leaves at most one `Content-Length`, and none beside a `Transfer-Encoding`.
///
/// Equal repetitions (`5, 5`, or two lines) become one, so that no recipient further on can read them in another way;
/// what contradicts itself or is no number is removed, and the body frames itself (RFC 9112 §6.3).
pub(crate) fn settle_content_length(fields: &mut HeaderMap, transfer_encoding: bool) {
    let mut lines = fields.get_all(CONTENT_LENGTH).iter();
    let Some(first) = lines.next() else { return };
    let single = lines.next().is_none();
    if single && !transfer_encoding && is_number(first.as_bytes()) {
        return;
    }
    let agreed = if transfer_encoding { None } else { agreed(fields) };
    match agreed {
        Some(length) => drop(fields.insert(CONTENT_LENGTH, length)),
        None => drop(fields.remove(CONTENT_LENGTH)),
    }
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

    fn settled(lines: &[&'static str], transfer_encoding: bool) -> Vec<HeaderValue> {
        let mut fields = HeaderMap::new();
        for line in lines {
            fields.append(CONTENT_LENGTH, HeaderValue::from_static(line));
        }
        settle_content_length(&mut fields, transfer_encoding);
        fields.get_all(CONTENT_LENGTH).iter().cloned().collect()
    }

    #[test]
    fn one_length_stays_and_equal_ones_become_one() {
        assert_eq!(settled(&["5"], false), ["5"]);
        assert_eq!(settled(&["5", "5"], false), ["5"]);
        assert_eq!(settled(&["5, 5"], false), ["5"]);
        assert_eq!(settled(&[], false), [""; 0]);
    }

    #[test]
    fn contradictions_nonsense_and_a_length_beside_chunked_go() {
        assert_eq!(settled(&["5", "6"], false), [""; 0]);
        assert_eq!(settled(&["+5"], false), [""; 0]);
        assert_eq!(settled(&["99999999999999999999"], false), [""; 0]);
        assert_eq!(settled(&["5"], true), [""; 0]);
    }
}
