use std::time::Duration;

use buttress_balance::{SameSite, StickyError};

use super::*;

/// The field that binds to the only endpoint.
fn set(change: impl FnOnce(StickyLayer) -> StickyLayer) -> String {
    Site::new(&["a"], change).visit(&[]).set.remove(0)
}

fn attributes(change: impl FnOnce(StickyLayer) -> StickyLayer) -> String {
    set(change).split_once("; ").unwrap().1.to_owned()
}

#[test]
fn values_are_the_same_in_every_process_and_release() {
    let site = Site::new(&["10.0.0.1:80"], |layer| layer);
    assert_eq!(
        site.visit(&[]).set,
        ["SERVERID=ZE_HVH6AF7dCU-nvd9ycyGKG; Path=/; HttpOnly; Secure; SameSite=Lax"]
    );
    let site = Site::new(&["10.0.0.1:80"], |layer| layer.pool("api"));
    assert_eq!(site.visit(&[]).value(), "4qJAvwleZuc5f0jq-yS705jF");
}

#[test]
fn the_attributes_are_settable() {
    assert_eq!(attributes(|layer| layer.path("/shop")), "Path=/shop; HttpOnly; Secure; SameSite=Lax");
    assert_eq!(
        attributes(|layer| layer.domain("example.com").max_age(Duration::from_millis(3_600_900))),
        "Path=/; Domain=example.com; Max-Age=3600; HttpOnly; Secure; SameSite=Lax"
    );
    assert_eq!(attributes(|layer| layer.insecure()), "Path=/; HttpOnly; SameSite=Lax");
    assert_eq!(
        attributes(|layer| layer.same_site(SameSite::Strict)),
        "Path=/; HttpOnly; Secure; SameSite=Strict"
    );
    assert_eq!(
        attributes(|layer| layer.same_site(SameSite::None)),
        "Path=/; HttpOnly; Secure; SameSite=None"
    );
    assert!(attributes(|layer| layer.max_age(Duration::MAX)).contains(&format!("Max-Age={}", u64::MAX)));
}

#[test]
fn the_name_of_an_endpoint_cannot_be_read_in_its_value() {
    let site = Site::new(&["database-7.internal"], |layer| layer);
    let visit = site.visit(&[]);
    assert_eq!(visit.value().len(), 24);
    assert!(!visit.set[0].contains("database"));
}

#[test]
fn the_cookie_is_found_however_it_is_written() {
    let site = Site::new(&["a", "b"], |layer| layer);
    site.endpoint("a").maintain(NOW);
    let value = site.visit(&[]).value().to_owned();
    site.endpoint("a").resume(NOW);
    let kept = Visit { at: "b".into(), set: vec![] };

    for fields in [
        vec![format!("SERVERID={value}")],
        vec![format!("theme=dark; SERVERID={value}; lang=en")],
        vec![format!("theme=dark;SERVERID={value};lang=en")],
        vec![format!("  ;; theme ; =; SERVERID \t=\t {value}  ;")],
        vec![format!("SERVERID=\"{value}\"")],
        vec!["theme=dark".into(), format!("SERVERID={value}")],
        vec![format!("SERVERID={value}"), "theme=dark".into()],
        vec![format!("SERVERID=forged; SERVERID={value}")],
        vec![format!("SERVERID={value}; SERVERID=forged")],
        vec!["SERVERID=".into(), format!("SERVERID={value}")],
        vec![format!("SERVERID=AAAAAAAAAAAAAAAAAAAAAAAA; SERVERID={value}")],
    ] {
        let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
        assert_eq!(site.visit(&fields), kept, "{fields:?}");
    }
    assert_eq!(site.handle.counts().unknown, 0);
}

#[test]
fn bytes_that_are_no_text_do_no_harm() {
    let site = Site::new(&["a", "b"], |layer| layer);
    let value = site.visit(&[]).value().to_owned();
    let field = [b"x=\xff\xfe; SERVERID=\xff".as_slice(), b"; SERVERID=", value.as_bytes()].concat();
    let mut request = Request::get("/").body(()).unwrap();
    request.headers_mut().insert("cookie", http::HeaderValue::from_bytes(&field).unwrap());

    assert_eq!(site.send(request), Visit { at: "a".into(), set: vec![] });
}

