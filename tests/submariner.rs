//! Two clusters joined by Submariner, in real namespaces: who reaches whom over each cable, by which devices, from which
//! source; what a strict reverse path filter does to it; and that nothing stays behind.

#![expect(clippy::unwrap_used, reason = "a test may fail where it stands")]
#![cfg(feature = "lab")]

#[path = "../src/skip.rs"]
mod skip;
#[path = "support/program.rs"]
mod support;

use encapbench::evidence::{EvidenceState, RouteQuery};
use encapbench::fabric::lab::{Command, Made, RunningLab, Stdio, lab_of, pods_everywhere};
use encapbench::measure::network;
use encapbench::scenario::{Lab, Overrides, Place, Plan, parse};
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};
use support::{code, encapbench, finish, said, trials};

const PROGRAM: &str = env!("CARGO_BIN_EXE_encapbench");
/// Long enough for a process in user space on a busy machine.
const PATIENCE: Duration = Duration::from_secs(10);

fn scenario(cable: &str, more: &str) -> String {
    format!(
        "
name: two
question: test
fabric:
  lab:
    submariner: {{ cable: {cable} }}
    clusters:
      - name: east
        gateway: east-1
        subnets: [ {{ nodes: [east-1, east-2] }} ]
      - name: west
        gateway: west-2
        subnets: [ {{ nodes: [west-1, west-2, west-3] }} ]
        rp-filter-of: {{ west-3: strict }}
{more}"
    )
}

const PATHS: &str = "
paths:
  - { name: worker to worker, from: pod@east-2, to: pod@west-1, vxlan-mode: CrossSubnet }
  - { name: worker to worker Always, from: pod@east-2, to: pod@west-1, vxlan-mode: Always }
  - { name: gateway to strict, from: pod@east-1, to: pod@west-3, vxlan-mode: CrossSubnet }
  - { name: gateway to strict Always, from: pod@east-1, to: pod@west-3, vxlan-mode: Always }
  - { name: node to worker, from: east-2, to: pod@west-1, vxlan-mode: CrossSubnet }
workloads:
  - { name: tcp, throughput: { duration: 200ms, omit: 100ms } }
  - { name: back, throughput: { duration: 200ms, omit: 100ms, reverse: true } }
  - { name: rr, latency: { kind: tcp-rr, duration: 200ms, omit: 50ms } }
blocks: { at-least: 1 }
";

fn lab(cable: &str) -> Lab {
    let scenario = parse(&scenario(cable, PATHS), "two.yaml").unwrap();
    lab_of(&scenario).unwrap().clone()
}

fn place(text: &str) -> Place {
    text.parse().unwrap()
}

/// Says so, loudly, where no lab can be built in this process.
fn built(cable: &str) -> Option<RunningLab> {
    let lab = lab(cable);
    match RunningLab::build_with(Path::new(PROGRAM), "test", &lab, &pods_everywhere(&lab)) {
        Ok(lab) => Some(lab),
        Err(error) => {
            skip::skip(format_args!(
                "a lab in the test's own process needs root: {error}"
            ));
            None
        }
    }
}

/// Carries some bytes from one place to another, bound to `source`: the source that the receiver saw, or why not.
fn carry(lab: &RunningLab, from: &Place, to: &Place, limit: Duration) -> Result<IpAddr, String> {
    const BYTES: usize = 300_000;
    let address = lab.address(to).unwrap();
    let listener = lab
        .within(to, || TcpListener::bind((address, 0)).unwrap())
        .unwrap();
    let target = listener.local_addr().unwrap();
    std::thread::scope(|scope| {
        let received = scope.spawn(|| {
            listener.set_nonblocking(true).unwrap();
            let deadline = Instant::now() + limit + Duration::from_secs(1);
            loop {
                match listener.accept() {
                    Ok((mut connection, peer)) => {
                        connection.set_nonblocking(false).unwrap();
                        connection.set_read_timeout(Some(PATIENCE)).unwrap();
                        let mut all = Vec::new();
                        connection.read_to_end(&mut all).unwrap();
                        assert_eq!(all.len(), BYTES);
                        return Some(peer.ip());
                    }
                    Err(_) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(5)),
                    Err(_) => return None,
                }
            }
        });
        let sent = lab
            .within(from, || {
                let mut connection =
                    TcpStream::connect_timeout(&target, limit).map_err(|error| error.to_string())?;
                connection
                    .write_all(&vec![1; BYTES])
                    .map_err(|error| error.to_string())
            })
            .unwrap();
        let seen = received.join().unwrap();
        sent.and_then(|()| seen.ok_or_else(|| "nothing came".to_owned()))
    })
}

