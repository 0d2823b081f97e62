//! What tests on a real cluster share: scenarios, runs, and a look at the whole cluster before and after.

#![expect(clippy::unwrap_used, reason = "a test may fail where it stands")]
#![cfg_attr(test, allow(dead_code, reason = "each test file uses a part"))]

use super::{
    program::{encapbench, finish, poll, trials},
    skip,
    testbed::Testbed,
};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{MutexGuard, OnceLock},
    time::Duration,
};

/// As long as a run may take on a busy machine.
pub(crate) const LIMIT: Duration = Duration::from_mins(3);

/// The three paths that everybody asks about, between two nodes of one subnet.
pub(crate) const MATRIX: &str = "\
paths:
  - { name: node-to-node, from: a, to: b }
  - { name: pod-to-pod CrossSubnet, from: pod@a, to: pod@b, vxlan-mode: CrossSubnet }
  - { name: pod-to-pod Always, from: pod@a, to: pod@b, vxlan-mode: Always }
";

/// The cluster, with a pod of somebody else's on its first node, and a folder for a test's files.
pub(crate) struct Bench {
    pub(crate) cluster: &'static Testbed,
    pub(crate) folder: tempfile::TempDir,
    _turn: MutexGuard<'static, ()>,
}

impl Bench {
    /// `None`, said loudly, where this machine can have no cluster.
    pub(crate) fn new() -> Option<Self> {
        static STRANGER: OnceLock<()> = OnceLock::new();
        let (cluster, turn) = match Testbed::get() {
            Ok(found) => found,
            Err(missing) => {
                skip::skip(missing);
                return None;
            }
        };
        STRANGER.get_or_init(|| stranger(cluster));
        assert_eq!(cluster.ours(), [""; 0], "an earlier test left something");
        Some(Self {
            cluster,
            folder: tempfile::tempdir().unwrap(),
            _turn: turn,
        })
    }

    pub(crate) fn out(&self) -> PathBuf {
        self.folder.path().join("run")
    }

    /// A scenario with `paths` and short workloads.
    pub(crate) fn scenario(&self, paths: &str, blocks: u32) -> PathBuf {
        let text = format!(
            "name: testbed\nfabric:\n  kubernetes:\n    probe: true\n    start-within: 60s\n    nodes:\n      - {{ name: a }}\n      \
             - {{ name: b, same-subnet-as: a }}\n      - {{ name: c, other-subnet-than: a }}\n{paths}workloads:\n  - {{ name: \
             tcp, throughput: {{ protocol: tcp, duration: 300ms, omit: 100ms }} }}\n  - {{ name: rr, latency: {{ kind: \
             tcp-rr, duration: 150ms }} }}\nblocks: {{ at-least: {blocks} }}\n"
        );
        let file = self.folder.path().join("scenario.yaml");
        fs::write(&file, text).unwrap();
        file
    }

    pub(crate) fn command(&self, kubeconfig: &Path) -> Command {
        let mut command = encapbench();
        command
            .env("KUBECONFIG", kubeconfig)
            .current_dir(self.folder.path());
        command
    }

    /// `encapbench run`, as the user of `kubeconfig`.
    pub(crate) fn run(&self, kubeconfig: &Path, scenario: &Path, more: &[&str]) -> Command {
        let mut command = self.command(kubeconfig);
        command
            .args(["run", "--quiet", "--allow-ippools"])
            .args(more)
            .arg("--out")
            .arg(self.out())
            .arg(scenario);
        command
    }

    /// Starts a run and waits until it has measured something.
    pub(crate) fn spawn(&self, kubeconfig: &Path, scenario: &Path, more: &[&str]) -> Child {
        let child = self
            .run(kubeconfig, scenario, more)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        poll("trial", LIMIT, || (!trials(&self.out()).is_empty()).then_some(()));
        child
    }

    /// The same of many blocks, as the admin.
    pub(crate) fn started(&self) -> Child {
        let scenario = self.scenario(MATRIX, 200);
        self.spawn(&self.cluster.admin(), &scenario, &[])
    }

    /// Runs to the end.
    pub(crate) fn finished(&self, kubeconfig: &Path, scenario: &Path, more: &[&str]) -> Output {
        finish(&mut self.run(kubeconfig, scenario, more), LIMIT)
    }

    /// The `evidence` of each case's throughput, as `summary.csv` has it, by the case's path.
    pub(crate) fn evidence(&self) -> Vec<(String, String)> {
        let mut table = csv::Reader::from_path(self.out().join("summary.csv")).unwrap();
        let rows = table.records().map(Result::unwrap);
        rows.filter(|row| &row[4] == "throughput" || &row[4] == "latency_p50")
            .map(|row| (format!("{} {}", &row[1], &row[3]), row[16].to_owned()))
            .collect()
    }

    /// As [`unchanged`], of the first cluster.
    pub(crate) fn same_as(&self, before: &[String]) {
        unchanged(self.cluster, before);
    }
}

/// Nothing is as it was not: no object of a run is there, and what others have is untouched.
pub(crate) fn unchanged(cluster: &Testbed, before: &[String]) {
    // The endpoints of a Service go a moment after it.
    poll("end of the endpoints", LIMIT, || {
        let ours = cluster.ours();
        (!ours.iter().any(|name| name.starts_with("endpoints"))).then_some(())
    });
    assert_eq!(cluster.ours(), [""; 0]);
    assert_eq!(cluster.objects(), before);
}

/// Somebody else's pod, which runs and has an address of the cluster's own pool.
fn stranger(cluster: &Testbed) {
    let (node, image) = (
        cluster.node(1),
        format!("encapbench:{}", env!("CARGO_PKG_VERSION")),
    );
    cluster.apply(&format!(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: stranger\n  namespace: default\n  labels: {{ app.kubernetes.io/name: \
         stranger }}\nspec:\n  nodeName: {node}\n  containers:\n    - {{ name: main, image: \"{image}\", imagePullPolicy: \
         Never, args: [worker, --standby, --at-most, 3600s, --alone, 3600s] }}\n"
    ));
    cluster.kubectl(&["wait", "--for=condition=Ready", "pod/stranger", "--timeout=60s"]);
}

pub(crate) fn interrupt(child: &Child, signal: Signal) {
    kill_process(Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap(), signal).unwrap();
}

pub(crate) fn error(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
