//! The JSON Schemas of a run folder's files: what others need to read them, or to write such a folder by hand.

use super::{Manifest, Trial};
use schemars::{JsonSchema, generate::SchemaSettings};

/// The JSON Schema (draft 2020-12) of `manifest.json`, as indented text with a line break at its end.
pub fn manifest_json_schema() -> String {
    json_schema_of::<Manifest>(
        "encapbench manifest.json",
        &format!("urn:encapbench:run:{}:manifest", Manifest::FORMAT),
    )
}

/// The same of a line of `trials.jsonl`.
pub fn trial_json_schema() -> String {
    json_schema_of::<Trial>(
        "a line of encapbench trials.jsonl",
        &format!("urn:encapbench:run:{}:trial", Manifest::FORMAT),
    )
}

/// The schema of a type of the run folder. It describes what is read: a key that may be left out is not required.
pub fn json_schema_of<T: JsonSchema>(title: &str, id: &str) -> String {
    let mut schema = SchemaSettings::draft2020_12()
        .into_generator()
        .into_root_schema_for::<T>();
    schema.insert("$id".to_owned(), id.into());
    schema.insert("title".to_owned(), title.into());
    format!("{:#}\n", schema.to_value())
}

#[cfg(test)]
mod tests {
    use super::{manifest_json_schema, trial_json_schema};
    use std::{fs, path::Path};

    #[test]
    fn the_checked_in_schemas_are_fresh() {
        for (file, fresh) in [
            ("manifest", manifest_json_schema()),
            ("trial", trial_json_schema()),
            ("gate", crate::gate::json_schema()),
        ] {
            let name = format!("schema/run-{file}.schema.json");
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(&name);
            let checked_in = fs::read_to_string(&path).unwrap_or_default();
            assert!(
                checked_in == fresh,
                "{name} is stale; make it again: cargo run -- schema --run {file} > {name}"
            );
        }
    }
}
