//! The JSON documents of iperf3 peers: parameters and results, and JSON itself.
#![no_main]

use encapbench::iperf3::{
    output::pretty::pretty,
    wire::{Parameters, Results, json::Json},
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(json) = Json::parse(data) {
        let mut text = String::new();
        json.write(&mut text);
        // The last digit of a float may differ, which is why they are not compared.
        Json::parse(text.as_bytes()).expect("what we write is JSON");
        serde_json::from_str::<serde_json::Value>(&pretty(&json)).expect("the pretty form is JSON too");
    }
    if let Ok(parameters) = Parameters::decode(data) {
        let again = Parameters::decode(parameters.encode().as_bytes()).expect("our own document");
        assert_eq!(parameters, again);
        if parameters.check().is_ok() {
            let _ = (
                parameters.byte_limit(),
                parameters.warm_up(),
                parameters.total_streams(),
            );
            assert!(parameters.block() <= 1 << 20);
        }
    }
    if let Ok(results) = Results::decode(data) {
        let again = Results::decode(results.encode().as_bytes()).expect("our own document");
        assert_eq!(results.streams.len(), again.streams.len());
        for stream in &results.streams {
            assert_eq!(results.stream(stream.id).map(|found| found.id), Some(stream.id));
        }
    }
});
