//! The server: tests side by side, told as they go.

mod hooks;
mod tales;

use super::{Stopped, client, errors, options::Options, signals};
use crate::{
    iperf3::{
        SocketOptions, StreamEnds,
        server::{Server, ServerError, ServerOptions},
        wire::{Cookie, ErrorCode},
    },
    sys::stop::Stop,
};
use std::{
    collections::HashMap,
    io::Write,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};
use tales::Tales;

/// How long a test may be silent, unless told otherwise.
const DATA_PATIENCE: Duration = Duration::from_mins(2);

/// Tests at once, unless told otherwise.
const TESTS: usize = 1000;

/// What the hooks and the watch over idleness, which run on other threads, know of the tests.
#[derive(Debug, Default)]
struct Current {
    /// The streams of each test whose data flows.
    streams: HashMap<Cookie, Vec<StreamEnds>>,
    /// When something last happened.
    active: Option<Instant>,
    /// Tests that were admitted and are not over.
    tests: usize,
}

type Shared = Arc<Mutex<Current>>;

fn lock(shared: &Shared) -> std::sync::MutexGuard<'_, Current> {
    // It is whole whatever thread died while holding it.
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn run(options: &Options, out: &mut dyn Write, err: &mut dyn Write) -> Result<(), Stopped> {
    let keeper = hooks::gatekeeper(options)?;
    let shared = Shared::default();
    let setup = |error: std::io::Error| Stopped::Error(format!("failed to set up: {error}"));
    let stop = Stop::new().map_err(setup)?;
    let caught = signals::listen(&stop).map_err(setup)?;
    let server = bind(options, hooks::hooks(options, keeper, &shared))?;
    let idle = watch_idleness(options, &stop, &shared).map_err(setup)?;
    let mut tales = Tales::new(options, out, err, Arc::clone(&shared), caught.clone());
    let served = server.serve(&stop, &mut |event| tales.tell(event));
    if let Err(error) = served {
        tales
            .printer()
            .error(&format!("error - {}", errors::chain(&error)));
        return Err(Stopped::Said);
    }
    if caught.any() {
        tales.interrupted();
    }
    if let Some(idle) = idle {
        stop.stop();
        // It does nothing that panics.
        let _ = idle.join();
    }
    Ok(())
}

fn bind(options: &Options, hooks: crate::iperf3::server::Hooks) -> Result<Server, Stopped> {
    let engine = ServerOptions {
        one_test: options.one_off,
        only_v6: options.only_v6,
        sample_interval: Duration::from_secs_f64(options.interval),
        tests: if options.one_test_at_a_time || options.one_off {
            1
        } else {
            options.max_tests.unwrap_or(TESTS)
        },
        rate_limit: options.bitrate_limit.filter(|limit| *limit > 0).map(|limit| {
            (
                limit.unsigned_abs(),
                Duration::from_secs_f64(options.bitrate_limit_seconds.max(0.1)),
            )
        }),
        data_patience: Some(options.receive_timeout.unwrap_or(DATA_PATIENCE)),
        hooks: Some(hooks),
        sockets: SocketOptions {
            device: options.bind_device.clone(),
            user_timeout: options.send_timeout.filter(|timeout| !timeout.is_zero()),
            keepalive: options.keepalive.as_deref().map(client::keepalive),
            // A client asks for it, test by test; plain TCP is accepted all the same.
            mptcp: true,
            sctp_addresses: client::sctp_addresses(options).map_err(Stopped::Error)?,
            ..SocketOptions::default()
        },
        file: options.file.clone(),
        ..ServerOptions::default()
    };
    let listen = |address: IpAddr| Server::bind(SocketAddr::new(address, options.port), engine.clone());
    let bound = match &options.bind {
        Some(host) => {
            let address = client::resolve(host, options.port, options)
                .map_err(|text| Stopped::Error(format!("{}: {text}", ErrorCode::new(102))))?;
            listen(address.ip())
        }
        None if options.only_v4 => listen(Ipv4Addr::UNSPECIFIED.into()),
        // One socket for both, where there is IPv6 at all.
        None => match listen(Ipv6Addr::UNSPECIFIED.into()) {
            Err(ServerError::Listen(_, error))
                if error.raw_os_error() == Some(libc::EAFNOSUPPORT) && !options.only_v6 =>
            {
                listen(Ipv4Addr::UNSPECIFIED.into())
            }
            bound => bound,
        },
    };
    bound.map_err(|error| match error {
        ServerError::Listen(_, source) => Stopped::Error(ErrorCode::with_source(102, &source).to_string()),
        other @ ServerError::System(..) => Stopped::Error(errors::chain(&other)),
    })
}

/// With `-1 --idle-timeout`, ends a server to which nobody comes. Without `-1` iperf3 restarts an idle server in case
/// it hangs; ours doesn't, so there is nothing to do.
fn watch_idleness(
    options: &Options,
    stop: &Stop,
    shared: &Shared,
) -> std::io::Result<Option<thread::JoinHandle<()>>> {
    let Some(timeout) = options.idle_timeout.filter(|_| options.one_off) else {
        return Ok(None);
    };
    let (stop, shared, began) = (stop.clone(), Arc::clone(shared), Instant::now());
    let watch = move || {
        while !stop.wait(Duration::from_millis(100)) {
            let current = lock(&shared);
            let since = current.active.unwrap_or(began);
            if current.tests == 0 && since.elapsed() >= timeout {
                stop.stop();
            }
        }
    };
    thread::Builder::new()
        .name("idle".to_owned())
        .spawn(watch)
        .map(Some)
}
