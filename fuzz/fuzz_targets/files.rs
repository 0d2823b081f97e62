//! What users and earlier runs leave in files: scenarios, manifests, trial logs.
#![no_main]

use encapbench::{
    run::{Manifest, Trial},
    scenario,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Err(error) = scenario::parse(text, "scenario.yaml") {
        // The message is made of the text around the mistake.
        let _ = error.to_string();
    }
    let _ = Manifest::parse(data);
    for line in text.lines() {
        let _ = serde_json::from_str::<Trial>(line);
    }
});
