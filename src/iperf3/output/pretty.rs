//! JSON in cJSON's pretty style: tabs, `"key":<TAB>value`, objects of an array on the bracket's line.

use super::number::general;
use crate::iperf3::wire::json::Json;

/// The document, without a newline at its end.
pub fn pretty(json: &Json) -> String {
    let mut out = String::new();
    write(json, 0, &mut out);
    out
}

/// One line.
pub fn compact(json: &Json) -> String {
    let mut out = String::new();
    write_compact(json, &mut out);
    out
}

fn write(json: &Json, depth: usize, out: &mut String) {
    match json {
        Json::Array(values) => {
            out.push('[');
            for (index, value) in values.iter().enumerate() {
                if index > 0 {
                    out.push_str(", ");
                }
                write(value, depth + 1, out);
            }
            out.push(']');
        }
        Json::Object(members) => {
            out.push_str("{\n");
            for (index, (name, value)) in members.iter().enumerate() {
                tabs(depth + 1, out);
                Json::String(name.clone()).write(out);
                out.push_str(":\t");
                write(value, depth + 1, out);
                out.push_str(if index + 1 < members.len() { ",\n" } else { "\n" });
            }
            tabs(depth, out);
            out.push('}');
        }
        scalar => write_scalar(scalar, out),
    }
}

fn tabs(count: usize, out: &mut String) {
    out.extend(std::iter::repeat_n('\t', count));
}

fn write_compact(json: &Json, out: &mut String) {
    match json {
        Json::Array(values) => {
            out.push('[');
            for (index, value) in values.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_compact(value, out);
            }
            out.push(']');
        }
        Json::Object(members) => {
            out.push('{');
            for (index, (name, value)) in members.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                Json::String(name.clone()).write(out);
                out.push(':');
                write_compact(value, out);
            }
            out.push('}');
        }
        scalar => write_scalar(scalar, out),
    }
}

fn write_scalar(json: &Json, out: &mut String) {
    match json {
        Json::Float(value) => out.push_str(&float(*value)),
        other => other.write(out),
    }
}

/// As cJSON: integral floats as integers, else 15 significant digits, or 17 where 15 don't give the value back.
fn float(value: f64) -> String {
    if !value.is_finite() {
        return "0".to_owned();
    }
    if value.fract() == 0.0 && value.abs() < 9e15 {
        return format!("{}", value as i64);
    }
    let short = general(value, 15);
    if short.parse() == Ok(value) {
        short
    } else {
        general(value, 17)
    }
}
