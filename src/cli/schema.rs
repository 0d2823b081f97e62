//! `encapbench schema`: the JSON Schema of scenario and policy files.

use super::{Exit, Failure};
use crate::scenario::{json_schema, policy_json_schema};
use clap::Args;
use std::io::Write;

/// Arguments of `encapbench schema`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
For editors with the YAML language server, begin a scenario file with
  # yaml-language-server: $schema=scenario.schema.json")]
pub(super) struct SchemaArgs {
    /// The schema of policy files, as `encapbench gate --policy` reads them
    #[arg(long)]
    policy: bool,
}

/// Writes the schema.
pub(super) fn run(args: &SchemaArgs, out: &mut dyn Write) -> Result<Exit, Failure> {
    let schema = if args.policy {
        policy_json_schema()
    } else {
        json_schema()
    };
    out.write_all(schema.as_bytes())?;
    Ok(Exit::Success)
}
