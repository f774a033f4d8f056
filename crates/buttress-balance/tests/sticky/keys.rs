use buttress_balance::StickyError;

use super::*;

fn signed(endpoints: &Endpoints, key: [u8; 32], former: Option<[u8; 32]>) -> Site {
    let keys = StickyLayer::cookie("SERVERID").key(key);
    let keys = former.into_iter().fold(keys, |keys, former| keys.former_key(former));
    Site::over(endpoints, &keys.over(endpoints))
}

#[test]
fn a_cookie_of_the_former_key_holds_and_is_signed_anew() {
    let endpoints = endpoints(&["a", "b"]);
    endpoints.get("a").unwrap().maintain(NOW);
    let old = signed(&endpoints, FORMER, None).visit(&[]);
    endpoints.get("a").unwrap().resume(NOW);
    let site = signed(&endpoints, SECRET, Some(FORMER));

    let renewed = site.again(old.value());

    assert_eq!(renewed.at, "b", "it is where it was");
    assert_ne!(renewed.value(), old.value());
    assert_eq!(site.again(renewed.value()), Visit { at: "b".into(), set: vec![] });
    let counts = site.handle.counts();
    assert_eq!((counts.renewed, counts.kept, counts.unknown, counts.moved), (1, 2, 0, 0));
    let later = signed(&endpoints, SECRET, None);
    assert_eq!(later.again(renewed.value()).at, "b");
    later.again(old.value());
    assert_eq!(later.handle.counts().unknown, 1, "the former key has gone");
}

#[test]
fn one_key_twice_is_one_key() {
    let endpoints = endpoints(&["a"]);
    let site = signed(&endpoints, SECRET, Some(SECRET));
    let first = site.visit(&[]);
    assert_eq!(site.again(first.value()).set, [""; 0]);
}

#[test]
fn a_value_of_another_key_or_pool_is_unknown() {
    let endpoints = endpoints(&["a"]);
    let site = signed(&endpoints, SECRET, None);
    let pool = Site::over(&endpoints, &layer(&endpoints).pool("api"));

    site.again(signed(&endpoints, FORMER, None).visit(&[]).value());
    site.again(pool.visit(&[]).value());

    assert_eq!(site.handle.counts().unknown, 2);
    // The parts of what is signed are kept apart.
    let joined = |pool: &'static str, name| {
        let endpoints = super::endpoints(&[name]);
        Site::over(&endpoints, &layer(&endpoints).pool(pool)).visit(&[]).value().to_owned()
    };
    assert_ne!(joined("ab", "c"), joined("a", "bc"));
}

#[test]
fn keys_that_could_be_guessed_are_refused() {
    let error = StickyLayer::cookie("SERVERID").try_key([7; 31]).unwrap_err();
    assert_eq!(error, StickyError::ShortKey { given: 31, least: 32 });
    assert_eq!(
        error.to_string(),
        "sticky cookie with a key of 31 bytes: must be 32 at least, from a random source"
    );
    let former = StickyLayer::cookie("SERVERID").key(SECRET).try_former_key("secret");
    assert_eq!(former.map(drop), Err(StickyError::ShortKey { given: 6, least: 32 }));
    assert!(StickyLayer::cookie("SERVERID").try_key([7; 200]).is_ok(), "longer ones are hashed");
}
