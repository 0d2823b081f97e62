//! The protocol's state machines against recorded conversations of stock iperf3 3.9, 3.12 and 3.21
//! (`tests/data/iperf3-captures`), in both roles and with the bytes cut anywhere; and against garbage.
#![expect(clippy::unwrap_used, reason = "a test: a failure panics")]

use encapbench::iperf3::wire::{
    Cookie, ErrorCode, Parameters, Results, State, client,
    datagram::{self, Width},
    server,
    server::Patience,
};
use proptest::prelude::*;
use serde_json::Value;
use std::{collections::VecDeque, fs, path::Path, time::Duration};

const NOW: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, PartialEq)]
struct Element {
    client: bool,
    kind: String,
    bytes: Vec<u8>,
}

/// One control connection of a capture.
#[derive(Debug, Clone)]
struct Conversation {
    name: String,
    elements: Vec<Element>,
}

impl Conversation {
    fn document(&self, client: bool, kind: &str) -> Option<&[u8]> {
        let found = self
            .elements
            .iter()
            .find(|e| e.client == client && e.kind == kind);
        found.map(|element| element.bytes.as_slice())
    }

    fn parameters(&self) -> Option<Parameters> {
        self.document(true, "params-json")
            .map(|bytes| Parameters::decode(bytes).unwrap())
    }

    fn results(&self, client: bool) -> Option<Results> {
        self.document(client, "results-json")
            .map(|bytes| Results::decode(bytes).unwrap())
    }

    /// All bytes of a direction, with results as our encoder writes them: floats may differ in their last digits.
    fn bytes(&self, client: bool) -> Vec<u8> {
        let mut out = Vec::new();
        let mut elements = self
            .elements
            .iter()
            .filter(|element| element.client == client)
            .peekable();
        while let Some(element) = elements.next() {
            if element.kind == "json-length"
                && elements.peek().is_some_and(|next| next.kind == "results-json")
            {
                let text = Results::decode(&elements.next().unwrap().bytes).unwrap().encode();
                out.extend_from_slice(&(text.len() as u32).to_be_bytes());
                out.extend_from_slice(text.as_bytes());
            } else {
                out.extend_from_slice(&element.bytes);
            }
        }
        out
    }
}

fn conversations() -> Vec<Conversation> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/iperf3-captures");
    let mut paths: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    paths.sort();
    assert_eq!(paths.len(), 63);
    let mut all = Vec::new();
    for path in paths {
        let capture: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        for (index, connection) in capture["control"].as_array().unwrap().iter().enumerate() {
            let elements = connection["elements"]
                .as_array()
                .unwrap()
                .iter()
                .map(|element| Element {
                    client: element["dir"] == "c2s",
                    kind: element["kind"].as_str().unwrap().to_owned(),
                    bytes: unhex(element["hex"].as_str().unwrap_or_default()),
                });
            all.push(Conversation {
                name: format!("{} #{index}", path.file_name().unwrap().to_string_lossy()),
                elements: elements.collect(),
            });
        }
    }
    all
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<_> = text
        .chars()
        .map(|digit| digit.to_digit(16).unwrap() as u8)
        .collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

/// Cuts bytes into pieces of the given sizes, over and over.
fn pieces<'a>(mut bytes: &'a [u8], sizes: &[usize]) -> Vec<&'a [u8]> {
    let mut out = Vec::new();
    let mut sizes = sizes.iter().cycle();
    while !bytes.is_empty() {
        let (piece, rest) = bytes.split_at((*sizes.next().unwrap()).clamp(1, bytes.len()));
        out.push(piece);
        bytes = rest;
    }
    out
}

/// Runs of elements of one side.
fn turns(conversation: &Conversation) -> Vec<&[Element]> {
    conversation
        .elements
        .chunk_by(|a, b| a.client == b.client)
        .collect()
}

/// What a replay came to.
#[derive(Debug, Default, PartialEq)]
struct Replay {
    sent: Vec<u8>,
    steps: Vec<String>,
    end: String,
    peer: Option<Results>,
}

