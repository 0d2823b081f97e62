//! The lab as a coordinator uses it, in this process. Needs root: a test runner has threads, and so can't enter a user
//! namespace.

#![expect(clippy::unwrap_used, reason = "a test may fail where it stands")]
#![cfg(feature = "lab")]

#[path = "../src/skip.rs"]
mod skip;

use encapbench::evidence::RouteSeen;
use encapbench::fabric::Fabric as _;
use encapbench::fabric::lab::{Command, LabFabric, NamespaceKind, RunningLab, Stdio, pods_everywhere};
use encapbench::measure::network;
use encapbench::scenario::VxlanMode;
use encapbench::scenario::{
    Calico, Case, Cluster, Encapsulation, Firewall, Lab, NicProfile, Path, Place, RpFilter, Subnet,
};
use encapbench::units::Mtu;
use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

fn usual() -> Lab {
    let subnet = |nodes: &[&str]| Subnet {
        nodes: nodes.iter().map(|n| (*n).to_owned()).collect(),
        cidr: None,
    };
    Lab {
        nic: NicProfile::default(),
        submariner: None,
        faults: Vec::new(),
        clusters: vec![Cluster {
            name: "east".to_owned(),
            subnets: vec![subnet(&["east-1", "east-2"]), subnet(&["east-3"])],
            gateway: None,
            rp_filter: RpFilter::default(),
            rp_filter_of: BTreeMap::new(),
            calico: Calico::default(),
            firewall: None,
        }],
    }
}

fn place(text: &str) -> Place {
    text.parse().unwrap()
}

/// Says so, loudly, where no lab can be built in this process.
fn built(lab: &Lab) -> Option<RunningLab> {
    match RunningLab::build("test", lab, &pods_everywhere(lab)) {
        Ok(lab) => Some(lab),
        Err(error) => {
            skip::skip(format_args!(
                "a lab in the test's own process needs root: {error}"
            ));
            None
        }
    }
}

fn path(from: &str, to: &str, mode: Option<VxlanMode>) -> Path {
    Path {
        name: format!("{from} to {to}"),
        from: place(from),
        to: place(to),
        vxlan_mode: mode,
        expected: Encapsulation::None,
        same_node: place(from).node() == place(to).node(),
        same_subnet: true,
        crossing: None,
        user_space: None,
        by: encapbench::scenario::By::Address,
        expect: encapbench::scenario::Expect::Reachable,
        together_with: Vec::new(),
    }
}

/// A case of a path; what its workload is doesn't matter to the fabric.
fn case(path: Path) -> Case {
    let workload = serde_json::json!({ "name": "rr", "latency": { "kind": "tcp-rr", "duration": "1s" } });
    Case {
        slug: "case".to_owned(),
        path,
        workload: serde_json::from_value(workload).unwrap(),
        load: None,
    }
}

/// Carries `bytes` from one place to another.
fn carry(lab: &RunningLab, from: &Place, to: &Place, bytes: usize) {
    let address = lab.address(to).unwrap();
    let listener = lab
        .within(to, || TcpListener::bind((address, 7000)).unwrap())
        .unwrap();
    std::thread::scope(|scope| {
        let received = scope.spawn(|| {
            let mut all = Vec::new();
            let (mut connection, peer) = listener.accept().unwrap();
            connection.read_to_end(&mut all).unwrap();
            assert_eq!(Some(peer.ip()), lab.address(from), "the source address is kept");
            all.len()
        });
        lab.within(from, || {
            let mut connection = TcpStream::connect((address, 7000)).unwrap();
            connection.write_all(&vec![1; bytes]).unwrap();
        })
        .unwrap();
        assert_eq!(received.join().unwrap(), bytes);
    });
}

