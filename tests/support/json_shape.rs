//! What a document of iperf3 is made of: compared key by key, whatever the values.

#![expect(clippy::unwrap_used, reason = "a test may fail where it stands")]

use serde_json::Value;
use std::collections::BTreeMap;

/// Every path in a document with the kinds of its values. Elements of an array are one path.
fn shape(value: &Value) -> BTreeMap<String, String> {
    fn walk(value: &Value, path: &str, shape: &mut BTreeMap<String, String>) {
        let kind = match value {
            Value::Object(members) => {
                for (key, value) in members {
                    walk(value, &format!("{path}.{key}"), shape);
                }
                "object"
            }
            Value::Array(values) => {
                for value in values {
                    walk(value, &format!("{path}[]"), shape);
                }
                "array"
            }
            Value::String(_) => "string",
            Value::Bool(_) => "bool",
            Value::Number(_) if is_float(path) => "float",
            Value::Number(number) if number.is_f64() => "a float where an integer is due",
            Value::Number(_) => "integer",
            Value::Null => "null",
        };
        shape.insert(path.to_owned(), kind.to_owned());
    }
    let mut found = BTreeMap::new();
    walk(value, "", &mut found);
    found
}

/// Members that are floats; the rest of the numbers are integers, which consumers in typed languages rely on.
fn is_float(path: &str) -> bool {
    let name = path.rsplit('.').next().unwrap();
    let known = [
        "start",
        "end",
        "seconds",
        "bits_per_second",
        "jitter_ms",
        "lost_percent",
        "interval",
    ];
    known.contains(&name) || path.contains("cpu_utilization_percent.")
}

/// What 3.21 says and 3.12 doesn't.
const NEWER: [&str; 8] = [
    ".start.timestamp.timemillisecs",
    ".start.fq_rate",
    ".start.test_start.bidir",
    ".start.test_start.fqrate",
    ".start.test_start.interval",
    ".start.test_start.gso",
    ".start.test_start.gro",
    ".reorder",
];

/// Differences between a stock document and ours, beyond what newer versions add.
pub(crate) fn differences(stock: &Value, ours: &Value) -> Vec<String> {
    let (stock, ours) = (shape(stock), shape(ours));
    let newer = |path: &str| NEWER.iter().any(|known| path.ends_with(known));
    let missing = stock.iter().filter_map(|(path, kind)| match ours.get(path) {
        None => Some(format!("{path} is missing")),
        Some(own) if own != kind => Some(format!("{path} is {own}, not {kind}")),
        Some(_) => None,
    });
    let added = ours
        .keys()
        .filter(|path| !stock.contains_key(*path) && !newer(path));
    missing
        .chain(added.map(|path| format!("{path} is new")))
        .collect()
}
