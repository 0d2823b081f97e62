//! Throughput jobs: the iperf3 protocol, so that either end may be a stock iperf3.

use super::{
    process::{Answer, Outbox},
    protocol::{JobResult, chain},
};
use crate::{
    iperf3::{
        TestEvent,
        client::{self, ClientOptions, Finish, Flow, TestParameters},
        server::{Rejection, Server, ServerEvent, ServerOptions},
        wire::{COOKIE_LENGTH, Cookie, Transport},
    },
    scenario::{Protocol, Throughput},
    sys::stop::Stop,
    units::Span,
};
use std::net::{IpAddr, SocketAddr};

/// A test's name from its text: what is too long is cut, as iperf3 does.
fn cookie(text: &str) -> Cookie {
    let mut bytes = [0; COOKIE_LENGTH];
    for (byte, letter) in bytes.iter_mut().take(COOKIE_LENGTH - 1).zip(text.bytes()) {
        *byte = letter;
    }
    Cookie::from_bytes(bytes)
}

/// Serves the one test of that name; all others are refused and don't disturb it.
pub(super) fn serve(
    id: u64,
    address: SocketAddr,
    name: &str,
    sample_interval: Span,
    stop: &Stop,
    outbox: &Outbox,
) -> Answer {
    let options = ServerOptions {
        one_test: true,
        cookie: Some(cookie(name)),
        sample_interval: sample_interval.get(),
        ..ServerOptions::default()
    };
    let server = Server::bind(address, options).map_err(|error| chain(&error))?;
    outbox.listening(id, server.local_addr().port())?;
    let mut report = None;
    let mut on_event = |event| match event {
        ServerEvent::Test {
            event: TestEvent::Running(_),
            ..
        } => outbox.running(id),
        ServerEvent::Finished(finished) => report = Some(finished),
        ServerEvent::Rejected { peer, reason } => {
            let why = match reason {
                Rejection::NoCookie => "it spoke no iperf3",
                Rejection::Busy => "it was none of this test's",
                Rejection::Crowded => "too many such were waiting",
            };
            tracing::warn!("refused a connection from {peer}: {why}");
        }
        ServerEvent::Test { .. } | ServerEvent::Admitted { .. } | ServerEvent::Accepted { .. } => {}
    };
    server.serve(stop, &mut on_event).map_err(|error| chain(&error))?;
    match report {
        Some(report) => match report.outcome {
            Ok(outcome) => Ok(JobResult::Throughput(outcome.result)),
            Err(error) => Err(chain(&error)),
        },
        None => Err("the server was stopped before a test came".to_owned()),
    }
}

/// A client's test: where it goes, from where, and what it is called.
pub(super) struct Target {
    pub(super) bind: IpAddr,
    pub(super) server: SocketAddr,
    pub(super) name: String,
}

/// Runs a test as its client.
pub(super) fn run(
    id: u64,
    target: &Target,
    test: &Throughput,
    congestion: Option<String>,
    sample_interval: Span,
    stop: &Stop,
    outbox: &Outbox,
) -> Answer {
    let options = ClientOptions {
        bind: Some(target.bind),
        test: parameters(test, congestion),
        sample_interval: sample_interval.get(),
        cookie: Some(cookie(&target.name)),
        // The other end is a worker too.
        ask_again: true,
        ..ClientOptions::new(target.server)
    };
    let mut on_event = |event: TestEvent| {
        if matches!(event, TestEvent::Running(_)) {
            outbox.running(id);
        }
    };
    let outcome = client::run(&options, stop, &mut on_event).map_err(|error| chain(&error))?;
    if outcome.interrupted {
        return Err("the test was stopped".to_owned());
    }
    Ok(JobResult::Throughput(outcome.result))
}

/// A scenario's workload in the protocol's terms.
fn parameters(test: &Throughput, congestion: Option<String>) -> TestParameters {
    let udp = test.protocol == Protocol::Udp;
    TestParameters {
        transport: if udp { Transport::Udp } else { Transport::Tcp },
        // A long fast test sends more datagrams than 32 bits count.
        counters_64bit: udp,
        streams: test.streams,
        flow: match (test.bidirectional, test.reverse) {
            (true, _) => Flow::Bidirectional,
            (false, true) => Flow::Reverse,
            (false, false) => Flow::Forward,
        },
        finish: Finish::After(test.duration.get()),
        omit: test.omit.get(),
        length: test.length,
        window: test.window,
        mss: test.mss,
        no_delay: test.no_delay,
        congestion: congestion.filter(|_| !udp),
        bitrate: test.bitrate,
        fast: test.fast,
        with: test.with.iter().copied().collect(),
        without: test.without.iter().copied().collect(),
        ..TestParameters::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_goes_over_as_the_scenario_says() {
        let test = Throughput {
            streams: 4,
            reverse: true,
            fast: false,
            ..Throughput::default()
        };
        let made = parameters(&test, Some("cubic".to_owned()));
        assert_eq!((made.streams, made.flow, made.fast), (4, Flow::Reverse, false));
        assert_eq!(made.congestion.as_deref(), Some("cubic"));
        let both = Throughput {
            bidirectional: true,
            ..Throughput::default()
        };
        assert_eq!(parameters(&both, None).flow, Flow::Bidirectional);
        let datagrams = Throughput {
            protocol: Protocol::Udp,
            ..Throughput::default()
        };
        let made = parameters(&datagrams, Some("cubic".to_owned()));
        assert_eq!(
            (made.transport, made.counters_64bit, made.congestion),
            (Transport::Udp, true, None)
        );
    }

    #[test]
    fn names_differ_and_long_ones_are_cut() {
        assert_ne!(cookie("a"), cookie("b"));
        assert_eq!(cookie(&"x".repeat(36)), cookie(&"x".repeat(99)));
    }
}