/// Everything that is specified of the two clusters' pods: all four pairs of gateway and worker, both pools, both ways.
fn all_reach_each_other(lab: &RunningLab) {
    for mode in ["CrossSubnet", "Always"] {
        for east in ["east-1", "east-2"] {
            for west in ["west-1", "west-2"] {
                let (east, west) = (
                    place(&format!("pod@{east}/{mode}")),
                    place(&format!("pod@{west}/{mode}")),
                );
                for (from, to) in [(&east, &west), (&west, &east)] {
                    assert_eq!(
                        carry(lab, from, to, PATIENCE),
                        Ok(lab.address(from).unwrap()),
                        "{from} to {to}: the receiver sees the pod's own address"
                    );
                }
            }
        }
    }
}

#[test]
fn pods_of_two_clusters_reach_each_other_over_vxlan() {
    let Some(lab) = built("vxlan") else { return };
    assert_eq!(lab.cable(), Some(&Made::InKernel));
    all_reach_each_other(&lab);
    // Packets of nodes come with an address of the cluster's range: the tunnel's, which answers can go to.
    for node in ["east-1", "east-2"] {
        let vtep = lab
            .topology()
            .nodes
            .iter()
            .find(|plan| plan.name == node)
            .unwrap()
            .vtep;
        let seen = carry(&lab, &place(node), &place("pod@west-1/Always"), PATIENCE);
        assert_eq!(seen, Ok(IpAddr::V4(vtep)), "{node}");
    }
    // Strict on the uplink, packets that come plain are dropped, and the kernel says so when asked; encapsulated ones
    // are not.
    let (from, to) = (place("pod@east-1/CrossSubnet"), place("pod@west-3/CrossSubnet"));
    carry(&lab, &from, &to, Duration::from_secs(1)).unwrap_err();
    let query = RouteQuery {
        destination: lab.address(&to).unwrap(),
        source: lab.address(&from),
        input_device: Some("eth0".to_owned()),
    };
    let answer = lab
        .within(&place("west-3"), || network::routes(&[query]).unwrap())
        .unwrap();
    assert!(
        answer[0].error.as_ref().unwrap().contains("rp_filter"),
        "{answer:?}"
    );
    carry(
        &lab,
        &place("pod@east-1/Always"),
        &place("pod@west-3/Always"),
        PATIENCE,
    )
    .unwrap();
}

#[test]
fn pods_of_two_clusters_reach_each_other_over_cables_of_user_space() {
    for cable in ["wireguard", "ipsec"] {
        let Some(lab) = built(cable) else { return };
        if let Some(Made::Missing { why }) = lab.cable() {
            skip::skip(format_args!("{why}"));
            return;
        }
        let processes: Vec<u32> = lab.tunnels().map(|(_, _, pid)| pid).collect();
        if matches!(lab.cable(), Some(Made::InUserSpace { .. })) {
            assert_eq!(processes.len(), 2, "one a gateway");
        }
        all_reach_each_other(&lab);
        drop(lab);
        for pid in processes {
            assert!(
                !Path::new(&format!("/proc/{pid}/exe")).exists(),
                "{cable}: {pid} lives on"
            );
        }
    }
}

