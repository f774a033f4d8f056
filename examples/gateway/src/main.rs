//! cargo run --release -p gateway
//!
//! A reverse proxy from Buttress layers: `stack.rs` is what stands between a request and its upstream,
//! `server.rs` what stands around it. The README draws the picture.

mod access_log;
mod admin;
mod args;
mod config;
mod demo;
mod faults;
mod inbound;
mod kept;
mod listen;
mod live;
mod metrics;
mod print;
mod reload;
mod routing;
mod sending;
mod server;
mod signals;
mod stack;
mod upstream;
mod watch;

use std::{net::SocketAddr, path::PathBuf, process::ExitCode};

use args::Command;
use config::Config;
use demo::Demo;
use print::{complain, say};
use reload::Followed;
use signals::{HangUps, Signals};
use watch::Watch;

fn main() -> ExitCode {
    match args::parse(std::env::args_os().skip(1)) {
        Ok(Command::Help) => say(args::HELP),
        Ok(Command::Version) => say(concat!("gateway ", env!("CARGO_PKG_VERSION"), "\n")),
        Ok(Command::Run { config, listen }) => return start(config, listen),
        Err(error) => {
            complain(format_args!("{error}; see gateway --help"));
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}

/// A configuration that cannot work ends the program before anything is started.
fn start(path: Option<PathBuf>, listen: Option<SocketAddr>) -> ExitCode {
    let file = path.map(Followed::new);
    let config = match file.as_ref().map(|file| Config::load(file.path())).transpose() {
        Ok(config) => config,
        Err(problem) => {
            complain(problem);
            return ExitCode::from(2);
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(format_args!("cannot start: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let code = match runtime.block_on(run(file, config, listen)) {
        Ok(code) => code,
        Err(error) => {
            complain(error);
            ExitCode::FAILURE
        }
    };
    // What is still running has had its time: name lookups and abandoned calls must not hold the exit up.
    runtime.shutdown_background();
    code
}

async fn run(
    file: Option<Followed>,
    config: Option<Config>,
    listen: Option<SocketAddr>,
) -> std::io::Result<ExitCode> {
    // From the first line it prints, the program drains when it is asked to stop.
    let mut signals = Signals::new()?;
    let reloads = file.map(|file| HangUps::new().map(|hang_ups| (file, hang_ups))).transpose()?;
    let (config, demo) = match config {
        Some(config) => (config, None),
        None => {
            let demo = Demo::start().await?;
            (demo.config()?, Some(demo))
        }
    };
    let taken = match listen {
        Some(address) => listen::exactly(address).await?,
        None if demo.is_some() => listen::or_next_free(config.listen()).await?,
        None => listen::exactly(config.listen().unwrap_or(listen::DEFAULT)).await?,
    };
    let watch = Watch::new(&config)?;
    let admin = admin::start(&config, &watch).await?;
    print::welcome(&taken, &config, admin, demo.is_some());
    let (live, apply) = live::live(&config, watch.clone());
    let service = watch.around(live);
    if let Some((file, hang_ups)) = reloads {
        tokio::spawn(reload::follow(file, hang_ups, watch.clone(), apply));
    }
    signals.tell(watch.readiness());
    let code = server::serve(taken.listener, &config, service, &mut signals).await;
    watch.flush_log();
    // Until here the demo's services live, and the port behind "/legacy" stays free of others.
    drop(demo);
    Ok(code)
}
