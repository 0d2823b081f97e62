//! How evenly datagrams arrive: runs of them that come closer together than a quarter of the time that their rate leaves
//! between two. Pure.

/// Counts bursts in arrival times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bursts {
    /// Nanoseconds between two datagrams below which they are of one burst.
    gap: u64,
    last: Option<u64>,
    current: u64,
    /// Bursts, those of one datagram included.
    pub(super) count: u64,
    /// Datagrams in them.
    pub(super) datagrams: u64,
    /// Datagrams of the longest.
    pub(super) longest: u64,
}

impl Bursts {
    /// For datagrams of `length` bytes at `rate` bits a second.
    pub(super) const fn new(length: usize, rate: u64) -> Self {
        let rate = if rate == 0 { 1 } else { rate };
        let spacing = length as u128 * 8 * 1_000_000_000 / rate as u128;
        Self {
            gap: if spacing > u64::MAX as u128 {
                u64::MAX / 4
            } else {
                spacing as u64 / 4
            },
            last: None,
            current: 0,
            count: 0,
            datagrams: 0,
            longest: 0,
        }
    }

    /// Counts a datagram that arrived at `now`, nanoseconds of any clock.
    pub(super) fn count(&mut self, now: u64) {
        let near = self
            .last
            .is_some_and(|last| now.saturating_sub(last) < self.gap.max(1));
        self.last = Some(now);
        self.datagrams += 1;
        if near {
            self.current += 1;
        } else {
            self.current = 1;
            self.count += 1;
        }
        self.longest = self.longest.max(self.current);
    }

    /// Begins anew: the warm-up is over.
    pub(super) const fn restart(&mut self) {
        self.last = None;
        self.current = 0;
        self.count = 0;
        self.datagrams = 0;
        self.longest = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bursts_are_runs_without_gaps() {
        // 1000 bytes at 8 Mbit/s: one each millisecond, so nearer than 250 µs is a burst.
        let mut bursts = Bursts::new(1000, 8_000_000);
        for at in [
            0, 1_000_000, 1_100_000, 1_200_000, 2_000_000, 2_250_000, 4_000_000,
        ] {
            bursts.count(at);
        }
        assert_eq!((bursts.count, bursts.datagrams, bursts.longest), (5, 7, 3));
        bursts.restart();
        bursts.count(4_000_001);
        assert_eq!((bursts.count, bursts.datagrams, bursts.longest), (1, 1, 1));
        // At rates without end all at one time are one.
        let mut bursts = Bursts::new(1, u64::MAX);
        bursts.count(5);
        bursts.count(5);
        assert_eq!(bursts.longest, 2);
    }
}
