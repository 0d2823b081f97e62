//! Golden tests: captured output read back into views gives the same output again.

use super::{
    json,
    number::{RateUnit, amount, general, rate},
    pretty::{compact, pretty},
    text::{self, Style},
    view::*,
};
use crate::{
    iperf3::wire::{Parameters, json::Json},
    measure::Direction,
};
use std::path::Path;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/iperf3-captures");

fn capture(name: &str) -> serde_json::Value {
    let text = std::fs::read_to_string(Path::new(FOLDER).join(name)).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn parameters(capture: &serde_json::Value) -> Parameters {
    let elements = capture["control"][0]["elements"].as_array().unwrap();
    let element = elements
        .iter()
        .find(|element| element["kind"] == "params-json")
        .unwrap();
    let hex = element["hex"].as_str().unwrap();
    let bytes: Vec<u8> = (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
        .collect();
    Parameters::decode(&bytes).unwrap()
}

fn integer(json: &Json, key: &str) -> i64 {
    json.get(key)
        .and_then(Json::integer)
        .unwrap_or_else(|| panic!("no {key} in {json:?}"))
}

fn float(json: &Json, key: &str) -> f64 {
    json.get(key)
        .and_then(Json::float)
        .unwrap_or_else(|| panic!("no {key} in {json:?}"))
}

fn string(json: &Json, key: &str) -> String {
    json.get(key)
        .and_then(Json::string)
        .unwrap_or_else(|| panic!("no {key} in {json:?}"))
        .to_owned()
}

fn start_view(document: &Json, side: Side, parameters: Parameters) -> StartView {
    let start = document.get("start").unwrap();
    let peer = start
        .get("connecting_to")
        .or_else(|| start.get("accepted_connection"))
        .unwrap();
    let address = |stream: &Json, end: &str| {
        format!(
            "{}:{}",
            string(stream, &format!("{end}_host")),
            integer(stream, &format!("{end}_port"))
        )
        .parse()
        .unwrap()
    };
    let connected = start.get("connected").and_then(Json::array).unwrap();
    StartView {
        side,
        system_info: string(start, "system_info"),
        time_millis: integer(start.get("timestamp").unwrap(), "timemillisecs") as u64,
        peer: (string(peer, "host"), integer(peer, "port") as u16),
        cookie: string(start, "cookie"),
        connected: connected
            .iter()
            .map(|stream| Connected {
                socket: integer(stream, "socket"),
                local: address(stream, "local"),
                remote: address(stream, "remote"),
            })
            .collect(),
        parameters,
        interval: float(start.get("test_start").unwrap(), "interval"),
        mss: integer(start, "tcp_mss_default"),
        buffers: (integer(start, "sndbuf_actual"), integer(start, "rcvbuf_actual")),
    }
}

fn interval_views(document: &Json) -> Vec<IntervalView> {
    let intervals = document.get("intervals").and_then(Json::array).unwrap();
    let stream = |stream: &Json| StreamInterval {
        socket: integer(stream, "socket"),
        direction: Direction::Forward,
        bytes: integer(stream, "bytes") as u64,
        tcp: stream.get("snd_cwnd").map(|cwnd| TcpInterval {
            retransmits: integer(stream, "retransmits") as u64,
            snd_cwnd: cwnd.integer().unwrap() as u64,
            snd_wnd: integer(stream, "snd_wnd") as u64,
            rtt: integer(stream, "rtt") as u32,
            rttvar: integer(stream, "rttvar") as u32,
            pmtu: integer(stream, "pmtu") as u32,
            reorder: integer(stream, "reorder") as u32,
        }),
        udp: None,
    };
    intervals
        .iter()
        .map(|interval| {
            let sum = interval.get("sum").unwrap();
            IntervalView {
                start: float(sum, "start"),
                end: float(sum, "end"),
                seconds: float(sum, "seconds"),
                omitted: sum.get("omitted") == Some(&Json::Bool(true)),
                streams: interval
                    .get("streams")
                    .and_then(Json::array)
                    .unwrap()
                    .iter()
                    .map(stream)
                    .collect(),
            }
        })
        .collect()
}

fn end_view(document: &Json) -> EndView {
    let end = document.get("end").unwrap();
    let cpu = |prefix: &str| {
        let cpu = end.get("cpu_utilization_percent").unwrap();
        Cpu {
            total: float(cpu, &format!("{prefix}_total")),
            user: float(cpu, &format!("{prefix}_user")),
            system: float(cpu, &format!("{prefix}_system")),
        }
    };
    let stream = |stream: &Json| {
        let (sender, receiver) = (stream.get("sender").unwrap(), stream.get("receiver").unwrap());
        StreamEnd {
            socket: integer(sender, "socket"),
            direction: Direction::Forward,
            sent: integer(sender, "bytes") as u64,
            received: integer(receiver, "bytes") as u64,
            sent_seconds: float(sender, "end"),
            received_seconds: float(receiver, "end"),
            tcp: sender.get("retransmits").map(|retransmits| TcpTotal {
                retransmits: retransmits.integer().unwrap() as u64,
                reorder: integer(sender, "reorder") as u32,
                max_snd_cwnd: integer(sender, "max_snd_cwnd") as u64,
                max_snd_wnd: integer(sender, "max_snd_wnd") as u64,
                max_rtt: integer(sender, "max_rtt") as u32,
                min_rtt: integer(sender, "min_rtt") as u32,
                mean_rtt: integer(sender, "mean_rtt") as u32,
            }),
            udp: None,
            file: None,
        }
    };
    let name = |key: &str| end.get(key).and_then(Json::string).map(str::to_owned);
    EndView {
        streams: end
            .get("streams")
            .and_then(Json::array)
            .unwrap()
            .iter()
            .map(stream)
            .collect(),
        local_cpu: cpu("host"),
        remote_cpu: cpu("remote"),
        sender_congestion: name("sender_tcp_congestion"),
        receiver_congestion: name("receiver_tcp_congestion"),
    }
}

fn rebuilt(document: &Json, side: Side, parameters: Parameters, extras: &json::Extras) -> Json {
    let start = start_view(document, side, parameters);
    let intervals = interval_views(document)
        .iter()
        .map(|view| json::interval(&start, view))
        .collect();
    json::document(
        json::start(&start),
        intervals,
        Some(json::end(&start, &end_view(document))),
        extras,
    )
}

/// The whole document of a real 3.21 client, with a real server's inside, comes out byte for byte.
#[test]
fn a_captured_document_is_given_back_byte_for_byte() {
    let capture = capture("09-get-server-output-json.3.21.json");
    let expected = capture["client_stdout"].as_str().unwrap();
    let client = Json::parse(expected.as_bytes()).unwrap();
    let server = client.get("server_output_json").unwrap();
    let inner = rebuilt(
        server,
        Side::Server,
        parameters(&capture),
        &json::Extras::default(),
    );
    let extras = json::Extras {
        server_output_json: Some(inner),
        ..json::Extras::default()
    };
    let ours = rebuilt(&client, Side::Client, parameters(&capture), &extras);
    // Stock's server names target_bitrate twice; a duplicate key says nothing, so ours names it once.
    let twice = "\t\t\t\"target_bitrate\":\t50000000,\n\t\t\t\"fq_rate\"";
    let expected = expected.replacen(&format!("0,\n{twice}"), "0,\n\t\t\t\"fq_rate\"", 1);
    let ours = format!("{}\n", pretty(&ours));
    assert_eq!(ours.lines().count(), expected.lines().count());
    for (ours, expected) in ours.lines().zip(expected.lines()) {
        assert!(
            ours == expected || same_number(ours, expected),
            "{ours}\n{expected}"
        );
    }
}

/// Reading a float from JSON may cost its last bit.
fn same_number(ours: &str, expected: &str) -> bool {
    let split = |line: &str| {
        let (key, value) = line.split_once(":\t")?;
        Some((
            key.to_owned(),
            value.trim_end_matches(',').parse::<f64>().ok()?,
            line.ends_with(','),
        ))
    };
    match (split(ours), split(expected)) {
        (Some((key, value, comma)), Some((other_key, other, other_comma))) => {
            key == other_key && comma == other_comma && (value - other).abs() <= other.abs() * 1e-15
        }
        _ => false,
    }
}

#[test]
fn json_stream_lines_are_compact() {
    assert_eq!(
        json::event("error", Json::String("busy".into()), None),
        r#"{"event":"error","data":"busy"}"#
    );
    assert_eq!(
        json::event("end", Json::Object(Vec::new()), None),
        r#"{"event":"end","data":{}}"#
    );
    assert_eq!(
        compact(&Json::parse(b"{\"a\":[1,2.5,{}]}").unwrap()),
        "{\"a\":[1,2.5,{}]}"
    );
}

#[test]
fn an_empty_document_looks_like_stocks() {
    let document = json::document(
        json::early_start("Linux vm"),
        Vec::new(),
        None,
        &json::Extras {
            error: Some("the server is busy running a test. try again later".into()),
            ..json::Extras::default()
        },
    );
    insta::assert_snapshot!(pretty(&document));
}

/// Numbers read from a captured text: the text made of them is the same text.
fn text_again(capture_name: &str, key: &str, side: Side, tcp: bool) -> (String, String) {
    let capture = capture(capture_name);
    let captured = capture[key].as_str().unwrap();
    let lines: Vec<&str> = captured.lines().collect();
    let first = lines.iter().position(|line| line.starts_with("[ ID]")).unwrap();
    let last = lines
        .iter()
        .rposition(|line| line.ends_with("receiver") || line.ends_with("sender"))
        .unwrap();
    let (views, end) = read_text(&lines[first..=last], side, tcp);
    let parameters = parameters(&capture);
    let start = StartView {
        side,
        system_info: String::new(),
        time_millis: 0,
        peer: (String::new(), 0),
        cookie: String::new(),
        connected: Vec::new(),
        parameters,
        interval: 1.0,
        mss: 0,
        buffers: (0, 0),
    };
    let style = Style::default();
    let mut ours: Vec<String> = Vec::new();
    for (index, view) in views.iter().enumerate() {
        ours.extend(text::interval(&start, view, index == 0, style));
    }
    ours.extend(text::summary(&start, &end, style));
    (ours.join("\n"), lines[first..=last].join("\n"))
}

/// `6.00 MBytes` and `50.3 Mbits/sec` as numbers that print alike.
fn bytes(number: &str, unit: &str) -> u64 {
    let power = ["Bytes", "KBytes", "MBytes", "GBytes"]
        .iter()
        .position(|known| *known == unit)
        .unwrap();
    (number.parse::<f64>().unwrap() * 1024_f64.powi(power as i32)).ceil() as u64
}

/// Seconds such that the bytes give the rate that was printed.
fn seconds(bytes: u64, number: &str, unit: &str) -> f64 {
    let power = ["bits/sec", "Kbits/sec", "Mbits/sec", "Gbits/sec"]
        .iter()
        .position(|known| *known == unit)
        .unwrap();
    let rate = number.parse::<f64>().unwrap() * 1000_f64.powi(power as i32);
    if rate > 0.0 {
        bytes as f64 * 8.0 / rate
    } else {
        1.0
    }
}

fn read_text(lines: &[&str], side: Side, tcp: bool) -> (Vec<IntervalView>, EndView) {
    let (mut views, mut end): (Vec<IntervalView>, EndView) = (Vec::new(), EndView::default());
    for line in lines
        .iter()
        .filter(|line| line.starts_with('[') && !line.contains("ID]") && !line.contains("SUM"))
    {
        let socket = line[1..4].trim().parse().unwrap();
        let forward = side == Side::Client;
        let sends = if line.contains("][") {
            line.contains("TX")
        } else {
            true
        };
        let rest = &line[line.rfind(']').unwrap() + 1..];
        let words: Vec<&str> = rest.split_whitespace().collect();
        let (from, to) = words[0].split_once('-').unwrap();
        let (from, to): (f64, f64) = (from.parse().unwrap(), to.parse().unwrap());
        let moved = bytes(words[2], words[3]);
        let time = seconds(moved, words[4], words[5]);
        let tail = &words[6..];
        if line.ends_with("sender") || line.ends_with("receiver") {
            let is_sender = line.ends_with("sender");
            let direction = if line.contains("][") {
                if sends == forward {
                    Direction::Forward
                } else {
                    Direction::Reverse
                }
            } else {
                Direction::Forward
            };
            let at = end
                .streams
                .iter()
                .position(|stream| stream.socket == socket)
                .unwrap_or_else(|| {
                    end.streams.push(StreamEnd {
                        socket,
                        direction,
                        sent: 0,
                        received: 0,
                        sent_seconds: 0.0,
                        received_seconds: 0.0,
                        tcp: None,
                        udp: None,
                        file: None,
                    });
                    end.streams.len() - 1
                });
            let stream = &mut end.streams[at];
            // The printed end and the rate agree in the captures that are used here.
            assert!((time - to).abs() < 0.02 || moved == 0, "{line}");
            let time = time.clamp(to - 0.004_9, to + 0.004_9);
            if is_sender {
                (stream.sent, stream.sent_seconds) = (moved, time);
                if tcp && tail.len() == 2 {
                    stream.tcp = Some(TcpTotal {
                        retransmits: tail[0].parse().unwrap(),
                        ..TcpTotal::default()
                    });
                }
            } else {
                (stream.received, stream.received_seconds) = (moved, time);
            }
            if !tcp {
                let udp = stream.udp.get_or_insert_default();
                let (lost, packets) = tail[2].split_once('/').unwrap();
                if is_sender {
                    udp.sent = packets.parse().unwrap();
                } else {
                    udp.received = packets.parse().unwrap();
                    udp.lost = lost.parse().unwrap();
                    udp.jitter = tail[0].parse::<f64>().unwrap() / 1000.0;
                }
            }
            continue;
        }
        let direction = if line.contains("][") && sends != forward {
            Direction::Reverse
        } else {
            Direction::Forward
        };
        let udp = (!tcp).then(|| {
            if tail.len() < 3 {
                UdpInterval {
                    packets: tail[0].parse().unwrap(),
                    ..UdpInterval::default()
                }
            } else {
                let (lost, packets) = tail[2].split_once('/').unwrap();
                UdpInterval {
                    packets: packets.parse().unwrap(),
                    lost: lost.parse().unwrap(),
                    jitter: tail[0].parse::<f64>().unwrap() / 1000.0,
                }
            }
        });
        let stream = StreamInterval {
            socket,
            direction,
            bytes: moved,
            tcp: (tcp && tail.len() >= 3).then(|| TcpInterval {
                retransmits: tail[0].parse().unwrap(),
                snd_cwnd: bytes(tail[1], tail[2]),
                ..TcpInterval::default()
            }),
            udp,
        };
        let omitted = line.ends_with("(omitted)");
        match views.last_mut().filter(|view| {
            (view.start, view.end, view.omitted) == (from, to, omitted)
                && view.streams.iter().all(|known| known.socket != socket)
        }) {
            Some(view) => view.streams.push(stream),
            None => views.push(IntervalView {
                start: from,
                end: to,
                seconds: time,
                omitted,
                streams: vec![stream],
            }),
        }
    }
    (views, end)
}

#[test]
fn captured_texts_are_given_back() {
    for (name, tcp) in [
        ("01-tcp-normal.3.21.json", true),
        ("03-tcp-bidir.3.21.json", true),
        ("04-tcp-parallel2.3.21.json", true),
        ("07-omit.3.21.json", true),
        ("11-busy.3.21.json", true),
        ("14-udp-bidir.3.21.json", false),
        ("05-udp.3.21.json", false),
        ("19-udp-omit.3.21.json", false),
    ] {
        let (ours, captured) = text_again(name, "client_stdout", Side::Client, tcp);
        // Sums come of rounded numbers here, so their last digit may differ; the rest may not.
        let exact = |text: &str| {
            text.lines()
                .map(|line| {
                    if line.starts_with("[SUM]") {
                        shape(line)
                    } else {
                        line.to_owned()
                    }
                })
                .collect::<Vec<_>>()
                .join("\n")
        };
        assert_eq!(exact(&ours), exact(&captured), "{name}");
    }
}

/// A line with its digits made alike: layout and words remain.
fn shape(line: &str) -> String {
    line.chars()
        .map(|c| if c.is_ascii_digit() { '9' } else { c })
        .collect()
}

#[test]
fn heads_are_stocks() {
    let capture = capture("02-tcp-reverse.3.21.json");
    let mut start = StartView {
        side: Side::Client,
        system_info: "Linux vm 6.18".into(),
        time_millis: 1_795_388_990_631,
        peer: ("127.0.0.1".into(), 5301),
        cookie: "va64exj4sw5na4eiuv2mgasvrbtgvij3yrjt".into(),
        connected: vec![Connected {
            socket: 5,
            local: "127.0.0.1:34308".parse().unwrap(),
            remote: "127.0.0.1:5301".parse().unwrap(),
        }],
        parameters: parameters(&capture),
        interval: 1.0,
        mss: 32768,
        buffers: (16384, 131_072),
    };
    let plain = text::start(&start, Style::default());
    let captured = capture["client_stdout"].as_str().unwrap();
    assert_eq!(plain, captured.lines().take(3).collect::<Vec<_>>());
    assert_eq!(
        text::banner(5302, 1),
        capture["server_output"]
            .as_str()
            .unwrap()
            .lines()
            .take(3)
            .collect::<Vec<_>>()
    );
    let verbose = Style {
        verbose: true,
        ..Style::default()
    };
    let mut all = text::version(&start.system_info);
    all.extend(text::start(&start, verbose));
    start.side = Side::Server;
    start.mss = 0;
    all.push(String::new());
    all.extend(text::start(&start, verbose));
    let tcp = TcpTotal::default();
    let stream = StreamEnd {
        socket: 5,
        direction: Direction::Reverse,
        sent: 12 << 20,
        received: 12 << 20,
        sent_seconds: 2.0,
        received_seconds: 2.0,
        tcp: Some(tcp),
        udp: None,
        file: Some(FileTotal {
            size: 24 << 20,
            name: "f".into(),
        }),
    };
    let end = EndView {
        streams: vec![stream],
        local_cpu: Cpu {
            total: 1.84,
            user: 0.0,
            system: 1.84,
        },
        sender_congestion: Some("cubic".into()),
        ..EndView::default()
    };
    all.push(String::new());
    all.extend(text::summary(&start, &end, verbose));
    insta::assert_snapshot!(all.join("\n"));
}

#[test]
fn numbers_are_printed_as_c_does() {
    for (value, precision, expected) in [
        (0.0, 2, "0"),
        (5.811_719, 2, "5.8"),
        (50.0, 2, "50"),
        (100.0, 2, "1e+02"),
        (0.012_34, 2, "0.012"),
        (1.000_549, 15, "1.000549"),
        (50_304_033.159_409_16, 17, "50304033.159409158"),
        (0.000_012, 15, "1.2e-05"),
        (99.96, 2, "1e+02"),
    ] {
        assert_eq!(general(value, precision), expected);
    }
    assert_eq!(amount(0.0), "0.00 Byte");
    assert_eq!(amount(12_582_912.0), "12.0 MByte");
    assert_eq!(amount(1023.0 * 1024.0 * 1024.0), "1023 MByte");
    assert_eq!(rate(6_287_500.0, RateUnit::Adaptive), "50.3 Mbit");
    assert_eq!(rate(12_587_500.0, RateUnit::Adaptive), " 101 Mbit");
    assert_eq!(rate(6_287_500.0, RateUnit::Bits(1)), "50300 Kbit");
    assert_eq!(rate(6_291_456.0, RateUnit::Bytes(2)), "6.00 MByte");
    assert_eq!(RateUnit::from_letter('z'), None);
}
