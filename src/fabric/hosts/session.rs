//! One host's connection: the ssh process that holds it, the guard at its other end, and the binary there.

use super::{Target, blame};
use aws_lc_rs::digest;
use std::{
    fmt::Write as _,
    fs::{self, DirBuilder, File},
    io::{self, BufRead, BufReader, Read},
    os::unix::{ffi::OsStrExt, fs::DirBuilderExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

/// How long ssh may take to reach a host and log in.
const OPENING: Duration = Duration::from_secs(40);
/// How long the copy of the binary may take.
const COPYING: Duration = Duration::from_mins(5);
/// How long a guard may take to remove its folder.
const CLOSING: Duration = Duration::from_secs(5);
/// How much of what ssh says is kept.
const KEPT: usize = 16 << 10;
/// The longest path of a Unix socket is 107 bytes (unix(7)), and ssh appends a dot and 16 characters for a while.
const LONGEST_SOCKET: usize = 107 - 17;

/// What the guard does: `$1` is the folder to work in, `$2` the binary's SHA-256, `$3` its architecture, `$4` what
/// `encapbench --version` says. Without a single quote, and one line, so that any login shell hands it on.
const GUARD: &str = "say() { echo \"encapbench: $*\"; }; \
    say system \"$(uname -s)\" \"$(uname -m)\"; \
    p=$(command -v encapbench 2>/dev/null); \
    if [ -n \"$p\" ] && [ -x \"$p\" ]; then \
      h=$(sha256sum <\"$p\" 2>/dev/null); \
      if [ \"${h%% *}\" = \"$2\" ] || { [ \"$(uname -m)\" != \"$3\" ] && [ \"$(\"$p\" --version 2>/dev/null)\" = \"$4\" ]; }; then \
        say use \"$p\"; cat >/dev/null; exit 0; \
      fi; \
    fi; \
    umask 077; \
    d=$(mktemp -d \"$1/encapbench.XXXXXXXX\") || exit 1; \
    trap \"rm -rf \\\"\\$d\\\"\" 0; trap \"exit 1\" 1 2 13 15; \
    say folder \"$d\"; cat >/dev/null";

/// What puts the binary, its input, into the guard's folder `$1`, and tries it.
const COPY: &str =
    "umask 077; cat >\"$1/encapbench\" && chmod 700 \"$1/encapbench\" && exec \"$1/encapbench\" --version";

/// The binary that hosts run.
#[derive(Debug)]
pub(super) struct Binary {
    path: PathBuf,
    sha256: String,
}

impl Binary {
    /// Reads it, for its digest.
    pub(super) fn read(path: &Path) -> io::Result<Self> {
        let mut context = digest::Context::new(&digest::SHA256);
        let mut file = File::open(path)?;
        let mut buffer = vec![0; 1 << 16];
        loop {
            match file.read(&mut buffer)? {
                0 => break,
                read => context.update(buffer.get(..read).unwrap_or_default()),
            }
        }
        let mut sha256 = String::new();
        for byte in context.finish().as_ref() {
            // Writing to a string can't fail.
            let _ = write!(sha256, "{byte:02x}");
        }
        Ok(Self {
            path: path.to_owned(),
            sha256,
        })
    }
}

/// What `encapbench --version` says.
fn version() -> String {
    format!("encapbench {}", env!("CARGO_PKG_VERSION"))
}

/// The connection to a host.
#[derive(Debug)]
pub(super) struct Session {
    target: Target,
    master: Child,
    /// The guard's input: its end ends the guard.
    input: Option<ChildStdin>,
    control: Control,
    said: Arc<Mutex<Vec<u8>>>,
    system: String,
    /// The binary's path on the host, and whether it was there before.
    program: String,
    found: bool,
}

/// The folder of the socket by which further sessions join a connection. The ssh process's parent shell removes it too,
/// for the case that the coordinator is killed.
#[derive(Debug)]
struct Control(PathBuf);

impl Control {
    fn make() -> io::Result<Self> {
        let name = format!("encapbench-{:016x}", rand::random::<u64>());
        let mut folder = std::env::temp_dir().join(&name);
        if folder.as_os_str().as_bytes().len() + "/s".len() > LONGEST_SOCKET {
            folder = Path::new("/tmp").join(name);
        }
        DirBuilder::new().mode(0o700).create(&folder)?;
        Ok(Self(folder))
    }

    fn socket(&self) -> PathBuf {
        self.0.join("s")
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        // The shell was faster, mostly.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// `text` as one word of a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// The remote command that runs `script` with `arguments`.
fn script(script: &str, arguments: &[&str]) -> String {
    let mut command = format!("exec sh -c {} sh", quoted(script));
    for argument in arguments {
        command.push(' ');
        command.push_str(&quoted(argument));
    }
    command
}

/// ssh's arguments up to the host's name. For each option ssh takes the first value it meets: ours where the transport
/// stands on it, then the user's, then defaults.
fn arguments(target: &Target, master: bool, socket: &Path) -> Vec<String> {
    let mut arguments: Vec<String> = ["-T", "-x", "-e", "none"].map(str::to_owned).to_vec();
    let mut option = |text: String| arguments.extend(["-o".to_owned(), text]);
    option("BatchMode=yes".to_owned());
    option("RemoteCommand=none".to_owned());
    option("PermitLocalCommand=no".to_owned());
    option("ClearAllForwardings=yes".to_owned());
    option(format!("ControlMaster={}", if master { "yes" } else { "no" }));
    // ssh expands % in it.
    option(format!(
        "ControlPath={}",
        socket.display().to_string().replace('%', "%%")
    ));
    option("ControlPersist=no".to_owned());
    for (name, value) in &target.ssh.options {
        option(format!("{name}={value}"));
    }
    option("ConnectTimeout=10".to_owned());
    option("ServerAliveInterval=5".to_owned());
    option("ServerAliveCountMax=3".to_owned());
    option("ForwardAgent=no".to_owned());
    if let Some(port) = target.ssh.port {
        arguments.extend(["-p".to_owned(), port.to_string()]);
    }
    if let Some(user) = &target.ssh.user {
        arguments.extend(["-l".to_owned(), user.clone()]);
    }
    if let Some(identity) = &target.ssh.identity {
        arguments.extend(["-i".to_owned(), identity.clone()]);
    }
    arguments.extend(["--".to_owned(), target.host().to_owned()]);
    arguments
}

/// Keeps the end of what a process says, from a thread of its own.
fn keep(
    mut from: impl Read + Send + 'static,
    kept: Arc<Mutex<Vec<u8>>>,
) -> io::Result<thread::JoinHandle<()>> {
    thread::Builder::new().name("ssh-said".to_owned()).spawn(move || {
        let mut buffer = [0; 1024];
        while let Ok(read @ 1..) = from.read(&mut buffer) {
            let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
            kept.extend_from_slice(buffer.get(..read).unwrap_or_default());
            let excess = kept.len().saturating_sub(KEPT);
            kept.drain(..excess);
        }
    })
}

impl Session {
    /// Reaches a host, and sees to it that the binary is there and runs.
    ///
    /// # Errors
    /// Where any of that fails: one line that says what to do.
    pub(super) fn open(target: Target, binary: &Binary) -> Result<Self, String> {
        let unable = |name: &str, error: io::Error| {
            if error.kind() == io::ErrorKind::NotFound {
                format!(
                    "{name}: the program `ssh` is missing here; on Debian it is in the package openssh-client"
                )
            } else {
                format!("{name}: can't start ssh: {error}")
            }
        };
        let control = Control::make().map_err(|error| {
            format!(
                "{}: can't make a folder for ssh's control socket: {error}",
                target.name
            )
        })?;
        let guard = script(
            GUARD,
            &[&target.folder, &binary.sha256, std::env::consts::ARCH, &version()],
        );
        // The shell outlives a coordinator that is killed, until ssh has ended.
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", r#"d=$1; shift; "$@"; s=$?; rm -rf -- "$d"; exit $s"#, "sh"])
            .arg(&control.0)
            .arg("ssh")
            .args(arguments(&target, true, &control.socket()))
            .arg(guard)
            // Ctrl-C is the coordinator's to act on: ssh must live until workers have been told.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut master = command.spawn().map_err(|error| unable(&target.name, error))?;
        let pipes = (master.stdin.take(), master.stdout.take(), master.stderr.take());
        let (Some(input), Some(output), Some(errors)) = pipes else {
            return Err(format!("{}: ssh has no pipes", target.name));
        };
        let said = Arc::default();
        let mut session = Self {
            target,
            master,
            input: Some(input),
            control,
            said: Arc::clone(&said),
            system: String::new(),
            program: String::new(),
            found: false,
        };
        let thread = |error: io::Error| format!("can't start a thread: {error}");
        let errors = keep(errors, said).map_err(thread)?;
        let lines = lines(output).map_err(thread)?;
        if let Err(how) = session.greet(&lines, Instant::now() + OPENING) {
            session.hang_up();
            session.end(Duration::from_secs(1));
            // All that was said is in once ssh has ended.
            let _ = errors.join();
            return Err(blame::connecting(&session.target, &session.said(), &how));
        }
        if !session.found {
            session.copy(binary)?;
        }
        Ok(session)
    }

    /// Reads what the guard says. What a login script prints before it is passed over.
    fn greet(&mut self, lines: &mpsc::Receiver<String>, deadline: Instant) -> Result<(), String> {
        loop {
            let line = match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => line,
                Err(RecvTimeoutError::Timeout) => {
                    return Err(format!("no answer within {} s", OPENING.as_secs()));
                }
                Err(RecvTimeoutError::Disconnected) => return Err("the connection ended".to_owned()),
            };
            let Some((key, value)) = line
                .strip_prefix("encapbench: ")
                .and_then(|rest| rest.trim_end().split_once(' '))
            else {
                continue;
            };
            match key {
                "system" => value.clone_into(&mut self.system),
                "use" => {
                    value.clone_into(&mut self.program);
                    self.found = true;
                    return Ok(());
                }
                "folder" => {
                    let here = format!("Linux {}", std::env::consts::ARCH);
                    if self.system != here {
                        return Err(blame::unlike(&self.system, &here, &version()));
                    }
                    self.program = format!("{value}/encapbench");
                    return Ok(());
                }
                _ => {}
            }
        }
    }

    /// A further session of the connection, that runs `remote` on the host.
    fn ssh(&self, remote: &str) -> Command {
        let mut command = Command::new("ssh");
        command
            .args(arguments(&self.target, false, &self.control.socket()))
            .arg(remote)
            .process_group(0);
        command
    }

    /// Copies the binary into the guard's folder, and tries it there.
    fn copy(&self, binary: &Binary) -> Result<(), String> {
        let name = &self.target.name;
        let folder = self.program.strip_suffix("/encapbench").unwrap_or(&self.program);
        let file = File::open(&binary.path)
            .map_err(|error| format!("{name}: can't read encapbench's own file: {error}"))?;
        let mut copy = self
            .ssh(&script(COPY, &[folder]))
            .stdin(file)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{name}: can't start ssh: {error}"))?;
        let (said, errors) = (Arc::<Mutex<Vec<u8>>>::default(), Arc::<Mutex<Vec<u8>>>::default());
        let thread = |error: io::Error| format!("can't start a thread: {error}");
        let mut readers = Vec::new();
        if let Some(output) = copy.stdout.take() {
            readers.push(keep(output, said.clone()).map_err(thread)?);
        }
        if let Some(output) = copy.stderr.take() {
            readers.push(keep(output, errors.clone()).map_err(thread)?);
        }
        let status = wait(&mut copy, COPYING);
        if status.is_none() {
            // It may have ended meanwhile.
            let _ = copy.kill();
            let _ = copy.wait();
        }
        for reader in readers {
            let _ = reader.join();
        }
        let (said, errors) = (text(&said), text(&errors));
        match status {
            None => Err(format!(
                "{name}: the copy of encapbench did not end within {} s: is the connection that slow? \
                 `Compression: \"yes\"` under `ssh.options` may help",
                COPYING.as_secs()
            )),
            Some(status) if status.success() && said.trim() == version() => Ok(()),
            Some(status) => Err(blame::copying(
                &self.target,
                folder,
                status.code(),
                &said,
                &errors,
            )),
        }
    }

    /// What starts a worker on the host.
    pub(super) fn worker(&self) -> Command {
        self.ssh(&format!("exec {} worker", quoted(&self.program)))
    }

    /// The host's place.
    pub(super) fn name(&self) -> &str {
        &self.target.name
    }

    /// Its kernel and architecture.
    pub(super) fn system(&self) -> &str {
        &self.system
    }

    /// Where its encapbench comes from.
    pub(super) fn origin(&self) -> String {
        if self.found {
            format!("found as {}", self.program)
        } else {
            "copied for the run".to_owned()
        }
    }

    /// Whether the connection stands.
    pub(super) fn is_alive(&mut self) -> bool {
        matches!(self.master.try_wait(), Ok(None))
    }

    /// Tells the guard to clean up and end.
    pub(super) fn hang_up(&mut self) {
        self.input = None;
    }

    fn said(&self) -> String {
        text(&self.said)
    }

    /// Waits for the end of ssh, and ends it where that takes longer than `limit`.
    fn end(&mut self, limit: Duration) {
        if wait(&mut self.master, limit).is_some() {
            return;
        }
        tracing::warn!(
            "{}: ssh did not end in time; a folder of ours may be left there",
            self.target.name
        );
        if let Ok(id) = i32::try_from(self.master.id())
            && let Some(group) = rustix::process::Pid::from_raw(id)
        {
            // The shell and ssh; they may have ended meanwhile.
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
        let _ = self.master.wait();
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.hang_up();
        self.end(CLOSING);
    }
}

fn text(kept: &Mutex<Vec<u8>>) -> String {
    String::from_utf8_lossy(&kept.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
}

/// A process's end, if it comes within `limit`.
fn wait(process: &mut Child, limit: Duration) -> Option<std::process::ExitStatus> {
    let deadline = Instant::now() + limit;
    loop {
        match process.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) if Instant::now() < deadline => thread::sleep(Duration::from_millis(10)),
            _ => return None,
        }
    }
}

/// The lines of an output, read by a thread of its own until it ends.
fn lines(output: impl Read + Send + 'static) -> io::Result<mpsc::Receiver<String>> {
    let (sender, lines) = mpsc::channel();
    thread::Builder::new()
        .name("ssh-guard".to_owned())
        .spawn(move || {
            let mut output = BufReader::new(output);
            let mut line = Vec::new();
            loop {
                line.clear();
                // A line is a path at most; what is longer is none of ours.
                match output.by_ref().take(KEPT as u64).read_until(b'\n', &mut line) {
                    Ok(1..) => {
                        // The rest is read all the same, so that the host never waits for us.
                        let _ = sender.send(String::from_utf8_lossy(&line).into_owned());
                    }
                    _ => return,
                }
            }
        })?;
    Ok(lines)
}
