//! cargo run -p buttress-rate-limit --example draw -- docs/img: draws what each algorithm does with the same calls.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use buttress_core::Timestamp;
use buttress_rate_limit::{FixedWindow, Gcra, LeakyBucket, Policy, SlidingLog, SlidingWindow};

const LIMIT: u64 = 10;
const WINDOW: Duration = Duration::from_secs(10);
const END: u64 = 40_000;

/// The calls that every algorithm is offered, in milliseconds: a trickle, two bursts around the edge of a window, and
/// then twice the rate that the limit allows.
fn calls() -> Vec<u64> {
    let trickle = (0..8).map(|n| 500 + n * 1000);
    let bursts = [9_000, 10_500].into_iter().flat_map(|start| (0..12).map(move |n| start + n * 60));
    let steady = (0..36).map(|n| 20_000 + n * 500);
    trickle.chain(bursts).chain(steady).collect()
}

/// What became of a call: when it came, and when it went if it did.
struct Call {
    came: u64,
    went: Option<u64>,
}

fn run<P: Policy>(policy: &P) -> Vec<Call> {
    let mut state = P::State::default();
    calls()
        .into_iter()
        .map(|came| {
            let now = Timestamp::ZERO + Duration::from_millis(came);
            let went = policy
                .charge(&mut state, now, 1)
                .then(|| came + policy.delay(&state, now, 1).as_millis() as u64);
            Call { came, went }
        })
        .collect()
}

/// How many calls went in the window that ends at each moment.
fn trailing(calls: &[Call]) -> Vec<(u64, usize)> {
    let window = WINDOW.as_millis() as u64;
    (0..=END / 100)
        .map(|tenth| {
            let end = tenth * 100;
            let within = |went: &u64| *went <= end && went + window > end;
            (end, calls.iter().filter_map(|call| call.went).filter(within).count())
        })
        .collect()
}

fn draw(title: &str, calls: &[Call]) -> String {
    const LEFT: u64 = 40;
    const BASE: usize = 150;
    let x = |millis: u64| LEFT + millis * 700 / END;
    let y = |count: usize| BASE - count * 5;

    let mut svg = String::from(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 760 210\" font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"760\" height=\"210\" fill=\"#fff\"/>\n",
    );
    let _ = writeln!(svg, "<text x=\"{LEFT}\" y=\"18\" font-size=\"13\" font-weight=\"bold\">{title}</text>");
    let _ = writeln!(
        svg,
        "<path d=\"M{LEFT} {limit}H740\" stroke=\"#b00020\" stroke-dasharray=\"4 3\"/>\
         <text x=\"6\" y=\"{text}\" fill=\"#b00020\">N={LIMIT}</text>\
         <path d=\"M{LEFT} {twice}H740\" stroke=\"#ccc\"/><text x=\"12\" y=\"{twice_text}\" fill=\"#888\">2N</text>",
        limit = y(LIMIT as usize),
        text = y(LIMIT as usize) + 4,
        twice = y(2 * LIMIT as usize),
        twice_text = y(2 * LIMIT as usize) + 4,
    );
    let mut path = String::new();
    for (n, (at, count)) in trailing(calls).into_iter().enumerate() {
        let _ = write!(path, "{}{} {}", if n == 0 { 'M' } else { 'L' }, x(at), y(count));
    }
    let _ = writeln!(svg, "<path d=\"{path}\" fill=\"none\" stroke=\"#1a5fb4\" stroke-width=\"1.5\"/>");
    for second in (0..=END / 1000).step_by(10) {
        let at = x(second * 1000);
        let _ = writeln!(
            svg,
            "<path d=\"M{at} {BASE}v42\" stroke=\"#ddd\"/><text x=\"{at}\" y=\"206\" text-anchor=\"middle\" fill=\"#888\">\
             {second} s</text>"
        );
    }
    for call in calls {
        let (at, fill) = (x(call.came), if call.went.is_some() { "#2a7d2a" } else { "#fff" });
        let stroke = if call.went.is_some() { "#2a7d2a" } else { "#b00020" };
        let _ = writeln!(svg, "<circle cx=\"{at}\" cy=\"162\" r=\"3\" fill=\"{fill}\" stroke=\"{stroke}\"/>");
        if let Some(went) = call.went {
            let _ =
                writeln!(svg, "<path d=\"M{at} 167L{} 180v6\" stroke=\"#2a7d2a\" fill=\"none\"/>", x(went));
        }
    }
    svg.push_str("</svg>\n");
    svg
}

fn main() -> std::io::Result<()> {
    let Some(folder) = std::env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("say where to draw: cargo run -p buttress-rate-limit --example draw -- docs/img");
        std::process::exit(2);
    };
    std::fs::create_dir_all(&folder)?;

    let gcra = Gcra::new(LIMIT, WINDOW, LIMIT).expect("10 in 10 s is a rate");
    let pictures = [
        ("token-bucket", "Token bucket (GCRA): 1 per second, 10 at once", run(&gcra)),
        (
            "leaky-bucket",
            "Leaky bucket as a queue: 1 per second, waiting up to 5 s",
            run(&LeakyBucket::new(LIMIT, WINDOW).wait(Duration::from_secs(5))),
        ),
        (
            "fixed-window",
            "Fixed window: 10 in each 10 s",
            run(&FixedWindow::new(LIMIT, WINDOW).phase(Duration::ZERO)),
        ),
        ("sliding-log", "Sliding log: 10 in any 10 s", run(&SlidingLog::new(LIMIT, WINDOW))),
        ("sliding-counter", "Sliding counter: about 10 in any 10 s", run(&SlidingWindow::new(LIMIT, WINDOW))),
        (
            "sliding-strict",
            "Sliding window, strict(5): at most 10 in any 10 s",
            run(&SlidingWindow::strict(LIMIT, WINDOW, 5)),
        ),
    ];
    for (name, title, calls) in pictures {
        std::fs::write(folder.join(name).with_extension("svg"), draw(title, &calls))?;
    }
    Ok(())
}
