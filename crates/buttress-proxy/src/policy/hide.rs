use http::header::{
    ALT_SVC, CONTENT_LOCATION, HeaderMap, HeaderName, HeaderValue, LOCATION, REFRESH, SERVER, VIA,
};

/// What only tells which software answers.
const SOFTWARE: [HeaderName; 4] = [
    SERVER,
    HeaderName::from_static("x-powered-by"),
    HeaderName::from_static("x-aspnet-version"),
    HeaderName::from_static("x-aspnetmvc-version"),
];

/// Takes out of an answer what tells which machine it is from; `upstream` is its address as it stands in a `Host`.
pub(crate) fn hide_upstream(fields: &mut HeaderMap, upstream: &HeaderValue) {
    for name in SOFTWARE {
        fields.remove(name);
    }
    fields.remove(ALT_SVC);
    // A firewall's portal keeps the names behind it to itself (RFC 9110 §7.6.3).
    fields.remove(VIA);
    for name in [LOCATION, CONTENT_LOCATION, REFRESH] {
        let Some(value) = fields.get(&name).map(HeaderValue::as_bytes) else { continue };
        // `5; url=/next`
        let start = if name == REFRESH { after_url(value) } else { Some(0) };
        let local = start.and_then(|start| Some((start, local(&value[start..], upstream.as_bytes())?)));
        if let Some((start, path)) = local {
            let value = [&value[..start], &path].concat();
            match HeaderValue::from_maybe_shared(bytes::Bytes::from(value)) {
                Ok(value) => drop(fields.insert(name, value)),
                Err(_) => drop(fields.remove(name)),
            }
        }
    }
}

/// The path, query and fragment of a reference to the upstream itself, as a reference of its own.
fn local(reference: &[u8], upstream: &[u8]) -> Option<Vec<u8>> {
    let (rest, port) = match reference {
        [b'/', b'/', rest @ ..] => (rest, None),
        _ => match after_prefix(reference, b"http://") {
            Some(rest) => (rest, Some(&b":80"[..])),
            None => (after_prefix(reference, b"https://")?, Some(&b":443"[..])),
        },
    };
    let end = rest.iter().position(|byte| b"/?#".contains(byte)).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let authority = authority.rsplit(|&byte| byte == b'@').next().unwrap_or_default();
    let named = authority.eq_ignore_ascii_case(upstream)
        || port.is_some_and(|port| [authority, port].concat().eq_ignore_ascii_case(upstream));
    if !named {
        return None;
    }
    // `//other/` would be a reference to another host, and browsers read `\\` as `/`.
    let ambiguous = path.len() > 1 && path[..2].iter().all(|byte| b"/\\".contains(byte));
    let before: &[u8] = match path {
        [b'/', ..] if ambiguous => b"/.",
        [b'/', ..] => b"",
        _ => b"/",
    };
    Some([before, path].concat())
}

fn after_prefix<'a>(text: &'a [u8], prefix: &[u8]) -> Option<&'a [u8]> {
    let head = text.get(..prefix.len())?;
    head.eq_ignore_ascii_case(prefix).then(|| &text[prefix.len()..])
}

fn after_url(value: &[u8]) -> Option<usize> {
    let at = value.windows(4).position(|window| window.eq_ignore_ascii_case(b"url="))? + 4;
    let quoted = matches!(value.get(at), Some(b'"' | b'\''));
    Some(at + usize::from(quoted))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hidden(name: &'static str, value: &'static str, upstream: &'static str) -> String {
        let mut fields = HeaderMap::new();
        fields.insert(name, HeaderValue::from_static(value));
        hide_upstream(&mut fields, &HeaderValue::from_static(upstream));
        fields.get(name).map(|value| value.to_str().expect("it was text").to_owned()).unwrap_or_default()
    }

    #[test]
    fn a_reference_to_the_upstream_becomes_a_path() {
        for (value, local) in [
            ("http://10.0.0.3:9001/a?b#c", "/a?b#c"),
            ("HTTP://me@10.0.0.3:9001", "/"),
            ("https://10.0.0.3:9001?b", "/?b"),
            ("//10.0.0.3:9001/a", "/a"),
            ("/a", "/a"),
            ("http://10.0.0.3:9002/a", "http://10.0.0.3:9002/a"),
            ("http://10.0.0.3:9001.example/a", "http://10.0.0.3:9001.example/a"),
            (
                "http://shop.example/?at=http://10.0.0.3:9001/",
                "http://shop.example/?at=http://10.0.0.3:9001/",
            ),
        ] {
            assert_eq!(hidden("location", value, "10.0.0.3:9001"), local);
        }
        assert_eq!(hidden("content-location", "http://users.internal/a", "users.internal:80"), "/a");
        assert_eq!(hidden("location", "https://users.internal/a", "users.internal:443"), "/a");
        assert_eq!(
            hidden("location", "https://users.internal/a", "users.internal:80"),
            "https://users.internal/a"
        );
    }

    #[test]
    fn no_path_becomes_a_reference_to_another_host() {
        for (value, local) in [
            ("http://a:1//evil.example/", "/.//evil.example/"),
            ("http://a:1/\\evil.example/", "/./\\evil.example/"),
        ] {
            assert_eq!(hidden("location", value, "a:1"), local);
        }
    }

    #[test]
    fn a_refresh_keeps_its_time() {
        assert_eq!(hidden("refresh", "5; URL=http://a:1/b", "a:1"), "5; URL=/b");
        assert_eq!(hidden("refresh", "5;url='http://a:1/b'", "a:1"), "5;url='/b'");
        assert_eq!(hidden("refresh", "5", "a:1"), "5");
    }
}