fn replay_client(conversation: &Conversation, sizes: &[usize]) -> Replay {
    use client::{Action, Input};
    let cookie = Cookie::from_bytes(conversation.document(true, "cookie").unwrap().try_into().unwrap());
    // Where the server refused, nothing was sent, and anything will do.
    let parameters = conversation.parameters().unwrap_or_default();
    let own = conversation.results(true);
    let mut machine = client::Client::new(&cookie, parameters, NOW);
    let mut replay = Replay::default();
    let mut act = |machine: &mut client::Client, input: Input<'_>| {
        machine.handle(NOW / 2, input);
        while let Some(action) = machine.next_action() {
            let step = match action {
                Action::Send(bytes) => {
                    replay.sent.extend_from_slice(&bytes);
                    continue;
                }
                Action::OpenStreams => {
                    machine.handle(NOW / 2, Input::StreamsOpen);
                    "open"
                }
                Action::Start => "start",
                Action::Run => "run",
                Action::MakeResults => {
                    machine.handle(NOW / 2, Input::Results(own.as_ref().unwrap()));
                    "results"
                }
                Action::TakeResults(results) => {
                    replay.peer = Some(*results);
                    "peer's results"
                }
                Action::CloseStreams => "close",
                Action::Done => {
                    "done".clone_into(&mut replay.end);
                    "done"
                }
                Action::Fail(failure) => {
                    replay.end = failure.to_string();
                    "fail"
                }
            };
            replay.steps.push(step.to_owned());
        }
    };
    act(&mut machine, Input::Tick);
    for turn in turns(conversation) {
        if turn[0].client {
            for element in turn.iter().filter(|element| element.kind == "state") {
                match State::from_byte(element.bytes[0]) {
                    Some(State::TestEnd) => act(&mut machine, Input::Finish),
                    Some(State::ClientTerminate) => act(&mut machine, Input::Interrupt),
                    _ => {}
                }
            }
        } else {
            let bytes: Vec<u8> = turn.iter().flat_map(|element| element.bytes.clone()).collect();
            for piece in pieces(&bytes, sizes) {
                act(&mut machine, Input::Bytes(piece));
            }
            match turn.last().unwrap().kind.as_str() {
                "FIN" => act(&mut machine, Input::Closed),
                kind if kind.starts_with("ERR") => act(&mut machine, Input::Reset),
                _ => {}
            }
        }
    }
    replay
}

fn replay_server(conversation: &Conversation, sizes: &[usize]) -> Replay {
    use server::{Action, Input};
    let cookie = Cookie::from_bytes(conversation.document(true, "cookie").unwrap().try_into().unwrap());
    let own = conversation.results(false);
    let mut machine = server::Server::new(cookie, Patience::default(), NOW);
    let mut replay = Replay::default();
    // What the recorded server said decides what ours is told by its driver.
    let mut said: VecDeque<_> = conversation
        .elements
        .iter()
        .filter(|element| !element.client && ["state", "i_errno", "errno"].contains(&element.kind.as_str()))
        .collect();
    let mut next = |skip: State| {
        while let Some(element) = said.pop_front() {
            if element.bytes[0] != skip.byte() || element.kind != "state" {
                return Some((element.clone(), said.front().map(|e| e.bytes.clone())));
            }
        }
        None
    };
    let mut act = |machine: &mut server::Server, input: Input<'_>| {
        machine.handle(NOW, input);
        while let Some(action) = machine.next_action() {
            let step = match action {
                Action::Send(bytes) => {
                    replay.sent.extend_from_slice(&bytes);
                    continue;
                }
                Action::Prepare(parameters) => {
                    assert_eq!(Some(*parameters), conversation.parameters());
                    match next(State::ParamExchange) {
                        Some((element, _)) if element.bytes == [State::CreateStreams.byte()] => {
                            machine.handle(NOW, Input::Prepared);
                            if conversation.elements.iter().any(|e| !e.client && e.bytes == [1]) {
                                machine.handle(NOW, Input::StreamsAccepted);
                            }
                        }
                        Some((element, code)) if element.bytes == [State::ServerError.byte()] => {
                            let code = i32::from_be_bytes(code.unwrap().try_into().unwrap());
                            machine.handle(NOW, Input::Refuse(ErrorCode::new(code)));
                        }
                        _ => {}
                    }
                    "prepare"
                }
                Action::Run => "run",
                Action::End => "end",
                Action::TakeResults(results) => {
                    replay.peer = Some(*results);
                    "peer's results"
                }
                Action::MakeResults => {
                    machine.handle(NOW, Input::Results(own.as_ref().unwrap()));
                    "results"
                }
                Action::Done => {
                    "done".clone_into(&mut replay.end);
                    "done"
                }
                Action::Fail(failure) => {
                    replay.end = failure.to_string();
                    "fail"
                }
            };
            replay.steps.push(step.to_owned());
        }
    };
    act(&mut machine, Input::Tick);
    for turn in turns(conversation) {
        if turn[0].client {
            let after_cookie = turn.iter().filter(|element| element.kind != "cookie");
            let bytes: Vec<u8> = after_cookie.flat_map(|element| element.bytes.clone()).collect();
            for piece in pieces(&bytes, sizes) {
                act(&mut machine, Input::Bytes(piece));
            }
            if turn.last().unwrap().kind == "FIN" {
                act(&mut machine, Input::Closed);
            }
        } else if turn
            .iter()
            .any(|element| element.bytes == [State::ServerTerminate.byte()])
        {
            act(&mut machine, Input::Interrupt);
        }
    }
    replay
}

