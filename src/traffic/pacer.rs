//! When the next bytes are due, at a given rate: integers in nanoseconds, no clock.

/// Holds a stream to a rate. As iperf3 does, a sender may send while what it has sent is below `rate` times the
/// time since the start, so one that was held up catches up and the average holds.
#[derive(Debug, Clone, Copy)]
pub struct Pacer {
    bits_per_second: u64,
    start: u64,
}

impl Pacer {
    /// A pacer from `start` (nanoseconds of any clock). `bits_per_second` is at least 1.
    pub const fn new(bits_per_second: u64, start: u64) -> Self {
        Self {
            bits_per_second: if bits_per_second == 0 { 1 } else { bits_per_second },
            start,
        }
    }

    /// When the next byte may be sent after `sent` bytes, in nanoseconds of the same clock.
    pub const fn due(&self, sent: u64) -> u64 {
        let nanos = sent as u128 * 8 * 1_000_000_000 / self.bits_per_second as u128;
        if nanos > (u64::MAX - self.start) as u128 {
            u64::MAX
        } else {
            self.start + nanos as u64
        }
    }

    /// How long `bytes` take, in nanoseconds.
    pub const fn spacing(&self, bytes: u64) -> u64 {
        self.due(bytes).saturating_sub(self.start)
    }

    /// Bytes that may have been sent before `now`.
    pub const fn allowance(&self, now: u64) -> u64 {
        let bytes = now.saturating_sub(self.start) as u128 * self.bits_per_second as u128 / 8_000_000_000;
        if bytes > u64::MAX as u128 {
            u64::MAX
        } else {
            bytes as u64
        }
    }

    /// Forgives what is overdue by more than `most` nanoseconds after `sent` bytes, so that a long stall is not
    /// followed by a burst as long.
    pub const fn forgive(&mut self, sent: u64, now: u64, most: u64) {
        let overdue = now.saturating_sub(self.due(sent));
        if overdue > most {
            self.start += overdue - most;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_second_of_bytes_is_due_in_a_second() {
        let pacer = Pacer::new(8_000_000, 5);
        assert_eq!(pacer.due(0), 5);
        assert_eq!(pacer.due(1_000_000), 1_000_000_005);
        assert_eq!(Pacer::new(1, 0).due(u64::MAX), u64::MAX);
        assert_eq!(
            (pacer.allowance(0), pacer.allowance(1_000_000_005)),
            (0, 1_000_000)
        );
        assert_eq!(Pacer::new(u64::MAX, 0).allowance(u64::MAX), u64::MAX);
    }

    #[test]
    fn a_long_stall_is_forgiven_down_to_what_is_bearable() {
        let mut pacer = Pacer::new(8_000_000, 0);
        pacer.forgive(1000, 1_100_000, 200_000);
        assert_eq!(pacer.due(1000), 1_000_000);
        pacer.forgive(1000, 5_000_000, 200_000);
        assert_eq!(pacer.due(1000), 4_800_000);
    }

    proptest! {
        #[test]
        fn the_average_rate_is_never_above_what_was_asked(
            rate in 1_u64..400_000_000_000, block in 1_u64..1_048_576, blocks in 1_u64..1000,
        ) {
            let pacer = Pacer::new(rate, 0);
            let mut sent = 0;
            for _ in 0..blocks {
                let due = pacer.due(sent);
                // What had been sent before this block does not exceed the rate over the time until it.
                prop_assert!(u128::from(sent) * 8_000_000_000 <= (u128::from(due) + 1) * u128::from(rate));
                sent += block;
            }
        }
    }
}
