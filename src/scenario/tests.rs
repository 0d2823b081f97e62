//! Good files, and bad ones with what is said about them.

use super::{Scenario, parse};
use std::{fs, path::Path};

const GOOD: &str = include_str!("../../scenarios/calico-vxlan.yaml");

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The good file with `from` replaced by `to`, which must be there.
fn but(from: &str, to: &str) -> String {
    assert!(
        GOOD.contains(from),
        "{from:?} is not in calico-vxlan.yaml any more"
    );
    GOOD.replacen(from, to, 1)
}

fn said(text: &str) -> String {
    parse(text, "bad.yaml").unwrap_err().to_string()
}

/// Every complaint of one bad file after another.
fn all_said(files: &[(&str, String)]) -> String {
    let each: Vec<String> = files
        .iter()
        .map(|(what, text)| format!("## {what}\n{}\n\n", said(text)))
        .collect();
    each.concat()
}

#[test]
fn the_ready_scenarios_are_good() {
    let mut count = 0;
    for entry in fs::read_dir(root().join("scenarios")).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        let scenario = parse(&text, &path.display().to_string()).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(
            Some(scenario.name.as_str()),
            path.file_stem().and_then(|stem| stem.to_str()),
            "a ready scenario is named as its file"
        );
        assert!(scenario.question.is_some(), "{} asks no question", path.display());
        let first = text.lines().next().unwrap();
        assert_eq!(
            first,
            "# yaml-language-server: $schema=../schema/scenario.schema.json"
        );
        count += 1;
    }
    assert!(count >= 5, "only {count} ready scenarios found");
}

#[test]
fn json_of_a_scenario_reads_back() {
    let scenario = parse(GOOD, "good.yaml").unwrap();
    let json = serde_json::to_string(&scenario).unwrap();
    assert_eq!(serde_json::from_str::<Scenario>(&json).unwrap(), scenario);
    // JSON is YAML: the resolved scenario of a manifest is a scenario file too.
    assert_eq!(parse(&json, "manifest.json").unwrap(), scenario);
}

#[test]
fn unreadable_files() {
    let said = all_said(&[
        ("empty", String::new()),
        ("no YAML", but("paths:", "paths: [")),
        ("a tab", but("  lab:", "\tlab:")),
        ("a list", "- name: x\n".to_owned()),
        ("two documents", format!("{GOOD}---\nname: other\n")),
        ("unknown key", but("streams: 1", "stream: 1")),
        ("unknown key far off", but("question:", "motto:")),
        ("unknown fabric", but("  lab:", "  labb:")),
        ("missing key", but("to: east-2 }", "}")),
        (
            "missing section",
            "name: x\nfabric: { lab: { clusters: [] } }\npaths: []\n".to_owned(),
        ),
        ("duplicate key", but("question:", "name: other\nquestion:")),
        ("wrong type: number", but("streams: 1", "streams: one")),
        ("wrong type: negative", but("streams: 1", "streams: -1")),
        ("wrong type: list", but("from: east-1", "from: [east-1]")),
        (
            "wrong type: text for a mapping",
            but("blocks: { at-least: 6 }", "blocks: 6"),
        ),
        (
            "wrong type: boolean",
            but("tunnel-offload: false", "tunnel-offload: off"),
        ),
        ("null", but("name: calico-vxlan", "name:")),
        ("no unit", but("duration: 2s", "duration: 2")),
        ("bad unit", but("rate: 8.5gbit", "rate: 8.5GB")),
        ("bad bytes", but("burst: 256KiB", "burst: 256k")),
        ("bad MTU", but("mtu: 1500", "mtu: 100")),
        ("bad place", but("from: pod@east-1", "from: pod@")),
        (
            "bad mode",
            but("vxlan-mode: CrossSubnet }", "vxlan-mode: cross-subnet }"),
        ),
        ("bad kind", but("kind: tcp-rr", "kind: tcp_rr")),
        ("bad metric", but("metric: throughput", "metric: bandwidth")),
        ("bad limit", but("at-least: 0.90", "at-least: lots")),
        (
            "bad CIDR",
            but("{ nodes: [east-3] }", "{ nodes: [east-3], cidr: 10.1.0.5/24 }"),
        ),
        ("unknown anchor", but("name: calico-vxlan", "name: *nothing")),
        ("a tag", but("name: calico-vxlan", "name: !secret calico-vxlan")),
    ]);
    insta::assert_snapshot!(said);
}