#[test]
fn parameters_are_written_byte_for_byte_as_stock_writes_them() {
    let mut seen = 0;
    for conversation in conversations() {
        if let Some(text) = conversation.document(true, "params-json") {
            let encoded = Parameters::decode(text).unwrap().encode();
            assert_eq!(encoded, String::from_utf8_lossy(text), "{}", conversation.name);
            seen += 1;
        }
    }
    assert!(seen > 60, "{seen}");
}

/// Reading a float may be off by its last bit.
fn rounded(mut results: Results) -> Results {
    for float in [
        &mut results.cpu_total,
        &mut results.cpu_user,
        &mut results.cpu_system,
    ] {
        *float = (*float * 1e9).round();
    }
    for stream in &mut results.streams {
        stream.jitter = (stream.jitter * 1e15).round();
    }
    // Full of floats; the parser's own tests cover it.
    results.server_output_json = results
        .server_output_json
        .map(|_| encapbench::iperf3::wire::json::Json::Null);
    results
}

#[test]
fn results_are_written_as_stock_writes_them() {
    for conversation in conversations() {
        for client in [true, false] {
            let Some(text) = conversation.document(client, "results-json") else {
                continue;
            };
            let results = Results::decode(text).unwrap();
            let again = Results::decode(results.encode().as_bytes()).unwrap();
            assert_eq!(rounded(again), rounded(results.clone()), "{}", conversation.name);
            // The same keys in the same order.
            let keys = |text: &str| -> Vec<String> {
                text.split('"').skip(1).step_by(2).map(str::to_owned).collect()
            };
            if results.server_output_text.is_none() && results.server_output_json.is_none() {
                assert_eq!(keys(&results.encode()), keys(std::str::from_utf8(text).unwrap()));
            }
            // 3.12 writes -1 as 18446744073709551615.
            let receives_only =
                String::from_utf8_lossy(text).contains("\"sender_has_retransmits\":18446744073709551615");
            assert!(!receives_only || results.sender_has_retransmits == -1);
        }
    }
}

#[test]
fn our_client_says_what_the_stock_client_said() {
    for conversation in conversations() {
        let replay = replay_client(&conversation, &[usize::MAX]);
        let name = &conversation.name;
        let mut expected = conversation.bytes(true);
        // A stock client whose server has vanished still sends IPERF_DONE; ours closes.
        if (replay.end.contains("closed") || replay.end.contains("refused"))
            && expected.len() > replay.sent.len()
        {
            assert_eq!(expected.pop(), Some(State::IperfDone.byte()), "{name}");
        }
        assert_eq!(
            replay.sent.escape_ascii().to_string(),
            expected.escape_ascii().to_string(),
            "{name}"
        );
        assert_eq!(replay.peer, conversation.results(false), "{name}");
        let expected = match name.as_str() {
            name if name.starts_with("11-busy") && name.ends_with("#1") => {
                "the server is busy running a test: try again later"
            }
            name if name.starts_with("12-bitrate-limit.3.21") => {
                "the server refused or ended the test: total required bandwidth is larger than server limit"
            }
            name if name.starts_with("10-auth-bad.3.12") || name.starts_with("10-auth-missing.3.12") => {
                "the server refused or ended the test: test authorization failed"
            }
            name if name.starts_with("16-max") => {
                "the server refused or ended the test: client's requested duration exceeds the server's maximum permitted limit"
            }
            name if name.starts_with("18-client") => "the test was interrupted",
            name if name.starts_with("18-server") => "the server has terminated",
            _ if replay.peer.is_some() => "done",
            _ => {
                assert!(
                    replay.end.contains("closed the control connection") || replay.end.contains("refused"),
                    "{name}: {}",
                    replay.end
                );
                continue;
            }
        };
        assert_eq!(replay.end, expected, "{name}");
    }
}

