//! What this process has used (getrusage(2)).
#![expect(
    unsafe_code,
    reason = "getrusage is a plain C call without a safe wrapper among our crates"
)]

use std::{io, mem::MaybeUninit, time::Duration};

/// CPU time of this process, all its threads and none of its children.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CpuTime {
    /// In user code.
    pub user: Duration,
    /// In the kernel on its behalf; not what soft interrupts did.
    pub system: Duration,
}

/// CPU time that this process has used since it began (RUSAGE_SELF), to a microsecond.
///
/// # Errors
/// Never on Linux; the call itself can fail.
pub fn cpu_time() -> io::Result<CpuTime> {
    let mut usage = MaybeUninit::<libc::rusage>::uninit();
    // SAFETY: `usage` is a writable rusage, which the call fills when it returns 0.
    let usage = unsafe {
        if libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr()) != 0 {
            return Err(io::Error::last_os_error());
        }
        usage.assume_init()
    };
    Ok(CpuTime {
        user: duration(usage.ru_utime),
        system: duration(usage.ru_stime),
    })
}

const fn duration(time: libc::timeval) -> Duration {
    // CPU time is never negative.
    Duration::new(time.tv_sec as u64, time.tv_usec as u32 * 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_seen() {
        let before = cpu_time().unwrap();
        let mut sum = 0_u64;
        let used = loop {
            for i in 0..100_000_u64 {
                sum = std::hint::black_box(sum.wrapping_mul(31) ^ i);
            }
            let now = cpu_time().unwrap();
            let used = (now.user + now.system).saturating_sub(before.user + before.system);
            if used > Duration::from_millis(5) {
                break used;
            }
        };
        assert!(used < Duration::from_mins(1));
    }
}
