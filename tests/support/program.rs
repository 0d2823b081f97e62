//! What whole-program tests share: starting encapbench, reading what it left, and looking for what it left behind.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may fail where it stands"
)]
#![cfg_attr(test, allow(dead_code, reason = "each test file uses a part"))]

use std::{
    collections::BTreeSet,
    fs,
    io::Read,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

/// The program under test.
pub(crate) fn encapbench() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_encapbench"));
    command.env_remove("ENCAPBENCH_LOG").stdin(Stdio::null());
    command
}

/// Whether this test runs as root.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The program, as an ordinary user.
pub(crate) fn as_ordinary_user(folder: &Path) -> Command {
    if !is_root() {
        return encapbench();
    }
    // A build folder may lie where only root can read; the ordinary user gets a copy.
    let copy = folder.join("encapbench");
    fs::copy(env!("CARGO_BIN_EXE_encapbench"), &copy).unwrap();
    for path in [folder, &copy] {
        fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    }
    let mut command = Command::new(&copy);
    command
        .uid(65534)
        .gid(65534)
        .stdin(Stdio::null())
        .current_dir(folder);
    command
}

/// The exit code, or what ended the program.
pub(crate) fn code(status: ExitStatus) -> i32 {
    status
        .code()
        .unwrap_or_else(|| panic!("ended by a signal: {status}"))
}

/// Both outputs, for a failing assertion.
pub(crate) fn said(output: &Output) -> String {
    format!(
        "{}\n--- stdout\n{}\n--- stderr\n{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// Runs to its end, at most `limit`; kills it and fails beyond.
pub(crate) fn finish(command: &mut Command, limit: Duration) -> Output {
    let child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait(child, limit)
}

/// Waits for a started program, at most `limit`.
pub(crate) fn wait(mut child: Child, limit: Duration) -> Output {
    fn read(pipe: Option<impl Read + Send + 'static>) -> thread::JoinHandle<Vec<u8>> {
        thread::spawn(move || {
            let mut bytes = Vec::new();
            if let Some(mut pipe) = pipe {
                pipe.read_to_end(&mut bytes).unwrap();
            }
            bytes
        })
    }
    let (stdout, stderr) = (read(child.stdout.take()), read(child.stderr.take()));
    let deadline = Instant::now() + limit;
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if Instant::now() > deadline {
            let _ = child.kill();
            let output = Output {
                status: child.wait().unwrap(),
                stdout: stdout.join().unwrap(),
                stderr: stderr.join().unwrap(),
            };
            panic!("not done within {limit:?}: {}", said(&output));
        }
        thread::sleep(Duration::from_millis(20));
    };
    Output {
        status,
        stdout: stdout.join().unwrap(),
        stderr: stderr.join().unwrap(),
    }
}

/// Waits until `ready` gives something, at most `limit`.
pub(crate) fn poll<T>(what: &str, limit: Duration, mut ready: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = ready() {
            return value;
        }
        assert!(Instant::now() < deadline, "no {what} within {limit:?}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Every process's id and network namespace that can be seen.
pub(crate) fn namespaces() -> BTreeSet<String> {
    let entries = fs::read_dir("/proc").unwrap();
    entries
        .filter_map(|entry| fs::read_link(entry.ok()?.path().join("ns/net")).ok())
        .map(|link| link.to_string_lossy().into_owned())
        .collect()
}

/// Processes whose command line has `text`, this one left out.
pub(crate) fn processes(text: &str) -> Vec<u32> {
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let pid: u32 = path.file_name()?.to_str()?.parse().ok()?;
            let line = fs::read(path.join("cmdline")).ok()?;
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            (line.contains(text) && pid != std::process::id()).then_some(pid)
        })
        .collect()
}

/// The lines of a run's trial log, as JSON.
pub(crate) fn trials(run: &Path) -> Vec<serde_json::Value> {
    let text = fs::read_to_string(run.join("trials.jsonl")).unwrap_or_default();
    // The last line may be torn while the run goes on.
    text.split_inclusive('\n')
        .filter(|line| line.ends_with('\n'))
        .map(|line| serde_json::from_str(line).expect("a whole line is JSON"))
        .collect()
}

/// The repository's scenario files.
pub(crate) fn scenario(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios").join(name)
}
