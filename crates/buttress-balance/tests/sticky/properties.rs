use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

proptest! {
    #[test]
    fn what_a_client_sends_never_binds_it_unless_we_have_signed_it(fields in vec(vec(any::<u8>(), 0..80), 0..4)) {
        let site = Site::new(&["a", "b"], |layer| layer);
        let mut request = Request::get("/").body(()).unwrap();
        for field in fields {
            if let Ok(field) = http::HeaderValue::from_bytes(&field) {
                request.headers_mut().append("cookie", field);
            }
        }

        let visit = site.send(request);

        prop_assert_eq!((&*visit.at, visit.set.len()), ("a", 1));
        prop_assert_eq!(site.handle.counts().known, 0);
    }

    #[test]
    fn our_cookie_is_found_among_any_others(
        before in vec("[ -:<-~]{0,12}", 0..4),
        after in vec("[ -:<-~]{0,12}", 0..4),
        taken_apart in any::<bool>(),
    ) {
        let site = Site::new(&["a", "b"], |layer| layer);
        site.endpoint("a").maintain(NOW);
        let ours = format!("SERVERID={}", site.visit(&[]).value());
        site.endpoint("a").resume(NOW);
        let all: Vec<String> = before.into_iter().chain([ours]).chain(after).collect();

        let visit = if taken_apart {
            site.visit(&all.iter().map(String::as_str).collect::<Vec<_>>())
        } else {
            site.visit(&[&all.join("; ")])
        };

        prop_assert_eq!(visit, Visit { at: "b".into(), set: vec![] });
    }

    #[test]
    fn a_client_is_always_where_its_cookie_says_or_gets_another_one(steps in vec((0..3_usize, 0..4_u8), 1..40)) {
        let names = ["a", "b", "c"];
        let site = Site::new(&names, |layer| layer);
        let (mut value, mut home) = (None::<String>, None::<String>);
        for (at, what) in steps {
            let endpoint = site.endpoint(names[at]);
            match what {
                0 => endpoint.drain(NOW),
                1 => endpoint.maintain(NOW),
                2 => endpoint.resume(NOW),
                _ => false,
            };
            let visit = value.as_deref().map_or_else(|| site.visit(&[]), |value| site.again(value));
            if visit.at == "none" {
                prop_assert!(visit.set.is_empty());
            } else if home.as_ref() == Some(&visit.at) {
                prop_assert!(visit.set.is_empty(), "it is where it was");
            } else {
                value = Some(visit.value().to_owned());
                home = Some(visit.at);
            }
            if let Some(home) = &home
                && site.endpoint(home).condition().is_usable()
            {
                prop_assert_eq!(&site.again(value.as_deref().unwrap()).at, home);
            }
        }
    }
}
