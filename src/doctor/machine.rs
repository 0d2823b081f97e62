//! Whether this machine can do what encapbench asks of one: namespaces, devices, the packet filter, and the programs
//! that some tests and peers want. Reads; what it must try, it tries in namespaces of its own that end with it.

use super::finding::{Diagnosis, Finding, Severity};
use std::fs;
use std::path::Path;

/// Something that a lab needs, and whether it is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Need {
    /// What it is: `user namespaces`.
    pub what: &'static str,
    /// What it is for.
    pub purpose: &'static str,
    /// Whether encapbench can't make a lab without.
    pub essential: bool,
    /// Why it is not there, as the kernel says it; `None`: it is.
    pub missing: Option<String>,
    /// What to do then.
    pub remedy: &'static str,
}

/// What can be found out by looking alone.
pub fn look() -> Vec<Need> {
    let mut needs = vec![
        Need {
            what: "two or more cores",
            purpose: "sender and receiver of a measured path don't share one",
            essential: false,
            missing: std::thread::available_parallelism()
                .ok()
                .filter(|cores| cores.get() < 2)
                .map(|_| "one core may be used".to_owned()),
            remedy: "give the machine a second core, or read figures as those of a shared one",
        },
        Need {
            what: "/dev/net/tun",
            purpose: "cables of Submariner in user space (WireGuard, IPsec) where the kernel has none",
            essential: false,
            missing: fs::File::options()
                .read(true)
                .write(true)
                .open("/dev/net/tun")
                .err()
                .map(|error| error.to_string()),
            remedy: "modprobe tun; as an ordinary user, be allowed to open it",
        },
    ];
    for (program, purpose, remedy) in [
        (
            "ip",
            "to look into a lab by hand, and to do what the doctor advises",
            "apt-get install iproute2",
        ),
        (
            "nft",
            "to undo packet filter faults as the doctor advises",
            "apt-get install nftables",
        ),
        (
            "ethtool",
            "to switch offloads as the doctor advises",
            "apt-get install ethtool",
        ),
        (
            "iperf3",
            "to compare with (scripts/bench-peers), and for tests",
            "apt-get install iperf3",
        ),
    ] {
        needs.push(Need {
            what: program,
            purpose,
            essential: false,
            missing: (!is_installed(program)).then(|| "no such program in the PATH".to_owned()),
            remedy,
        });
    }
    needs
}

/// Root's folders count too: an ordinary user's PATH often lacks them.
fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .any(|folder| Path::new(&folder).join(program).is_file())
}

/// The findings over what is missing.
pub fn diagnose(needs: &[Need]) -> Diagnosis {
    let findings = needs
        .iter()
        .filter_map(|need| {
            let missing = need.missing.as_ref()?;
            let severity = if need.essential {
                Severity::Error
            } else {
                Severity::Note
            };
            Some(
                Finding::new(
                    "machine",
                    severity,
                    "this machine",
                    format!("{} can't be had", need.what),
                )
                .seen(missing.clone())
                .why(format!("needed for: {}", need.purpose))
                .remedy(need.remedy),
            )
        })
        .collect();
    Diagnosis {
        findings,
        places: 1,
        paths: 0,
        reachable: 0,
    }
}
