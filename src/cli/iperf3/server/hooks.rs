//! What the tests of a server ask it, each on its own thread: whether it may run, and what was printed for it.

use super::{Shared, lock};
use crate::{
    cli::iperf3::{
        Stopped, errors,
        options::{Form, Options},
        pin,
        printer::style,
        story::{Story, now_millis, start_view},
    },
    iperf3::{
        TestOutcome,
        auth::{AuthError, Gatekeeper},
        output::{json, text, view::Side},
        server::{Hooks, ServerOutput},
        wire::{ErrorCode, Parameters},
    },
};
use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

/// How long the output for a client waits for the head of its own test.
const HEAD: Duration = Duration::from_secs(1);

pub(super) fn gatekeeper(options: &Options) -> Result<Option<Gatekeeper>, Stopped> {
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

pub(super) fn hooks(options: &Options, keeper: Option<Gatekeeper>, shared: &Shared) -> Hooks {
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
    let known = || lock(shared).streams.get(&outcome.cookie).cloned();
    let mut streams = known();
    while streams.is_none() && began.elapsed() < HEAD {
        thread::sleep(Duration::from_millis(5));
        streams = known();
    }
    let streams = streams.unwrap_or_default();
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
    let mut story = Story::new(start.clone(), options.file.clone());
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