/// What the evidence is made of tells plain from encapsulated, as kernel and wire have it.
#[test]
fn devices_and_routes_tell_the_encapsulation() {
    const BYTES: usize = 2_000_000;
    let lab = usual();
    let Some(running) = built(&lab) else { return };
    for (from, to, expected) in [
        ("east-1", "east-2", "eth0"),
        ("pod@east-1/CrossSubnet", "pod@east-2/CrossSubnet", "eth0"),
        ("pod@east-1/Always", "pod@east-2/Always", "vxlan.calico"),
        ("pod@east-1/CrossSubnet", "pod@east-3/CrossSubnet", "vxlan.calico"),
        ("pod@east-1/Always", "pod@east-3/Always", "vxlan.calico"),
    ] {
        let mode = if from.ends_with("Always") {
            VxlanMode::Always
        } else {
            VxlanMode::CrossSubnet
        };
        let path = path(from, to, from.contains('@').then_some(mode));
        let fabric = LabFabric::new("test", &lab, &[case(path.clone())]).unwrap();
        // The plan is the same, for as many pods of each node's pool.
        assert_eq!(
            fabric.address(&path, &path.to).unwrap(),
            running.address(&path.to).unwrap()
        );
        let watched = fabric.observe(&path).unwrap();
        assert_eq!(watched.len(), 2);
        let look = || -> Vec<_> {
            watched
                .iter()
                .map(|(node, request)| {
                    running
                        .within(node, || {
                            (
                                network::devices(&request.devices).unwrap(),
                                network::routes(&request.routes).unwrap(),
                            )
                        })
                        .unwrap()
                })
                .collect()
        };
        let before = look();
        carry(&running, &path.from, &path.to, BYTES);
        let after = look();
        for ((devices, routes), (devices_before, _)) in after.iter().zip(&before) {
            let [RouteSeen { device, error, .. }] = routes.as_slice() else {
                panic!("one route: {routes:?}")
            };
            assert_eq!(
                (device.as_deref(), error),
                (Some(expected), &None),
                "{from} to {to}"
            );
            let carried = |name: &str| {
                let total = |devices: &[encapbench::evidence::DeviceSeen]| {
                    let device = devices.iter().find(|device| device.device == name).unwrap();
                    device.rx_bytes + device.tx_bytes
                };
                total(devices) - total(devices_before)
            };
            assert!(carried("eth0") >= BYTES as u64, "{from} to {to}");
            if expected == "vxlan.calico" {
                assert!(carried("vxlan.calico") >= BYTES as u64, "{from} to {to}");
            } else {
                assert_eq!(carried("vxlan.calico"), 0, "{from} to {to}");
            }
        }
    }
}

#[test]
fn the_nic_profile_is_what_the_kernel_has() {
    let mut lab = usual();
    for (offload, checksum) in [(false, false), (true, true)] {
        lab.nic.tunnel_offload = offload;
        lab.nic.mtu = Mtu::new(9000).unwrap();
        lab.clusters[0].calico.vxlan_checksum_offload = checksum;
        let Some(running) = built(&lab) else { return };
        let path = path("east-1", "east-2", None);
        let fabric = LabFabric::new("test", &lab, &[case(path.clone())]).unwrap();
        let (node, request) = fabric.observe(&path).unwrap().remove(0);
        let devices = running
            .within(&node, || network::devices(&request.devices).unwrap())
            .unwrap();
        let offload_of = |device: &str, name: &str| {
            let device = devices.iter().find(|d| d.device == device).unwrap();
            device.offloads.iter().find(|(n, _)| n == name).unwrap().1
        };
        assert_eq!(offload_of("eth0", "tx-udp_tnl-segmentation"), offload);
        assert_eq!(offload_of("eth0", "tx-udp_tnl-csum-segmentation"), offload);
        assert!(offload_of("eth0", "tx-tcp-segmentation"));
        assert_eq!(offload_of("vxlan.calico", "tx-checksum-ip-generic"), checksum);
        assert_eq!(devices.iter().map(|d| d.mtu).collect::<Vec<_>>(), [9000, 8950]);
    }
}

/// More rules than one netlink message holds.
#[test]
fn the_largest_firewall_fits() {
    let mut lab = usual();
    lab.clusters[0].subnets = vec![Subnet {
        nodes: vec!["east-1".to_owned()],
        cidr: None,
    }];
    lab.clusters[0].firewall = Some(Firewall {
        conntrack: false,
        rules: 10_000,
    });
    let Some(running) = built(&lab) else { return };
    carry(
        &running,
        &place("pod@east-1/Always"),
        &place("pod@east-1/CrossSubnet"),
        1000,
    );
}

#[test]
fn sysctls_are_recorded_as_the_kernel_has_them() {
    let Some(lab) = built(&usual()) else { return };
    let is = |kind, name: &str| {
        let found = lab
            .sysctls()
            .iter()
            .find(|s| s.namespace == kind && s.name == name);
        found.unwrap_or_else(|| panic!("no {name}")).is.clone()
    };
    assert_eq!(
        is(NamespaceKind::Node, "ipv4.conf.all.forwarding").as_deref(),
        Some("1")
    );
    assert_eq!(
        is(NamespaceKind::Node, "ipv4.conf.cali*.proxy_arp").as_deref(),
        Some("1")
    );
    assert_eq!(
        is(NamespaceKind::Pod, "ipv4.tcp_no_metrics_save").as_deref(),
        Some("1")
    );
    // As the kernel has them, from inside.
    for (kind, place) in [
        (NamespaceKind::Node, place("east-1")),
        (NamespaceKind::Pod, place("pod@east-1/Always")),
    ] {
        for sysctl in lab
            .sysctls()
            .iter()
            .filter(|s| s.namespace == kind && !s.name.contains('*'))
        {
            let file = format!("/proc/sys/net/{}", sysctl.name.replace('.', "/"));
            let read = || std::fs::read_to_string(file).ok();
            let value = lab.within(&place, read).unwrap();
            let value = value.map(|text| text.split_whitespace().collect::<Vec<_>>().join(" "));
            assert_eq!(value, sysctl.is, "{} in {place}", sysctl.name);
        }
    }
}

