//! What happens in a run. The coordinator emits it; the terminal's progress and the trial log consume it.

use super::Trial;
use std::time::Duration;

/// Something that happened.
#[derive(Debug, Clone)]
pub enum Event {
    /// The run begins, or goes on.
    RunStarted {
        /// Trials of the blocks that are run in any case.
        trials: u32,
        /// Blocks that are run in any case.
        blocks: u32,
        /// The most blocks: more are run while a gate is not decided.
        at_most: u32,
        /// How long it will take.
        estimate: Duration,
    },
    /// A block begins: its fabric is being prepared.
    BlockStarted {
        /// From 1.
        block: u32,
        /// Its trials that are still to be run.
        trials: u32,
        /// How long they will take.
        estimate: Duration,
    },
    /// The blocks that are run in any case are done, and these gates are not decided: another block follows.
    Undecided {
        /// The gates' names.
        gates: Vec<String>,
    },
    /// The block's fabric is ready.
    FabricReady {
        /// From 1.
        block: u32,
        /// How long it took.
        took: Duration,
    },
    /// A trial begins.
    TrialStarted {
        /// From 1.
        block: u32,
        /// The place in the block's order, from 1.
        position: u32,
        /// The path's name.
        path: String,
        /// The workload's name.
        workload: String,
        /// How long it will take.
        estimate: Duration,
    },
    /// A trial ended.
    TrialFinished(Box<Trial>),
    /// Something a user must know, which does not end the run.
    Warning(String),
    /// The run ended, or was interrupted.
    RunFinished {
        /// Whether it was cut off.
        interrupted: bool,
    },
}
