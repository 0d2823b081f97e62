//! The clusters of `scripts/kubernetes-testbed` that tests share: each brought up once, and taken down however they end.

#![expect(clippy::unwrap_used, reason = "a test may fail where it stands")]
#![cfg_attr(test, allow(dead_code, reason = "each test file uses a part"))]

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
};

/// The first cluster's name, three nodes in two subnets. One of a name at a time on a machine, which a lock makes sure of.
const FIRST: &str = "e2e";
/// The second one's, of two nodes in one subnet.
const SECOND: &str = "e2e-west";

/// A cluster with encapbench's image on its nodes.
pub(crate) struct Testbed {
    name: &'static str,
    folder: PathBuf,
    kubectl: PathBuf,
    /// A process that takes the cluster down when its input ends: when this process does, whichever way.
    _reaper: Child,
}

/// Where the testbed's scripts are.
fn script(name: &str) -> Command {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/kubernetes-testbed");
    let mut command = Command::new(path.join(name));
    command.stdin(Stdio::null());
    command
}

/// Runs to the end, which must be a good one; its stdout.
pub(crate) fn done(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", both(&output));
    String::from_utf8(output.stdout).unwrap()
}

fn both(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    format!("{}{}", String::from_utf8_lossy(out), String::from_utf8_lossy(err))
}

impl Testbed {
    /// The first cluster, for one test at a time; what this machine lacks where there can be none.
    pub(crate) fn get() -> Result<(&'static Self, MutexGuard<'static, ()>), String> {
        static FIRST_ONE: OnceLock<Result<Testbed, String>> = OnceLock::new();
        static TURN: Mutex<()> = Mutex::new(());
        // A test that failed leaves the cluster to the others all the same.
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        match FIRST_ONE.get_or_init(|| Self::up(FIRST, &[])) {
            Ok(testbed) => Ok((testbed, turn)),
            Err(missing) => Err(missing.clone()),
        }
    }

