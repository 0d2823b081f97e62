//! `encapbench plan`: what would run, in which order, and how long it takes. Touches nothing.

use super::{Exit, Failure, fabric, kubernetes_args::ClusterArgs, scenario_args::ScenarioArgs};
use crate::scenario::{
    AllPairs, Case, Encapsulation, Fabric, Latency, LatencyKind, Path, Plan, Protocol, Resolved, Throughput,
    Which, Workload, WorkloadKind,
};
use clap::Args;
use std::{
    io::{self, Write},
    time::Duration,
};

/// Arguments of `encapbench plan`.
#[derive(Debug, Clone, Args)]
pub(super) struct PlanArgs {
    /// The scenario, and overrides.
    #[command(flatten)]
    scenario: ScenarioArgs,
    /// The cluster, where it is to be read.
    #[command(flatten)]
    cluster: ClusterArgs,
}

/// The seed whose order is shown where none is given: the same at each call.
const SHOWN_SEED: u64 = 0;

/// How many blocks' orders are shown.
const SHOWN_BLOCKS: u32 = 3;

/// How many pairs of a path are shown.
const SHOWN_PAIRS: usize = 20;

/// Shows the plan.
pub(super) fn run(args: &PlanArgs, out: &mut dyn Write) -> Result<Exit, Failure> {
    let seed = args.scenario.seed;
    let shown = ScenarioArgs {
        seed: Some(seed.unwrap_or(SHOWN_SEED)),
        ..args.scenario.clone()
    };
    let plan = match args.cluster.of_run() {
        Some(kubernetes) => fabric::open(fabric::Source::File(&shown), &kubernetes)?.plan,
        None => shown.plan()?,
    };
    show(&plan, seed.is_some(), out)?;
    Ok(Exit::Success)
}

/// `seed_given`: a run with the same arguments has the order shown.
fn show(plan: &Plan, seed_given: bool, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{}", plan.scenario.name)?;
    if let Some(question) = &plan.scenario.question {
        writeln!(out, "{question}")?;
    }
    let mut paths: Vec<&Path> = plan.cases.iter().map(|case| &case.path).collect();
    paths.dedup_by_key(|path| &path.name);
    let rows = paths.iter().map(|path| {
        [
            path.name.clone(),
            format!("{} -> {}", path.from, path.to),
            match (all_pairs(plan, path), path.together_with.len()) {
                (Some(pairs), _) => pairs_in_words(pairs),
                (None, 0) => expectation(path).to_owned(),
                (None, more) => format!("{}; {} pairs at once", expectation(path), more + 1),
            },
        ]
    });
    table("Paths", rows, out)?;
    for path in paths.iter().filter(|path| !path.together_with.is_empty()) {
        let rows = path
            .pairs()
            .take(SHOWN_PAIRS)
            .map(|pair| [pair.from.to_string(), format!("-> {}", pair.to), String::new()]);
        table(&format!("Pairs of {}, loaded at once", path.name), rows, out)?;
        if let Some(more @ 1..) = path.pairs().count().checked_sub(SHOWN_PAIRS) {
            writeln!(out, "  and {more} more")?;
        }
    }
    if let Fabric::Kubernetes(spec) = &plan.scenario.fabric {
        match &spec.resolved {
            Some(resolved) => cluster(resolved, out)?,
            None if paths.iter().any(|path| all_pairs(plan, path).is_some()) => writeln!(
                out,
                "  which nodes, subnets and pairs these are, the cluster decides, and so how long it takes:\n  --context \
                 NAME reads it; below, all pairs of a path count as one"
            )?,
            None => writeln!(
                out,
                "  which nodes and subnets these are, the cluster decides: --context NAME reads it"
            )?,
        }
    }
    let planned = |workload: &&Workload| plan.cases.iter().any(|case| case.workload.name == workload.name);
    let rows = plan
        .scenario
        .workloads
        .iter()
        .filter(planned)
        .map(|workload| [workload.name.clone(), in_words(workload), String::new()]);
    table("Workloads", rows, out)?;
    let width = plan.cases.len().to_string().len();
    let rows = plan
        .cases
        .iter()
        .enumerate()
        .map(|(index, case): (usize, &Case)| {
            let number = index + 1;
            [
                format!("{number:width$}  {}", case.path.name),
                case.workload.name.clone(),
                format!("about {}", readable(Plan::trial_time(case))),
            ]
        });
    table("Cases, each with one trial in every block", rows, out)?;
    let (least, most) = (plan.blocks.at_least, plan.blocks.most());
    let origin = if seed_given {
        "given"
    } else {
        "a run draws its own unless --seed is given"
    };
    writeln!(out, "\nOrder with seed {} ({origin})", plan.seed)?;
    for block in 1..=most.min(SHOWN_BLOCKS) {
        let order: Vec<String> = plan
            .order(block)
            .into_iter()
            .map(|index| format!("{:width$}", index + 1))
            .collect();
        writeln!(out, "  block {block}: {}", order.join(" "))?;
    }
    if most > SHOWN_BLOCKS {
        writeln!(out, "  and so on, each block drawn anew")?;
    }
    gates(plan, out)?;
    writeln!(out, "\nTime, estimated")?;
    writeln!(out, "  one block  {}", readable(plan.block_time()))?;
    writeln!(
        out,
        "  at least   {} ({})",
        readable(plan.least_time()),
        blocks(least)
    )?;
    writeln!(
        out,
        "  at most    {} ({})",
        readable(plan.most_time()),
        blocks(most)
    )?;
    if most < 6 {
        writeln!(
            out,
            "\nFewer than 6 blocks can't give a 95 % interval of a median: figures have no interval, and gates\n\
             are inconclusive. --blocks 6 gives them one."
        )?;
    }
    Ok(())
}

