//! The doctor against what an administrator breaks with ip, nft, iptables and sysctl in a running lab: other ranges, other
//! tables and chains than encapbench's own faults, two faults at once, and what looks like a fault and is none. The
//! remedies are run as they are printed.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test may fail where it stands"
)]
#![cfg(feature = "lab")]

#[path = "support/program.rs"]
mod program;
#[path = "support/sick_lab.rs"]
mod sick_lab;
#[path = "../src/skip.rs"]
mod skip;

use sick_lab::{Lab, ONE_CLUSTER, TWO_CLUSTERS, can_run, each, names, scenario};

/// Commands, each with its place, and all that may be found then.
type ByHand = (&'static [(&'static str, &'static str)], &'static [&'static str]);

/// Faults made with the tools of an administrator, not as encapbench makes its own.
const BY_HAND: [ByHand; 16] = [
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
    // A rule of a verdict map, and a route that ends the search.
    (
        &[
            ("east-2", "ip route add throw 10.245.0.0/27"),
            (
                "east-3",
                "nft 'table ip t { chain d { drop; }; chain c { type filter hook forward priority 5; \
                 iifname vmap { \"eth0\" : jump d, \"vxlan.calico\" : jump d }; }; }'",
            ),
        ],
        &["block-route east-2", "forward-drop east-3"],
    ),
    // Before routing, and before all else.
    (
        &[
            (
                "east-2",
                "iptables -t raw -A PREROUTING -s 10.244.0.0/16 -i eth0 -j DROP",
            ),
            (
                "east-3",
                "nft 'table netdev t { chain c { type filter hook ingress device \"eth0\" priority 0; udp dport 4789 drop; }; }'",
            ),
        ],
        &["forward-drop east-2", "udp-blocked east-3"],
    ),
    (
        &[(
            "east-1",
            "iptables -t mangle -A POSTROUTING -s 10.244.0.0/16 -o eth0 -j DROP; ip route del 10.245.0.64/26",
        )],
        &["block-route east-1", "forward-drop east-1"],
    ),
    (
        &[("east-2", "ip link set dev vxlan.calico down")],
        &["vxlan-device east-2"],
    ),
    // Another VXLAN under the same name, without anything that belongs to it.
    (
        &[(
            "east-3",
            "ip link del vxlan.calico && ip link add vxlan.calico type vxlan id 4096 dstport 8472 local 10.1.1.2 dev eth0 && \
             ip addr add 10.245.0.128/32 dev vxlan.calico && ip link set vxlan.calico mtu 1450 up",
        )],
        &["vxlan-device east-3"],
    ),
    (
        &[
            ("east-2", "ip link set eth0 down"),
            ("pod@east-1/Always", "ip link set eth0 down"),
            ("pod@east-3/CrossSubnet", "ip route replace blackhole default"),
        ],
        &[
            "link-down east-2",
            "link-down pod@east-1/Always",
            "pod-route pod@east-3/CrossSubnet",
        ],
    ),
    (
        &[(
            "east-1",
            "ip neigh replace 10.1.0.3 lladdr 02:00:00:00:00:99 dev eth0 nud permanent; \
             ip neigh replace 10.244.0.1 lladdr 02:00:00:00:00:55 nud permanent dev \
             $(ip -o route get 10.244.0.1 | sed 's/.*dev \\([^ ]*\\).*/\\1/')",
        )],
        &["stale-neighbour east-1", "stale-neighbour east-1"],
    ),
    // A device that carries less than its like, and tells nobody.
    (
        &[(
            "east-1",
            "ip link set dev vxlan.calico mtu 1300; iptables -A OUTPUT -p icmp --icmp-type fragmentation-needed -j DROP",
        )],
        &["mtu-black-hole east-1"],
    ),
    // What is no fault: rules by sets and maps that pods' packets pass.
    (
        &[(
            "east-1",
            "nft 'table inet t { set bad { type ipv4_addr; flags interval; elements = { 203.0.113.0/24 } }; \
             chain c { type filter hook forward priority 0; ip saddr @bad drop; tcp dport vmap { 22 : drop, 80 : accept }; }; }'; \
             iptables -A FORWARD -m mark --mark 0x8/0x8 -j DROP",
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
            let mut expected = expected.to_vec();
            expected.sort_unstable();
            let mut found = names(&findings);
            found.sort_unstable();
            assert_eq!(found, expected, "{findings:#?}");
            if !expected.is_empty() {
                lab.heal(&findings);
                let (left, _) = lab.doctor();
                assert_eq!(names(&left), Vec::<String>::new(), "after the remedy: {left:#?}");
            }
        },
    );
}

/// The same between clusters.
const BY_HAND_BETWEEN: [ByHand; 20] = [
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
    // The right device, and the wrong next hop; the rule of the cable's table gone.
    (
        &[
            (
                "east-2",
                "ip route replace 10.99.0.0/18 via 240.1.0.99 dev vx-submariner proto static",
            ),
            ("west-2", "ip rule del priority 100"),
        ],
        &["remote-route east-2", "remote-route west-2"],
    ),
    (
        &[
            ("east-1", "ip route add unreachable 10.99.32.0/20 table 150"),
            (
                "east-2",
                "ip link del vx-submariner && ip link add vx-submariner type vxlan id 101 dstport 4800 local 10.1.0.3 dev eth0 && \
                 ip addr add 240.1.0.3/8 dev vx-submariner && ip link set vx-submariner up",
            ),
        ],
        &["host-table east-1", "submariner-device east-2"],
    ),
    (
        &[("east-1", "ip link del vxlan-tunnel")],
        &["submariner-device east-1"],
    ),
    (
        &[("west-1", "ip link set vx-submariner down")],
        &["submariner-device west-1"],
    ),
    // A set of ranges drops, and table 150 loses its rule, on one node.
    (
        &[(
            "east-1",
            "nft 'table inet t { set s { type ipv4_addr; flags interval; elements = { 10.99.0.0/16, 192.168.0.0/16 } }; \
             chain c { type filter hook forward priority -10; ip daddr @s drop; }; }'; ip rule del priority 150",
        )],
        &["forward-drop east-1", "host-table east-1"],
    ),
    // One rule for two ports, by what it leaves out.
    (
        &[(
            "east-1",
            "iptables -A INPUT -p udp ! --dport 4000:4799 -j ACCEPT; iptables -A INPUT -p udp -j DROP; \
             iptables -I INPUT -p udp --dport 4800 -j DROP",
        )],
        &["udp-blocked east-1", "udp-blocked east-1"],
    ),
    // A worker that was the gateway once, and a gateway that lost a range.
    (
        &[
            (
                "east-2",
                "ip rule add priority 150 lookup 150; ip route add 10.99.0.0/18 dev eth0 table 150 proto static scope link",
            ),
            ("east-1", "ip route del 192.168.64.0/18 table 100"),
        ],
        &["host-table-stale east-2", "remote-route east-1"],
    ),
    (
        &[(
            "east-1",
            "ip link set dev vxlan-tunnel mtu 1200; \
             nft 'table ip t { chain c { type filter hook output priority 0; icmp type destination-unreachable drop; }; }'",
        )],
        &["mtu-black-hole east-1"],
    ),
    (
        &[(
            "west-1",
            "ip route replace prohibit 10.245.0.0/16; iptables -A OUTPUT -p udp --dport 4800 -j REJECT",
        )],
        &["remote-route west-1", "udp-blocked west-1"],
    ),
    // Devices that are there and up, and have lost their addresses.
    (
        &[
            ("east-2", "ip addr flush dev vx-submariner"),
            ("west-1", "ip addr flush dev vxlan.calico"),
        ],
        &["submariner-device east-2", "vxlan-device west-1"],
    ),
    // A neighbour of the cable and one of the uplink, each with a MAC that nobody has.
    (
        &[
            (
                "east-1",
                "ip neigh replace 241.20.7.3 lladdr 02:11:22:33:44:55 dev vxlan-tunnel nud permanent",
            ),
            (
                "east-2",
                "ip neigh replace 10.1.0.2 lladdr 02:11:22:33:44:55 dev eth0 nud permanent",
            ),
        ],
        &["stale-neighbour east-1", "stale-neighbour east-2"],
    ),
    // One device of a gateway does not forward, and kube-proxy is of another kind.
    (
        &[
            ("east-1", "sysctl -qw net.ipv4.conf.vx-submariner.forwarding=0"),
            ("west-2", "ip link add kube-ipvs0 type bridge"),
        ],
        &["no-ip-forwarding east-1", "kube-proxy-mode west-2"],
    ),
    (
        &[
            ("east-2", "ip link set dev eth0 arp off; ip neigh flush dev eth0"),
            (
                "west-1",
                "cd /proc/sys/net/ipv4/conf && for d in cali*; do echo 0 >$d/proxy_arp; done",
            ),
        ],
        &["arp-off east-2", "proxy-arp west-1", "proxy-arp west-1"],
    ),
    // One rule for all ranges and blocks.
    (
        &[("west-1", "ip rule add priority 50 from 10.99.0.0/18 blackhole")],
        &["block-route west-1"],
    ),
    // What is no fault: a rule of table 150 that comes earlier, and a route that another table answers before.
    (
        &[(
            "east-1",
            "ip rule del priority 150; ip rule add priority 140 lookup 150; ip route add unreachable 10.99.0.0/18 proto bird",
        )],
        &[],
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
