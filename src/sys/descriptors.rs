//! How many descriptors this process may have open (RLIMIT_NOFILE, getrlimit(2)).

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors that are kept free for what else a process opens meanwhile.
const SPARE: u64 = 64;

/// There may not be as many descriptors as are needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "{needed} descriptors are needed and this process may have {limit}: raise the limit (`ulimit -Hn {needed}` as root, \
     or LimitNOFILE= of its service), or use fewer streams"
)]
pub struct TooFewDescriptors {
    /// In all, with those that are open.
    pub needed: u64,
    /// The hard limit.
    pub limit: u64,
}

/// Sees to it that `more` descriptors can be opened: raises the soft limit as far as is needed, and the hard one where
/// this process may.
///
/// # Errors
/// Where the hard limit doesn't allow it.
pub fn reserve(more: usize) -> Result<(), TooFewDescriptors> {
    // Where /proc is not there, as many as a process begins with.
    let open = std::fs::read_dir("/proc/self/fd").map_or(16, |entries| entries.count() as u64);
    let needed = open + more as u64 + SPARE;
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    let limit = |maximum| Rlimit {
        current: Some(needed),
        maximum,
    };
    let allowed = maximum.is_none_or(|maximum| maximum >= needed);
    let new = limit(if allowed { maximum } else { Some(needed) });
    setrlimit(Resource::Nofile, new).map_err(|_| TooFewDescriptors {
        needed,
        limit: maximum.or(current).unwrap_or(0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_needed_is_there_or_said() {
        reserve(1).unwrap();
        // More than fs.nr_open can be.
        let error = reserve(1 << 40).unwrap_err();
        assert!(
            error.needed > 1 << 40 && error.to_string().contains("ulimit"),
            "{error}"
        );
    }
}
