//! The namespaces of a lab: the user namespace that makes root unnecessary, and the network namespaces that are its
//! nodes and pods. None has a name: each lives as long as a descriptor of this process, or a process in it.

use crate::sys::namespace::{self, Namespace};
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;

/// Why namespaces could not be had.
#[derive(Debug, thiserror::Error)]
pub enum NamespaceError {
    /// The kernel gave no namespace.
    #[error("the kernel gives no {kind} namespace: {remedy}")]
    Refused {
        /// What was asked for.
        kind: Kind,
        /// Why, and what to do about it. The kernel's own words ("no space left on device") would mislead.
        remedy: String,
    },
    /// The user namespace came, but ids could not be mapped into it.
    #[error("can't map the user to root in a user namespace by {file}: run as root instead")]
    Map {
        /// The file of /proc that could not be written.
        file: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A namespace's file in /proc could not be opened.
    #[error("can't open {file}: the lab needs /proc")]
    Open {
        /// The file.
        file: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A namespace could not be entered.
    #[error("can't enter the {kind} namespace")]
    Enter {
        /// Its kind.
        kind: Kind,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// A kind of namespace, as messages name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// User namespace.
    User,
    /// Network namespace.
    Network,
    /// PID namespace.
    Pid,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::User => "user",
            Self::Network => "network",
            Self::Pid => "PID",
        })
    }
}

/// CAP_NET_ADMIN and CAP_SYS_ADMIN of capabilities(7): devices and namespaces.
const NEEDED: u64 = 1 << 12 | 1 << 21;

/// Gives the process what a lab needs: nothing to do for root, else a user namespace in which the user is root.
/// Must be called before the process has a second thread. Once in, calling it again does nothing.
///
/// # Errors
/// Where the kernel refuses: with the limit that stands against it, and what to do.
pub fn enter_user_namespace() -> Result<(), NamespaceError> {
    if has_capabilities() {
        return Ok(());
    }
    let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
    namespace::unshare(Namespace::User).map_err(|error| refused(Kind::User, &error))?;
    // Without this an unprivileged process may not map its group (user_namespaces(7)).
    write("/proc/self/setgroups", "deny")?;
    write("/proc/self/uid_map", &format!("0 {} 1", uid.as_raw()))?;
    write("/proc/self/gid_map", &format!("0 {} 1", gid.as_raw()))
}

fn write(file: &'static str, text: &str) -> Result<(), NamespaceError> {
    fs::write(file, text).map_err(|source| NamespaceError::Map { file, source })
}

fn has_capabilities() -> bool {
    fs::read_to_string("/proc/thread-self/status").is_ok_and(|status| {
        status
            .lines()
            .find_map(|line| line.strip_prefix("CapEff:"))
            .and_then(|text| u64::from_str_radix(text.trim(), 16).ok())
            .is_some_and(|effective| effective & NEEDED == NEEDED)
    })
}

/// Puts the calling thread in a new network namespace, and holds that open.
///
/// # Errors
/// Where the kernel refuses: with the limit that stands against it, and what to do.
pub(super) fn new_network() -> Result<Arc<OwnedFd>, NamespaceError> {
    namespace::unshare(Namespace::Net).map_err(|error| refused(Kind::Network, &error))?;
    let file = "/proc/thread-self/ns/net";
    File::open(file)
        .map(|file| Arc::new(file.into()))
        .map_err(|source| NamespaceError::Open {
            file: file.to_owned(),
            source,
        })
}

/// Puts the calling thread in `network`.
///
/// # Errors
/// As setns(2).
pub(super) fn enter_network(network: &OwnedFd) -> Result<(), NamespaceError> {
    namespace::enter(network.as_fd(), Namespace::Net).map_err(|source| NamespaceError::Enter {
        kind: Kind::Network,
        source,
    })
}

/// A refusal, with its likely cause on this machine.
pub(super) fn refused(kind: Kind, error: &io::Error) -> NamespaceError {
    let remedy = remedy(kind, error, |name| {
        fs::read_to_string(format!("/proc/sys/{}", name.replace('.', "/")))
            .ok()
            .map(|value| value.trim().to_owned())
    });
    NamespaceError::Refused { kind, remedy }
}

/// What to do about a refusal, given a reader of sysctls.
fn remedy(kind: Kind, error: &io::Error, sysctl: impl Fn(&str) -> Option<String>) -> String {
    let limit = match kind {
        Kind::User => "user.max_user_namespaces",
        Kind::Network => "user.max_net_namespaces",
        Kind::Pid => "user.max_pid_namespaces",
    };
    let or_root = "or run encapbench as root";
    let code = error.raw_os_error();
    // ENOSPC and EUSERS mean the limits of /proc/sys/user here, nothing to do with disks.
    if code == Some(libc::ENOSPC) || code == Some(libc::EUSERS) {
        let value = sysctl(limit).map_or_else(String::new, |value| format!(" (it is {value} here)"));
        return format!(
            "the limit {limit} is reached{value}, here or in a user namespace around this one; raise it where it \
             is low, for instance by `sysctl {limit}=10000`"
        );
    }
    if code == Some(libc::EINVAL) {
        return if kind == Kind::User {
            "the kernel is built without user namespaces, or the process already has threads; run encapbench as root"
                .to_owned()
        } else {
            format!("the kernel is built without {kind} namespaces; use another kernel")
        };
    }
    if kind == Kind::User {
        let switch = [
            ("kernel.unprivileged_userns_clone", "0", "1"),
            ("kernel.apparmor_restrict_unprivileged_userns", "1", "0"),
        ]
        .into_iter()
        .find(|(name, forbids, _)| sysctl(name).as_deref() == Some(forbids));
        return match switch {
            Some((name, value, allows)) => format!(
                "{name} is {value}, which forbids them to ordinary users; set `sysctl {name}={allows}`, {or_root}"
            ),
            None => format!(
                "a security policy (a container's seccomp profile, AppArmor, SELinux) forbids them; allow them, \
                 {or_root}"
            ),
        };
    }
    format!("a security policy, or the lack of CAP_SYS_ADMIN, forbids it; allow it, {or_root}")
}

#[cfg(test)]
mod tests {
    use super::{Kind, remedy};
    use std::io::Error;

    fn advice(kind: Kind, errno: i32, known: &[(&str, &str)]) -> String {
        remedy(kind, &Error::from_raw_os_error(errno), |name| {
            known
                .iter()
                .find(|(n, _)| *n == name)
                .map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn no_space_is_a_limit_not_a_disk() {
        let text = advice(Kind::Network, libc::ENOSPC, &[("user.max_net_namespaces", "0")]);
        assert!(
            text.contains("user.max_net_namespaces is reached (it is 0 here)"),
            "{text}"
        );
    }

    #[test]
    fn the_switch_that_forbids_is_named() {
        let debian = advice(
            Kind::User,
            libc::EPERM,
            &[("kernel.unprivileged_userns_clone", "0")],
        );
        assert!(
            debian.contains("sysctl kernel.unprivileged_userns_clone=1"),
            "{debian}"
        );
        let apparmor = "kernel.apparmor_restrict_unprivileged_userns";
        let ubuntu = advice(Kind::User, libc::EPERM, &[(apparmor, "1")]);
        assert!(ubuntu.contains(&format!("sysctl {apparmor}=0")), "{ubuntu}");
        let allowed = advice(Kind::User, libc::EPERM, &[(apparmor, "0")]);
        assert!(allowed.contains("security policy"), "{allowed}");
    }
}
