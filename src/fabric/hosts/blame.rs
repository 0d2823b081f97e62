//! From what ssh and the host's shell say to what the user can do about it. Data in, text out.

use super::Target;

/// The last lines of what was said, as one.
fn last(said: &str) -> String {
    let lines: Vec<&str> = said
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    let shown = lines.get(lines.len().saturating_sub(3)..).unwrap_or_default();
    let text: String = shown
        .join(" | ")
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    if text.is_empty() {
        text
    } else {
        format!(" (it said: {text})")
    }
}

/// Why a host could not be reached. `how` is what was noticed on this side.
pub(super) fn connecting(target: &Target, said: &str, how: &str) -> String {
    let name = &target.name;
    let written = target.written();
    let has = |text: &str| said.contains(text);
    let why = if has("REMOTE HOST IDENTIFICATION HAS CHANGED") {
        format!(
            "the host key is not the one that is known of it: if the host was set up anew, forget the old key with \
             `ssh-keygen -R {}`, else somebody may stand in between",
            target.host()
        )
    } else if has("Host key verification failed") || has("host key is known for") {
        format!(
            "the host key is not known here: check it by logging in once by hand, `ssh {written}`, or put \
             `StrictHostKeyChecking: accept-new` under `ssh.options`"
        )
    } else if has("Permission denied (") || has("Too many authentication failures") {
        format!(
            "the login is refused: `ssh -o BatchMode=yes {written} true` must work without a question; name the key by \
             `ssh.identity`, or load it into an agent"
        )
    } else if has("Could not resolve hostname") {
        format!(
            "ssh knows no host `{}`: name it by `ssh: {{ host: ... }}` in the node",
            target.host()
        )
    } else if has("Connection refused") {
        "nothing listens for ssh there: is sshd running, and is `ssh.port` right?".to_owned()
    } else if has("timed out") || has("No route to host") || has("Network is unreachable") {
        format!("the host can't be reached: `ssh {written}` by hand shows the same")
    } else if has("Bad configuration option") || has("command-line line 0") || has("Unsupported option") {
        "ssh does not know an option of `ssh.options`".to_owned()
    } else if has("Identity file") && has("not accessible") && how.contains("ended") {
        "the file of `ssh.identity` can't be read".to_owned()
    } else if has("mktemp:") {
        return format!("{name}: {}{}", no_folder(&target.folder, said), last(said));
    } else {
        format!("no worker can be started over `ssh {written}`: {how}")
    };
    format!("{name}: {why}{}", last(said))
}

fn is_full(said: &str) -> bool {
    said.contains("No space left on device") || said.contains("Disk quota exceeded")
}

fn no_folder(folder: &str, said: &str) -> String {
    let why = if is_full(said) {
        "is full"
    } else if said.contains("Read-only file system") {
        "is read-only"
    } else if said.contains("Permission denied") {
        "can't be written by that user"
    } else {
        "is not there, or can't be used"
    };
    format!("the folder {folder} {why}: set `folder` of the hosts to another, such as /var/tmp")
}

/// Of a host that is of another kind.
pub(super) fn unlike(there: &str, here: &str, version: &str) -> String {
    if there.starts_with("Linux ") {
        format!(
            "it is {there} and this encapbench is for {here}: put `{version}`, built for it, on the PATH of that user"
        )
    } else {
        format!("it is {there}, and workers run on Linux")
    }
}

/// Why the binary could not be copied or does not run; `code` is ssh's exit code.
pub(super) fn copying(target: &Target, folder: &str, code: Option<i32>, said: &str, errors: &str) -> String {
    let name = &target.name;
    let why = if is_full(errors) {
        format!("{folder} is full: make room, or set `folder` of the hosts to another, such as /var/tmp")
    } else if errors.contains("GLIBC_") || code == Some(127) {
        "encapbench does not run there, since its C library is another: use a static binary (scripts/build-image makes \
         one)"
            .to_owned()
    } else if code == Some(126) && errors.contains("Permission denied") {
        format!(
            "{} does not let programs run (it is mounted noexec, mostly): set `folder` of the hosts to another, such as \
             /var/tmp",
            target.folder
        )
    } else if errors.contains("Exec format error") {
        "encapbench is for another processor than that host's".to_owned()
    } else {
        match code {
            Some(255) | None => "the connection broke while encapbench was copied".to_owned(),
            Some(code) => format!("the copy of encapbench ended with {code}"),
        }
    };
    format!("{name}: {why}{}", last(&format!("{said}\n{errors}")))
}

#[cfg(test)]
mod tests {
    use super::{connecting, copying, unlike};
    use crate::{fabric::hosts::Target, scenario::Ssh};

    fn target() -> Target {
        Target {
            name: "rack-1".to_owned(),
            address: [192, 0, 2, 1].into(),
            device: None,
            ssh: Ssh {
                user: Some("bench".to_owned()),
                port: Some(2222),
                ..Ssh::default()
            },
            folder: "/tmp".to_owned(),
        }
    }

    #[test]
    fn each_refusal_says_what_to_do() {
        let refused = [
            (
                "Host key verification failed.",
                "StrictHostKeyChecking: accept-new",
            ),
            (
                "@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\nHost key verification failed.",
                "ssh-keygen -R rack-1",
            ),
            ("bench@rack-1: Permission denied (publickey).", "ssh.identity"),
            (
                "ssh: Could not resolve hostname rack-1: Name or service not known",
                "ssh: { host: ... }",
            ),
            (
                "ssh: connect to host rack-1 port 2222: Connection refused",
                "ssh.port",
            ),
            (
                "ssh: connect to host rack-1 port 2222: Connection timed out",
                "can't be reached",
            ),
            (
                "command-line: line 0: Bad configuration option: colour",
                "ssh.options",
            ),
            (
                "mktemp: failed to create directory via template '/tmp/encapbench.XXXXXXXX': No space left on device",
                "/var/tmp",
            ),
        ];
        for (said, remedy) in refused {
            let text = connecting(&target(), said, "the connection ended");
            assert!(text.starts_with("rack-1: "), "{text}");
            assert!(text.contains(remedy), "{text}");
            assert!(!text.contains('\n'), "{text}");
        }
        let login = connecting(&target(), "bench@rack-1: Permission denied (publickey).", "");
        assert!(
            login.contains("ssh -o BatchMode=yes bench@rack-1 -p 2222 true"),
            "{login}"
        );
    }

    #[test]
    fn what_a_host_lacks_is_named() {
        let copied = |code, errors| copying(&target(), "/tmp/encapbench.abc", Some(code), "", errors);
        assert!(copied(1, "cat: write error: No space left on device").contains("is full"));
        assert!(
            copied(
                126,
                "sh: 1: exec: /tmp/encapbench.abc/encapbench: Permission denied"
            )
            .contains("noexec")
        );
        assert!(copied(1, "version `GLIBC_2.36' not found").contains("static binary"));
        assert!(copied(127, "sh: /tmp/encapbench.abc/encapbench: not found").contains("static binary"));
        assert!(copied(255, "").contains("connection broke"));
        assert!(
            unlike("Linux aarch64", "Linux x86_64", "encapbench 1").contains("`encapbench 1`, built for it")
        );
        assert!(unlike("Darwin arm64", "Linux x86_64", "encapbench 1").contains("workers run on Linux"));
    }
}
