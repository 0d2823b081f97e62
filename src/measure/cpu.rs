//! CPU time of machines and processes.

use crate::sys::usage;
use serde::{Deserialize, Serialize};
use std::io;

/// CPU time by what it was spent on, in seconds, over all cores (`/proc/stat`, proc(5)).
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MachineCpu {
    /// The machine: its kernel's boot id, since host names need not differ.
    pub machine: String,
    /// Seconds that were observed.
    pub seconds: f64,
    /// Cores.
    pub cores: u32,
    /// What the whole machine spent.
    pub cpu: CpuSeconds,
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
