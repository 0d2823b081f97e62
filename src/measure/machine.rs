//! What machine this is.

use std::fs;

/// The kernel's boot id (`/proc/sys/kernel/random/boot_id`): the same for all places that share a machine, and
/// different for any two machines. Empty where it can't be read.
pub fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map(|text| text.trim().to_owned())
        .unwrap_or_default()
}

/// The kernel's release: `uname -r`.
pub fn kernel_release() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

/// A machine, as a run's manifest keeps it.
#[derive(
    Debug, Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(default)]
pub struct Host {
    /// Its name.
    pub name: String,
    /// The kernel: `uname -s -r -v -m`.
    pub kernel: String,
    /// The processor's model.
    pub cpu: String,
    /// Cores that may be used.
    pub cores: u32,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// The distribution's name.
    pub os: String,
}

/// This machine. What can't be found out is empty or 0.
pub fn host() -> Host {
    let uname = rustix::system::uname();
    let text = |part: &std::ffi::CStr| part.to_string_lossy().into_owned();
    let kernel = [uname.sysname(), uname.release(), uname.version(), uname.machine()]
        .map(text)
        .join(" ");
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    Host {
        name: text(uname.nodename()),
        kernel,
        cpu: field(&read("/proc/cpuinfo"), "model name", ':').unwrap_or_default(),
        cores: std::thread::available_parallelism().map_or(0, |n| u32::try_from(n.get()).unwrap_or(u32::MAX)),
        memory_bytes: field(&read("/proc/meminfo"), "MemTotal", ':')
            .and_then(|text| text.split_whitespace().next()?.parse::<u64>().ok())
            .unwrap_or(0)
            * 1024,
        os: field(&read("/etc/os-release"), "PRETTY_NAME", '=')
            .map(|name| name.trim_matches('"').to_owned())
            .unwrap_or_default(),
    }
}

/// The value of the first line `name<separator>value`.
fn field(text: &str, name: &str, separator: char) -> Option<String> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(separator)?;
        (key.trim() == name).then(|| value.trim().to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let text = "MemTotalX: 1 kB\nMemTotal:       24576 kB\nMemTotal: 2 kB\n";
        assert_eq!(field(text, "MemTotal", ':').as_deref(), Some("24576 kB"));
        assert_eq!(field(text, "Mem", ':'), None);
    }
}