fn gates(plan: &Plan, out: &mut dyn Write) -> io::Result<()> {
    if plan.scenario.gates.is_empty() {
        return Ok(());
    }
    writeln!(out, "\nGates")?;
    for gate in &plan.scenario.gates {
        match plan.skipped_gates.get(&gate.name) {
            Some(reason) => writeln!(out, "  {} (skipped: {reason})", gate.name)?,
            None => writeln!(out, "  {}", gate.name)?,
        }
    }
    Ok(())
}

/// Rows under a title, their columns aligned.
fn table(title: &str, rows: impl Iterator<Item = [String; 3]>, out: &mut dyn Write) -> io::Result<()> {
    let rows: Vec<_> = rows.collect();
    let width = |column: usize| {
        rows.iter()
            .map(|row| row[column].chars().count())
            .max()
            .unwrap_or(0)
    };
    let (first, second) = (width(0), width(1));
    writeln!(out, "\n{title}")?;
    for [name, middle, last] in &rows {
        let line = format!("  {name:first$}  {middle:second$}  {last}");
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

/// What a cluster has for a scenario's choices.
fn cluster(resolved: &Resolved, out: &mut dyn Write) -> io::Result<()> {
    let nodes = resolved.nodes.iter().map(|node| {
        [
            node.name.clone(),
            node.node.clone(),
            format!("{} in {}", node.address, node.subnet),
        ]
    });
    table("Nodes", nodes, out)?;
    let pools = resolved.pools.iter().map(|pool| {
        let made = if pool.own {
            "made for the run, and removed"
        } else {
            "is there"
        };
        [
            pool.mode.to_string(),
            pool.name.clone(),
            format!("{}, {made}", pool.cidr),
        ]
    });
    table("Pools", pools, out)?;
    for note in &resolved.notes {
        writeln!(out, "  note: {note}")?;
    }
    Ok(())
}

/// The pairs that a path stands for, where only the cluster decides which these are.
fn all_pairs<'a>(plan: &'a Plan, path: &Path) -> Option<&'a AllPairs> {
    let mut specs = plan.scenario.paths.iter();
    specs.find(|spec| spec.name == path.name)?.all_pairs.as_ref()
}

