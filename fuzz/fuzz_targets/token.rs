//! Authentication tokens, and the files that a server reads for them.
#![no_main]

use encapbench::iperf3::auth::{Gatekeeper, read_public_key};
use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;

static KEEPER: LazyLock<Gatekeeper> = LazyLock::new(|| {
    let key = include_str!("../../tests/data/iperf3-captures/10-auth-testkey/private.pem");
    let users = include_str!("../../tests/data/iperf3-captures/10-auth-testkey/users.csv");
    Gatekeeper::new(key, users, 10, true).expect("the key of the captures")
});

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    // A token of another time: even a good one is too old.
    assert!(KEEPER.check(&text, 0).is_err());
    let _ = Gatekeeper::new(&text, &text, 10, true);
    let _ = read_public_key(&text);
});
