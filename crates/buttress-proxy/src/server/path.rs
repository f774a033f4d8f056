//! One path, one spelling (RFC 3986 §6.2.2).

use http::Uri;
use http::uri::PathAndQuery;

/// Writes the path of `uri` as its upstreams will understand it; `None` where it is written so already, which costs a
/// look at each byte.
///
/// Escapes that need not be are resolved, hexadecimal digits are written in upper case, and segments of dots are
/// applied. What servers read differently is an error, in words.
pub(super) fn normalized(uri: &Uri) -> Result<Option<Uri>, &'static str> {
    let path = uri.path();
    // Of CONNECT and `OPTIONS *` there is none.
    if !path.starts_with('/') || is_plain(path) {
        return Ok(None);
    }
    let mut target = normal(path)?;
    if target == path {
        return Ok(None);
    }
    if let Some(query) = uri.query() {
        target.push('?');
        target.push_str(query);
    }
    let mut parts = uri.clone().into_parts();
    // It has only bytes that the former one had, and of those that were escaped the unreserved.
    parts.path_and_query = Some(PathAndQuery::try_from(target).map_err(|_| "a path that is none")?);
    Uri::from_parts(parts).map(Some).map_err(|_| "a path that is none")
}

/// Nothing to resolve and nothing to refuse.
fn is_plain(path: &str) -> bool {
    let mut after_slash = false;
    path.bytes().all(|byte| {
        let fine = match byte {
            b'%' | b'\\' => false,
            b'/' | b'.' => !after_slash,
            _ => true,
        };
        after_slash = byte == b'/';
        fine
    })
}

fn normal(path: &str) -> Result<String, &'static str> {
    let mut kept: Vec<String> = Vec::new();
    let mut segments = path[1..].split('/').peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        let segment = unescaped(segment)?;
        let dots = segment.split(';').next().unwrap_or_default();
        if matches!(dots, "." | "..") {
            if dots.len() < segment.len() {
                // Some servers cut `..;x` down to `..`.
                return Err("a segment of dots with parameters");
            }
            if dots == ".." && kept.pop().is_none() {
                return Err("more segments of two dots than it has others");
            }
            if is_last {
                kept.push(String::new());
            }
        } else if segment.is_empty() && !is_last {
            return Err("an empty segment");
        } else {
            kept.push(segment);
        }
    }
    Ok(kept.iter().flat_map(|segment| ["/", segment]).collect())
}

/// `segment` with each escape resolved that stands for an unreserved byte (RFC 3986 §2.3).
fn unescaped(segment: &str) -> Result<String, &'static str> {
    let mut text = String::with_capacity(segment.len());
    let mut rest = segment;
    while let Some((before, after)) = rest.split_once('%') {
        text.push_str(before);
        let digits = after.get(..2).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
        let digits = digits.ok_or("a percent sign that escapes nothing")?;
        match u8::from_str_radix(digits, 16) {
            Ok(b'/') => return Err("an escaped slash"),
            Ok(b'\\') => return Err("a backslash"),
            Ok(0) => return Err("an escaped NUL"),
            Ok(byte) if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => text.push(byte.into()),
            _ => {
                text.push('%');
                text.push_str(&digits.to_ascii_uppercase());
            }
        }
        rest = &after[2..];
    }
    text.push_str(rest);
    if text.contains('\\') {
        return Err("a backslash");
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(target: &str) -> Result<String, &'static str> {
        let uri: Uri = target.parse().unwrap();
        Ok(normalized(&uri)?.unwrap_or(uri).to_string())
    }

    #[test]
    fn one_path_has_one_spelling() {
        for (sent, normal) in [
            ("/", "/"),
            ("/a/b/?q=%41", "/a/b/?q=%41"),
            // RFC 3986 §6.2.2: its own example.
            ("/%7Esmith/home.html", "/~smith/home.html"),
            ("/a/./b/../b/%63/%7bfoo%7d", "/a/b/c/%7Bfoo%7D"),
            // §5.2.4
            ("/a/b/c/./../../g", "/a/g"),
            ("/a/b/..", "/a/"),
            ("/a/.", "/a/"),
            ("/..a/.b/c..", "/..a/.b/c.."),
            ("/x/%2e%2E/y/..", "/"),
            ("http://a.example/b/%2e?q#", "http://a.example/b/?q"),
            // Once, and no more.
            ("/%252e%252e/a", "/%252e%252e/a"),
        ] {
            assert_eq!(of(sent).as_deref(), Ok(normal), "{sent}");
        }
        assert_eq!(of("a.example:443").as_deref(), Ok("a.example:443"));
        assert_eq!(of("*").as_deref(), Ok("*"));
    }

    #[test]
    fn what_servers_read_differently_is_refused() {
        for (sent, why) in [
            ("/a%2Fb", "an escaped slash"),
            ("/a%5cb", "a backslash"),
            ("/a\\b", "a backslash"),
            ("/a//b", "an empty segment"),
            ("//a", "an empty segment"),
            ("/a/..;x/b", "a segment of dots with parameters"),
            ("/a/%2e%2e;x/b", "a segment of dots with parameters"),
            ("/a/../..", "more segments of two dots than it has others"),
            ("/a%00", "an escaped NUL"),
            ("/a%4", "a percent sign that escapes nothing"),
            ("/a%zz", "a percent sign that escapes nothing"),
        ] {
            assert_eq!(of(sent), Err(why), "{sent}");
        }
    }

    proptest! {
        #[test]
        fn the_spelling_is_its_own_and_has_nothing_left_to_resolve(path in "(/(\\.|%2[eE]|%41|a|%7[bB]|;|/)*){1,4}") {
            // A target that begins so would be read as an authority.
            prop_assume!(!path.starts_with("//"));
            if let Ok(normal) = of(&path) {
                prop_assert_eq!(of(&normal), Ok(normal.clone()));
                prop_assert!(normal.starts_with('/'));
                prop_assert!(!normal.contains("//") && !normal.contains("%2e") && !normal.contains("%41"));
                prop_assert!(normal.split('/').all(|segment| segment != "." && segment != ".."));
            }
        }
    }
}