fn pairs_in_words(pairs: &AllPairs) -> String {
    let which = match pairs.only {
        None => "all pairs of their nodes",
        Some(Which::SameNode) => "pairs on each node",
        Some(Which::SameSubnet) => "all pairs within a subnet",
        Some(Which::OtherSubnet) => "all pairs between subnets",
    };
    let ways = if pairs.both_ways { ", both ways" } else { "" };
    let how = if pairs.together { "at once" } else { "each a path" };
    format!("{which}{ways}, {} at most, {how}", pairs.at_most)
}

fn expectation(path: &Path) -> &'static str {
    match (path.expected, path.same_node, path.same_subnet) {
        (Encapsulation::None, true, _) => "plain: on one node",
        (Encapsulation::None, false, true) => "plain: within a subnet",
        (Encapsulation::None, false, false) => "plain: routed between subnets",
        (Encapsulation::Vxlan, _, true) => "vxlan: within a subnet",
        (Encapsulation::Vxlan, _, false) => "vxlan: between subnets",
        (Encapsulation::Ipip, _, true) => "ipip: within a subnet",
        (Encapsulation::Ipip, _, false) => "ipip: between subnets",
        (Encapsulation::Wireguard, _, true) => "wireguard: within a subnet",
        (Encapsulation::Wireguard, _, false) => "wireguard: between subnets",
        (Encapsulation::Unknown, ..) => "between clusters: whatever joins them",
        (Encapsulation::SubmarinerVxlan, ..) => "between clusters: Submariner, vxlan cable",
        (Encapsulation::SubmarinerWireguard, ..) => "between clusters: Submariner, wireguard cable",
        (Encapsulation::SubmarinerIpsec, ..) => "between clusters: Submariner, ipsec cable",
    }
}

fn in_words(workload: &Workload) -> String {
    match workload.kind() {
        Some(WorkloadKind::Throughput(throughput)) => throughput_in_words(throughput),
        Some(WorkloadKind::Latency(latency)) => latency_in_words(latency),
        None => String::new(),
    }
}

fn throughput_in_words(spec: &Throughput) -> String {
    let protocol = match spec.protocol {
        Protocol::Tcp => "TCP",
        Protocol::Udp => "UDP",
    };
    let streams = if spec.streams == 1 {
        "1 stream".to_owned()
    } else {
        format!("{} streams", spec.streams)
    };
    let mut words = vec![format!("throughput of {protocol}, {streams}")];
    words.extend(spec.bidirectional.then(|| "both ways at once".to_owned()));
    words.extend(spec.reverse.then(|| "from `to` to `from`".to_owned()));
    words.extend(spec.bitrate.map(|rate| format!("{rate} each")));
    words.extend(spec.highest_rate.as_ref().map(|search| {
        format!(
            "the highest rate that loses at most {}, within {}",
            search.loss_at_most, search.within
        )
    }));
    words.extend(spec.length.map(|length| match spec.protocol {
        Protocol::Tcp => format!("writes of {length}"),
        Protocol::Udp => format!("datagrams of {length}"),
    }));
    words.extend(spec.window.map(|window| format!("buffers of {window}")));
    words.extend(spec.mss.map(|mss| format!("segments up to {mss} bytes")));
    words.extend(spec.no_delay.then(|| "without Nagle's algorithm".to_owned()));
    words.extend(spec.congestion.clone());
    words.push(format!("{} after {} of warm-up", spec.duration, spec.omit));
    words.join(", ")
}

