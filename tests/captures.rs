//! What the evidence says of each leg between two clusters, held against the packets themselves: caught on the nodes'
//! uplinks while bytes go from pod to pod.

#![expect(clippy::unwrap_used, reason = "a test may fail where it stands")]
#![cfg(feature = "lab")]

#[path = "support/capture.rs"]
mod capture;
#[path = "support/crossing.rs"]
mod crossing;
#[path = "../src/skip.rs"]
mod skip;

use capture::Wrapped;
use crossing::{built, captured};
use encapbench::fabric::lab::Made;

/// Each leg of the VXLAN cable: by which port, of which VXLAN, with which addresses inside.
#[test]
fn every_leg_carries_what_the_evidence_says() {
    let Some(lab) = built("vxlan") else { return };
    for mode in ["CrossSubnet", "Always"] {
        let to_gateway = Wrapped::Vxlan { port: 4800, vni: 100 };
        let cable = Wrapped::Vxlan {
            port: 4500,
            vni: 1000,
        };
        let arrival = if mode == "Always" {
            Wrapped::Vxlan {
                port: 4789,
                vni: 4096,
            }
        } else {
            Wrapped::Plain
        };
        captured(&lab, mode, to_gateway, cable, arrival);
    }
}

/// The cables that encrypt: nothing of a pod's packet can be read between the gateways.
#[test]
fn encrypting_cables_show_nothing_of_what_they_carry() {
    for (cable, wrapped) in [
        ("wireguard", Wrapped::Wireguard { port: 4500 }),
        ("ipsec", Wrapped::Esp { port: 4500 }),
    ] {
        let Some(lab) = built(cable) else { return };
        if let Some(Made::Missing { why }) = lab.cable() {
            skip::skip(format_args!("{why}"));
            return;
        }
        let to_gateway = Wrapped::Vxlan { port: 4800, vni: 100 };
        captured(&lab, "CrossSubnet", to_gateway, wrapped, Wrapped::Plain);
    }
}
