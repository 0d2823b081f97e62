//! Progress of a run: a bar with elapsed and remaining time on a terminal, plain lines in a pipe. Both on stderr, so
//! that stdout is the result alone.

use crate::{
    evidence::EvidenceState,
    measure::ThroughputResult,
    run::{Event, Outcome, Trial},
    scenario::Case,
};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::{
    collections::HashMap,
    io::{self, IsTerminal, Write},
    time::{Duration, Instant},
};

/// Shows what happens.
pub(super) struct Progress {
    bar: Option<ProgressBar>,
    quiet: bool,
    names: HashMap<String, (String, String)>,
    blocks: u32,
    left: Duration,
    current: Duration,
    begun: Instant,
}

impl Progress {
    /// For the cases of a plan. `quiet` shows warnings only.
    pub(super) fn new(cases: &[Case], quiet: bool) -> Self {
        let names = cases
            .iter()
            .map(|case| {
                (
                    case.slug.clone(),
                    (case.path.name.clone(), case.workload.name.clone()),
                )
            })
            .collect();
        let bar = (!quiet && io::stderr().is_terminal()).then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(10));
            if let Ok(style) = ProgressStyle::with_template("{elapsed_precise} {bar:24} {pos}/{len} {msg}") {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_millis(250));
            bar
        });
        Self {
            bar,
            quiet,
            names,
            blocks: 0,
            left: Duration::ZERO,
            current: Duration::ZERO,
            begun: Instant::now(),
        }
    }

    /// Shows one event.
    pub(super) fn show(&mut self, event: &Event) {
        match event {
            Event::RunStarted {
                trials,
                blocks,
                at_most,
                estimate,
            } => {
                self.blocks = *blocks;
                self.left = *estimate;
                if let Some(bar) = &self.bar {
                    bar.set_length(u64::from(*trials));
                }
                let more = if at_most > blocks {
                    format!(", up to {at_most} blocks if a gate needs them")
                } else {
                    String::new()
                };
                self.line(&format!(
                    "{trials} trials in {blocks} blocks, about {}{more}",
                    words(*estimate)
                ));
            }
            Event::Undecided { gates } => self.line(&format!("not decided yet: {}", gates.join(", "))),
            Event::BlockStarted {
                block,
                trials,
                estimate,
            } => {
                if *block > self.blocks {
                    self.blocks = *block;
                    self.left = *estimate;
                    if let Some(bar) = &self.bar {
                        bar.inc_length(u64::from(*trials));
                    }
                }
                self.message(&format!("block {block}: preparing"));
            }
            Event::FabricReady { took, .. } => tracing::debug!("the block's places were ready in {took:?}"),
            Event::TrialStarted {
                path,
                workload,
                estimate,
                ..
            } => {
                self.current = *estimate;
                self.message(&format!("{path} {workload}, {} left", words(self.left)));
            }
            Event::TrialFinished(trial) => {
                self.left = self.left.saturating_sub(self.current);
                let text = self.trial(trial);
                match &self.bar {
                    Some(bar) => {
                        bar.inc(1);
                        if !trial.is_valid() {
                            bar.println(text);
                        }
                    }
                    None => self.line(&format!("{text}; {} left", words(self.left))),
                }
            }
            Event::Warning(text) => {
                let text = format!("warning: {text}");
                match &self.bar {
                    Some(bar) => bar.println(text),
                    None => print(&text),
                }
            }
            Event::RunFinished { interrupted } => {
                if let Some(bar) = self.bar.take() {
                    bar.finish_and_clear();
                }
                if *interrupted {
                    print("interrupted: what was measured so far is saved");
                }
            }
        }
    }

    fn message(&self, text: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(text.to_owned());
        }
    }

    fn line(&self, text: &str) {
        if self.bar.is_none() && !self.quiet {
            let elapsed = self.begun.elapsed().as_secs();
            print(&format!("{:02}:{:02} {text}", elapsed / 60, elapsed % 60));
        }
    }

    /// A trial in a line: what it measured, or why it did not.
    fn trial(&self, trial: &Trial) -> String {
        let (path, workload) = self.names.get(&trial.case).cloned().unwrap_or_default();
        let how = match &trial.outcome {
            Outcome::Failed { error } => format!("FAILED: {error}"),
            Outcome::Interrupted => "interrupted".to_owned(),
            Outcome::Unreachable => "nothing gets through, as expected".to_owned(),
            Outcome::Measured if trial.probe.is_some() => "REACHABLE".to_owned(),
            Outcome::Measured => measured(trial),
        };
        let reasons = trial.verdict.reasons.join("; ");
        let path_word = match trial.verdict.state {
            EvidenceState::Contradicted => format!(", path CONTRADICTED: {reasons}"),
            EvidenceState::Unknown if trial.outcome == Outcome::Measured => {
                format!(", path unknown: {reasons}")
            }
            _ => String::new(),
        };
        format!(
            "block {}/{} {path}, {workload}: {how}{path_word}",
            trial.block, self.blocks
        )
    }
}

/// What a trial measured, in words.
fn measured(trial: &Trial) -> String {
    if let Some(rate) = trial
        .throughput
        .as_ref()
        .and_then(ThroughputResult::bytes_per_second)
    {
        return format!("{:.0} MB/s", rate / 1e6);
    }
    let Some(latency) = &trial.latency else {
        return "measured".to_owned();
    };
    let micros = |quantile| {
        latency
            .latency
            .quantile(quantile)
            .map_or(0.0, |nanos| nanos as f64 / 1000.0)
    };
    let load = trial
        .load
        .as_ref()
        .and_then(ThroughputResult::bytes_per_second)
        .map_or_else(String::new, |load| format!(", beside {:.0} MB/s", load / 1e6));
    format!("p50 {:.0} us, p99 {:.0} us{load}", micros(0.5), micros(0.99))
}

/// A time in words: `2 min 5 s`.
pub(super) fn words(time: Duration) -> String {
    let seconds = time.as_secs_f64().round() as u64;
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, s) => format!("{s} s"),
        (0, m, s) => format!("{m} min {s} s"),
        (h, m, _) => format!("{h} h {m} min"),
    }
}

fn print(text: &str) {
    // Progress that can't be shown is no reason to end a run.
    let _ = writeln!(io::stderr(), "{text}");
}