#[test]
fn senseless_files() {
    let cluster = "subnets: [ { nodes: [east-1, east-2] }, { nodes: [east-3] } ]";
    let subnets = |text: &str| but(cluster, text);
    let said = all_said(&[
        ("bad name", but("name: calico-vxlan", "name: calico/vxlan")),
        (
            "unknown node",
            but("from: east-1, to: east-2", "from: esat-1, to: east-2"),
        ),
        (
            "unknown node, far off",
            but("from: east-1, to: east-2", "from: west-1, to: east-2"),
        ),
        ("no mode", but(", vxlan-mode: Always", "")),
        (
            "mode of nodes",
            but("to: east-2 }", "to: east-2, vxlan-mode: Always }"),
        ),
        (
            "pod to itself",
            but(
                "to: pod@east-2, vxlan-mode: Always",
                "to: pod@east-1, vxlan-mode: Always",
            ),
        ),
        (
            "node to itself",
            but("from: east-1, to: east-2", "from: east-2, to: east-2"),
        ),
        (
            "pod to node",
            but(
                "to: pod@east-2, vxlan-mode: Always",
                "to: east-2, vxlan-mode: Always",
            ),
        ),
        (
            "between clusters",
            but(
                "clusters:\n",
                "clusters:\n      - { name: west, subnets: [ { nodes: [west-1] } ] }\n",
            )
            .replacen("to: pod@east-2", "to: pod@west-1", 1),
        ),
        (
            "Submariner to a node, by unknown nodes",
            but(
                "clusters:\n",
                "submariner: { cable: vxlan }\n    clusters:\n      - { name: west, gateway: west-9, rp-filter-of: { \
                 west-8: strict }, subnets: [ { nodes: [west-1] } ] }\n",
            )
            .replacen("to: pod@east-2", "to: west-1", 1),
        ),
        (
            "Submariner alone",
            but("clusters:\n", "submariner: { cable: vxlan }\n    clusters:\n"),
        ),
        (
            "a gateway without Submariner",
            but("- name: east\n", "- name: east\n        gateway: east-1\n"),
        ),
        (
            "an unknown cable",
            but("clusters:\n", "submariner: { cable: gre }\n    clusters:\n"),
        ),
        (
            "cluster twice",
            but(
                "clusters:\n",
                "clusters:\n      - { name: east, subnets: [ { nodes: [east-2] } ] }\n",
            ),
        ),
        (
            "no clusters",
            "name: x\nfabric: { lab: { clusters: [] } }\npaths: []\nworkloads: []\n".to_owned(),
        ),
        (
            "path name twice",
            but("name: pod-to-pod Always", "name: node-to-node"),
        ),
        ("pattern in a name", but("name: crr", "name: 'c*r'")),
        (
            "node twice",
            subnets("subnets: [ { nodes: [east-1, east-2] }, { nodes: [east-2] } ]"),
        ),
        (
            "no nodes",
            subnets("subnets: [ { nodes: [east-1, east-2] }, { nodes: [] } ]"),
        ),
        (
            "overlapping subnets",
            subnets(
                "subnets: [ { nodes: [east-1, east-2], cidr: 10.1.0.0/16 }, { nodes: [east-3], cidr: 10.1.2.0/24 } ]",
            ),
        ),
        (
            "small subnet",
            subnets("subnets: [ { nodes: [east-1, east-2, east-3], cidr: 10.1.0.0/30 } ]"),
        ),
        (
            "link-local subnet",
            subnets("subnets: [ { nodes: [east-1, east-2, east-3], cidr: 169.254.1.0/24 } ]"),
        ),
        (
            "overlapping pools",
            but(
                "block-size: 26,",
                "block-size: 26, cross-subnet-pool: 10.244.0.0/16, always-pool: 10.244.128.0/17,",
            ),
        ),
        (
            "small pool",
            but("block-size: 26,", "block-size: 26, always-pool: 10.245.0.0/25,"),
        ),
        ("block size", but("block-size: 26", "block-size: 31")),
        ("small burst", but("burst: 256KiB", "burst: 1500")),
        ("long queue", but("queue: 5ms", "queue: 1min")),
        ("small MTU", but("mtu: 1500", "mtu: 600")),
        (
            "many rules",
            but("calico: {", "firewall: { rules: 20000 }\n        calico: {"),
        ),
        (
            "both kinds",
            but(
                "latency: { kind: tcp-crr",
                "throughput: {}, latency: { kind: tcp-crr",
            ),
        ),
        (
            "neither kind",
            but(", latency: { kind: tcp-crr, duration: 1s }", ""),
        ),
        ("streams", but("streams: 1", "streams: 20000")),
        (
            "both ways and turned round",
            but("streams: 1", "reverse: true, bidirectional: true"),
        ),
        ("no time", but("duration: 2s", "duration: 0s")),
        ("much time", but("duration: 2s", "duration: 25h")),
        ("much warm-up", but("omit: 500ms", "omit: 11min")),
        ("unknown load", but("during: tcp", "during: tpc")),
        ("latency as load", but("during: tcp", "during: crr")),
        ("itself as load", but("during: tcp", "during: rr-under-load")),
        (
            "empty request",
            but("kind: tcp-crr", "kind: tcp-crr, request: 0, response: 64KiB"),
        ),
        (
            "large response",
            but("kind: tcp-crr", "kind: tcp-crr, response: 65537"),
        ),
        ("congestion", but("streams: 1", "congestion: 'not a name'")),
        ("no blocks", but("at-least: 6", "at-least: 0")),
        ("few blocks", but("at-least: 6", "at-least: 6, at-most: 5")),
        (
            "base",
            but("relative-to: node-to-node", "relative-to: node-to-nod"),
        ),
        (
            "reference",
            but(
                "workload: tcp, throughput: 1000MB/s",
                "workload: rr, throughput: 0MB/s",
            ),
        ),
        (
            "reference twice",
            but(
                "{ path: pod-to-pod CrossSubnet, workload: tcp, t",
                "{ path: node-to-node, workload: tcp, t",
            ),
        ),
        (
            "gate of latency",
            but("metric: throughput", "metric: latency_p99"),
        ),
        (
            "gate of throughput",
            but("workload: tcp, metric", "workload: crr, metric"),
        ),
        (
            "gate of no load",
            but(
                "workload: tcp, metric: throughput",
                "workload: rr, metric: load_throughput",
            ),
        ),
        ("gate with unit", but("at-least: 0.90", "at-least: 900MB/s")),
        (
            "gate with wrong unit",
            but("relative-to: node-to-node, at-least: 0.90", "at-least: 250us"),
        ),
        ("gate without limit", but(", at-least: 0.90", "")),
        (
            "gate that can't pass",
            but("at-least: 0.90", "at-least: 0.90, at-most: 0.5"),
        ),
        ("gate below nothing", but("at-least: 0.90", "at-least: -1")),
        (
            "gate against itself",
            but(
                "relative-to: node-to-node, at-least",
                "relative-to: pod-to-pod CrossSubnet, at-least",
            ),
        ),
        (
            "several at once",
            but("from: east-1, to: east-2", "from: east-1, to: east-22")
                .replacen("during: tcp", "during: udp", 1)
                .replacen("at-least: 6", "at-least: 0", 1),
        ),
    ]);
    insta::assert_snapshot!(said);
}

