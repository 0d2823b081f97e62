//! The server: one test after the other, told as they go. While one runs, others are told that we are busy.

use super::{
    Stopped, client, errors,
    options::{Form, Options},
    pin,
    printer::{Printer, style},
    signals,
    story::{Story, now_millis, start_view, system_info},
};
use crate::{
    iperf3::{
        StreamEnds, TestEvent, TestOutcome,
        auth::{AuthError, Gatekeeper},
        output::{json, text, view::Side},
        server::{Hooks, Rejection, Server, ServerError, ServerEvent, ServerOptions, ServerOutput},
        wire::{ErrorCode, Parameters, server::Failure},
    },
    sys::stop::Stop,
};
use std::{
    io::Write,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

/// How long a receiving test may be silent, unless told otherwise.
const DATA_PATIENCE: Duration = Duration::from_mins(2);

/// How long the output for a client waits for the head of its own test.
const HEAD: Duration = Duration::from_secs(1);

/// What the hooks, which run on the test's thread, know of the test that runs.
#[derive(Debug, Default)]
struct Current {
    peer: Option<SocketAddr>,
    parameters: Option<Parameters>,
    streams: Vec<StreamEnds>,
    /// When something last happened.
    active: Option<Instant>,
    running: bool,
}

type Shared = Arc<Mutex<Current>>;

fn lock(shared: &Shared) -> std::sync::MutexGuard<'_, Current> {
    // It is whole whatever thread died while holding it.
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn run(options: &Options, out: &mut dyn Write, err: &mut dyn Write) -> Result<(), Stopped> {
    let keeper = gatekeeper(options)?;
    let shared = Shared::default();
    let setup = |error: std::io::Error| Stopped::Error(format!("failed to set up: {error}"));
    let stop = Stop::new().map_err(setup)?;
    let caught = signals::listen(&stop).map_err(setup)?;
    let server = bind(options, keeper, &shared)?;
    let idle = watch_idleness(options, &stop, &shared).map_err(setup)?;
    let mut printer = Printer::new(options, out, err);
    let mut number = 1;
    let head = |printer: &mut Printer<'_>, number| {
        if options.verbose {
            printer.lines(&text::version(&system_info()));
        }
        printer.lines(&text::banner(options.port, number));
    };
    head(&mut printer, number);
    let mut story: Option<Story> = None;
    let served = server.serve(&stop, &mut |event| {
        lock(&shared).active = Some(Instant::now());
        match event {
            ServerEvent::Admitted { peer, .. } => {
                let mut current = lock(&shared);
                *current = Current {
                    peer: Some(peer),
                    active: current.active,
                    running: true,
                    ..Current::default()
                };
            }
            ServerEvent::Accepted { parameters, .. } => {
                printer.extras.title.clone_from(&parameters.title);
                printer.extras.extra_data.clone_from(&parameters.extra_data);
                lock(&shared).parameters = Some(*parameters);
            }
            ServerEvent::Test {
                cookie,
                event: TestEvent::Running(streams),
            } => {
                let mut current = lock(&shared);
                current.streams = streams;
                if let (Some(peer), Some(parameters)) = (current.peer, &current.parameters) {
                    let peer = (peer.ip().to_string(), peer.port());
                    let start = start_view(
                        Side::Server,
                        peer,
                        &cookie,
                        parameters,
                        options.interval,
                        &current.streams,
                    );
                    printer.start(&start);
                    story = Some(Story::new(start));
                }
            }
            ServerEvent::Test {
                event: TestEvent::Interval(samples),
                ..
            } => {
                if let Some(view) = story.as_mut().and_then(|story| story.interval(&samples)) {
                    printer.interval(&view);
                }
            }
            ServerEvent::Finished(report) => {
                let (outcome, error) = match &report.outcome {
                    Ok(outcome) => (Some(outcome), None),
                    Err(error) => (error.measured(), Some(error)),
                };
                if let (Some(story), Some(outcome)) = (&story, outcome) {
                    printer.end(&story.end(outcome, None));
                }
                let interrupted = caught.any() || outcome.is_some_and(|outcome| outcome.interrupted);
                if let Some(error) = error.filter(|_| !interrupted) {
                    let reached = matches!(
                        error,
                        crate::iperf3::server::TestError::Protocol {
                            source: Failure::Refused(_),
                            ..
                        }
                    );
                    if !printer.has_started() && !reached {
                        let peer = report.peer;
                        printer.lines(&text::greeting(
                            Side::Server,
                            &peer.ip().to_string(),
                            peer.port(),
                            false,
                        ));
                    }
                    printer.error(&errors::of_server(error));
                }
                story = None;
                number += 1;
                if !interrupted {
                    printer.finish();
                    if !options.one_off {
                        head(&mut printer, number);
                    }
                }
                lock(&shared).running = false;
            }
            ServerEvent::Rejected {
                reason: Rejection::NoCookie,
                ..
            } => {
                printer.error(&format!("error - {}", ErrorCode::new(ErrorCode::RECEIVE_COOKIE)));
            }
            ServerEvent::Test { .. } | ServerEvent::Rejected { .. } => {}
        }
    });
    if let Err(error) = served {
        printer.error(&format!("error - {}", errors::chain(&error)));
        return Err(Stopped::Said);
    }
    if caught.any() {
        printer.error(&format!("interrupt - the server has terminated{}", caught.text()));
        printer.finish();
    }
    if let Some(idle) = idle {
        stop.stop();
        // It does nothing that panics.
        let _ = idle.join();
    }
    Ok(())
}

