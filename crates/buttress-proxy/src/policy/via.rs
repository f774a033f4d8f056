use http::Version;
use http::header::{HeaderMap, HeaderValue, VIA};

/// The `Via` that says who received a message, and in which version of HTTP (RFC 9110 §7.6.3).
#[derive(Clone, Debug)]
pub(crate) struct Via {
    name: Box<str>,
    http_10: HeaderValue,
    http_11: HeaderValue,
    http_2: HeaderValue,
}

impl Via {
    /// `None` when `name` is neither a token nor a host with a port.
    pub(crate) fn new(name: &str) -> Option<Self> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~:[]".contains(&byte);
        if name.is_empty() || !name.bytes().all(allowed) {
            return None;
        }
        let value = |version| HeaderValue::from_str(&format!("{version} {name}")).ok();
        Some(Self { name: name.into(), http_10: value("1.0")?, http_11: value("1.1")?, http_2: value("2")? })
    }

    /// Appends the entry for a message received in `version`.
    pub(crate) fn append(&self, fields: &mut HeaderMap, version: Version) {
        let value = match version {
            Version::HTTP_10 | Version::HTTP_09 => &self.http_10,
            Version::HTTP_2 => &self.http_2,
            _ => &self.http_11,
        };
        fields.append(VIA, value.clone());
    }

    /// How often a message has passed here before.
    pub(crate) fn passes(&self, fields: &HeaderMap) -> usize {
        let ours = |by: &&[u8]| by.eq_ignore_ascii_case(self.name.as_bytes());
        fields.get_all(VIA).iter().map(|line| Received { rest: line.as_bytes() }.filter(ours).count()).sum()
    }
}

/// The `received-by` of each entry of a line: `1.1 name`, `HTTP/1.1 name:80 (comment, of any kind)`.
struct Received<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Received<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        while !self.rest.is_empty() {
            let (entry, rest) = entry(self.rest);
            self.rest = rest;
            let mut words = entry.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
            if let Some(by) = words.nth(1) {
                // A comment may follow without a space.
                return by.split(|&byte| byte == b'(').next();
            }
        }
        None
    }
}

/// Splits behind the first entry: at a comma that stands in no comment.
fn entry(line: &[u8]) -> (&[u8], &[u8]) {
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(byte) = line.get(at) {
        match byte {
            b'(' => depth += 1,
            b')' => depth = depth.saturating_sub(1),
            b'\\' if depth > 0 => at += 1,
            b',' if depth == 0 => return (&line[..at], &line[at + 1..]),
            _ => {}
        }
        at += 1;
    }
    (line, &[])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passes(lines: &[&'static str]) -> usize {
        let mut fields = HeaderMap::new();
        for line in lines {
            fields.append(VIA, HeaderValue::from_static(line));
        }
        Via::new("edge:8080").expect("a host with a port").passes(&fields)
    }

    #[test]
    fn each_entry_with_our_name_counts_whatever_surrounds_it() {
        assert_eq!(passes(&[]), 0);
        assert_eq!(passes(&["1.1 edge:8080"]), 1);
        assert_eq!(passes(&["1.1 a, HTTP/2 EDGE:8080 (x), ,1.0\tedge:8080(y)", "2 edge:8080"]), 3);
    }

    #[test]
    fn what_only_looks_like_one_does_not() {
        assert_eq!(passes(&["1.1 edge", "1.1 edge:80801", "edge:8080", "1.1 a (, 1.1 edge:8080)"]), 0);
        assert_eq!(passes(&["1.1 a (\\), 1.1 edge:8080, (()", "1.1 a (b) edge:8080"]), 0);
        assert_eq!(passes(&["1.1 a )), 1.1 edge:8080"]), 1);
    }
}