/// Neither takes long nor much memory, and each says why.
#[test]
fn hostile_files() {
    let level = |level: usize| {
        let nine = vec![format!("*a{}", level - 1); 9].join(", ");
        format!("a{level}: &a{level} [{nine}]\n")
    };
    let laughs = ["a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned()]
        .into_iter()
        .chain((1..9).map(level));
    let laughs = laughs.collect::<Vec<_>>().concat();
    let name_of_laughs = but("from: east-1", &format!("from: &a [{}]", ["x"; 9].join(", ")));
    let said = all_said(&[
        ("a billion laughs under an unknown key", laughs),
        ("a list where none belongs", name_of_laughs),
        (
            "deep",
            format!("name: {}{}\n", "[".repeat(5000), "]".repeat(5000)),
        ),
        (
            "deep under the fabric",
            format!("fabric: {}{}\n", "{lab: ".repeat(500), "}".repeat(500)),
        ),
        (
            "control characters",
            but("name: node-to-node", "name: \"a\\u001b[31mb\""),
        ),
        (
            "a long line",
            format!(
                "name: x # {}\nfabric: {{ {}lab: {{}} }}\n",
                "y".repeat(300),
                " ".repeat(400)
            ),
        ),
    ]);
    insta::assert_snapshot!(said);
    let error = parse(&"#".repeat((1 << 20) + 1), "long.yaml")
        .unwrap_err()
        .to_string();
    assert_eq!(error, "long.yaml: is longer than 1 MiB, which no scenario is");
}

/// Anchors, aliases and merge keys are for people with long files; they work.
#[test]
fn anchors_work() {
    let text = but("duration: 2s", "duration: &long 2s").replacen("duration: 1s", "duration: *long", 1);
    let scenario = parse(&text, "anchors.yaml").unwrap();
    assert_eq!(
        scenario.workloads[1]
            .latency
            .as_ref()
            .unwrap()
            .duration
            .to_string(),
        "2s"
    );
    // A complaint about an alias points to where it is used.
    let error = said(&text.replacen("&long 2s", "&long 25h", 1));
    assert!(error.contains("bad.yaml:17:75: duration must be"), "{error}");
    assert!(error.contains("bad.yaml:18:52: duration must be"), "{error}");
}