#[test]
fn our_server_says_what_the_stock_server_said() {
    let mut done = 0;
    for conversation in conversations() {
        let expected = conversation.bytes(false);
        if expected == [State::AccessDenied.byte()] {
            continue;
        }
        let replay = replay_server(&conversation, &[usize::MAX]);
        let name = &conversation.name;
        // Ours says more where old versions just close: the second int of an error, an answer to the interrupted.
        assert!(
            replay.sent.starts_with(&expected),
            "{name}: {} instead of {}",
            replay.sent.escape_ascii(),
            expected.escape_ascii()
        );
        assert_eq!(replay.peer, conversation.results(true), "{name}");
        if conversation.results(true).is_some() {
            assert_eq!(replay.end, "done", "{name}");
            done += 1;
        }
    }
    assert!(done > 45, "{done}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn how_bytes_are_cut_changes_nothing(sizes in proptest::collection::vec(1_usize..40, 1..8)) {
        for conversation in conversations().into_iter().step_by(5) {
            prop_assert_eq!(replay_client(&conversation, &sizes), replay_client(&conversation, &[usize::MAX]));
            if conversation.bytes(false) != [State::AccessDenied.byte()] {
                prop_assert_eq!(replay_server(&conversation, &sizes), replay_server(&conversation, &[usize::MAX]));
            }
        }
    }
}

#[test]
fn recorded_datagrams_are_understood_and_numbered_from_one() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/iperf3-captures");
    let mut flows = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let capture: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        let name = path.display();
        let arguments = capture["client_args"].to_string();
        let width = if arguments.contains("64bit") {
            Width::Wide
        } else {
            Width::Narrow
        };
        for flow in capture["udp_data"].as_array().into_iter().flatten() {
            flows += 1;
            let events: Vec<_> = flow["events"]
                .as_array()
                .unwrap()
                .iter()
                .map(|event| (event["dir"] == "c2s", unhex(event["hex"].as_str().unwrap())))
                .collect();
            assert!(events[0].0 && datagram::is_connect(&events[0].1), "{name}");
            let reply = events.iter().find(|(client, _)| !client).unwrap();
            assert!(datagram::is_reply(&reply.1), "{name}");
            let headers: Vec<_> = events
                .iter()
                .filter(|(_, bytes)| bytes.len() > 4)
                .map(|(_, bytes)| datagram::Header::read(width, bytes).unwrap())
                .collect();
            for (index, pair) in headers.windows(2).enumerate() {
                assert_eq!(pair[0].sequence, index as u64 + 1, "{name}");
                let gap = pair[1].micros - pair[0].micros;
                assert!(gap < 1_000_000, "{name}: {gap}");
            }
        }
    }
    assert!(flows >= 20, "{flows}");
}

/// Bytes that look like the protocol often enough to get somewhere.
fn garbage() -> impl Strategy<Value = Vec<u8>> {
    let states = [1_u8, 2, 4, 9, 10, 11, 12, 13, 14, 16, 0xfe, 0xff, 0, 3, 99];
    let piece = prop_oneof![
        4 => proptest::sample::select(states.to_vec()).prop_map(|byte| vec![byte]),
        1 => proptest::collection::vec(any::<u8>(), 0..40),
        1 => any::<u32>().prop_map(|length| length.to_be_bytes().to_vec()),
        2 => Just([&2_u32.to_be_bytes()[..], b"{}"].concat()),
    ];
    proptest::collection::vec(piece, 0..30).prop_map(|pieces| pieces.concat())
}

