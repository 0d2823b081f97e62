//! When each request of an open loop is due: evenly spaced points of time, computed and never accumulated, so that
//! nothing drifts. Pure: time enters as numbers.

use crate::units::EventRate;
use std::time::Duration;

const NANOS: u128 = 1_000_000_000;

/// Points of time, in nanoseconds of one clock, at which requests are due: some in the warm-up, then exactly
/// rate × duration (rounded up) in the measured time, the first of them at its very begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    from: u64,
    rate: u32,
    warm: u64,
    measured: u64,
}

impl Schedule {
    /// A schedule that begins at `begin`, warms up for `omit` and measures for `duration`.
    pub fn new(begin: u64, omit: Duration, duration: Duration, rate: EventRate) -> Self {
        let rate = rate.per_second();
        let events = |time: Duration| time.as_nanos() * u128::from(rate);
        Self {
            from: begin + omit.as_nanos() as u64,
            rate,
            warm: (events(omit) / NANOS) as u64,
            measured: events(duration).div_ceil(NANOS) as u64,
        }
    }

    /// When the request number `index`, counted from 0, is due.
    pub fn due(&self, index: u64) -> u64 {
        if index >= self.warm {
            self.from + self.span(index - self.warm)
        } else {
            self.from - self.span(self.warm - index)
        }
    }

    /// The time that `events` take, rounded down to a nanosecond.
    fn span(&self, events: u64) -> u64 {
        (u128::from(events) * NANOS / u128::from(self.rate)) as u64
    }

    /// How many requests there are, those of the warm-up included.
    pub const fn total(&self) -> u64 {
        self.warm + self.measured
    }

    /// How many of them are in the measured time.
    pub const fn measured(&self) -> u64 {
        self.measured
    }

    /// Whether a request counts, or is of the warm-up.
    pub const fn is_measured(&self, index: u64) -> bool {
        index >= self.warm
    }

    /// How many requests of the measured time are due before a point of time.
    pub fn measured_before(&self, time: u64) -> u64 {
        let elapsed = u128::from(time.saturating_sub(self.from));
        let events = (elapsed * u128::from(self.rate)).div_ceil(NANOS) as u64;
        events.min(self.measured)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn schedule(begin: u64, omit: u64, duration: u64, rate: u32) -> Schedule {
        Schedule::new(
            begin,
            Duration::from_nanos(omit),
            Duration::from_nanos(duration),
            EventRate::new(rate).unwrap(),
        )
    }

    #[test]
    fn a_thousand_a_second_is_one_each_millisecond() {
        let schedule = schedule(5_000_000, 100_000_000, 1_000_000_000, 1000);
        assert_eq!((schedule.total(), schedule.measured()), (1100, 1000));
        assert_eq!(schedule.due(0), 5_000_000);
        assert_eq!(schedule.due(100), 105_000_000);
        assert_eq!(schedule.due(1099), 1_104_000_000);
        assert!(!schedule.is_measured(99));
        assert!(schedule.is_measured(100));
    }

    #[test]
    fn a_rate_that_does_not_divide_a_second_does_not_drift() {
        let schedule = schedule(0, 0, 60_000_000_000, 7);
        assert_eq!(schedule.measured(), 420);
        // 3 * 60 s at 333 333 333 ns a third would be 60 ns short.
        assert_eq!(schedule.due(7 * 59), 59_000_000_000);
    }

    proptest! {
        #[test]
        fn it_is_exact_and_even(
            begin in 0..1_u64 << 50,
            omit in 0..10_000_000_000_u64,
            duration in 1..100_000_000_000_u64,
            rate in 1..=1_000_000_u32,
        ) {
            let schedule = schedule(begin, omit, duration, rate);
            let (from, end) = (begin + omit, begin + omit + duration);
            let expected = (u128::from(duration) * u128::from(rate)).div_ceil(NANOS);
            prop_assert_eq!(u128::from(schedule.measured()), expected);
            prop_assert!(schedule.measured() >= 1);
            let first = schedule.total() - schedule.measured();
            prop_assert_eq!(schedule.due(first), from);
            prop_assert!(schedule.due(0) >= begin);
            prop_assert!(schedule.due(schedule.total() - 1) < end);
            let period = 1_000_000_000 / u64::from(rate);
            for index in [0, first / 2, first, schedule.total() / 2, schedule.total() - 1] {
                let gap = schedule.due(index + 1) - schedule.due(index);
                prop_assert!(gap == period || gap == period + 1, "gap {gap} of period {period}");
                prop_assert_eq!(schedule.is_measured(index), schedule.due(index) >= from);
            }
            prop_assert_eq!(schedule.measured_before(from), 0);
            prop_assert_eq!(schedule.measured_before(u64::MAX), schedule.measured());
        }

        #[test]
        fn what_is_due_before_a_time_is_counted(
            duration in 1..5_000_000_000_u64,
            rate in 1..=1000_u32,
            time in 0..6_000_000_000_u64,
        ) {
            let schedule = schedule(0, 0, duration, rate);
            let counted = (0..schedule.measured()).filter(|&index| {
                // Exact, not rounded: event k is at k / rate seconds.
                u128::from(index) * NANOS < u128::from(time) * u128::from(rate)
            }).count();
            prop_assert_eq!(schedule.measured_before(time), counted as u64);
        }
    }
}
