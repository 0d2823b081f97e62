//! Reading and writing iperf3's documents: `cargo bench --bench protocol`.
#![expect(clippy::unwrap_used, reason = "a failure panics")]

use criterion::{Criterion, criterion_group, criterion_main};
use encapbench::iperf3::wire::{Parameters, Results, StreamReport, stream_id};
use std::hint::black_box;

fn protocol(c: &mut Criterion) {
    let parameters = Parameters {
        omit: Some(1),
        time: Some(10),
        num: Some(0),
        blockcount: Some(0),
        parallel: Some(8),
        reverse: true,
        len: Some(131_072),
        bandwidth: Some(1_000_000_000),
        pacing_timer: Some(1000),
        client_version: Some("3.21".into()),
        ..Parameters::default()
    };
    let text = parameters.encode();
    c.bench_function("parameters/encode", |b| {
        b.iter(|| black_box(&parameters).encode());
    });
    c.bench_function("parameters/decode", |b| {
        b.iter(|| Parameters::decode(black_box(text.as_bytes())).unwrap());
    });

    let results = Results {
        cpu_total: 12.345_678,
        cpu_user: 2.345_678,
        cpu_system: 10.0,
        sender_has_retransmits: 1,
        congestion_used: Some("cubic".into()),
        server_output_text: None,
        server_output_json: None,
        streams: (0..128)
            .map(|index| StreamReport::tcp(stream_id(index), 123_456_789, 7, 10.000_123))
            .collect(),
    };
    let text = results.encode();
    c.bench_function("results of 128 streams/encode", |b| {
        b.iter(|| black_box(&results).encode());
    });
    c.bench_function("results of 128 streams/decode", |b| {
        b.iter(|| Results::decode(black_box(text.as_bytes())).unwrap());
    });
}

criterion_group!(benches, protocol);
criterion_main!(benches);
