//! A histogram as it lies in a trial log: only what was counted.
//!
//! The library's deserializer lays out a place for every value there could be, 200 KiB, which for the 15,000 histograms
//! of a long run takes gigabytes and seconds. HdrHistogram's V2 encoding holds what was counted and little else, so it is
//! read here without laying that out, where it has our bounds and digits; all else goes through the library. The two are
//! held against each other by a test.

use super::{DIGITS, HIGHEST, HistogramError, LOWEST};
use hdrhistogram::Histogram;

/// HdrHistogram's V2 encoding without compression.
const COOKIE: u32 = 0x1c84_9313;
/// Cookie, length, offset, digits, lowest, highest, ratio.
const HEAD: usize = 4 * 4 + 8 * 3;
/// With three digits, values are told apart in buckets of this many steps.
const STEPS: u64 = 1024;

/// Places that the library has for our bounds: up to 2^36 ns, the first power of two above 60 s.
const PLACES: u64 = 27 * STEPS;

/// What was counted, in ascending order.
#[derive(Debug, Clone)]
pub(super) struct Packed {
    /// The highest value of each place, and how many times lie at or below it.
    upto: Box<[(u64, u64)]>,
    /// The lowest value of the first place.
    least: u64,
}

/// The lowest and the highest value of a place.
const fn bounds(place: u64) -> (u64, u64) {
    // Below twice the steps a place is one value; from there on each bucket has places twice as wide.
    let wide = (place / STEPS).saturating_sub(1);
    let low = if place < 2 * STEPS {
        place
    } else {
        (place % STEPS + STEPS) << wide
    };
    (low, low + (1 << wide) - 1)
}

/// A number of ZigZag LEB128 with at most nine bytes, and what is left; `None` where it is cut off.
fn number(bytes: &[u8]) -> Option<(i64, &[u8])> {
    let mut value = 0_u64;
    for index in 0..9 {
        let byte = *bytes.get(index)?;
        if index == 8 {
            value |= u64::from(byte) << 56;
        } else {
            value |= u64::from(byte & 0x7f) << (7 * index);
        }
        if index == 8 || byte & 0x80 == 0 {
            let decoded = ((value >> 1) as i64) ^ -((value & 1) as i64);
            return Some((decoded, bytes.get(index + 1..)?));
        }
    }
    None
}

impl Packed {
    /// Of values, the highest of their places, with how often each was counted, in ascending order.
    pub(super) fn new(counts: Vec<(u64, u64)>) -> Self {
        let mut total = 0;
        let least = counts.first().map_or(0, |(value, _)| {
            // The place that a value is the highest of.
            let wide = (64 - value.leading_zeros()).saturating_sub(11);
            value >> wide << wide
        });
        let upto = counts
            .into_iter()
            .map(|(value, count)| {
                total += count;
                (value, total)
            })
            .collect();
        Self { upto, least }
    }

    /// Reads V2 of our bounds and digits; `None` where it is anything else, which the library may know.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let head = bytes.get(..HEAD)?;
        let word = |at: usize| head.get(at..at + 4)?.try_into().ok().map(u32::from_be_bytes);
        let long = |at: usize| head.get(at..at + 8)?.try_into().ok().map(u64::from_be_bytes);
        let ours = word(0)? == COOKIE
            && word(8)? == 0
            && word(12)? == u32::from(DIGITS)
            && long(16)? == LOWEST
            && long(24)? == HIGHEST
            && long(32)? == 1.0_f64.to_bits();
        if !ours {
            return None;
        }
        let mut rest = bytes.get(HEAD..HEAD.checked_add(word(4)? as usize)?)?;
        let (mut counts, mut place) = (Vec::new(), 0_u64);
        while !rest.is_empty() {
            let (value, left) = number(rest)?;
            rest = left;
            if value < 0 {
                place = place.checked_add(value.unsigned_abs())?;
                continue;
            }
            let (_, high) = (place < PLACES).then(|| bounds(place))?;
            if value > 0 {
                counts.push((high, value.unsigned_abs()));
            }
            place += 1;
        }
        Some(Self::new(counts))
    }

    pub(super) fn total(&self) -> u64 {
        self.upto.last().map_or(0, |(_, upto)| *upto)
    }

    /// As the library has it: the highest value of the place; of 0, the lowest value of the first.
    pub(super) fn quantile(&self, quantile: f64) -> Option<u64> {
        if quantile <= 0.0 {
            return (!self.upto.is_empty()).then_some(self.least);
        }
        let wanted = ((quantile.min(1.0) * self.total() as f64).ceil() as u64).max(1);
        let at = self.upto.partition_point(|(_, upto)| *upto < wanted);
        self.upto.get(at).map(|(value, _)| *value)
    }

    /// Every value with how often it was counted.
    pub(super) fn counts(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let mut before = 0;
        self.upto.iter().map(move |(value, upto)| {
            let count = upto - before;
            before = *upto;
            (*value, count)
        })
    }

    pub(super) fn add_to(&self, whole: &mut Histogram<u64>) -> Result<(), HistogramError> {
        for (value, count) in self.counts() {
            whole
                .record_n(value, count)
                .map_err(|error| HistogramError::Add(error.to_string()))?;
        }
        Ok(())
    }

    pub(super) fn unpack(&self) -> Result<Histogram<u64>, HistogramError> {
        let mut whole = Histogram::new_with_bounds(LOWEST, HIGHEST, DIGITS)?;
        self.add_to(&mut whole)?;
        Ok(whole)
    }
}

