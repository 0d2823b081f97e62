//! `encapbench schema`: the JSON Schema of scenario files.

use super::{Exit, Failure};
use crate::scenario::json_schema;
use clap::Args;
use std::io::Write;

/// Arguments of `encapbench schema`: none.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
For editors with the YAML language server, begin a scenario file with
  # yaml-language-server: $schema=scenario.schema.json")]
pub(super) struct SchemaArgs {}

/// Writes the schema.
pub(super) fn run(_: &SchemaArgs, out: &mut dyn Write) -> Result<Exit, Failure> {
    out.write_all(json_schema().as_bytes())?;
    Ok(Exit::Success)
}
