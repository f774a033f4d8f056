//! Tables, what they have to show, and a picture that is drawn from them.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{fs, io};

use crate::measure::Measured;
use crate::scenarios::{Extra, OURS, RANDOM, Scenario, TOWERS};

/// What one scenario came to.
pub(crate) struct Table {
    name: &'static str,
    title: String,
    extra: Extra,
    mean: f64,
    load: f64,
    rows: Vec<(&'static str, Measured)>,
}

impl Table {
    pub(crate) fn of(scenario: &Scenario) -> Self {
        let rows = scenario.rows.iter().map(|row| (row.name, row.run(scenario))).collect();
        let clients = match scenario.clients {
            1 => String::new(),
            many => format!("{many} clients, "),
        };
        let title = format!(
            "**{}: {}.** {}{clients}{} hosts of {} worker{}, {} calls in {} s that take {:.0} ms on average.",
            scenario.name,
            scenario.title,
            scenario.what,
            grouped(scenario.hosts as u64),
            scenario.workers,
            if scenario.workers > 1 { "s" } else { "" },
            grouped(scenario.calls),
            scenario.seconds,
            scenario.mean() * 1e3,
        );
        Self {
            name: scenario.name,
            title,
            extra: scenario.extra,
            mean: scenario.mean() * 1e3,
            load: scenario.load,
            rows,
        }
    }

    pub(crate) fn markdown(&self) -> String {
        let mut text = format!("{}\n\n| policy | p50 | p99 | p99.9 | max/avg load | errors |", self.title);
        let more = match self.extra {
            Extra::Nothing => "",
            Extra::Affinity => " affinity |",
            Extra::MostCalls => " max/avg calls in 10 s |",
            Extra::MostAtOnce => " most at once |",
        };
        let columns = 6 + usize::from(!more.is_empty());
        let _ = writeln!(text, "{more}\n|{}", "---|".repeat(columns));
        for (name, row) in &self.rows {
            let [p50, p99, p999] = row.times.map(time);
            let errors = percent(row.errors);
            let _ = write!(text, "| {name} | {p50} | {p99} | {p999} | {:.2} | {errors} |", row.most_load);
            let _ = match self.extra {
                Extra::Nothing => Ok(()),
                Extra::Affinity => write!(text, " {:.1} % |", row.affinity * 100.0),
                Extra::MostCalls => write!(text, " {:.2} |", row.most_calls),
                Extra::MostAtOnce => write!(text, " {} |", row.most_at_once),
            };
            text.push('\n');
        }
        text
    }

    fn row(&self, name: &str) -> Option<&Measured> {
        self.rows.iter().find(|row| row.0 == name).map(|row| &row.1)
    }
}

fn time(millis: f64) -> String {
    if millis < 10_000.0 { format!("{millis:.0} ms") } else { format!("{:.0} s", millis / 1e3) }
}

/// In milliseconds, what [`time`] wrote.
fn millis(time: &str) -> f64 {
    let (number, unit) = time.split_once(' ').unwrap_or((time, "ms"));
    number.parse().unwrap_or(0.0) * if unit == "s" { 1e3 } else { 1.0 }
}

fn percent(share: f64) -> String {
    if share == 0.0 { String::from("0") } else { format!("{:.3} %", share * 100.0) }
}

/// With a blank before each three digits.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// Prints whether the tables show what they have to, and returns whether one does not. A short run tells too little.
pub(crate) fn check(tables: &[Table], is_short: bool) -> bool {
    let mut failed = false;
    let mut tell = |what: String, holds: bool| {
        let verdict = if is_short {
            "NOT JUDGED, the run is short"
        } else if holds {
            "PASS"
        } else {
            "FAIL"
        };
        println!("{verdict}: {what}");
        failed |= !holds && !is_short;
    };
    for table in tables {
        let (random, towers, ours) = (table.row(RANDOM), table.row(TOWERS), table.row(OURS));
        let (Some(random), Some(towers), Some(ours)) = (random, towers, ours) else { continue };
        match table.name {
            "S1" => {
                // The time in a queue M/M/1 is exponential, of this mean.
                let theory = table.mean / (1.0 - table.load) * 100.0_f64.ln();
                let off = random.times[1] / theory - 1.0;
                tell(
                    format!(
                        "S1 p99 of random is within 5 % of queueing theory's: {:.0} ms by {theory:.0} ms",
                        random.times[1]
                    ),
                    off.abs() <= 0.05,
                );
            }
            "S2" => tell(
                format!(
                    "S2 p99 of ours is no worse than that of Tower's formula: {:.0} ms by {:.0} ms",
                    ours.times[1], towers.times[1]
                ),
                ours.times[1] <= towers.times[1],
            ),
            "S3" => tell(
                format!(
                    "S3 errors of ours are a tenth of those by Tower's formula at most: {} by {}",
                    percent(ours.errors),
                    percent(towers.errors)
                ),
                ours.errors <= towers.errors / 10.0,
            ),
            "S5" => tell(
                format!(
                    "S5 ours gives no endpoint more than 1.5 times its fair share in any 10 s: {:.2}",
                    ours.most_calls
                ),
                ours.most_calls <= 1.5,
            ),
            _ => {}
        }
    }
    failed
}

const BEGIN: &str = "<!-- simulate: the tables below are written by the command above -->\n";
const END: &str = "<!-- simulate: end -->\n";

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs")
}