#[cfg(test)]
mod tests {
    use super::super::LatencyHistogram;
    use super::*;
    use hdrhistogram::serialization::{Serializer as _, V2Serializer};
    use proptest::prelude::*;

    proptest! {
        /// Whatever was recorded: read from its encoding it is what the library says of it.
        #[test]
        fn it_agrees_with_the_library(
            times in proptest::collection::vec((0_u32..37, any::<u64>()), 0..200),
            quantile in 0.0..=1.0_f64,
        ) {
            let mut whole = Histogram::<u64>::new_with_bounds(LOWEST, HIGHEST, DIGITS).unwrap();
            for (bits, time) in times {
                whole.saturating_record((time & ((1 << bits) - 1)).max(1));
            }
            let mut bytes = Vec::new();
            V2Serializer::new().serialize(&whole, &mut bytes).unwrap();
            let packed = Packed::decode(&bytes).unwrap();
            prop_assert_eq!(packed.total(), whole.len());
            let recorded: Vec<(u64, u64)> = whole
                .iter_recorded()
                .map(|step| (step.value_iterated_to(), step.count_since_last_iteration()))
                .collect();
            prop_assert_eq!(packed.counts().collect::<Vec<_>>(), recorded);
            let unpacked = packed.unpack().unwrap();
            prop_assert_eq!(&unpacked, &whole);
            if !whole.is_empty() {
                for quantile in [0.0, quantile, 0.5, 0.99, 1.0] {
                    prop_assert_eq!(packed.quantile(quantile), Some(whole.value_at_quantile(quantile)));
                }
                prop_assert_eq!(packed.quantile(1.0), Some(unpacked.max()));
                prop_assert_eq!(packed.quantile(0.0), Some(unpacked.min()));
            }
        }

        /// No bytes make it panic, or hold what the library would not.
        #[test]
        fn garbage_is_refused(mut bytes in proptest::collection::vec(any::<u8>(), 0..80), ours: bool) {
            if ours {
                let mut head = Vec::new();
                V2Serializer::new()
                    .serialize(&Histogram::<u64>::new_with_bounds(LOWEST, HIGHEST, DIGITS).unwrap(), &mut head)
                    .unwrap();
                head.truncate(HEAD);
                head[4..8].copy_from_slice(&(bytes.len() as u32).to_be_bytes());
                head.append(&mut bytes);
                bytes = head;
            }
            if let Some(packed) = Packed::decode(&bytes) {
                prop_assert!(packed.counts().all(|(value, count)| count > 0 && value < 2 * HIGHEST));
            }
        }
    }

    #[test]
    fn one_that_was_read_can_be_added_to_and_recorded_into() {
        let mut first = LatencyHistogram::new().unwrap();
        for time in [5, 1_000, 2_500_000, 60_000_000_000] {
            first.record(time);
        }
        let mut read = LatencyHistogram::decode(&first.encode().unwrap()).unwrap();
        assert_eq!(read, first);
        assert_eq!(read.encode().unwrap(), first.encode().unwrap());
        read.record(77);
        first.record(77);
        assert_eq!(read, first);
        let again = LatencyHistogram::decode(&first.encode().unwrap()).unwrap();
        read.add(&again).unwrap();
        assert_eq!(read.count(), 10);
        assert_eq!((read.min(), read.max()), (again.min(), again.max()));
    }
}
