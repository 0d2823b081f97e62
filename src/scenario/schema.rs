//! The JSON Schema of scenario files, for editors.

use super::{Policy, Scenario};
use schemars::{JsonSchema, generate::SchemaSettings};

/// The JSON Schema (draft 2020-12) of scenario files, as indented text with a line break at its end. The same text
/// each time.
pub fn json_schema() -> String {
    schema_of::<Scenario>("encapbench scenario")
}

/// The same of policy files.
pub fn policy_json_schema() -> String {
    schema_of::<Policy>("encapbench policy")
}

fn schema_of<T: JsonSchema>(title: &str) -> String {
    let mut schema = SchemaSettings::draft2020_12()
        .into_generator()
        .into_root_schema_for::<T>();
    schema.insert("title".to_owned(), title.into());
    format!("{:#}\n", schema.to_value())
}

#[cfg(test)]
mod tests {
    use super::{json_schema, policy_json_schema};
    use serde_json::Value;
    use std::{fs, path::Path};

    #[test]
    fn the_checked_in_schemas_are_fresh() {
        fresh("scenario.schema.json", &json_schema(), "schema");
        fresh("policy.schema.json", &policy_json_schema(), "schema --policy");
    }

    fn fresh(file: &str, fresh: &str, command: &str) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("schema").join(file);
        let checked_in = fs::read_to_string(&path).unwrap_or_default();
        if checked_in != fresh {
            let differing = fresh
                .lines()
                .zip(checked_in.lines().chain(std::iter::repeat("")))
                .enumerate();
            let diff: Vec<String> = differing
                .filter(|(_, (new, old))| new != old)
                .take(10)
                .map(|(line, (new, old))| format!("line {}:\n- {old}\n+ {new}\n", line + 1))
                .collect();
            panic!(
                "{} is stale:\n{}make it again: cargo run -- {command} > schema/{file}",
                path.display(),
                diff.concat()
            );
        }
    }

    /// Every object refuses unknown keys and says what each of its keys is.
    #[test]
    fn objects_are_closed_and_described() {
        fn check(value: &Value, at: &str) {
            let Some(object) = value.as_object() else { return };
            if let Some(properties) = object.get("properties").and_then(Value::as_object) {
                assert_eq!(
                    object.get("additionalProperties"),
                    Some(&Value::Bool(false)),
                    "{at} takes any key"
                );
                for (name, property) in properties {
                    assert!(
                        object
                            .get("description")
                            .or(property.get("description"))
                            .is_some(),
                        "{at}.{name} has no description"
                    );
                }
            }
            for (name, inner) in object {
                match inner {
                    Value::Array(all) => all.iter().for_each(|inner| check(inner, &format!("{at}.{name}"))),
                    inner => check(inner, &format!("{at}.{name}")),
                }
            }
        }
        for (text, title) in [
            (json_schema(), "encapbench scenario"),
            (policy_json_schema(), "encapbench policy"),
        ] {
            let schema: Value = serde_json::from_str(&text).unwrap();
            assert_eq!(schema["title"], title);
            check(&schema, "");
        }
    }
}