fn bind(options: &Options, keeper: Option<Gatekeeper>, shared: &Shared) -> Result<Server, Stopped> {
    let engine = ServerOptions {
        one_test: options.one_off,
        only_v6: options.only_v6,
        sample_interval: Duration::from_secs_f64(options.interval),
        // As iperf3: one at a time.
        tests: 1,
        rate_limit: options.bitrate_limit.filter(|limit| *limit > 0).map(|limit| {
            (
                limit.unsigned_abs(),
                Duration::from_secs_f64(options.bitrate_limit_seconds.max(0.1)),
            )
        }),
        data_patience: Some(options.receive_timeout.unwrap_or(DATA_PATIENCE)),
        hooks: Some(hooks(options, keeper, shared)),
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

fn gatekeeper(options: &Options) -> Result<Option<Gatekeeper>, Stopped> {
    let (Some(key), Some(users)) = (&options.private_key, &options.users) else {
        return Ok(None);
    };
    let key = std::fs::read_to_string(key).map_err(|_| Stopped::Parameter(ErrorCode::new(23)))?;
    let users = std::fs::read_to_string(users).map_err(|_| Stopped::Parameter(ErrorCode::new(35)))?;
    match Gatekeeper::new(&key, &users, options.skew, options.pkcs1) {
        Ok(keeper) => Ok(Some(keeper)),
        Err(AuthError::NoKey(_)) => Err(Stopped::Parameter(ErrorCode::new(23))),
        Err(error) => Err(Stopped::Error(errors::chain(&error))),
    }
}

fn hooks(options: &Options, keeper: Option<Gatekeeper>, shared: &Shared) -> Hooks {
    let (limit, longest) = (
        options.bitrate_limit.filter(|limit| *limit > 0),
        options.max_duration,
    );
    let admit = move |parameters: &Parameters| {
        if let Some(keeper) = &keeper {
            keeper
                .check_in_fixed_time(parameters.authtoken.as_deref(), now_millis() / 1000)
                .map_err(|_| ErrorCode::new(ErrorCode::AUTHENTICATION))?;
        }
        admit(parameters, limit, longest)?;
        parameters.server_affinity.map_or(Ok(()), pin)
    };
    let (options, shared) = (options.clone(), Arc::clone(shared));
    let output = move |outcome: &TestOutcome| output(&options, &shared, outcome);
    Hooks {
        admit: Arc::new(admit),
        output: Arc::new(output),
    }
}

/// Whether a test keeps within what the server allows.
fn admit(parameters: &Parameters, limit: Option<i64>, longest: Option<i64>) -> Result<(), ErrorCode> {
    if let Some(longest) = longest {
        let time = parameters.time.unwrap_or(10);
        if time == 0 || time.saturating_add(parameters.omit.unwrap_or(0)) > longest {
            return Err(ErrorCode::new(ErrorCode::MAX_DURATION));
        }
    }
    if let Some(limit) = limit {
        let streams = parameters.total_streams() as i64;
        let above = |rate: Option<i64>| rate.unwrap_or(0).saturating_mul(streams) > limit;
        if above(parameters.bandwidth) || above(parameters.fqrate) {
            return Err(ErrorCode::new(ErrorCode::TOTAL_RATE));
        }
    }
    Ok(())
}

/// What we print for a test, made again from its outcome: what was printed itself is another thread's.
fn output(options: &Options, shared: &Shared, outcome: &TestOutcome) -> ServerOutput {
    let began = Instant::now();
    let mut streams = lock(shared).streams.clone();
    while streams.is_empty() && began.elapsed() < HEAD {
        thread::sleep(Duration::from_millis(5));
        streams.clone_from(&lock(shared).streams);
    }
    let peer = outcome.control.1;
    let peer = (peer.ip().to_string(), peer.port());
    let start = start_view(
        Side::Server,
        peer,
        &outcome.cookie,
        &outcome.parameters,
        options.interval,
        &streams,
    );
    let mut story = Story::new(start.clone());
    let intervals = story.intervals(outcome);
    let end = story.end(outcome, None);
    if options.form == Form::Text {
        let style = style(options);
        let mut lines = text::start(&start, style);
        for (index, view) in intervals.iter().enumerate() {
            lines.extend(text::interval(&start, view, index == 0, style));
        }
        lines.extend(text::summary(&start, &end, style));
        return ServerOutput::Text(lines.join("\n") + "\n");
    }
    let intervals = intervals
        .iter()
        .map(|view| json::interval(&start, view))
        .collect();
    ServerOutput::Json(json::document(
        json::start(&start),
        intervals,
        Some(json::end(&start, &end)),
        &json::Extras::default(),
    ))
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
            if !current.running && since.elapsed() >= timeout {
                stop.stop();
            }
        }
    };
    thread::Builder::new()
        .name("idle".to_owned())
        .spawn(watch)
        .map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_stocks() {
        let test = |time, omit, bandwidth, parallel, bidirectional| Parameters {
            time: Some(time),
            omit: Some(omit),
            bandwidth: Some(bandwidth),
            parallel: Some(parallel),
            bidirectional,
            ..Parameters::default()
        };
        let code = |parameters: &Parameters| {
            admit(parameters, Some(10_000_000), Some(5))
                .err()
                .map(|error| error.code)
        };
        assert_eq!(code(&test(5, 0, 10_000_000, 1, false)), None);
        assert_eq!(code(&test(5, 1, 0, 1, false)), Some(37));
        assert_eq!(code(&test(0, 0, 0, 1, false)), Some(37));
        assert_eq!(code(&test(1, 0, 5_000_001, 2, false)), Some(27));
        assert_eq!(code(&test(1, 0, 5_000_001, 1, true)), Some(27));
        assert_eq!(code(&test(1, 0, 0, 128, true)), None);
    }
}
