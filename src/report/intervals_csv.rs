//! `intervals.csv`: one line for each interval of each stream at each end, in the order of the trials.

use super::{Inputs, ReportError, digits, labels::cell, summary_csv::table};
use crate::measure::{Direction, Sample, ThroughputResult};

/// The columns. `side` is the end that counted: receiver, sender, or load (the receiver of the load that ran while
/// latency was probed).
const COLUMNS: [&str; 15] = [
    "case",
    "block",
    "side",
    "stream",
    "direction",
    "end_s",
    "seconds",
    "bytes",
    "mb_per_s",
    "omitted",
    "rtt_us",
    "retransmits",
    "cwnd_bytes",
    "path_mtu",
    "mss",
];

pub(super) fn write(inputs: &Inputs<'_>) -> Result<Vec<u8>, ReportError> {
    table("intervals.csv", |out| {
        out.write_record(COLUMNS)?;
        for trial in inputs.trials {
            let sides: [(&str, Option<&ThroughputResult>); 3] = [
                ("receiver", trial.throughput.as_ref()),
                ("sender", trial.sender.as_ref()),
                ("load", trial.load.as_ref()),
            ];
            let (case, block) = (cell(&trial.case), trial.block.to_string());
            for (side, result) in sides {
                for stream in result.iter().flat_map(|result| &result.streams) {
                    let direction = match stream.direction {
                        Direction::Forward => "forward",
                        Direction::Reverse => "reverse",
                    };
                    let id = stream.id.to_string();
                    for sample in &stream.samples {
                        let figures = figures(sample);
                        out.write_record(
                            [case.as_str(), &block, side, &id, direction]
                                .into_iter()
                                .chain(figures.iter().map(String::as_str)),
                        )?;
                    }
                }
            }
        }
        Ok(())
    })
}

fn figures(sample: &Sample) -> [String; 10] {
    let tcp = |of: fn(&crate::measure::TcpSample) -> u64| {
        sample
            .tcp
            .as_ref()
            .map_or_else(String::new, |tcp| of(tcp).to_string())
    };
    [
        digits::fixed(sample.end, 3),
        digits::fixed(sample.seconds, 6),
        sample.bytes.to_string(),
        if sample.seconds > 0.0 {
            digits::fixed(sample.bytes as f64 / sample.seconds / 1e6, 2)
        } else {
            String::new()
        },
        if sample.omitted { "yes" } else { "no" }.to_owned(),
        tcp(|tcp| u64::from(tcp.rtt_us)),
        tcp(|tcp| tcp.retransmits),
        tcp(|tcp| tcp.cwnd_bytes),
        tcp(|tcp| u64::from(tcp.path_mtu)),
        tcp(|tcp| u64::from(tcp.mss)),
    ]
}
