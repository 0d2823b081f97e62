//! Paths and workloads.

use super::{Problems, case_name_fault, empty, paths};
use crate::scenario::{
    HighestRate, Latency, LatencyKind, Protocol, Scenario, Throughput, Workload, WorkloadKind, problem::Step,
};
use std::time::Duration;

/// The longest that anything is measured.
const LONGEST: Duration = Duration::from_hours(24);
/// The longest warm-up.
const LONGEST_OMIT: Duration = Duration::from_mins(10);

pub(super) fn check(scenario: &Scenario, problems: &mut Problems) {
    if scenario.paths.is_empty() {
        problems.say(&["paths".into()], empty("paths"), None);
    }
    if scenario.workloads.is_empty() {
        problems.say(&["workloads".into()], empty("workloads"), None);
    }
    problems.unique("paths", scenario.paths.iter().map(|path| path.name.as_str()));
    problems.unique(
        "workloads",
        scenario.workloads.iter().map(|workload| workload.name.as_str()),
    );
    for (index, spec) in scenario.paths.iter().enumerate() {
        paths::path(scenario, spec, &["paths".into(), index.into()], problems);
    }
    for (index, spec) in scenario.workloads.iter().enumerate() {
        workload(scenario, spec, &["workloads".into(), index.into()], problems);
    }
}

fn workload(scenario: &Scenario, spec: &Workload, at: &[Step; 2], problems: &mut Problems) {
    let name = [at[0], at[1], "name".into()];
    if let Some(fault) = case_name_fault(&spec.name) {
        problems.say(&name, format!("a workload's name {fault}"), None);
    }
    match spec.kind() {
        Some(WorkloadKind::Throughput(throughput)) => {
            check_throughput(
                throughput,
                |key| [at[0], at[1], "throughput".into(), key.into()],
                problems,
            );
        }
        Some(WorkloadKind::Latency(latency)) => {
            let at = |key: &'static str| [at[0], at[1], "latency".into(), key.into()];
            check_latency(latency, at, problems);
            if let Some(load) = &latency.during {
                during(scenario, spec, load, &at("during"), problems);
            }
        }
        None => {
            let count = if spec.throughput.is_some() {
                "both"
            } else {
                "neither"
            };
            problems.say(
                &name,
                format!(
                    "a workload has either `throughput` or `latency`, and `{}` has {count}",
                    spec.name
                ),
                "for instance `throughput: { protocol: tcp }` or `latency: { kind: tcp-rr }`".to_owned(),
            );
        }
    }
}

