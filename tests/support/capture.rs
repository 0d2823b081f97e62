//! Packets as they are on a node's uplink: caught by a packet socket (packet(7)), with what is wrapped in them.

use encapbench::fabric::lab::{Command, LabProcess, RunningLab, Stdio};
use encapbench::scenario::Place;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::Ipv4Addr;

/// Prints the length and the first bytes of each frame, until its standard input ends.
const CATCH: &str = r#"
import select, socket, sys
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
s.bind(("eth0", 0))
s.setsockopt(socket.SOL_SOCKET, 33, 16 << 20)  # SO_RCVBUFFORCE
print("ready", flush=True)
while True:
    ready = select.select([s, sys.stdin], [], [], 60)[0]
    if s in ready:
        frame = s.recv(1 << 17)
        print(len(frame), frame[:120].hex())
    else:
        break
print("lost", int.from_bytes(s.getsockopt(263, 6, 8)[4:], sys.byteorder))  # PACKET_STATISTICS
"#;

/// What a packet is wrapped in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Wrapped {
    /// Nothing.
    Plain,
    /// VXLAN (RFC 7348).
    Vxlan {
        /// UDP destination port.
        port: u16,
        /// Network identifier.
        vni: u32,
    },
    /// ESP in UDP (RFC 3948).
    Esp {
        /// UDP destination port.
        port: u16,
    },
    /// WireGuard's data.
    Wireguard {
        /// UDP destination port.
        port: u16,
    },
    /// IP in IP (RFC 2003).
    Ipip,
}

/// A flow of packets: how they are wrapped, between which nodes, and the addresses inside where these can be read.
pub(crate) type Flow = (Wrapped, (Ipv4Addr, Ipv4Addr), Option<(Ipv4Addr, Ipv4Addr)>);

/// A capture that goes on.
pub(crate) struct Capture {
    process: LabProcess,
    lines: BufReader<File>,
}

impl Capture {
    /// Begins on the uplink of `node`; packets that come after this are in it.
    pub(crate) fn start(lab: &RunningLab, node: &str) -> Self {
        let command = Command::new("python3")
            .args(["-c", CATCH])
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .stdio(Stdio::Piped, Stdio::Piped, Stdio::Inherit);
        let mut process = lab.spawn(&Place::Node(node.to_owned()), &command).unwrap();
        let mut lines = BufReader::new(File::from(process.stdout.take().unwrap()));
        let mut first = String::new();
        lines.read_line(&mut first).unwrap();
        assert_eq!(first, "ready\n", "no packet socket in {node}");
        Self { process, lines }
    }

    /// Ends it: bytes of IP by flow.
    pub(crate) fn end(mut self) -> BTreeMap<Flow, u64> {
        drop(self.process.stdin.take());
        let mut flows = BTreeMap::new();
        for line in self.lines.by_ref().lines() {
            let line = line.unwrap();
            let (length, rest) = line.split_once(' ').unwrap();
            if length == "lost" {
                assert_eq!(rest, "0", "packets were lost to the capture");
                continue;
            }
            let frame: Vec<u8> = (0..rest.len())
                .step_by(2)
                .map(|at| u8::from_str_radix(&rest[at..at + 2], 16).unwrap())
                .collect();
            if let Some(flow) = flow(&frame) {
                *flows.entry(flow).or_default() += length.parse::<u64>().unwrap() - 14;
            }
        }
        assert!(self.process.wait_blocking().unwrap().success());
        flows
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

/// Addresses and payload of an Ethernet frame of IPv4, and its protocol.
fn ip(frame: &[u8]) -> Option<((Ipv4Addr, Ipv4Addr), u8, &[u8])> {
    (u16_at(frame, 12)? == 0x0800).then_some(())?;
    inner_ip(frame.get(14..)?)
}

fn inner_ip(packet: &[u8]) -> Option<((Ipv4Addr, Ipv4Addr), u8, &[u8])> {
    let header = usize::from(*packet.first()? & 15) * 4;
    let address = |at: usize| -> Option<Ipv4Addr> {
        let bytes: [u8; 4] = packet.get(at..at + 4)?.try_into().ok()?;
        Some(bytes.into())
    };
    Some(((address(12)?, address(16)?), packet[9], packet.get(header..)?))
}

fn flow(frame: &[u8]) -> Option<Flow> {
    const TCP: u8 = 6;
    const UDP: u8 = 17;
    const IPIP: u8 = 4;
    let (outer, protocol, payload) = ip(frame)?;
    match protocol {
        IPIP => Some((Wrapped::Ipip, outer, Some(inner_ip(payload)?.0))),
        TCP => Some((Wrapped::Plain, outer, Some(outer))),
        UDP => {
            let (port, inside) = (u16_at(payload, 2)?, payload.get(8..)?);
            let wrapped = match (port, inside) {
                (4500, [0x08, 0, 0, 0, ..]) | (4789 | 4800, _) => {
                    let vni = u32::from_be_bytes(inside.get(4..8)?.try_into().ok()?) >> 8;
                    let inner = ip(inside.get(8..)?)?.0;
                    return Some((Wrapped::Vxlan { port, vni }, outer, Some(inner)));
                }
                (4500 | 51820, [4, 0, 0, 0, ..]) => Wrapped::Wireguard { port },
                // A handshake, or what keeps the way open.
                (4500 | 51820, [1..=3, 0, 0, 0, ..] | [0xff]) => return None,
                (4500, _) => Wrapped::Esp { port },
                _ => Wrapped::Plain,
            };
            Some((wrapped, outer, None))
        }
        _ => None,
    }
}
