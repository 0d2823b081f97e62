//! What holds for every unit: its text parses back to it, its serde is its text, and its JSON Schema accepts at
//! least what its parser accepts.

use super::{BitRate, ByteRate, Bytes, Cidr4, EventRate, Mtu, Percent, Span};
use predicates::Predicate;
use proptest::prelude::*;
use schemars::{JsonSchema, SchemaGenerator};
use serde::{Serialize, de::DeserializeOwned};
use std::{
    fmt::{Debug, Display},
    str::FromStr,
    time::Duration,
};

fn pattern<T: JsonSchema>() -> String {
    let schema = T::json_schema(&mut SchemaGenerator::default());
    schema.get("pattern").unwrap().as_str().unwrap().to_owned()
}

fn schema_accepts<T: JsonSchema>(text: &str) -> bool {
    predicates::str::is_match(pattern::<T>()).unwrap().eval(text)
}

fn round_trip<T>(value: &T) -> Result<(), TestCaseError>
where
    T: Display + FromStr + PartialEq + Debug + Serialize + DeserializeOwned + JsonSchema,
    T::Err: Debug,
{
    let text = value.to_string();
    prop_assert_eq!(&text.parse::<T>().unwrap(), value);
    prop_assert!(schema_accepts::<T>(&text), "{text:?} is not of the schema");
    let json = serde_json::to_string(value).unwrap();
    prop_assert_eq!(&json, &format!("{text:?}"));
    prop_assert_eq!(&serde_json::from_str::<T>(&json).unwrap(), value);
    // YAML resolves plain scalars by their looks: what is printed must not look like anything else.
    prop_assert_eq!(&serde_saphyr::from_str::<T>(&text).unwrap(), value);
    Ok(())
}

proptest! {
    #[test]
    fn bytes(value in any::<u64>(), shift in 0_u32..64) { round_trip(&Bytes(value >> shift))?; }
    #[test]
    fn bytes_of_round_units(count in 0_u64..4096, shift in 0_u32..5) { round_trip(&Bytes(count << (10 * shift)))?; }
    #[test]
    fn bit_rate(value in 1_u64.., shift in 0_u32..63) { round_trip(&BitRate((value >> shift).max(1)))?; }
    #[test]
    fn bit_rate_of_round_units(count in 1_u64..100_000, zeros in 0_u32..10) {
        round_trip(&BitRate(count * 10_u64.pow(zeros)))?;
    }
    #[test]
    fn byte_rate(value in any::<u64>(), shift in 0_u32..64) { round_trip(&ByteRate(value >> shift))?; }
    #[test]
    fn event_rate(value in 1_u32..=1_000_000) { round_trip(&EventRate::new(value).unwrap())?; }
    #[test]
    fn mtu(value in 576_u16..) { round_trip(&Mtu::new(value).unwrap())?; }
    #[test]
    fn percent(value in 0_u32..=10_000_000) { round_trip(&Percent::from_millionths(value).unwrap())?; }
    #[test]
    fn span(nanos in any::<u64>(), shift in 0_u32..64) { round_trip(&Span(Duration::from_nanos(nanos >> shift)))?; }
    #[test]
    fn span_of_round_units(count in 0_u64..100_000, zeros in 0_u32..14) {
        round_trip(&Span(Duration::from_nanos(count * 10_u64.pow(zeros))))?;
    }
    #[test]
    fn cidr4(address in any::<u32>(), prefix in 0_u8..=32) {
        let address = u32::try_from(u64::from(address) >> (32 - prefix) << (32 - prefix)).unwrap();
        round_trip(&Cidr4::new(address.into(), prefix).unwrap())?;
    }

    /// Neither panics nor accepts what an editor with the schema would underline.
    #[test]
    fn any_text(text in r"[ +-]?[0-9.]{0,40}[ ]?(\PC|[a-zA-Zµ/]){0,6}[ ]?") {
        prop_assert!(text.parse::<Bytes>().is_err() || schema_accepts::<Bytes>(&text));
        prop_assert!(text.parse::<BitRate>().is_err() || schema_accepts::<BitRate>(&text));
        prop_assert!(text.parse::<ByteRate>().is_err() || schema_accepts::<ByteRate>(&text));
        prop_assert!(text.parse::<EventRate>().is_err() || schema_accepts::<EventRate>(&text));
        prop_assert!(text.parse::<Mtu>().is_err() || schema_accepts::<Mtu>(&text));
        prop_assert!(text.parse::<Span>().is_err() || schema_accepts::<Span>(&text));
        prop_assert!(text.parse::<Cidr4>().is_err() || schema_accepts::<Cidr4>(&text));
    }

    /// What one adds up from its parts is what is read.
    #[test]
    fn spans_add_up(hours in 0_u64..100, minutes in 0_u64..60, seconds in 0_u64..60, millis in 0_u64..1000) {
        let text = format!("{hours}h {minutes}m{seconds}.{millis:03}s");
        let expected = Duration::from_millis(((hours * 60 + minutes) * 60 + seconds) * 1000 + millis);
        prop_assert_eq!(text.parse::<Span>().unwrap(), Span(expected));
        prop_assert!(schema_accepts::<Span>(&text));
    }
}

/// Every text is of the schema too.
#[track_caller]
fn reads<T>(texts: &[&str], expected: &T)
where
    T: FromStr + PartialEq + Debug + JsonSchema,
    T::Err: Debug,
{
    for text in texts {
        assert_eq!(text.parse::<T>().unwrap(), *expected, "{text:?}");
        assert!(schema_accepts::<T>(text), "{text:?} is not of the schema");
    }
}