/// A search sets the rate itself, one way, and needs datagrams that can be lost.
fn check_search(
    spec: &Throughput,
    search: &HighestRate,
    at: &impl Fn(&'static str) -> [Step; 4],
    problems: &mut Problems,
) {
    let clashes = [
        (
            spec.protocol != Protocol::Udp,
            "TCP sends what is lost again; `highest-rate` is of UDP",
            "set `protocol: udp`",
        ),
        (
            spec.bitrate.is_some(),
            "`highest-rate` searches for what `bitrate` would set",
            "leave one of the two out",
        ),
        (
            spec.bidirectional,
            "`highest-rate` searches one way at a time",
            "leave `bidirectional` out",
        ),
    ];
    for (_, why, remedy) in clashes.into_iter().filter(|(clash, ..)| *clash) {
        problems.say(&at("highest-rate"), why, remedy.to_owned());
    }
    if search.loss_at_most.percent() > 50.0 {
        problems.say(
            &at("highest-rate"),
            "`loss-at-most` is above 50%, where a rate says nothing about a path",
            "0.1% is what people ask for".to_owned(),
        );
    }
    if !(0.1..=50.0).contains(&search.within.percent()) {
        problems.say(
            &at("highest-rate"),
            "`within` is outside 0.1% to 50%",
            "2% if left out".to_owned(),
        );
    }
}

fn check_throughput(spec: &Throughput, at: impl Fn(&'static str) -> [Step; 4], problems: &mut Problems) {
    let most = if spec.protocol == Protocol::Udp {
        128
    } else {
        16_384
    };
    problems.number(&at("streams"), "streams", u64::from(spec.streams), 1..=most);
    times(spec.duration, spec.omit, &at, problems);
    if spec.reverse && spec.bidirectional {
        problems.say(
            &at("reverse"),
            "`reverse` and `bidirectional` exclude each other: both ways at once have no direction to turn round",
            "leave one of the two out".to_owned(),
        );
    }
    let udp = spec.protocol == Protocol::Udp;
    if let Some(length) = spec.length {
        // What iperf3 takes: a datagram has a header of up to 16 bytes, and fits into IPv4.
        let range = if udp { 16..=65_507 } else { 1..=1 << 20 };
        problems.number(&at("length"), "length", length.get(), range);
    }
    if udp {
        let set = [
            ("mss", spec.mss.is_some()),
            ("no-delay", spec.no_delay),
            ("congestion", spec.congestion.is_some()),
        ];
        for (key, _) in set.into_iter().filter(|(_, set)| *set) {
            problems.say(
                &at(key),
                format!("`{key}` is an option of TCP, and this is UDP"),
                "leave it out".to_owned(),
            );
        }
    }
    if let Some(both) = spec
        .with
        .iter()
        .find(|technique| spec.without.contains(technique))
    {
        problems.say(
            &at("without"),
            format!("`{both}` is in `with` and in `without`"),
            "leave it out of one of the two".to_owned(),
        );
    }
    if let Some(search) = &spec.highest_rate {
        check_search(spec, search, &at, problems);
    }
    if let Some(window) = spec.window {
        // What iperf3 takes (MAX_TCP_BUFFER).
        problems.number(&at("window"), "window", window.get(), 1..=512 << 20);
    }
    if let Some(mss) = spec.mss {
        // iperf3's own bounds (MAX_MSS); below 88 Linux refuses.
        problems.number(&at("mss"), "mss", u64::from(mss), 88..=9 * 1024);
    }
    if let Some(name) = &spec.congestion {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-';
        // TCP_CA_NAME_MAX is 16, its closing zero included.
        if name.is_empty() || name.len() > 15 || !name.bytes().all(plain) {
            problems.say(
                &at("congestion"),
                format!("`{name}` can't be a congestion control algorithm"),
                "`sysctl net.ipv4.tcp_available_congestion_control` lists them: cubic, reno, bbr and others"
                    .to_owned(),
            );
        }
    }
}

fn check_latency(spec: &Latency, at: impl Fn(&'static str) -> [Step; 4], problems: &mut Problems) {
    times(spec.duration, spec.omit, &at, problems);
    // 65535 bytes of an IPv4 packet less 20 of IP and 8 of UDP.
    let largest = if spec.kind == LatencyKind::UdpRr {
        65507
    } else {
        65536
    };
    problems.number(&at("request"), "request", spec.request.get(), 1..=largest);
    problems.number(&at("response"), "response", spec.response.get(), 1..=largest);
}

fn times(
    duration: crate::units::Span,
    omit: crate::units::Span,
    at: impl Fn(&'static str) -> [Step; 4],
    problems: &mut Problems,
) {
    problems.span(
        &at("duration"),
        "duration",
        duration,
        Duration::from_millis(1),
        LONGEST,
    );
    problems.span(&at("omit"), "omit", omit, Duration::ZERO, LONGEST_OMIT);
}

fn during(scenario: &Scenario, spec: &Workload, load: &str, at: &[Step], problems: &mut Problems) {
    let loads: Vec<&str> = scenario
        .workloads
        .iter()
        .filter(|other| other.throughput.is_some())
        .map(|other| other.name.as_str())
        .collect();
    let what = "during names the load that runs meanwhile, a throughput workload";
    if load == spec.name {
        problems.say(
            at,
            format!("{what}, not itself"),
            super::suggest("", "there are", &loads),
        );
    } else if scenario.workloads.iter().any(|other| other.name == load) && !loads.contains(&load) {
        problems.say(
            at,
            format!("{what}; `{load}` measures latency"),
            super::suggest("", "there are", &loads),
        );
    } else {
        problems.known(at, "workload", "throughput workloads", load, &loads);
    }
}