fn results() -> Results {
    Results::decode(br#"{"cpu_util_total":1,"cpu_util_user":1,"cpu_util_system":0,"sender_has_retransmits":1,"streams":[]}"#).unwrap()
}

proptest! {
    #[test]
    fn garbage_ends_in_an_error_or_nothing(bytes in garbage(), sizes in proptest::collection::vec(1_usize..9, 1..5)) {
        let own = results();
        let mut client = client::Client::new(&Cookie::from_random([7; 36]), Parameters::default(), NOW);
        let mut ends = 0;
        for piece in pieces(&bytes, &sizes) {
            client.handle(Duration::ZERO, client::Input::Bytes(piece));
            while let Some(action) = client.next_action() {
                match action {
                    client::Action::OpenStreams => client.handle(Duration::ZERO, client::Input::StreamsOpen),
                    client::Action::Run => client.handle(Duration::ZERO, client::Input::Finish),
                    client::Action::MakeResults => client.handle(Duration::ZERO, client::Input::Results(&own)),
                    client::Action::Done | client::Action::Fail(_) => ends += 1,
                    _ => {}
                }
            }
        }
        // Whatever state it is in, silence ends it, once.
        client.handle(NOW * 100, client::Input::Tick);
        while let Some(action) = client.next_action() {
            ends += u32::from(matches!(action, client::Action::Done | client::Action::Fail(_)));
        }
        prop_assert_eq!(ends, 1);

        let patience = Patience { answer: NOW, overstay: NOW };
        let mut server = server::Server::new(Cookie::from_random([7; 36]), patience, Duration::ZERO);
        let mut ends = 0;
        for piece in pieces(&bytes, &sizes) {
            server.handle(Duration::ZERO, server::Input::Bytes(piece));
            while let Some(action) = server.next_action() {
                match action {
                    server::Action::Prepare(parameters) => {
                        prop_assert!(parameters.check().is_ok());
                        server.handle(Duration::ZERO, server::Input::Prepared);
                        server.handle(Duration::ZERO, server::Input::StreamsAccepted);
                    }
                    server::Action::MakeResults => server.handle(Duration::ZERO, server::Input::Results(&own)),
                    server::Action::Done | server::Action::Fail(_) => ends += 1,
                    _ => {}
                }
            }
        }
        server.handle(NOW * 100, server::Input::Tick);
        while let Some(action) = server.next_action() {
            ends += u32::from(matches!(action, server::Action::Done | server::Action::Fail(_)));
        }
        prop_assert_eq!(ends, 1);
    }
}

/// Feeds a client that has got as far as the exchange of results.
fn client_in_exchange(after: &[u8]) -> Replay {
    let elements = |client: bool, kind: &str, bytes: &[u8]| Element {
        client,
        kind: kind.into(),
        bytes: bytes.into(),
    };
    let json = Parameters::default().encode();
    let own = results().encode();
    replay_client(
        &Conversation {
            name: String::new(),
            elements: vec![
                elements(true, "cookie", Cookie::from_random([7; 36]).as_bytes()),
                elements(true, "params-json", json.as_bytes()),
                elements(true, "results-json", own.as_bytes()),
                elements(false, "state", &[9, 10, 1, 2]),
                elements(true, "state", &[4]),
                elements(false, "state", &[13]),
                elements(false, "state", after),
                elements(false, "FIN", &[]),
            ],
        },
        &[3],
    )
}

#[test]
fn errors_are_read_in_every_form() {
    let end = |after: &[u8]| client_in_exchange(after).end;
    // In the place of the results' length.
    assert_eq!(
        end(&[0xfe, 0, 0, 0, 117, 0, 0, 0, 104]),
        "the server refused or ended the test: unable to receive results: Connection reset by peer"
    );
    // One int only.
    assert_eq!(
        end(&[0xfe, 0, 0, 0, 142]),
        "the server refused or ended the test: test authorization failed"
    );
    // Cut off.
    assert_eq!(
        end(&[0xfe, 0, 0]),
        "the server closed the control connection unexpectedly, during the exchange of results"
    );
    assert_eq!(
        end(&[0x7f, 0, 0, 0]),
        "the server announced results of 2130706432 bytes, which is out of range"
    );
    // A stale error after the end is nothing.
    let text = results().encode();
    let mut bytes = (text.len() as u32).to_be_bytes().to_vec();
    bytes.extend_from_slice(text.as_bytes());
    bytes.extend_from_slice(&[14, 0xfe, 0, 0, 0, 109, 0, 0, 0, 0]);
    assert_eq!(end(&bytes), "done");
}

#[test]
fn a_silent_server_is_given_up() {
    let mut client = client::Client::new(&Cookie::from_random([7; 36]), Parameters::default(), NOW);
    assert_eq!(client.deadline(), Some(NOW));
    client.handle(NOW, client::Input::Tick);
    let actions: Vec<_> = std::iter::from_fn(|| client.next_action()).collect();
    let Some(client::Action::Fail(failure)) = actions.last() else {
        panic!("{actions:?}")
    };
    assert_eq!(
        failure.to_string(),
        "the server did not answer within 1s, after the cookie"
    );
}