#[track_caller]
fn refuses<T: FromStr<Err: Debug> + Debug>(texts: &[&str]) {
    for text in texts {
        assert!(
            text.parse::<T>().is_err(),
            "{text:?} was read as {:?}",
            text.parse::<T>()
        );
    }
}

#[test]
fn accepted_texts() {
    reads(
        &[
            "8.5gbit",
            "8500mbit",
            "8.5Gbit/s",
            "8.5 Gb/s",
            "8500000000bit",
            "8.5GBIT",
        ],
        &BitRate(8_500_000_000),
    );
    reads(
        &["256KiB", "262144", "262144B", "0.25MiB", " 256 KiB "],
        &Bytes(256 << 10),
    );
    reads(&["1kB", "1KB", "1000", "0.001MB"], &Bytes(1000));
    reads(&["950MB/s", "0.95GB/s", "950000 kB/s"], &ByteRate(950_000_000));
    reads(&["2k/s", "2000/s", "2000 /s"], &EventRate::new(2000).unwrap());
    reads(
        &["1m30s", "90s", "1.5min", "1m 30s", "0.025h"],
        &Span::from_secs(90),
    );
    reads(
        &["250us", "250µs", "0.25ms", "250000ns"],
        &Span(Duration::from_micros(250)),
    );
    reads(&["1500", " 1500"], &Mtu::ETHERNET);
    reads(&["169.254.0.0/16"], &Cidr4::LINK_LOCAL);
}

#[test]
fn refused_texts() {
    refuses::<BitRate>(&[
        "",
        "0gbit",
        "8.5",
        "8.5g",
        "100MB/s",
        "10Gb",
        "-1gbit",
        "1.2.3gbit",
        "1e9bit",
        "0.1bit",
        "gbit",
        "99999999999gbit",
    ]);
    refuses::<Bytes>(&[
        "",
        "-1",
        "+1",
        "1500b",
        "1kb",
        "1.5B",
        "1XB",
        "KiB",
        "1 500",
        "1e3",
        "18446744073709551616",
        "99999999TiB",
    ]);
    refuses::<ByteRate>(&[
        "", "950", "950MB", "950Mb/s", "950mb/s", "-1MB/s", "0.5B/s", "1MiB/s",
    ]);
    refuses::<EventRate>(&[
        "",
        "0/s",
        "1000",
        "+5/s",
        "1.5k/s",
        "1000001/s",
        "1001k/s",
        "/s",
        "5000000k/s",
    ]);
    refuses::<Mtu>(&["", "575", "65536", "+1500", "1500B", "jumbo"]);
    refuses::<Span>(&[
        "",
        "2",
        "s",
        "-1s",
        "1.5ns",
        "2 seconds",
        "1h30",
        "1d",
        "99999999999h",
        "1s,2s",
    ]);
    refuses::<Cidr4>(&[
        "",
        "10.0.0.0",
        "10.0.0.0/33",
        "10.0.0.0/+8",
        "10.0.0.0/",
        "10.0.0/8",
        "10.1.0.1/24",
        "fd00::/8",
        "010.0.0.0/8",
        "256.0.0.0/8",
    ]);
}

#[test]
fn bare_numbers_only_where_the_unit_is_plain() {
    assert_eq!(serde_json::from_str::<Bytes>("1500").unwrap(), Bytes(1500));
    assert_eq!(
        serde_json::from_str::<Mtu>("9000").unwrap(),
        Mtu::new(9000).unwrap()
    );
    let error = serde_json::from_str::<Mtu>("-1").unwrap_err().to_string();
    assert!(
        error.starts_with("\"-1\" is no MTU: expected a number of bytes from 576 to 65535"),
        "{error}"
    );
    let error = serde_json::from_str::<Span>("2").unwrap_err().to_string();
    assert!(
        error.contains("integer `2`, expected time: a time with its unit, such as 500ms"),
        "{error}"
    );
    for (schema, bare) in [
        (Bytes::json_schema(&mut SchemaGenerator::default()), true),
        (Span::json_schema(&mut SchemaGenerator::default()), false),
    ] {
        let types = schema.get("type").unwrap().as_array().unwrap();
        assert_eq!(types.iter().any(|kind| kind == "integer"), bare);
    }
}

#[test]
fn display_is_what_people_write() {
    assert_eq!(BitRate(8_500_000_000).to_string(), "8.5gbit");
    assert_eq!(Bytes(256 << 10).to_string(), "256KiB");
    assert_eq!(Bytes(1500).to_string(), "1500B");
    assert_eq!(ByteRate(1_000_000_000).to_string(), "1000MB/s");
    assert_eq!(Span::from_millis(500).to_string(), "500ms");
    assert_eq!(Span::from_millis(1500).to_string(), "1.5s");
    assert_eq!(Span(Duration::from_nanos(1_234_567)).to_string(), "1234.567us");
    assert_eq!(Span::default().to_string(), "0s");
}

#[test]
fn percent_takes_shares_with_their_sign_only() {
    assert!(("0.1%".parse::<Percent>().unwrap().percent() - 0.1).abs() < 1e-12);
    assert!(("5 %".parse::<Percent>().unwrap().share() - 0.05).abs() < 1e-12);
    for refused in ["5", "%", "-1%", "+1%", "1001%", "0.00001%", "5 percent", ""] {
        assert!(refused.parse::<Percent>().is_err(), "{refused:?}");
    }
}