#[test]
fn another_cookie_is_not_taken_for_it() {
    let site = Site::new(&["a"], |layer| layer);
    let value = site.visit(&[]).value().to_owned();

    for cookie in [
        format!("serverid={value}"),
        format!("XSERVERID={value}"),
        format!("SERVERID2={value}"),
        "SERVERID".into(),
        value.clone(),
        String::new(),
    ] {
        assert_eq!(site.visit(&[&cookie]).value(), value, "{cookie:?}: it is set again");
    }
    let counts = site.handle.counts();
    assert_eq!((counts.unknown, counts.absent), (0, 7));
}

#[test]
fn a_forged_value_is_absent_and_counted_and_never_an_error() {
    let site = Site::new(&["a"], |layer| layer);
    let value = site.visit(&[]).value().to_owned();
    let mut forged: Vec<String> = vec![
        String::new(),
        "a".into(),
        "AAAAAAAAAAAAAAAAAAAAAAAA".into(),
        format!("{value}="),
        value[..23].into(),
        format!("{value}A"),
        value.to_lowercase(),
        "x".repeat(100_000),
    ];
    // Each letter but one.
    forged.extend((0..value.len()).map(|at| {
        let other = if &value[at..=at] == "A" { "B" } else { "A" };
        [&value[..at], other, &value[at + 1..]].concat()
    }));

    for value in &forged {
        let visit = site.again(value);
        assert_eq!((&*visit.at, visit.set.len()), ("a", 1), "{value:.30}");
    }

    let counts = site.handle.counts();
    assert_eq!((counts.unknown, counts.known), (forged.len() as u64, 0));
}

#[test]
fn no_cache_makes_private_what_sets_the_cookie_and_nothing_else() {
    let cache_control = |change: fn(StickyLayer) -> StickyLayer, cookie: Option<&str>| {
        let site = Site::new(&["a"], change);
        let mut request = Request::get("/").body(()).unwrap();
        if let Some(value) = cookie {
            request.headers_mut().insert("cookie", format!("SERVERID={value}").parse().unwrap());
        }
        let response = now(site.service.oneshot(request));
        response.headers().get("cache-control").map(|field| field.to_str().unwrap().to_owned())
    };
    let value = Site::new(&["a"], |layer| layer).visit(&[]).value().to_owned();

    assert_eq!(cache_control(|layer| layer, None), None);
    assert_eq!(cache_control(StickyLayer::no_cache, None).as_deref(), Some("private"));
    assert_eq!(cache_control(StickyLayer::no_cache, Some(&value)), None);
}

#[test]
fn cookies_that_are_set_below_stay() {
    let endpoints = endpoints(&["a"]);
    let service = layer(&endpoints).layer(tower::service_fn({
        let id = endpoints.list()[0].id();
        move |req: Request<()>| {
            req.facts().unwrap().chose(id);
            ready(Ok::<_, Infallible>(
                Response::builder().header("set-cookie", "theme=dark").body(()).unwrap(),
            ))
        }
    }));

    let response = now(service.oneshot(Request::new(())));

    let set: Vec<_> = response.headers().get_all("set-cookie").iter().collect();
    assert_eq!(set.len(), 2);
    assert_eq!(set[0], "theme=dark");
    assert!(set[1].is_sensitive(), "no proxy on the way keeps it");
}

#[test]
fn what_browsers_would_not_take_is_refused_by_name() {
    let endpoints = endpoints(&["a"]);
    let refused = |name: &str| StickyLayer::cookie(name).key(SECRET).try_over(&endpoints).map(drop);
    for name in ["", "a b", "a=b", "a;b", "ä", "a\tb", "a\"b", "(a)"] {
        let error = refused(name).unwrap_err();
        assert!(
            matches!(&error, StickyError::Attribute { field: "name", value, .. } if value == name),
            "{error}"
        );
    }
    for name in ["SERVERID", "__Host-srv", "__Secure-srv", "s", "a!#$%&'*+-.^_`|~9"] {
        assert_eq!(refused(name), Ok(()), "{name}");
    }
    assert_eq!(
        refused("a b").unwrap_err().to_string(),
        "sticky cookie with `name` = \"a b\": must be a token: letters, digits and the like, no spaces and no `=` or `;`"
    );
}
