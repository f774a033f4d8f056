//! The defaults are those of the table in the crate's page.

use super::*;

const PAGE: &str = include_str!("../../README.md");

/// What the table of sticky sessions says of a setting.
fn default_of(setting: &str) -> &'static str {
    let (_, section) = PAGE.split_once("## Sticky sessions").expect("the page has the section");
    let section = section.split("\n## ").next().unwrap();
    let row = section.lines().find(|line| line.starts_with(&format!("| `{setting}` |")));
    let row = row.unwrap_or_else(|| panic!("the table has no row for {setting}"));
    row.split('|').nth(2).unwrap().trim()
}

#[test]
fn the_cookie_has_the_attributes_of_the_table() {
    let site = Site::new(&["a"], |layer| layer);
    let set = site.visit(&[]).set.remove(0);
    let has = |attribute: &str| set.split("; ").any(|part| part == attribute);
    let begins =
        |attribute: &str| set.split("; ").find_map(|part| part.strip_prefix(attribute)?.strip_prefix('='));

    for (flag, is_set) in [("HttpOnly", has("HttpOnly")), ("Secure", has("Secure"))] {
        assert_eq!(is_set, default_of(flag) == "on", "{flag}: {set}");
    }
    for setting in ["SameSite", "Path", "Domain", "Max-Age"] {
        let expected = default_of(setting).trim_matches('`');
        assert_eq!(begins(setting).unwrap_or("none"), expected, "{setting}: {set}");
    }
    let count = 1 + ["HttpOnly", "Secure"].iter().filter(|flag| has(flag)).count() + 2;
    assert_eq!(set.split("; ").count(), count, "nothing else is said: {set}");
}

#[test]
fn a_session_survives_a_drain_as_the_table_says() {
    let site = Site::new(&["a", "b"], |layer| layer);
    let first = site.visit(&[]);
    site.endpoint("a").drain(NOW);

    let stays = site.again(first.value()).at == "a";

    assert_eq!(stays, default_of("survive_drain") == "on");
}

#[test]
fn answers_may_be_cached_as_the_table_says() {
    let site = Site::new(&["a"], |layer| layer);
    let response = now(site.service.oneshot(Request::new(())));
    let private = response.headers().contains_key("cache-control");
    assert_eq!(private, default_of("no_cache") == "on");
}

#[test]
fn the_pool_is_that_of_the_table() {
    let site = Site::new(&["a"], |layer| layer);
    let named = Site::new(&["a"], |layer| layer.pool(""));
    assert_eq!(default_of("pool"), "the empty name");
    assert_eq!(site.visit(&[]).set, named.visit(&[]).set);
}

#[test]
fn values_and_keys_are_as_long_as_the_table_says() {
    let bits: usize = default_of("value").split(' ').next().unwrap().parse().unwrap();
    let site = Site::new(&["a"], |layer| layer);
    assert_eq!(site.visit(&[]).value().len() * 6, bits);
    let least: usize = default_of("key").split(' ').nth(2).unwrap().parse().unwrap();
    assert!(StickyLayer::cookie("SERVERID").try_key(vec![0; least]).is_ok());
    assert!(StickyLayer::cookie("SERVERID").try_key(vec![0; least - 1]).is_err());
}