    /// The second cluster, for whoever has the first.
    pub(crate) fn second() -> &'static Self {
        static SECOND_ONE: OnceLock<Testbed> = OnceLock::new();
        SECOND_ONE.get_or_init(|| Self::up(SECOND, &["--nodes", "2", "--subnets", "1"]).unwrap())
    }

    fn up(name: &'static str, options: &[&str]) -> Result<Self, String> {
        if !rustix::process::geteuid().is_root() {
            return Err("the Kubernetes testbed needs root: it makes network namespaces".to_owned());
        }
        let variable = |name: &str| std::env::var_os(name).map(PathBuf::from);
        let cache = variable("ENCAPBENCH_TESTBED_CACHE")
            .or_else(|| Some(variable("XDG_CACHE_HOME")?.join("encapbench-testbed")))
            .or_else(|| Some(variable("HOME")?.join(".cache/encapbench-testbed")))
            .ok_or("there is no HOME to find the Kubernetes testbed in")?;
        if !cache.join("bin/.complete").exists() {
            return Err(format!(
                "{} has no Kubernetes; scripts/kubernetes-testbed/build puts it there",
                cache.display()
            ));
        }
        let state =
            variable("ENCAPBENCH_TESTBED_STATE").unwrap_or_else(|| "/var/tmp/encapbench-testbed".into());
        let lock = std::env::temp_dir().join(format!("encapbench-testbed-{name}.lock"));
        // In a session of its own, so that no Ctrl-C ends it; and what an earlier one left is removed before.
        let down = script("down").get_program().to_owned();
        let mut reaper = Command::new("setsid")
            .args(["flock".as_ref(), lock.as_os_str(), "sh".as_ref(), "-c".as_ref()])
            .arg(format!(
                "\"$0\" --name {name} && echo ready; cat >/dev/null; exec \"$0\" --name {name}"
            ))
            .arg(&down)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(reaper.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert_eq!(line, "ready\n", "the cluster of an earlier test can't be removed");
        done(script("up").args(["--name", name]).args(options));
        let testbed = Self {
            name,
            folder: state.join(name),
            kubectl: cache.join("root/usr/bin/kubectl"),
            _reaper: reaper,
        };
        testbed.load();
        Ok(testbed)
    }

    /// Packs the program under test as it is, with the libraries that it needs, which is quicker than to build it
    /// static, and puts it on all nodes.
    fn load(&self) {
        let folder = tempfile::tempdir().unwrap();
        // Without its symbols for debugging it is a fifth as large.
        let program = folder.path().join("encapbench");
        done(
            Command::new("strip")
                .args(["--strip-debug", "-o"])
                .arg(&program)
                .arg(env!("CARGO_BIN_EXE_encapbench")),
        );
        let image = folder.path().join("image.tar");
        let name = format!("encapbench:{}", env!("CARGO_PKG_VERSION"));
        done(script("image").arg("-o").arg(&image).arg(name).arg(&program));
        done(script("load").arg(&image).args(["--name", self.name]));
    }

    /// The kubeconfig of the cluster's admin.
    pub(crate) fn admin(&self) -> PathBuf {
        self.folder.join("kubeconfig")
    }

    /// The kubeconfig of a user without any right.
    pub(crate) fn restricted(&self) -> PathBuf {
        self.folder.join("restricted.kubeconfig")
    }

    /// A kubeconfig for whoever has `token`.
    pub(crate) fn with_token(&self, token: &str, file: &Path) {
        let admin = fs::read_to_string(self.admin()).unwrap();
        let mut lines: Vec<String> = admin.lines().map(str::to_owned).collect();
        let line = lines.iter_mut().find(|line| line.contains("token:"));
        *line.unwrap() = format!("  user: {{token: {token}}}");
        fs::write(file, lines.join("\n")).unwrap();
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.kubectl);
        command.arg("--kubeconfig").arg(self.admin());
        command
    }

    /// kubectl as the admin: what it says.
    pub(crate) fn kubectl(&self, arguments: &[&str]) -> String {
        done(self.command().args(arguments).stdin(Stdio::null()))
    }

    /// The same of what may not be there: then nothing.
    pub(crate) fn looked_up(&self, arguments: &[&str]) -> Option<String> {
        let output = self
            .command()
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        output
            .status
            .success()
            .then(|| String::from_utf8(output.stdout).unwrap())
    }

    /// `kubectl apply -f -` as the admin.
    pub(crate) fn apply(&self, objects: &str) {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), objects).unwrap();
        done(self.command().args(["apply", "-f"]).arg(file.path()));
    }

    /// Everything that a run could make or change, one object a line, with what matters of it.
    pub(crate) fn objects(&self) -> Vec<String> {
        let kinds = "pods,services,endpoints,configmaps,serviceaccounts,deployments,daemonsets,ippools,roles,\
                     rolebindings,clusterroles,clusterrolebindings,namespaces,customresourcedefinitions";
        let format = "jsonpath={range .items[*]}{.kind} {.metadata.namespace}/{.metadata.name} {.metadata.uid} \
                      {.metadata.labels} {.spec.vxlanMode} {.status.phase} {.status.podIP} \
                      {.status.containerStatuses[0].restartCount}{\"\\n\"}{end}";
        let all = self.kubectl(&["get", kinds, "--all-namespaces", "-o", format]);
        let nodes = "jsonpath={range .items[*]}{.kind} {.metadata.name} {.metadata.labels} {.metadata.annotations} \
                     {.spec}{\"\\n\"}{end}";
        let nodes = self.kubectl(&["get", "nodes", "-o", nodes]);
        all.lines().chain(nodes.lines()).map(str::to_owned).collect()
    }

    /// What of encapbench is there, as `kind/name`, whoever sees it.
    pub(crate) fn ours(&self) -> Vec<String> {
        let label = "app.kubernetes.io/name=encapbench,encapbench.io/run";
        let kinds = "pods,ippools,services,endpoints";
        let found = self.kubectl(&["get", kinds, "--all-namespaces", "-l", label, "-o", "name"]);
        found.lines().map(str::to_owned).collect()
    }

    /// The name of the context in its kubeconfigs.
    pub(crate) const fn context(&self) -> &'static str {
        self.name
    }

    /// A node's own name.
    pub(crate) fn node(&self, number: usize) -> String {
        format!("{}-node{number}", self.name)
    }

    /// The first two numbers of the pods' addresses, and of the Services'.
    pub(crate) fn ranges(&self) -> (String, String) {
        let index: u8 = fs::read_to_string(self.folder.join("index"))
            .unwrap()
            .trim()
            .parse()
            .unwrap();
        (format!("10.{}", 150 + index), format!("172.{}", 16 + index))
    }

    /// The first two numbers of the nodes' addresses.
    pub(crate) fn underlay(&self) -> String {
        let index: u8 = fs::read_to_string(self.folder.join("index"))
            .unwrap()
            .trim()
            .parse()
            .unwrap();
        format!("10.{}", 100 + index)
    }

    /// The nodes' addresses, by number.
    pub(crate) fn nodes(&self) -> Vec<String> {
        let format =
            "jsonpath={range .items[*]}{.status.addresses[?(@.type==\"InternalIP\")].address}{\"\\n\"}{end}";
        let found = self.kubectl(&["get", "nodes", "--sort-by=.metadata.name", "-o", format]);
        found.lines().map(str::to_owned).collect()
    }

    /// The hosts files of all pods that have one.
    pub(crate) fn hosts_files(&self) -> Vec<PathBuf> {
        let folders = |path: &Path| {
            let entries = fs::read_dir(path).into_iter().flatten();
            entries
                .filter_map(|entry| Some(entry.ok()?.path()))
                .collect::<Vec<_>>()
        };
        let pods = folders(&self.folder)
            .into_iter()
            .flat_map(|node| folders(&node.join("kubelet/pods")));
        pods.map(|pod| pod.join("etc-hosts"))
            .filter(|file| file.exists())
            .collect()
    }

    /// Whether nodes put their own address in the place of a pod's where packets leave for addresses of no pool.
    pub(crate) fn masquerade(&self, on: bool) {
        let patch = format!("{{\"spec\":{{\"natOutgoing\":{on}}}}}");
        self.kubectl(&[
            "patch",
            "ippool",
            "default-ipv4-ippool",
            "--type=merge",
            "-p",
            &patch,
        ]);
        // Nodes follow within a third of a second.
        std::thread::sleep(std::time::Duration::from_secs(1));
    }

    /// The address of its API server, as its kubeconfigs have it.
    pub(crate) fn server(&self) -> String {
        let admin = fs::read_to_string(self.admin()).unwrap();
        let line = admin
            .lines()
            .find_map(|line| line.trim().strip_prefix("server: https://"));
        line.unwrap().to_owned()
    }

    /// A kubeconfig of the admin by another address of the API server.
    pub(crate) fn by_way_of(&self, address: std::net::SocketAddr, file: &Path) {
        let admin = fs::read_to_string(self.admin()).unwrap();
        fs::write(file, admin.replace(&self.server(), &address.to_string())).unwrap();
    }

    /// Runs a program, with arguments, in the network of a node, or of the `router`.
    pub(crate) fn within(&self, who: &str, program: &[&str]) -> String {
        let namespace = format!("/run/netns/kt-{}-{who}", self.name);
        done(
            Command::new("nsenter")
                .arg(format!("--net={namespace}"))
                .args(program),
        )
    }
}
