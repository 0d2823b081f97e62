//! `encapbench schema`: the JSON Schemas of the files that people write and read.

use super::{Exit, Failure};
use crate::{
    doctor, gate, run,
    scenario::{json_schema, policy_json_schema},
};
use clap::{Args, ValueEnum};
use std::io::Write;

/// Arguments of `encapbench schema`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
For editors with the YAML language server, begin a scenario file with
  # yaml-language-server: $schema=scenario.schema.json

docs/run-folder.md explains a run folder's files, and how to write one by hand; docs/doctor.md what the doctor says.")]
pub(super) struct SchemaArgs {
    /// The schema of policy files, as `encapbench gate --policy` reads them
    #[arg(long)]
    policy: bool,
    /// The schema of a file of the run folder
    #[arg(long, value_name = "FILE", conflicts_with = "policy")]
    run: Option<RunFile>,
    /// The schema of what `encapbench doctor --json` prints, which is also the run folder's `doctor.json`
    #[arg(long, conflicts_with_all = ["policy", "run"])]
    doctor: bool,
}

/// A file of the run folder that has a schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum RunFile {
    /// `manifest.json`
    Manifest,
    /// A line of `trials.jsonl`
    Trial,
    /// `gate.json`
    Gate,
}

/// Writes the schema.
pub(super) fn run(args: &SchemaArgs, out: &mut dyn Write) -> Result<Exit, Failure> {
    let schema = match args.run {
        Some(RunFile::Manifest) => run::manifest_json_schema(),
        Some(RunFile::Trial) => run::trial_json_schema(),
        Some(RunFile::Gate) => gate::json_schema(),
        None if args.doctor => doctor::json_schema(),
        None if args.policy => policy_json_schema(),
        None => json_schema(),
    };
    out.write_all(schema.as_bytes())?;
    Ok(Exit::Success)
}