/// What iproute2 shows in a place.
fn ip(lab: &RunningLab, node: &str, args: &str) -> String {
    let (program, args) = args.split_once(' ').unwrap();
    let command = Command::new(program)
        .args(args.split(' '))
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .stdio(Stdio::Null, Stdio::Piped, Stdio::Inherit);
    let mut process = lab.spawn(&place(node), &command).unwrap();
    let mut text = String::new();
    std::fs::File::from(process.stdout.take().unwrap())
        .read_to_string(&mut text)
        .unwrap();
    assert!(process.wait_blocking().unwrap().success(), "{program} {args}");
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn nodes_are_set_up_as_the_route_agent_does_it() {
    let Some(lab) = built("vxlan") else { return };
    let has = |node: &str, args: &str, wanted: &[&str]| {
        let text = ip(&lab, node, args);
        for part in wanted {
            assert!(text.contains(part), "{node}: {args}: no {part:?} in {text}");
        }
        text
    };
    let west = &lab.topology().pools[1];
    let vtep = |node: usize| lab.topology().nodes[node].vtep.to_string();
    // A worker: everything for the other cluster goes to the gateway, by the main table.
    let routes = format!("{} via 240.1.0.2 dev vx-submariner proto static", west[0]);
    has(
        "east-2",
        "ip -4 route show table main",
        &[&routes, &west[1].to_string()],
    );
    has(
        "east-2",
        "ip -d link show vx-submariner",
        &[
            "vxlan id 100 remote 10.1.0.2",
            "dstport 4800",
            "nolearning",
            "mtu 1450",
        ],
    );
    has("east-2", "ip -4 addr show vx-submariner", &["inet 240.1.0.3/8"]);
    let rules = ip(&lab, "east-2", "ip rule show");
    assert!(!rules.contains("150:") && !rules.contains("100:"), "{rules}");
    // The gateway: the cable's table, then that for its own packets.
    has(
        "east-1",
        "ip rule show",
        &["100: from all lookup 100", "150: from all lookup 150"],
    );
    let cable = format!(
        "{} via 241.2.0.3 dev vxlan-tunnel proto static src {} metric 100",
        west[0],
        vtep(0)
    );
    has("east-1", "ip route show table 100", &[&cable]);
    let host = format!("{} dev eth0 proto static scope link src {}", west[0], vtep(0));
    has("east-1", "ip route show table 150", &[&host]);
    has(
        "east-1",
        "bridge fdb show dev vx-submariner",
        &["00:00:00:00:00:00 dst 10.1.0.3 self permanent"],
    );
    has(
        "east-1",
        "bridge fdb show dev vxlan-tunnel",
        &["00:00:00:00:00:00 dst 10.2.0.3 self permanent"],
    );
    has(
        "east-1",
        "ip -d link show vxlan-tunnel",
        &["vxlan id 1000", "dstport 4500"],
    );
    // What comes in goes on by Calico's routes, not by vx-submariner.
    let block = lab.topology().nodes[1].cross_subnet;
    has(
        "east-1",
        "ip route show table main",
        &[&format!("{block} via 10.1.0.3 dev eth0 proto 80 onlink")],
    );
    for (node, device, value) in [
        ("east-1", "vx-submariner", "2"),
        ("east-1", "vxlan-tunnel", "2"),
        ("east-1", "vxlan/calico", "2"),
        ("east-2", "vxlan/calico", "2"),
        ("west-3", "eth0", "1"),
        ("west-1", "eth0", "2"),
    ] {
        let file = format!("/proc/sys/net/ipv4/conf/{}/rp_filter", device.replace('/', "."));
        assert_eq!(ip(&lab, node, &format!("cat {file}")), value, "{node} {device}");
    }
    has(
        "east-1",
        "nft list table ip submariner",
        &[
            "tcp option maxseg size set rt mtu",
            "ip saddr 240.0.0.0/8",
            "snat to",
        ],
    );
}

/// A whole run: each leg is confirmed, and what can't be reached is said to be so, at once.
#[test]
fn a_run_proves_each_leg_and_names_what_drops() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("two.yaml");
    std::fs::write(&file, scenario("vxlan", PATHS)).unwrap();
    let run = folder.path().join("run");
    let output = finish(
        encapbench()
            .args(["run", "--quiet", "--out"])
            .arg(&run)
            .arg(&file),
        Duration::from_mins(1),
    );
    assert_eq!(
        code(output.status),
        4,
        "one path has no valid trial: {}",
        said(&output)
    );
    for trial in trials(&run) {
        let case = trial["case"].as_str().unwrap();
        if case.starts_with("gateway-to-strict--") {
            let error = trial["outcome"]["error"].as_str().unwrap();
            assert!(
                error.starts_with("unreachable: west-3 drops packets from") && error.contains("rp_filter"),
                "{error}"
            );
            assert!(trial["seconds"].as_f64().unwrap() < 5.0, "{trial}");
            continue;
        }
        assert_eq!(trial["outcome"]["state"], "measured", "{case}: {trial}");
        assert_eq!(
            trial["verdict"]["state"],
            serde_json::to_value(EvidenceState::Confirmed).unwrap(),
            "{case}: {}",
            trial["verdict"]
        );
    }
    let report = std::fs::read_to_string(run.join("report.md")).unwrap();
    assert!(report.contains("## Between clusters, leg by leg"), "{report}");
    assert!(
        report.contains("east-2 → east-1") && report.contains("vx-submariner"),
        "{report}"
    );
    assert!(report.contains("(pod@\u{200b}east-2/CrossSubnet)"), "{report}");
}

