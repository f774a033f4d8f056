//! Does the program do what it prints? The built binary, run to its end.

use tokio::process::Command;

/// What it prints, line by line.
async fn printed() -> Vec<String> {
    let output = Command::new(env!("CARGO_BIN_EXE_reqwest-client"))
        .output()
        .await
        .expect("it was built for this test");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text").lines().map(|line| line.trim().to_owned()).collect()
}

/// The numbers in the line that begins so.
fn numbers(lines: &[String], begin: &str) -> Vec<u64> {
    let line = lines
        .iter()
        .find(|line| line.starts_with(begin))
        .unwrap_or_else(|| panic!("{begin}: not in {lines:?}"));
    let rest = line[begin.len()..].split(|c: char| !c.is_ascii_digit());
    rest.filter(|digits| !digits.is_empty()).map(|digits| digits.parse().expect("digits")).collect()
}

#[tokio::test]
async fn retries_mend_the_breaker_spares_and_hedges_cut_off_what_is_slow() {
    let lines = printed().await;

    // Of the first 44 requests every third fails, 14 in all.
    assert_eq!(numbers(&lines, "30 GETs:"), [30, 200, 44, 14]);
    // Of the next three one is a third one.
    assert_eq!(numbers(&lines, "3 POSTs:"), [1, 3]);

    // Six calls of three attempts, the seventh had two, and its third and all others were refused.
    assert_eq!(numbers(&lines, "50 GETs:"), [20, 44]);
    assert!(lines.iter().any(|line| line.starts_with("the last one: circuit open by `down`")), "{lines:?}");
    assert!(
        lines.contains(&"well again: 10 of 10 GETs answered, the breaker is closed".to_owned()),
        "{lines:?}"
    );

    // Times are those of a machine that may be busy: then more calls are slow, and more are hedged.
    let as_they_are = numbers(&lines, "100 GETs as they are:");
    assert!(as_they_are[0] >= 4, "{lines:?}");
    let hedged = numbers(&lines, "100 GETs hedged after 100 ms:");
    let [slow, fired, won] = hedged[..] else { panic!("{lines:?}") };
    assert!(fired >= 3 && won >= 1 && won <= fired && slow <= 100, "{lines:?}");
}
