//! `remove_hop_by_hop` against every mixture of fields.

use buttress_proxy::remove_hop_by_hop;
use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;

const ALWAYS: [&str; 9] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authentication-info",
    "proxy-authorization",
    "te",
    "transfer-encoding",
    "upgrade",
];

fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(ALWAYS.to_vec()).prop_map(str::to_owned),
        prop::sample::select(vec!["host", "content-length", "cookie", "trailer", "x-a", "x-b", "x-c", "via"])
            .prop_map(str::to_owned),
        "[a-z][a-z0-9-]{0,8}",
    ]
}

/// A `Connection` value: names in any case, with stray commas, spaces and bytes.
fn connection() -> impl Strategy<Value = Vec<u8>> {
    let item = prop_oneof![
        8 => name().prop_map(|name| name.to_uppercase().into_bytes()),
        8 => name().prop_map(String::into_bytes),
        1 => Just(Vec::new()),
        1 => Just(b" \t".to_vec()),
        1 => Just(vec![0xff, b'a']),
        1 => Just(b"not a name".to_vec()),
    ];
    (prop::collection::vec(item, 0..5), prop::sample::select(vec![",", ", ", " ,\t"]))
        .prop_map(|(items, comma)| items.join(comma.as_bytes()))
}

fn fields() -> impl Strategy<Value = HeaderMap> {
    let line = prop_oneof![
        3 => (name(), "[ -~]{0,6}").prop_map(|(name, value)| (name, value.into_bytes())),
        1 => connection().prop_map(|value| ("connection".to_owned(), value)),
    ];
    prop::collection::vec(line, 0..12).prop_map(|lines| {
        let mut fields = HeaderMap::new();
        for (name, value) in lines {
            let name = HeaderName::try_from(name).expect("a token");
            fields.append(name, HeaderValue::from_bytes(&value).expect("no control characters"));
        }
        fields
    })
}

/// Whether a message with these fields must lose the one called `name`: the rule, written the slow way.
fn concerns_the_connection(fields: &HeaderMap, name: &str) -> bool {
    let named = fields
        .get_all("connection")
        .iter()
        .flat_map(|value| value.as_bytes().split(|&byte| byte == b','))
        .any(|token| token.trim_ascii().eq_ignore_ascii_case(name.as_bytes()));
    ALWAYS.contains(&name) || (named && name != "host" && name != "content-length")
}

fn lines(fields: &HeaderMap) -> Vec<(String, HeaderValue)> {
    fields.iter().map(|(name, value)| (name.to_string(), value.clone())).collect()
}

fn sorted(mut lines: Vec<(String, HeaderValue)>) -> Vec<(String, HeaderValue)> {
    // A stable sort by name: the order of the values of one name is what counts.
    lines.sort_by(|a, b| a.0.cmp(&b.0));
    lines
}

proptest! {
    #[test]
    fn nothing_that_concerns_the_connection_is_sent_on(before in fields()) {
        let mut after = before.clone();
        remove_hop_by_hop(&mut after);

        for name in after.keys() {
            prop_assert!(!concerns_the_connection(&before, name.as_str()), "{name} of {before:?}");
        }
    }

    #[test]
    fn every_other_field_is_sent_on_with_all_its_values_in_order(before in fields()) {
        let mut after = before.clone();
        remove_hop_by_hop(&mut after);

        let kept = lines(&before).into_iter().filter(|(name, _)| !concerns_the_connection(&before, name)).collect();
        prop_assert_eq!(sorted(lines(&after)), sorted(kept));
    }

    #[test]
    fn once_is_as_good_as_twice(before in fields()) {
        let mut once = before;
        remove_hop_by_hop(&mut once);
        let mut twice = once.clone();
        let said = remove_hop_by_hop(&mut twice);

        prop_assert_eq!(&once, &twice);
        prop_assert_eq!(said, Default::default());
    }
}
