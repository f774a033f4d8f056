//! cargo run --release -p gateway
//!
//! A reverse proxy from Buttress layers: `stack.rs` is what stands between a request and its upstream,
//! `listeners.rs` what stands around it. The README draws the picture.

mod access_log;
mod admin;
mod args;
mod config;
mod demo;
mod erased;
mod extras;
mod faults;
mod inbound;
mod kept;
mod listeners;
mod live;
mod metrics;
mod print;
mod reload;
mod routing;
mod sent;
mod signals;
mod stack;
mod tcp;
mod upstream;
mod watch;

use std::{net::SocketAddr, path::PathBuf, process::ExitCode};

use args::Command;
use buttress::{health::Shutdown, proxy::server};
use config::Config;
use demo::Demo;
use futures_util::future::join;
use http::Request;
use humantime::format_duration;
use inbound::Inbound;
use listeners::Listeners;
use print::{complain, note, say};
use reload::Followed;
use signals::{HangUps, Signals};
use tcp::TcpPorts;
use tower::util::MapRequest;
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
    let config = match path.as_deref().map(Config::load).transpose() {
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
    let code = match runtime.block_on(run(path, config, listen)) {
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
    path: Option<PathBuf>,
    config: Option<Config>,
    listen: Option<SocketAddr>,
) -> std::io::Result<ExitCode> {
    // From the first line it prints, the program drains when it is asked to stop.
    let mut signals = Signals::new()?;
    let hang_ups = path.as_ref().map(|_| HangUps::new()).transpose()?;
    let file = path.zip(config.as_ref()).map(|(path, config)| Followed::new(path, config));
    let (config, demo) = match config {
        Some(config) => (config, None),
        None => {
            let demo = Demo::start().await?;
            (demo.config()?, Some(demo))
        }
    };
    let watch = Watch::new(&config)?;
    let shutdown = Shutdown::new(watch.readiness()).pre_drain(config.pre_drain()).grace(config.drain());
    let open = listeners::open(&config, listen, demo.is_some())?;
    let admin = admin::start(&config, &watch).await?;
    let welcome = print::welcome(&open, &config, admin, demo.is_some());
    let (live, mut take) = live::live(&config, watch.clone());
    let received = |request: Request<server::Body>| request.map(Inbound::from);
    let service = MapRequest::new(watch.around(live), received);
    let mut listeners = Listeners::new(service, watch.clone(), &config, listen, open, shutdown.clone());

    let mut tcp = TcpPorts::new(shutdown.clone());
    let change = tcp.change(&config)?;
    tcp.apply(&config, change);
    watch.readiness().started();
    say(&welcome);

    let reloads = async {
        let (Some(mut file), Some(mut hang_ups)) = (file, hang_ups) else {
            return std::future::pending().await;
        };
        loop {
            let config = file.next(&mut hang_ups, &watch).await;
            // What may fail comes first.
            let change = listeners.change(&config).and_then(|ports| Ok((ports, tcp.change(&config)?)));
            match change.and_then(|change| watch.take(&config).map(|()| change)) {
                Ok((ports, tcp_ports)) => {
                    take(&config);
                    listeners.apply(ports);
                    tcp.apply(&config, tcp_ports);
                    file.is_in_force(&watch);
                }
                Err(error) => reload::stays(&watch, error),
            }
        }
    };
    tokio::select! {
        () = signals.stop() => {}
        () = reloads => {}
    }

    shutdown.begin();
    let drain = format_duration(config.drain());
    note(format_args!("draining for at most {drain}; the same signal again ends at once"));
    let code = tokio::select! {
        (cut, ()) = join(listeners.ended(), tcp.ended()) => {
            if cut > 0 {
                note("the drain took too long: what was still in flight is cut off");
            }
            ExitCode::SUCCESS
        }
        () = signals.stop() => ExitCode::from(130),
    };
    watch.flush_log();
    // Until here the demo's services live, and the port behind "/legacy" stays free of others.
    drop(demo);
    Ok(code)
}