/// An ordinary user has all that needs no TUN device; what does ends alone, with what to do about it.
#[test]
fn an_ordinary_user_needs_a_tun_device_for_cables_of_user_space_only() {
    let folder = tempfile::tempdir_in("/tmp").unwrap();
    for cable in ["vxlan", "ipsec"] {
        let text = scenario(cable, PATHS)
            .replace("rp-filter-of: { west-3: strict }", "")
            .replace("paths:", "paths:\n  - { name: nodes, from: east-2, to: west-3 }");
        let file = folder.path().join(format!("{cable}.yaml"));
        std::fs::write(&file, text).unwrap();
        let run = folder.path().join(format!("run-{cable}"));
        let output = finish(
            support::as_ordinary_user(folder.path())
                .args([
                    "run",
                    "--quiet",
                    "--only",
                    "nodes/rr",
                    "--only",
                    "worker to worker/rr",
                    "--out",
                ])
                .arg(&run)
                .arg(&file),
            Duration::from_mins(1),
        );
        if code(output.status) == 3 {
            skip::skip(format_args!("no user namespaces here: {}", said(&output)));
            return;
        }
        for trial in trials(&run) {
            let error = trial["outcome"]["error"].as_str();
            match error {
                Some(error) => {
                    assert!(
                        cable == "ipsec" && trial["case"] == "worker-to-worker--rr",
                        "{trial}"
                    );
                    assert!(
                        error.contains("/dev/net/tun") && error.contains("run as root"),
                        "{error}"
                    );
                    assert_eq!(code(output.status), 4, "{}", said(&output));
                }
                None => assert_eq!(trial["verdict"]["state"], "confirmed", "{cable}: {trial}"),
            }
        }
        assert_eq!(trials(&run).len(), 2, "{}", said(&output));
    }
}

/// Tunnels that a coordinator has started: its children.
fn tunnels_of(coordinator: u32) -> Vec<u32> {
    support::processes(&format!("{PROGRAM} tunnel"))
        .into_iter()
        .filter(|pid| {
            std::fs::read_to_string(format!("/proc/{pid}/status"))
                .is_ok_and(|status| status.contains(&format!("\nPPid:\t{coordinator}\n")))
        })
        .collect()
}

/// Ended by force, it leaves no process of a cable.
#[test]
fn a_killed_run_leaves_no_tunnel_behind() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("two.yaml");
    let text = scenario("ipsec", PATHS).replace("duration: 200ms", "duration: 20s");
    std::fs::write(&file, &text).unwrap();
    let plan = Plan::new(&parse(&text, "two.yaml").unwrap(), &Overrides::default(), 1).unwrap();
    assert_eq!(plan.cases.len(), 15);
    let mut child = encapbench()
        .args(["run", "--quiet", "--only", "worker to worker Always/tcp", "--out"])
        .arg(folder.path().join("run"))
        .arg(&file)
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let coordinator = child.id();
    let tunnels = || -> Vec<u32> { tunnels_of(coordinator) };
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut found = tunnels();
    while found.len() < 2 && Instant::now() < deadline && child.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(50));
        found = tunnels();
    }
    child.kill().unwrap();
    child.wait().unwrap();
    if found.is_empty() {
        skip::skip(format_args!(
            "no tunnel in user space came up here: /dev/net/tun is root's, or not there"
        ));
        return;
    }
    support::poll("end of the tunnels", Duration::from_secs(10), || {
        found
            .iter()
            .all(|pid| !Path::new(&format!("/proc/{pid}/exe")).exists())
            .then_some(())
    });
}
