//! What a client may say to a server: the bytes of a control connection after its cookie, cut anywhere.
//!
//! The input is a list of pieces: a byte that says what happens next, and for bytes from the client how many.
#![no_main]

use encapbench::iperf3::wire::{
    Cookie, ErrorCode, Results, StreamReport,
    server::{Action, Input, Patience, Phase, Server},
    stream_id,
};
use libfuzzer_sys::fuzz_target;
use std::time::Duration;

fuzz_target!(|data: &[u8]| {
    let mut now = Duration::ZERO;
    let mut machine = Server::new(Cookie::from_random([7; 36]), Patience::default(), now);
    let mut rest = data;
    let (mut ends, mut sent) = (0, 0);
    loop {
        while let Some(action) = machine.next_action() {
            match action {
                Action::Send(bytes) => sent += bytes.len(),
                Action::Prepare(parameters) => {
                    // What a driver relies on.
                    assert!((1..=10_000).contains(&parameters.streams()));
                    assert!((1..=1 << 20).contains(&parameters.block()));
                    assert!(parameters.warm_up() <= Duration::from_secs(600));
                    machine.handle(now, Input::Prepared);
                }
                Action::Run => assert_eq!(machine.phase(), Phase::Running),
                Action::MakeResults => {
                    let results = Results {
                        cpu_total: 0.0,
                        cpu_user: 0.0,
                        cpu_system: 0.0,
                        sender_has_retransmits: -1,
                        congestion_used: None,
                        server_output_text: None,
                        server_output_json: None,
                        streams: vec![StreamReport::tcp(stream_id(0), 5, -1, 1.0)],
                    };
                    machine.handle(now, Input::Results(&results));
                }
                Action::End | Action::TakeResults(_) => {}
                Action::Done | Action::Fail(_) => {
                    ends += 1;
                    assert_eq!(machine.phase(), Phase::Over);
                }
            }
        }
        let Some((what, after)) = rest.split_first() else {
            break;
        };
        rest = after;
        match what {
            0xf0 => machine.handle(now, Input::Closed),
            0xf1 => machine.handle(now, Input::Reset),
            0xf2 => machine.handle(now, Input::StreamsAccepted),
            0xf3 => machine.handle(now, Input::Interrupt),
            0xf4 => machine.handle(now, Input::Refuse(ErrorCode::new(144))),
            0xf5 => {
                now += Duration::from_secs(3);
                machine.handle(now, Input::Tick);
            }
            // All the rest in one piece.
            0xff => {
                machine.handle(now, Input::Bytes(rest));
                rest = &[];
            }
            count => {
                let (piece, after) = rest.split_at(rest.len().min(usize::from(*count)));
                machine.handle(now, Input::Bytes(piece));
                rest = after;
            }
        }
    }
    // One end at most, and nothing is said after it.
    assert!(ends <= 1);
    assert!(sent < 4096);
});