/// The page, before, in and after the part that is written here.
fn page() -> io::Result<(String, String, String)> {
    let text = fs::read_to_string(docs().join("balancing.md"))?;
    let missing = || io::Error::other("docs/balancing.md has no place for the tables");
    let (before, rest) = text.split_once(BEGIN).ok_or_else(missing)?;
    let (tables, after) = rest.split_once(END).ok_or_else(missing)?;
    Ok((before.to_owned(), tables.to_owned(), after.to_owned()))
}

/// Writes the tables into the page, and the picture.
pub(crate) fn write(tables: &[Table]) -> io::Result<()> {
    let (before, _, after) = page()?;
    let tables: Vec<String> = tables.iter().map(Table::markdown).collect();
    let tables = format!("\n{}\n", tables.join("\n"));
    fs::write(docs().join("balancing.md"), format!("{before}{BEGIN}{tables}{END}{after}"))?;
    fs::write(docs().join("img/balancing.svg"), draw(&tables))
}

/// Looks whether the picture is what is drawn from the tables of the page.
pub(crate) fn check_picture() -> io::Result<()> {
    let (_, tables, _) = page()?;
    if fs::read_to_string(docs().join("img/balancing.svg"))? == draw(&tables) {
        return Ok(());
    }
    Err(io::Error::other("docs/img/balancing.svg is not what docs/balancing.md says: run this with --write"))
}

/// Draws the times of all tables, in means of a call's work.
fn draw(markdown: &str) -> String {
    const LEFT: f64 = 160.0;
    const WIDTH: f64 = 380.0;
    const HEIGHT: f64 = 13.0;
    let mut body = String::new();
    let mut y = 44.0;
    for table in markdown.split("\n**").skip(1) {
        let title = table.split(".**").next().unwrap_or_default();
        let mean: f64 = table
            .split("that take ")
            .nth(1)
            .and_then(|rest| rest.split(' ').next()?.parse().ok())
            .unwrap_or(1.0);
        let _ = writeln!(body, "<text x=\"{}\" y=\"{y}\" font-weight=\"bold\">{title}</text>", 8);
        y += HEIGHT + 2.0;
        for line in table.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| policy")) {
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            let x = |cell: usize| {
                let times = millis(cells[cell]) / mean;
                LEFT + 60.0 + (times.max(0.1).log10() + 1.0) * WIDTH / 5.0
            };
            let (p50, p99, p999) = (x(2), x(3), x(4));
            let color = match cells[1] {
                OURS => "#2a7d2a",
                TOWERS => "#b00020",
                _ => "#1a5fb4",
            };
            let _ = writeln!(
                body,
                "<text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"end\" font-size=\"9\">{}</text>\
                 <path d=\"M{p50:.1} {mid:.1}H{p99:.1}\" stroke=\"{color}\" stroke-width=\"5\"/>\
                 <path d=\"M{p99:.1} {mid:.1}H{p999:.1}\" stroke=\"{color}\"/>\
                 <text x=\"752\" y=\"{:.0}\" text-anchor=\"end\" font-size=\"9\" fill=\"#b00020\">{}</text>",
                LEFT + 52.0,
                y,
                cells[1],
                y,
                if cells[6] == "0" { "" } else { cells[6] },
                mid = y - 3.0,
            );
            y += HEIGHT;
        }
        y += 12.0;
    }
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 760 {y:.0}\" font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"760\" height=\"{y:.0}\" fill=\"#fff\"/>\n\
         <text x=\"8\" y=\"18\" font-size=\"13\" font-weight=\"bold\">Time of a call by the mean time of its work: from the median to p99 (broad) and p99.9 (thin)</text>\n\
         <text x=\"752\" y=\"32\" text-anchor=\"end\" fill=\"#b00020\">failed</text>\n"
    );
    for (power, label) in ["0.1", "1", "10", "100", "1000", "10 000"].iter().enumerate() {
        let at = LEFT + 60.0 + power as f64 * WIDTH / 5.0;
        let _ = writeln!(
            svg,
            "<path d=\"M{at:.0} 36V{:.0}\" stroke=\"#ddd\"/><text x=\"{at:.0}\" y=\"32\" text-anchor=\"middle\" fill=\"#888\">{label}</text>",
            y - 8.0
        );
    }
    svg + &body + "</svg>\n"
}
