//! What the compiler says when a stack does not fit together: part of the interface, so it is kept.

// The compiler lists what would fit, and so what is there under the features.
#![cfg(all(feature = "full", feature = "axum", feature = "tonic", feature = "reqwest"))]

use std::path::Path;
use std::process::Command;
use std::{env, fs};

/// The compiler whose words the `.stderr` files hold: the lines around ours differ from one to the next.
const RECORDED: &str = "rustc 1.95.";

/// What we say, and every compiler with us.
const OURS: &[(&str, &[&str])] = &[
    (
        "body_cannot_carry_a_reply",
        &[
            "a refusal cannot be answered with a body of type",
            "this response body cannot be made from bytes",
            "lift the bodies once, at the bottom of the stack: `.lift_bodies()` directly above the innermost service",
            "or implement `buttress_http::body::ReplyBody` for your own body type",
            "axum, tonic and reqwest bodies need the feature `axum`, `tonic` or `reqwest`",
        ],
    ),
    (
        "error_cannot_be_looked_into",
        &[
            "Buttress cannot look into `Lost` for a rejection",
            "lift the errors once at the bottom of the stack with `.lift_errors()`, or implement `Cause` for `Lost`",
        ],
    ),
    (
        "error_cannot_carry_a_rejection",
        &[
            "`Infallible` cannot carry a rejection",
            "a layer that fails with an error needs a place in `Infallible` for the refusal",
            "on a server, answer instead of failing: `.on_reject(reject::respond())`",
            "on a client, lift the errors once at the bottom of the stack: `.lift_errors()`",
            "or implement `FromRejection` for your own error type",
        ],
    ),
    (
        "request_cannot_be_sent_again",
        &[
            "cannot send a `String` more than once",
            "this retry layer does not know how to send a `String` again",
            "for a request that is `Clone`: `RetryLayer::cloning(|request: &String| ..)`, where the closure says which \
             requests may be carried out twice",
            "for a request of your own: implement `Replay` for it and write `RetryLayer::replaying()`",
            "for an `http::Request`: its body must be `http_body::Body + Unpin`, with an error that turns into a `BoxError`",
        ],
    ),
];

/// Set for the process that writes down what this compiler says, to the folder of the cases.
const CASES: &str = "BUTTRESS_UI_CASES";

/// After a new toolchain, run with `TRYBUILD=overwrite`, read whether our words are still there, and name it in
/// `RECORDED`.
#[test]
fn the_compiler_says_what_to_write() {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version = Command::new(rustc).arg("--version").output().expect("rustc runs").stdout;
    let version = String::from_utf8_lossy(&version);
    if version.starts_with(RECORDED) || env::var_os("TRYBUILD").is_some() {
        trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
    } else {
        eprintln!("skipped: the whole outputs are those of {RECORDED}*, and this is {}", version.trim());
    }
}

#[test]
fn every_compiler_says_our_words() {
    if let Some(cases) = env::var_os(CASES) {
        trybuild::TestCases::new().compile_fail(Path::new(&cases).join("*.rs"));
        return;
    }
    let cases = Path::new(env!("CARGO_TARGET_TMPDIR")).join("ui");
    fs::create_dir_all(&cases).expect("a folder for the cases");
    for (case, _) in OURS {
        let source = format!("{case}.rs");
        fs::copy(Path::new("tests/ui").join(&source), cases.join(source)).expect("there is this case");
    }

    // Overwriting, trybuild refuses nothing but a case that compiles.
    let child = Command::new(env::current_exe().expect("this test"))
        .args(["--exact", "every_compiler_says_our_words", "--nocapture"])
        .env(CASES, &cases)
        .env("TRYBUILD", "overwrite")
        .output()
        .expect("this test runs");

    let output = String::from_utf8_lossy(&child.stderr);
    assert!(child.status.success(), "{output}");
    for (case, sentences) in OURS {
        let said = fs::read_to_string(cases.join(format!("{case}.stderr"))).expect("it was written");
        for sentence in *sentences {
            assert!(said.contains(sentence), "{case}: {sentence:?} is not in:\n{said}");
        }
    }
    let known = fs::read_dir("tests/ui").expect("the cases").count();
    assert_eq!(known, 2 * OURS.len(), "each case and its output");
}
