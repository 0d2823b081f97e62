//! The lines between coordinator and worker, either way.
#![no_main]

use encapbench::worker::protocol::{Message, Request};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    for line in data.split(|byte| *byte == b'\n') {
        if let Ok(request) = serde_json::from_slice::<Request>(line) {
            let text = serde_json::to_string(&request).expect("what was read can be written");
            serde_json::from_str::<Request>(&text).expect("what we write can be read");
        }
        if let Ok(message) = serde_json::from_slice::<Message>(line) {
            let text = serde_json::to_string(&message).expect("what was read can be written");
            serde_json::from_str::<Message>(&text).expect("what we write can be read");
        }
    }
});
