//! The JSON Schema of what the doctor says to programs.

use super::finding::Diagnosis;

/// The JSON Schema (draft 2020-12) of `encapbench doctor --json` and of a run's `doctor.json`.
pub fn json_schema() -> String {
    crate::run::json_schema_of::<Diagnosis>("what encapbench doctor found", "urn:encapbench:doctor")
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    #[test]
    fn the_checked_in_schema_is_fresh() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("schema/doctor.schema.json");
        assert!(
            fs::read_to_string(&file).unwrap_or_default() == super::json_schema(),
            "{} is stale; make it again with `encapbench schema --doctor`",
            file.display()
        );
    }
}