/// A datagram larger than the pod's MTU is refused at the pod, not lost.
#[test]
fn pods_of_both_pools_have_the_tunnels_mtu() {
    let Some(lab) = built(&usual()) else { return };
    for pod in ["pod@east-1/CrossSubnet", "pod@east-1/Always"] {
        let to: IpAddr = lab.address(&place("pod@east-2/CrossSubnet")).unwrap();
        let sent = |bytes: usize| {
            lab.within(&place(pod), || {
                let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
                // Path MTU discovery: never fragment.
                let dont_fragment = rustix::net::sockopt::set_ip_mtu_discover;
                dont_fragment(&socket, rustix::net::sockopt::Ipv4PathMtuDiscovery::DO).unwrap();
                socket.send_to(&vec![0; bytes], (to, 9)).is_ok()
            })
            .unwrap()
        };
        assert!(sent(1450 - 28), "{pod}");
        assert!(!sent(1450 - 27), "{pod}");
    }
}

#[test]
fn a_process_is_watched_and_ended() {
    let Some(lab) = built(&usual()) else { return };
    let command = Command::new("sh")
        .args(["-c", "echo to $0; read -r line; echo got $line; exit 9", "you"])
        .stdio(Stdio::Piped, Stdio::Piped, Stdio::Null);
    let mut process = lab.spawn(&place("east-2"), &command).unwrap();
    let mut output = std::fs::File::from(process.stdout.take().unwrap());
    assert_eq!(process.try_wait().unwrap(), None);
    std::fs::File::from(process.stdin.take().unwrap())
        .write_all(b"it\n")
        .unwrap();
    let mut said = String::new();
    output.read_to_string(&mut said).unwrap();
    assert_eq!(said, "to you\ngot it\n");
    assert_eq!(process.wait_blocking().unwrap().code(), Some(9));
    process.kill().unwrap();

    let missing = lab
        .spawn(&place("east-2"), &Command::new("no-such-program"))
        .unwrap_err();
    assert!(missing.to_string().contains("east-2"), "{missing}");
    let not_a_program = lab.spawn(&place("east-2"), &Command::new("/etc/passwd"));
    assert!(not_a_program.is_err());
    let nowhere = lab.spawn(&place("east-9"), &Command::new("true")).unwrap_err();
    assert!(
        nowhere.is_scenario() && nowhere.to_string().contains("east-1, east-2"),
        "{nowhere}"
    );

    // Whatever still runs ends with the lab, which waits for that.
    let sleeping = lab
        .spawn(&place("east-2"), &Command::new("sleep").args(["1000"]))
        .unwrap();
    drop(lab);
    assert_eq!(
        sleeping.try_wait().unwrap().map(|status| status.code()),
        Some(None)
    );
}

/// A worker's streams, its end, and a lab anew for each block.
#[tokio::test]
async fn a_fabric_launches_workers_in_a_fresh_lab_each_block() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("worker");
    // Written by another process: a fork of this one that has the file open for writing would make it unusable.
    let script = r#"printf '#!/bin/sh\nreadlink /proc/self/ns/net >&2; while read -r line; do echo "$1 heard $line"; done; echo over\n' > "$1""#;
    let written = std::process::Command::new("sh")
        .args(["-c", script, "sh"])
        .arg(&program)
        .status();
    assert!(written.unwrap().success());
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();

    let path = path("pod@east-1/Always", "pod@east-2/Always", Some(VxlanMode::Always));
    let mut fabric = LabFabric::new("test", &usual(), &[case(path.clone())])
        .unwrap()
        .with_program(program);
    assert!(fabric.launch(&path.from).await.is_err(), "nothing is up yet");
    let mut namespaces = Vec::new();
    for _block in 0..2 {
        if let Err(error) = fabric.prepare().await {
            skip::skip(format_args!(
                "a lab in the test's own process needs root: {error}"
            ));
            return;
        }
        let mut transport = fabric.launch(&path.from).await.unwrap();
        transport.input.write_all(b"hello\n").await.unwrap();
        drop(transport.input);
        let mut said = String::new();
        transport.output.read_to_string(&mut said).await.unwrap();
        assert_eq!(said, "worker heard hello\nover\n");
        let mut errors = String::new();
        transport.errors.read_to_string(&mut errors).await.unwrap();
        namespaces.push(errors);

        let mut killed = fabric.launch(&path.to).await.unwrap();
        (killed.kill)();
        killed.output.read_to_string(&mut said).await.unwrap();
        fabric.release().await;
    }
    assert!(
        namespaces.iter().all(|namespace| namespace.starts_with("net:[")),
        "{namespaces:?}"
    );
    assert_ne!(namespaces[0], namespaces[1], "each block has a lab of its own");
    let facts = fabric.describe();
    assert_eq!(
        facts.get("address pod@east-2/Always").map(String::as_str),
        Some("10.245.0.65")
    );
    assert!(
        facts.contains_key("sysctl pod net.ipv4.tcp_congestion_control"),
        "{facts:?}"
    );
}
