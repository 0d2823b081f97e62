//! `latency.hlog`: an HdrHistogram interval log, format 1.3, as the standard tools (HistogramLogProcessor,
//! HistogramLogAnalyzer, the libraries' log readers) read it. One line a trial, tagged by its case's slug; values are
//! nanoseconds, `Interval_Max` is in milliseconds as those tools expect. The same input gives the same bytes.

use super::Trial;
use crate::measure::LatencyHistogram;
use hdrhistogram::serialization::{
    V2DeflateSerializer,
    interval_log::{IntervalLogWriterBuilder, Tag},
};
use jiff::Timestamp;
use std::{
    io::{self, Write},
    time::{Duration, SystemTime},
};

/// Nanoseconds in the unit of `Interval_Max`.
const MAX_DIVISOR: f64 = 1e6;

/// One line of the log.
#[derive(Debug, Clone, Copy)]
pub struct LogInterval<'a> {
    /// What the line is of: a case's slug, without comma, space or line end.
    pub tag: &'a str,
    /// When it began.
    pub start: Timestamp,
    /// Its length in seconds.
    pub seconds: f64,
    /// Its times in nanoseconds.
    pub histogram: &'a LatencyHistogram,
}

/// Why the log could not be written.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The tag would break the line.
    #[error("{0:?} can't tag a line of the histogram log; use letters, digits, dots and dashes")]
    Tag(String),
    /// A histogram could not be encoded.
    #[error("failed to encode the histogram of {tag} for the log: {reason}")]
    Encode {
        /// The line's tag.
        tag: String,
        /// Why.
        reason: String,
    },
    /// The file could not be written.
    #[error("failed to write the histogram log")]
    Write(#[from] io::Error),
}

/// The lines of a run: its valid trials that measured latency, in the order in which they were begun.
pub fn log_intervals(trials: &[Trial]) -> Vec<LogInterval<'_>> {
    let mut intervals: Vec<_> = trials
        .iter()
        .filter(|trial| trial.is_valid())
        .filter_map(|trial| {
            let latency = trial.latency.as_ref()?;
            Some(LogInterval {
                tag: &trial.case,
                start: trial.started,
                seconds: latency.seconds,
                histogram: &latency.latency,
            })
        })
        .collect();
    intervals.sort_by_key(|interval| interval.start);
    intervals
}

/// Writes a log that begins at `start`; the lines' times are told as seconds from there.
///
/// # Errors
/// Where a tag can't be one, or `out` can't be written.
pub fn write_log(
    mut out: &mut dyn Write,
    start: Timestamp,
    intervals: &[LogInterval<'_>],
) -> Result<(), LogError> {
    let origin = SystemTime::from(start);
    let mut serializer = V2DeflateSerializer::new();
    IntervalLogWriterBuilder::new()
        .add_comment("[Latency in nanoseconds, one line a trial, written by encapbench]")
        .add_comment("[Histogram log format version 1.3]")
        .with_start_time(origin)
        .with_base_time(origin)
        .begin_log_with(&mut out, &mut serializer)?;
    writeln!(
        out,
        "\"StartTimestamp\",\"Interval_Length\",\"Interval_Max\",\"Interval_Compressed_Histogram\""
    )?;
    for interval in intervals {
        let tag = Tag::new(interval.tag)
            .filter(|tag| !tag.is_empty())
            .ok_or_else(|| LogError::Tag(interval.tag.to_owned()))?;
        let offset = interval.start.duration_since(start).unsigned_abs();
        let length = Duration::try_from_secs_f64(interval.seconds).unwrap_or_default();
        let encode = |reason: String| LogError::Encode {
            tag: interval.tag.to_owned(),
            reason,
        };
        let whole = interval
            .histogram
            .whole()
            .map_err(|error| encode(error.to_string()))?;
        let mut line = Vec::new();
        // A writer for each line: the divisor's own comment, which the log has no need of, goes nowhere.
        IntervalLogWriterBuilder::new()
            .with_max_value_divisor(MAX_DIVISOR)
            .begin_log_with(&mut line, &mut serializer)?
            .write_histogram(whole.as_ref(), offset, length, Some(tag))
            .map_err(|error| encode(error.to_string()))?;
        let begin = line
            .iter()
            .position(|&byte| byte == b'\n')
            .map_or(0, |end| end + 1);
        out.write_all(&line[begin..])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine as _;
    use hdrhistogram::{
        Histogram,
        serialization::{
            Deserializer,
            interval_log::{IntervalLogIterator, LogEntry},
        },
    };

    fn start() -> Timestamp {
        "2026-01-02T03:04:05.678Z".parse().unwrap()
    }

    fn histogram(times: &[u64]) -> LatencyHistogram {
        let mut histogram = LatencyHistogram::new().unwrap();
        for &time in times {
            histogram.record(time);
        }
        histogram
    }

    fn written(intervals: &[LogInterval<'_>]) -> String {
        let mut out = Vec::new();
        write_log(&mut out, start(), intervals).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn its_text_is_as_the_standard_writer_makes_it() {
        let one = histogram(&[50_000, 60_000, 2_500_000]);
        let log = written(&[LogInterval {
            tag: "always.rr",
            start: start() + Duration::from_millis(1500),
            seconds: 1.0,
            histogram: &one,
        }]);
        insta::assert_snapshot!(log);
    }

    #[test]
    fn another_reader_finds_what_was_written() {
        let (one, two) = (histogram(&[1, 1000, 1_000_000]), histogram(&[60_000_000_000; 7]));
        let at = |millis, tag, histogram| LogInterval {
            tag,
            start: start() + Duration::from_millis(millis),
            seconds: 0.25,
            histogram,
        };
        let log = written(&[at(0, "a.rr", &one), at(2000, "b.crr", &two)]);
        assert_eq!(log, written(&[at(0, "a.rr", &one), at(2000, "b.crr", &two)]));
        let mut read = Vec::new();
        for entry in IntervalLogIterator::new(log.as_bytes()) {
            if let LogEntry::Interval(interval) = entry.unwrap() {
                let bytes = base64::engine::general_purpose::STANDARD
                    .decode(interval.encoded_histogram())
                    .unwrap();
                let histogram: Histogram<u64> =
                    Deserializer::new().deserialize(&mut bytes.as_slice()).unwrap();
                read.push((
                    interval.tag().unwrap().as_str().to_owned(),
                    interval.start_timestamp(),
                    interval.duration(),
                    histogram,
                ));
            }
        }
        let expected = [("a.rr", 0, &one), ("b.crr", 2000, &two)].map(|(tag, millis, histogram)| {
            (
                tag.to_owned(),
                Duration::from_millis(millis),
                Duration::from_millis(250),
                histogram.whole().unwrap().into_owned(),
            )
        });
        assert_eq!(read, expected);
    }

    #[test]
    fn a_tag_that_breaks_the_line_is_refused() {
        let one = histogram(&[1]);
        for tag in ["", "a,b", "a b", "a\nb"] {
            let interval = LogInterval {
                tag,
                start: start(),
                seconds: 1.0,
                histogram: &one,
            };
            let error = write_log(&mut Vec::new(), start(), &[interval]).unwrap_err();
            assert!(matches!(error, LogError::Tag(_)), "{tag:?}");
        }
    }
}
