//! What the compiler says when a stack does not fit together: part of the interface, so it is kept.

// The compiler lists what would fit, and so what is there under the features.
#![cfg(all(feature = "full", feature = "axum", feature = "tonic", feature = "reqwest"))]

/// The words are ours, the lines around them rustc's. After a new toolchain, run with `TRYBUILD=overwrite` and read
/// whether ours are still there.
#[test]
fn the_compiler_says_what_to_write() {
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}
