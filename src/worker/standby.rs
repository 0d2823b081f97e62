//! What a pod's first process does: it waits while workers come and go beside it, and ends when none does any more.

use std::{fs, io, time::Duration};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{Instant, MissedTickBehavior, interval},
};

/// How often it looks round.
const LOOK: Duration = Duration::from_secs(1);

/// Waits until SIGTERM or SIGINT, for `at_most`, or until no other process has been in this PID namespace for `alone`.
///
/// As the first process of a container it also has to collect those whose parents ended before them.
///
/// # Errors
/// Where signals can't be listened for.
pub fn stand_by(at_most: Duration, alone: Duration) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let begun = Instant::now();
        let mut company = begun;
        let mut ticks = interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = terminate.recv() => return Ok(()),
                _ = interrupt.recv() => return Ok(()),
                _ = ticks.tick() => {}
            }
            collect();
            let now = Instant::now();
            // Where others can't be seen, only the time limit holds.
            if others().unwrap_or(true) {
                company = now;
            }
            if now.duration_since(begun) >= at_most || now.duration_since(company) >= alone {
                return Ok(());
            }
        }
    })
}

/// Takes away the ended children that this process was given.
fn collect() {
    while let Ok(Some(_)) = rustix::process::wait(rustix::process::WaitOptions::NOHANG) {}
}

/// Whether another process is in this PID namespace: `/proc` has a folder of each.
fn others() -> io::Result<bool> {
    let own = std::process::id().to_string();
    let names = fs::read_dir("/proc")?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    Ok(names
        .into_iter()
        .any(|name| name.bytes().all(|b| b.is_ascii_digit()) && name != own))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_ends_when_its_time_is_over() {
        let begun = std::time::Instant::now();
        stand_by(Duration::from_millis(10), Duration::from_hours(1)).unwrap();
        assert!(begun.elapsed() < Duration::from_secs(30));
        assert!(others().unwrap(), "a test never runs alone on a machine");
    }
}
