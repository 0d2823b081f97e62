//! CPU time of machines and processes.

use crate::sys::{clock, usage};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{fs, io};

/// Where the kernel tells CPU time.
const STAT: &str = "/proc/stat";

/// CPU time by what it was spent on, in seconds, over all cores (`/proc/stat`, proc(5)).
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct CpuSeconds {
    /// User code, niced included.
    pub user: f64,
    /// The kernel on behalf of processes.
    pub system: f64,
    /// Hardware interrupts.
    pub irq: f64,
    /// Soft interrupts: where most of network receive is done.
    pub softirq: f64,
    /// Taken by the hypervisor.
    pub steal: f64,
    /// Idle, waiting for disks included.
    pub idle: f64,
}

impl CpuSeconds {
    /// What was used: all but idle and stolen.
    pub fn busy(&self) -> f64 {
        self.user + self.system + self.irq + self.softirq
    }

    /// What was spent from `earlier` to now.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            user: (self.user - earlier.user).max(0.0),
            system: (self.system - earlier.system).max(0.0),
            irq: (self.irq - earlier.irq).max(0.0),
            softirq: (self.softirq - earlier.softirq).max(0.0),
            steal: (self.steal - earlier.steal).max(0.0),
            idle: (self.idle - earlier.idle).max(0.0),
        }
    }
}

/// CPU time of one machine over a trial. Places that share a machine share one of these.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MachineCpu {
    /// The machine: its kernel's boot id, since host names need not differ.
    pub machine: String,
    /// The nodes that are on it, as far as they were looked at, by the names of their places.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<String>,
    /// Seconds that were observed.
    pub seconds: f64,
    /// Cores.
    pub cores: u32,
    /// What the whole machine spent.
    pub cpu: CpuSeconds,
    /// What each core spent, in the kernel's order: one core full of soft interrupts bounds a path however idle the
    /// others are. Empty where cores came or went meanwhile.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub per_core: Vec<CpuSeconds>,
}

/// Why CPU time could not be read.
#[derive(Debug, thiserror::Error)]
pub enum CpuError {
    /// The file could not be read.
    #[error("failed to read {file}; is /proc mounted here?")]
    Read {
        /// The file.
        file: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The file is not as proc(5) says.
    #[error("{STAT} is not as proc(5) describes it: {0}")]
    Stat(&'static str),
}

/// What a machine's cores have done since it was booted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CpuReading {
    /// CPU time, in seconds.
    pub cpu: CpuSeconds,
    /// CPU time of each core that is online.
    pub per_core: Vec<CpuSeconds>,
    /// When it was read, in nanoseconds of the monotonic clock.
    pub clock_ns: u64,
}

impl CpuReading {
    /// What the machine of this boot id spent from `earlier` to this reading.
    pub fn since(&self, earlier: &Self, machine: String) -> MachineCpu {
        MachineCpu {
            machine,
            nodes: Vec::new(),
            seconds: self.clock_ns.saturating_sub(earlier.clock_ns) as f64 / 1e9,
            cores: self.per_core.len() as u32,
            cpu: self.cpu.since(&earlier.cpu),
            per_core: if self.per_core.len() == earlier.per_core.len() {
                let cores = self.per_core.iter().zip(&earlier.per_core);
                cores.map(|(now, then)| rounded(now.since(then))).collect()
            } else {
                Vec::new()
            },
        }
    }
}

/// Reads the CPU time of this machine (`/proc/stat`). Inside a container it is still the whole machine's, unless the
/// runtime mounts something over the file.
///
/// # Errors
/// Where `/proc/stat` can't be read or isn't as proc(5) says.
pub fn machine_cpu() -> Result<CpuReading, CpuError> {
    let text = fs::read_to_string(STAT).map_err(|source| CpuError::Read { file: STAT, source })?;
    let (cpu, per_core) = parse_stat(&text, rustix::param::clock_ticks_per_second())?;
    Ok(CpuReading {
        cpu,
        per_core,
        clock_ns: clock::now(),
    })
}

/// Ticks are 10 ms: more digits than microseconds are noise of the subtraction, and long in the trial log.
fn rounded(seconds: CpuSeconds) -> CpuSeconds {
    let round = |value: f64| (value * 1e6).round() / 1e6;
    CpuSeconds {
        user: round(seconds.user),
        system: round(seconds.system),
        irq: round(seconds.irq),
        softirq: round(seconds.softirq),
        steal: round(seconds.steal),
        idle: round(seconds.idle),
    }
}

/// Parses `/proc/stat`: CPU time over all cores, and of each core that is online. Fields that an old kernel doesn't
/// have are 0; `guest` is part of `user` already.
///
/// # Errors
/// Where the line of all CPUs is missing, or a line has what is no number.
pub fn parse_stat(text: &str, ticks_per_second: u64) -> Result<(CpuSeconds, Vec<CpuSeconds>), CpuError> {
    let all = text
        .lines()
        .find_map(|line| line.strip_prefix("cpu "))
        .ok_or(CpuError::Stat("there is no line of all CPUs"))?;
    let cores = text.lines().filter_map(|line| {
        let rest = line.strip_prefix("cpu")?;
        let (number, times) = rest.split_once(' ')?;
        (!number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())).then_some(times)
    });
    let of = |times: &str| parse_times(times, ticks_per_second);
    Ok((of(all)?, cores.map(of).collect::<Result<_, _>>()?))
}

