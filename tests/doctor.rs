//! The doctor against real labs: a healthy one gives no finding, each fault gives its own and no other, each remedy,
//! run as it is printed, takes the finding away, and what is broken by hand in a running lab is found too.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test may fail where it stands"
)]
#![cfg(feature = "lab")]

#[path = "support/program.rs"]
mod program;
#[path = "../src/skip.rs"]
mod skip;

use program::{encapbench, finish, said};
use serde_json::Value;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::Duration;

/// Labs that are up at once.
const AT_ONCE: usize = 4;
const LIMIT: Duration = Duration::from_mins(2);
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Two subnets, the first with two nodes; everything else left to encapbench.
const ONE_CLUSTER: &str =
    "clusters: [ { name: east, subnets: [ { nodes: [east-1, east-2] }, { nodes: [east-3] } ] } ]";

fn scenario(lab: &str, faults: &[&str]) -> String {
    let list = faults
        .iter()
        .map(|fault| format!("{{ {fault} }}"))
        .collect::<Vec<_>>();
    format!(
        "name: doctor-test\nfabric:\n  lab:\n    {lab}\n    faults: [ {} ]\n\
         paths: [ {{ name: nodes, from: east-1, to: east-2 }} ]\n\
         workloads: [ {{ name: rr, latency: {{ kind: tcp-rr, duration: 1s }} }} ]\n",
        list.join(", ")
    )
}

/// A lab that is up until this is dropped.
struct Lab {
    _folder: tempfile::TempDir,
    process: Child,
}

