use buttress_balance::Split;
use http::Request;

use super::{ask, sides};

fn request(fields: &[(&str, &str)]) -> Request<()> {
    let request =
        fields.iter().fold(Request::get("/"), |request, (name, value)| request.header(*name, *value));
    request.body(()).unwrap()
}

#[test]
fn a_user_is_told_by_a_header_field() {
    let split = Split::new(sides(&[50, 50])).by(buttress_http::key::header("x-user-id"));

    for user in ["ann", "bob", "cat", "dan"] {
        assert_eq!(ask(&split, request(&[("x-user-id", user)])), split.handle().side_of(user));
    }
    ask(&split, request(&[]));
    let counts = split.handle().counts();
    assert_eq!((counts.by_key, counts.by_chance), (4, 1));
}

#[test]
fn a_header_field_chooses_first() {
    let split = Split::new(sides(&[1, 0])).override_header("x-canary", [("always", 1), ("never", 0)]);

    assert_eq!(ask(&split, request(&[("x-canary", "always")])), 1);
    assert_eq!(ask(&split, request(&[("X-Canary", "never")])), 0);
    assert_eq!(ask(&split, request(&[("x-canary", "perhaps")])), 0, "a value that says nothing");
    assert_eq!(
        ask(&split, request(&[("x-canary", "never"), ("x-canary", "always")])),
        0,
        "the first line counts"
    );
    assert_eq!(split.handle().counts().overridden, 3);
}