fn latency_in_words(spec: &Latency) -> String {
    let kind = match spec.kind {
        LatencyKind::TcpRr => "latency of request and response on one TCP connection",
        LatencyKind::TcpCrr => "latency of connect, request, response and close",
        LatencyKind::UdpRr => "latency of request and response as datagrams",
    };
    let mut words = vec![kind.to_owned()];
    words.push(match spec.rate {
        Some(rate) => format!("{rate} on time"),
        None => "one after another".to_owned(),
    });
    if (spec.request.get(), spec.response.get()) != (1, 1) {
        words.push(format!("{} there and {} back", spec.request, spec.response));
    }
    words.extend(spec.reverse.then(|| "from `to` to `from`".to_owned()));
    words.extend(spec.during.as_ref().map(|load| format!("while {load} runs")));
    words.push(format!("{} after {} of warm-up", spec.duration, spec.omit));
    words.join(", ")
}

fn blocks(count: u32) -> String {
    if count == 1 {
        "1 block".to_owned()
    } else {
        format!("{count} blocks")
    }
}

/// To a tenth of a second below a minute, to a second above: `2.8s`, `2min 13s`, `1h 2min`.
fn readable(time: Duration) -> String {
    let tenths = time.as_millis().div_ceil(100);
    if tenths < 600 {
        return format!("{}.{}s", tenths / 10, tenths % 10);
    }
    let seconds = tenths.div_ceil(10);
    if seconds < 3600 {
        return format!("{}min {}s", seconds / 60, seconds % 60);
    }
    let minutes = seconds.div_ceil(60);
    format!("{}h {}min", minutes / 60, minutes % 60)
}

#[cfg(test)]
mod tests {
    use super::{PlanArgs, readable, run};
    use clap::{Args, Command, FromArgMatches};
    use std::{path::Path, time::Duration};

    /// What `encapbench plan` with `arguments` shows, or why it doesn't.
    fn shown(scenario: &str, arguments: &[&str]) -> Result<String, String> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("scenarios")
            .join(scenario);
        let all = ["plan", path.to_str().unwrap()]
            .into_iter()
            .chain(arguments.iter().copied());
        let command = PlanArgs::augment_args(Command::new("plan"));
        let matches = command
            .try_get_matches_from(all)
            .map_err(|error| error.to_string())?;
        let args = PlanArgs::from_arg_matches(&matches).unwrap();
        let mut out = Vec::new();
        run(&args, &mut out).map_err(|error| error.to_string())?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn plan_of_calico_vxlan() {
        let text = shown("calico-vxlan.yaml", &[]).unwrap();
        insta::assert_snapshot!(text);
    }

    #[test]
    fn plan_of_all_pairs() {
        let text = shown("kubernetes-all-pairs.yaml", &[]).unwrap();
        insta::assert_snapshot!(text);
    }

    #[test]
    fn plan_with_overrides() {
        let arguments = [
            "--blocks",
            "1",
            "--duration",
            "700ms",
            "--only",
            "pod-to-pod CrossSubnet",
            "--seed",
            "5",
        ];
        let text = shown("calico-vxlan.yaml", &arguments).unwrap();
        insta::assert_snapshot!(text);
    }

    #[test]
    fn refusals() {
        let refusal = |arguments: &[&str]| shown("calico-vxlan.yaml", arguments).unwrap_err();
        assert!(refusal(&["--only", "udp"]).starts_with("--only 'udp' matches no case"));
        assert!(refusal(&["--blocks", "0"]).contains("at-least must be from 1 to 10000, not 0"));
        assert!(refusal(&["--duration", "2"]).contains("expected a time with its unit, such as 500ms"));
        assert!(
            shown("none.yaml", &[])
                .unwrap_err()
                .starts_with("can't read the scenario")
        );
    }

    #[test]
    fn readable_times() {
        let readable = |millis| readable(Duration::from_millis(millis));
        assert_eq!(readable(2800), "2.8s");
        assert_eq!(readable(59_901), "1min 0s");
        assert_eq!(readable(133_000), "2min 13s");
        assert_eq!(readable(3_599_001), "1h 0min");
        assert_eq!(readable(3_720_000), "1h 2min");
    }
}
