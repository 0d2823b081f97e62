//! A lab that the doctor examines, and what its tests have in common.

use crate::program::{self, encapbench, finish, said};
use crate::skip;
use serde_json::Value;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::Duration;

/// Labs that are up at once.
pub(crate) const AT_ONCE: usize = 4;
pub(crate) const LIMIT: Duration = Duration::from_mins(2);
pub(crate) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Two subnets, the first with two nodes; everything else left to encapbench.
pub(crate) const ONE_CLUSTER: &str =
    "clusters: [ { name: east, subnets: [ { nodes: [east-1, east-2] }, { nodes: [east-3] } ] } ]";

pub(crate) fn scenario(lab: &str, faults: &[&str]) -> String {
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
pub(crate) struct Lab {
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
    pub(crate) fn start(text: &str) -> Self {
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

    pub(crate) fn pid(&self) -> String {
        self.process.id().to_string()
    }

    /// The findings of the doctor, and its exit code.
    pub(crate) fn doctor(&self) -> (Vec<Value>, i32) {
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

    pub(crate) fn shell(&self, place: &str, command: &str) -> std::process::Output {
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
    pub(crate) fn run(&self, place: &str, command: &str) {
        let output = self.shell(place, command);
        assert!(output.status.success(), "[{place}] {command}: {}", said(&output));
    }

    /// Runs the remedies of `findings` as they stand, and then what verifies them.
    pub(crate) fn heal(&self, findings: &[Value]) {
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
pub(crate) fn names(findings: &[Value]) -> Vec<String> {
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
pub(crate) fn can_run(tools: &[&str]) -> bool {
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
pub(crate) fn each<T: Sync>(cases: &[T], name: impl Fn(&T) -> String + Sync, work: impl Fn(&T) + Sync) {
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
pub(crate) const TWO_CLUSTERS: &str = "submariner: { cable: vxlan }
    clusters:
      - { name: east, gateway: east-1, subnets: [ { nodes: [east-1, east-2] } ] }
      - name: west
        gateway: west-2
        subnets: [ { nodes: [west-1, west-2], cidr: 172.20.7.0/24 } ]
        calico: { cross-subnet-pool: 10.99.0.0/18, always-pool: 192.168.64.0/18 }";
