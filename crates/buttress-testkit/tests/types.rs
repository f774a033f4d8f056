//! Point 10: a layer whose types do not fit does not compile, and the compiler says which one and why.

#[test]
fn a_service_or_future_that_is_not_send_sync_clone_unpin_is_found() {
    trybuild::TestCases::new().compile_fail("tests/types/*.rs");
}
