//! Who reads and who writes.

use buttress_core::{Access, AccessOf, BySafety};
use http::{Method, Request};

fn of(method: &str) -> Access {
    let method = Method::from_bytes(method.as_bytes()).unwrap();
    BySafety.access(&Request::builder().method(method).body(()).unwrap())
}

#[test]
fn safe_methods_read_and_all_others_write() {
    for method in ["GET", "HEAD", "OPTIONS", "TRACE"] {
        assert_eq!(of(method), Access::Read, "{method}");
    }
    for method in ["POST", "PUT", "DELETE", "PATCH", "CONNECT", "PURGE", "get"] {
        assert_eq!(of(method), Access::Write, "{method}");
    }
}

#[test]
fn a_closure_tells_for_other_requests() {
    let even_reads = |n: &u32| if n.is_multiple_of(2) { Access::Read } else { Access::Write };

    assert!(even_reads.access(&2).is_read());
    assert!(!even_reads.access(&3).is_read());
}
