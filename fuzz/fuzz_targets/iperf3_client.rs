//! What a server may say to a client: the bytes of a control connection, cut anywhere.
#![no_main]

use encapbench::iperf3::wire::{
    Cookie, Parameters, Results, StreamReport,
    client::{Action, Client, Input, Phase},
    stream_id,
};
use libfuzzer_sys::fuzz_target;
use std::time::Duration;

fuzz_target!(|data: &[u8]| {
    let mut now = Duration::ZERO;
    let cookie = Cookie::from_random([7; 36]);
    let mut machine = Client::new(&cookie, Parameters::default(), Duration::from_secs(10));
    let mut rest = data;
    let (mut ends, mut sent) = (0, 0);
    loop {
        while let Some(action) = machine.next_action() {
            match action {
                Action::Send(bytes) => sent += bytes.len(),
                Action::OpenStreams => machine.handle(now, Input::StreamsOpen),
                Action::MakeResults => {
                    let results = Results {
                        cpu_total: 0.0,
                        cpu_user: 0.0,
                        cpu_system: 0.0,
                        sender_has_retransmits: 1,
                        congestion_used: Some("cubic".to_owned()),
                        server_output_text: None,
                        server_output_json: None,
                        streams: vec![StreamReport::tcp(stream_id(0), 5, 0, 1.0)],
                    };
                    machine.handle(now, Input::Results(&results));
                }
                Action::Start | Action::Run | Action::TakeResults(_) | Action::CloseStreams => {}
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
            0xf2 => {
                if machine.phase() == Phase::Running {
                    machine.handle(now, Input::Finish);
                }
            }
            0xf3 => machine.handle(now, Input::Interrupt),
            0xf5 => {
                now += Duration::from_secs(3);
                machine.handle(now, Input::Tick);
            }
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
    assert!(ends <= 1);
    assert!(sent < 8192);
});
