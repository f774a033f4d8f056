//! How much of a peer's time does a call through the whole layer take: key, check, answer and fields?
//!
//! The service below answers at once. Requests are made before the clock starts, and answers dropped after it stops.

use std::time::Duration;

use http::Request;

mod race;
mod sides;
use race::{Ask, Races, time};
use sides::layers::{self, Api};
use sides::{AMPLE, Hello, KEYS, RATE, call};

const BATCH: usize = 256;

fn main() {
    let races = Races::new(Ask::from_args());
    let microsecond = Duration::from_micros(1);
    let minute = Duration::from_secs(60);
    // Without a key all calls count together.
    let most = || buttress_rate_limit::Limit::per_second(RATE.into());

    races.row("no layer at all", "itself", None, 4096, calls(Hello), calls(Hello));
    races.row(
        "allowed without fields",
        "tower_governor",
        None,
        4096,
        calls(layers::answered(sides::ample(), false)),
        calls(layers::governor_silent(microsecond, AMPLE)),
    );
    races.row(
        "allowed without fields or key",
        "tower-resilience",
        None,
        4096,
        calls(layers::global(most())),
        calls(layers::resilience(RATE as usize, Duration::from_secs(1))),
    );
    races.row(
        "allowed with fields",
        "tower_governor",
        None,
        4096,
        calls(layers::answered(sides::ample(), true)),
        calls(layers::governor(microsecond, AMPLE)),
    );
    races.row(
        "refused as an error",
        "tower-resilience",
        None,
        4096,
        calls(layers::typed(sides::tight())),
        calls(layers::resilience(1, minute)),
    );
    races.row(
        "refused as a response",
        "tower_governor",
        None,
        4096,
        calls(layers::answered(sides::tight(), false)),
        calls(layers::governor(minute, 1)),
    );
}

/// How long `count` calls take, from 1024 clients in turn.
fn calls(mut service: impl Api) -> impl FnMut(u64) -> Duration {
    let clients = sides::addresses(KEYS);
    move |count| {
        let mut spent = Duration::ZERO;
        for batch in 0..count as usize / BATCH {
            let requests: Vec<Request<()>> =
                (0..BATCH).map(|i| sides::request(clients[(batch * BATCH + i) % KEYS])).collect();
            let mut answers = Vec::with_capacity(BATCH);
            spent += time(|| answers.extend(requests.into_iter().map(|request| call(&mut service, request))));
        }
        spent
    }
}
