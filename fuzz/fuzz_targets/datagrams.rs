//! Datagrams: what opens streams, headers of either width, what a receiver counts; and the latency protocol's messages.
#![no_main]

use encapbench::{
    iperf3::wire::datagram::{Header, Tally, Width, is_connect, is_reply},
    traffic::rr_wire::{self, Answer, Hello},
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let _ = (is_connect(data), is_reply(data));
    for width in [Width::Narrow, Width::Wide] {
        let mut tally = Tally::default();
        let mut now = 0_u64;
        for datagram in data.chunks(16) {
            now = now.wrapping_mul(31).wrapping_add(datagram.len() as u64);
            if let Some(header) = Header::read(width, datagram) {
                let mut written = [0; 16];
                header.write(width, &mut written);
                // A peer may send more microseconds than a second has; we don't.
                if header.micros / 1_000_000 <= u64::from(u32::MAX) {
                    assert_eq!(Header::read(width, &written), Some(header));
                }
                tally.count(header, now);
            }
        }
        assert!(tally.lost <= tally.packets.max(1) && tally.jitter.is_finite());
    }
    let _ = rr_wire::may_begin(data);
    if let Some(bytes) = data.first_chunk()
        && let Ok(hello) = Hello::decode(bytes)
    {
        assert_eq!(&hello.encode(), bytes);
    }
    if let Some(bytes) = data.first_chunk() {
        let _ = Answer::decode(bytes);
    }
    let _ = rr_wire::read_datagram_header(data);
});