/// The times of a line of `/proc/stat`.
fn parse_times(times: &str, ticks_per_second: u64) -> Result<CpuSeconds, CpuError> {
    let mut seconds = [0.0; 8];
    let mut fields = 0;
    for (slot, field) in seconds.iter_mut().zip(times.split_ascii_whitespace()) {
        let ticks: u64 = field
            .parse()
            .map_err(|_| CpuError::Stat("a time is not a number"))?;
        *slot = ticks as f64 / ticks_per_second.max(1) as f64;
        fields += 1;
    }
    if fields < 4 {
        return Err(CpuError::Stat("a line of CPU time has no idle time"));
    }
    let [user, nice, system, idle, iowait, irq, softirq, steal] = seconds;
    Ok(CpuSeconds {
        user: user + nice,
        system,
        irq,
        softirq,
        steal,
        idle: idle + iowait,
    })
}

/// CPU time of this process, all its threads together, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct ProcessCpu {
    /// In user code.
    pub user_seconds: f64,
    /// In the kernel on its behalf; soft interrupts count to the machine only.
    pub system_seconds: f64,
}

impl ProcessCpu {
    /// What was spent from `earlier` to now.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            user_seconds: (self.user_seconds - earlier.user_seconds).max(0.0),
            system_seconds: (self.system_seconds - earlier.system_seconds).max(0.0),
        }
    }
}

/// CPU time of this process since it began (getrusage(2)), to a microsecond.
///
/// # Errors
/// Never on Linux; the call itself can fail.
pub fn process_cpu() -> io::Result<ProcessCpu> {
    let time = usage::cpu_time()?;
    Ok(ProcessCpu {
        user_seconds: time.user.as_secs_f64(),
        system_seconds: time.system.as_secs_f64(),
    })
}

/// User and system time of a process of this machine so far, in seconds; `None` where there is no such process
/// (`/proc/PID/stat`, fields 14 and 15, proc(5)).
pub fn process_seconds(pid: u32) -> Option<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field, the program's name in parentheses, may have anything in it.
    let mut fields = text.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    let (user, system) = (ticks()?, ticks()?);
    Some((user + system) as f64 / rustix::param::clock_ticks_per_second() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const WHOLE: &str = include_str!("../../tests/data/proc-stat.txt");

    #[test]
    fn every_field_has_its_place() {
        let (cpu, cores) = parse_stat(WHOLE, 100).unwrap();
        assert_eq!(cores.len(), 2);
        let sum: f64 = cores.iter().map(|core| core.idle).sum();
        assert!(sum > 0.0 && sum <= cpu.idle + 0.02, "{sum} {cpu:?}");
        let expected = CpuSeconds {
            user: 4207.13,
            system: 1811.22,
            irq: 3.0,
            softirq: 95.5,
            steal: 12.34,
            idle: 10_000.25,
        };
        assert_eq!(cpu, expected);
        assert!((cpu.busy() - 6116.85).abs() < 1e-9);
    }

    #[test]
    fn an_old_kernel_has_fewer_fields() {
        let (cpu, cores) = parse_stat("cpu  100 0 200 300\ncpu0 100 0 200 300\ncpufreq 1\n", 100).unwrap();
        assert_eq!((cpu.user, cpu.system, cpu.idle, cpu.steal), (1.0, 2.0, 3.0, 0.0));
        assert_eq!(cores, [cpu]);
    }

    #[test]
    fn what_is_no_stat_is_refused() {
        for text in ["", "intr 1\n", "cpu  1 2 3\n", "cpu  1 x 3 4\n", "cpu0 1 2 3 4\n"] {
            assert!(
                matches!(parse_stat(text, 100), Err(CpuError::Stat(_))),
                "{text:?}"
            );
        }
    }

    #[test]
    fn between_two_readings_this_machine_was_there() {
        let first = machine_cpu().unwrap();
        let before = process_cpu().unwrap();
        // Ticks are 10 ms: busy until some must have passed.
        loop {
            let used = process_cpu().unwrap().since(&before);
            if used.user_seconds + used.system_seconds > 0.05 {
                break;
            }
        }
        let spent = machine_cpu()
            .unwrap()
            .since(&first, super::super::machine::boot_id());
        assert!(spent.seconds > 0.0 && spent.cores >= 1);
        assert_eq!(spent.per_core.len(), spent.cores as usize);
        assert!(spent.cpu.busy() > 0.0, "{spent:?}");
        assert_eq!(spent.machine.len(), 36, "{}", spent.machine);
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "(cpu[ 0-9]{0,40}|[a-z ]{0,9}|\n){0,8}", ticks: u64) {
            if let Ok((cpu, _)) = parse_stat(&text, ticks) {
                prop_assert!(cpu.busy() >= 0.0 && cpu.idle >= 0.0);
            }
        }

        #[test]
        fn time_spent_is_never_below_nothing(a in 0..1_000_000_u32, b in 0..1_000_000_u32) {
            let of = |ticks: u32| CpuSeconds { user: f64::from(ticks), ..CpuSeconds::default() };
            let spent = of(a).since(&of(b));
            prop_assert!(spent.user >= 0.0);
            prop_assert!(spent.system.abs() < f64::EPSILON);
        }
    }
}