impl Drop for Lab {
    fn drop(&mut self) {
        // Its end is the lab's end.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Lab {
    fn start(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file: PathBuf = folder.path().join("scenario.yaml");
        fs::write(&file, text).unwrap();
        let mut process = encapbench()
            .arg("lab")
            .arg(&file)
            .args(["--", "sh", "-c", "echo up; exec sleep 600"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert_eq!(line, "up\n", "the lab did not come up");
        Self {
            _folder: folder,
            process,
        }
    }

    fn pid(&self) -> String {
        self.process.id().to_string()
    }

    /// The findings of the doctor, and its exit code.
    fn doctor(&self) -> (Vec<Value>, i32) {
        let output = finish(
            encapbench().args(["doctor", "--json", "--attach", &self.pid()]),
            LIMIT,
        );
        let json: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
            panic!("no JSON ({error}): {}", said(&output));
        });
        (
            json["findings"].as_array().unwrap().clone(),
            program::code(output.status),
        )
    }

    fn shell(&self, place: &str, command: &str) -> std::process::Output {
        finish(
            encapbench().env("PATH", PATH).args([
                "lab",
                "--attach",
                &self.pid(),
                "--in",
                place,
                "--",
                "sh",
                "-c",
                command,
            ]),
            LIMIT,
        )
    }

    /// Does what must succeed.
    fn run(&self, place: &str, command: &str) {
        let output = self.shell(place, command);
        assert!(output.status.success(), "[{place}] {command}: {}", said(&output));
    }

    /// Runs the remedies of `findings` as they stand, and then what verifies them.
    fn heal(&self, findings: &[Value]) {
        for kind in ["remedy", "verify"] {
            for finding in findings {
                let steps = finding[kind].as_array().unwrap();
                assert!(kind == "verify" || !steps.is_empty(), "no remedy: {finding:#}");
                for step in steps {
                    self.run(step["place"].as_str().unwrap(), step["command"].as_str().unwrap());
                }
            }
        }
    }
}

/// `id place` of each, without notes.
fn names(findings: &[Value]) -> Vec<String> {
    findings
        .iter()
        .filter(|finding| finding["severity"] != "note")
        .map(|finding| {
            format!(
                "{} {}",
                finding["id"].as_str().unwrap(),
                finding["place"].as_str().unwrap()
            )
        })
        .collect()
}

/// Whether all is here that these tests run; says what isn't.
fn can_run(tools: &[&str]) -> bool {
    let missing: Vec<_> = tools
        .iter()
        .filter(|tool| {
            !PATH
                .split(':')
                .any(|folder| PathBuf::from(folder).join(tool).exists())
        })
        .collect();
    if !missing.is_empty() {
        skip::skip(format!("{missing:?} not installed"));
    }
    missing.is_empty()
}

/// Each lab in a thread of its own, some at once; every failure is told.
fn each<T: Sync>(cases: &[T], name: impl Fn(&T) -> String + Sync, work: impl Fn(&T) + Sync) {
    let mut failed = Vec::new();
    for some in cases.chunks(AT_ONCE) {
        std::thread::scope(|scope| {
            let threads: Vec<_> = some
                .iter()
                .map(|case| (case, scope.spawn(|| work(case))))
                .collect();
            for (case, thread) in threads {
                if let Err(panic) = thread.join() {
                    let text = panic
                        .downcast_ref::<String>()
                        .cloned()
                        .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
                    failed.push(format!("{}: {}", name(case), text.unwrap_or_default()));
                }
            }
        });
    }
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
}

/// Two clusters with other ranges than encapbench would choose.
const TWO_CLUSTERS: &str = "submariner: { cable: vxlan }
    clusters:
      - { name: east, gateway: east-1, subnets: [ { nodes: [east-1, east-2] } ] }
      - name: west
        gateway: west-2
        subnets: [ { nodes: [west-1, west-2], cidr: 172.20.7.0/24 } ]
        calico: { cross-subnet-pool: 10.99.0.0/18, always-pool: 192.168.64.0/18 }";

/// The same for what joins clusters.
const SUBMARINER_TABLE: [(&str, &[&str]); 12] = [
    ("", &[]),
    ("strict-rp-filter: { node: east-2 }", &["rp-filter east-2"]),
    (
        "remote-route: { node: west-1, broken: missing }",
        &["remote-route west-1", "remote-route west-1"],
    ),
    (
        "remote-route: { node: east-2, broken: unreachable }",
        &["remote-route east-2", "remote-route east-2"],
    ),
    (
        "remote-route: { node: east-2, broken: bird }",
        &["remote-route east-2", "remote-route east-2"],
    ),
    (
        "host-table: { node: east-1, broken: no-routes }",
        &["host-table east-1"],
    ),
    (
        "host-table: { node: west-2, broken: no-rule }",
        &["host-table west-2"],
    ),
    (
        "host-table: { node: east-1, broken: wrong-source }",
        &["host-table east-1"],
    ),
    (
        "udp-blocked: { node: east-1, port: 4800 }",
        &["udp-blocked east-1"],
    ),
    (
        "udp-blocked: { node: west-2, port: 4500 }",
        &["udp-blocked west-2"],
    ),
    ("forward-drop: { node: west-2 }", &["forward-drop west-2"]),
    ("no-ip-forwarding: { node: east-1 }", &["no-ip-forwarding east-1"]),
];

/// The confusion table: what is broken, and all that may be found then.
const TABLE: [(&str, &[&str]); 10] = [
    ("", &[]),
    ("forward-drop: { node: east-1 }", &["forward-drop east-1"]),
    (
        "udp-blocked: { node: east-2, port: 4789 }",
        &["udp-blocked east-2"],
    ),
    (
        "mtu-black-hole: { node: east-1, mtu: 1400 }",
        &["mtu-black-hole east-1"],
    ),
    ("checksum-offload: { node: east-1 }", &["checksum-offload east-1"]),
    ("no-ip-forwarding: { node: east-3 }", &["no-ip-forwarding east-3"]),
    ("node-prefix-32: { node: east-1 }", &["node-prefix-32 east-1"]),
    ("rule-load: { node: east-2, rules: 3000 }", &["rule-load east-2"]),
    ("stale-fdb: { node: east-1, peer: east-3 }", &["stale-fdb east-1"]),
    (
        "stale-neighbour: { node: east-1, peer: east-2 }",
        &["stale-neighbour east-1"],
    ),
];

fn confusion(lab: &str, table: &[(&str, &[&str])]) {
    if !can_run(&["ip", "nft", "sysctl", "ethtool", "bridge"]) {
        return;
    }
    each(
        table,
        |(fault, _)| (*fault).to_owned(),
        |(fault, expected)| {
            let faults: &[&str] = if fault.is_empty() { &[] } else { &[fault] };
            let lab = Lab::start(&scenario(lab, faults));
            let (findings, code) = lab.doctor();
            assert_eq!(names(&findings), *expected, "{findings:#?}");
            let is_error = findings.iter().any(|finding| finding["severity"] == "error");
            assert_eq!(code, i32::from(is_error), "{findings:#?}");
            if !expected.is_empty() {
                lab.heal(&findings);
                let (left, code) = lab.doctor();
                assert_eq!(
                    (names(&left), code),
                    (Vec::new(), 0),
                    "after the remedy: {left:#?}"
                );
            }
        },
    );
}

#[test]
fn each_fault_gives_its_own_finding_and_its_remedy_takes_it_away() {
    confusion(ONE_CLUSTER, &TABLE);
}

#[test]
fn each_fault_between_clusters_gives_its_own_finding_and_its_remedy_takes_it_away() {
    confusion(TWO_CLUSTERS, &SUBMARINER_TABLE);
}

/// Commands, each with its place, and all that may be found then.
type ByHand = (&'static [(&'static str, &'static str)], &'static [&'static str]);

/// Faults made with the tools of an administrator, not as encapbench makes its own.
const BY_HAND: [ByHand; 7] = [
    (
        &[("east-2", "iptables -I INPUT -p udp --dport 4789 -j DROP")],
        &["udp-blocked east-2"],
    ),
    (
        &[(
            "east-3",
            "nft 'table inet mine { chain out { type filter hook output priority 10; udp dport 4700-4799 reject; }; }'",
        )],
        &["udp-blocked east-3"],
    ),
    (
        &[(
            "east-1",
            "iptables -N LIMIT; iptables -A LIMIT -s 10.244.0.0/15 -j DROP; iptables -A FORWARD ! -o lo -j LIMIT",
        )],
        &["forward-drop east-1"],
    ),
    (
        &[(
            "east-1",
            "ip route replace unreachable $(ip route show proto 80 | sed -n 's/ via 10.1.0.3 dev eth0.*//p') proto bird metric 0",
        )],
        &["block-route east-1"],
    ),
    (
        &[("east-3", "ip link set dev vxlan.calico mtu 1400")],
        &["mtu pod@east-3/Always", "mtu pod@east-3/CrossSubnet"],
    ),
    // Two at once, on two nodes.
    (
        &[
            ("east-1", "sysctl -qw net.ipv4.ip_forward=0"),
            (
                "east-2",
                "nft add table ip filter; nft add chain ip filter FORWARD '{ type filter hook forward priority 0; policy drop; }'",
            ),
        ],
        &["no-ip-forwarding east-1", "forward-drop east-2"],
    ),
    // What is no fault: a policy of DROP that lets pods' packets through.
    (
        &[(
            "east-1",
            "iptables -P FORWARD DROP; iptables -A FORWARD -i cali+ -j ACCEPT; iptables -A FORWARD -o cali+ -j ACCEPT",
        )],
        &[],
    ),
];

fn by_hand(text: &str, cases: &[ByHand]) {
    if !can_run(&["ip", "nft", "sysctl", "iptables"]) {
        return;
    }
    each(
        cases,
        |(commands, _)| format!("{commands:?}"),
        |(commands, expected)| {
            let lab = Lab::start(&scenario(text, &[]));
            for (place, command) in *commands {
                lab.run(place, command);
            }
            let (findings, _) = lab.doctor();
            assert_eq!(names(&findings), *expected, "{findings:#?}");
            if !expected.is_empty() {
                lab.heal(&findings);
                let (left, _) = lab.doctor();
                assert_eq!(names(&left), Vec::<String>::new(), "after the remedy: {left:#?}");
            }
        },
    );
}

/// The same between clusters.
const BY_HAND_BETWEEN: [ByHand; 5] = [
    // Half of a remote range, by a metric of its own.
    (
        &[(
            "east-2",
            "ip route add blackhole 10.99.32.0/19 proto bird metric 32",
        )],
        &["remote-route east-2"],
    ),
    // Another table before the main one.
    (
        &[(
            "west-1",
            "ip rule add priority 90 to 10.0.0.0/8 lookup 77 && ip route add unreachable 10.244.0.0/16 table 77",
        )],
        &["remote-route west-1"],
    ),
    // The rule of table 150 after the main table's, and a strict filter on a device with a dot, at once.
    (
        &[
            (
                "east-1",
                "ip rule del priority 150; ip rule add priority 32800 lookup 150",
            ),
            ("west-1", "sysctl -qw net.ipv4.conf.vxlan/calico.rp_filter=1"),
        ],
        &["host-table east-1", "rp-filter west-1"],
    ),
    (
        &[(
            "east-2",
            "iptables -A OUTPUT -p udp -m multiport --dports 4800,4801 -j DROP",
        )],
        &["udp-blocked east-2"],
    ),
    (
        &[(
            "east-1",
            "bridge fdb del 00:00:00:00:00:00 dev vxlan-tunnel dst 172.20.7.3 self",
        )],
        &["stale-fdb east-1"],
    ),
];

#[test]
fn what_is_broken_by_hand_is_found_and_healed() {
    by_hand(ONE_CLUSTER, &BY_HAND);
}

#[test]
fn what_is_broken_by_hand_between_clusters_is_found_and_healed() {
    by_hand(TWO_CLUSTERS, &BY_HAND_BETWEEN);
}

#[test]
fn this_machine_is_examined_and_the_text_reads_well() {
    let output = finish(encapbench().arg("doctor"), LIMIT);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("Looked into 1 place"), "{}", said(&output));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("broken.yaml");
    fs::write(
        &file,
        scenario(ONE_CLUSTER, &["no-ip-forwarding: { node: east-3 }"]),
    )
    .unwrap();
    let output = finish(encapbench().arg("doctor").arg(&file), LIMIT);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(program::code(output.status), 1, "{}", said(&output));
    for part in [
        "error: east-3: east-3 does not forward packets [no-ip-forwarding]",
        "seen       net.ipv4.ip_forward = 0",
        "remedy     [east-3] sysctl -w net.ipv4.ip_forward=1",
        "1 error, 0 warnings.",
    ] {
        assert!(text.contains(part), "no {part:?} in {text}");
    }
    // A fault of a node that is not there is told with its line.
    fs::write(&file, scenario(ONE_CLUSTER, &["forward-drop: { node: east-9 }"])).unwrap();
    let output = finish(encapbench().arg("doctor").arg(&file), LIMIT);
    assert_eq!(program::code(output.status), 2, "{}", said(&output));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        text.contains("broken.yaml:5:") && text.contains("no node is named `east-9`"),
        "{text}"
    );
}

#[test]
fn a_run_whose_path_carries_nothing_calls_the_doctor() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("broken.yaml");
    let text = scenario(ONE_CLUSTER, &["forward-drop: { node: east-2 }"])
        .replace(
            "name: nodes, from: east-1, to: east-2",
            "name: pods, from: pod@east-1, to: pod@east-2, vxlan-mode: Always",
        )
        .replace("duration: 1s", "duration: 200ms");
    fs::write(&file, text).unwrap();
    let run = folder.path().join("run");
    let output = finish(
        encapbench()
            .arg("run")
            .arg(&file)
            .args(["--blocks", "1", "--quiet", "--out"])
            .arg(&run),
        LIMIT,
    );
    assert_eq!(program::code(output.status), 4, "{}", said(&output));
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(told.contains("[forward-drop]"), "{}", said(&output));
    let found: Value = serde_json::from_slice(&fs::read(run.join("doctor.json")).unwrap()).unwrap();
    assert_eq!(
        names(found["findings"].as_array().unwrap()),
        ["forward-drop east-2"]
    );
    for report in ["report.md", "report.html"] {
        let text = fs::read_to_string(run.join(report)).unwrap();
        assert!(
            text.contains("What the doctor found") && text.contains("ip filter FORWARD"),
            "{report}"
        );
    }
    // Made again it is the same, byte for byte.
    let before = fs::read(run.join("report.html")).unwrap();
    let output = finish(encapbench().arg("report").arg(&run), LIMIT);
    assert_eq!(program::code(output.status), 0, "{}", said(&output));
    assert!(before == fs::read(run.join("report.html")).unwrap());
}
