//! What one loopback TCP stream carries by each technique, in blocks of several sizes: `cargo bench --bench data_plane`.
#![expect(clippy::unwrap_used, reason = "a failure panics")]

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use encapbench::{
    scenario::{Technique, TechniqueSet},
    sys::event::Event,
    traffic::stream::{Load, Role, Settings},
};
use rustix::event::{PollFd, PollFlags, poll};
use socket2::Socket;
use std::{
    net::{Ipv4Addr, TcpListener, TcpStream},
    sync::Arc,
    time::{Duration, Instant},
};

/// Bytes of one iteration.
const BYTES: u64 = 256 << 20;

/// Moves [`BYTES`] over a new loopback connection and returns how long it took to receive them all.
fn transfer(length: usize, techniques: TechniqueSet) -> Duration {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let sender = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let receiver = listener.accept().unwrap().0;
    let settings = Settings {
        length,
        rate: None,
        burst: 1,
        techniques,
        window: false,
        repeating: false,
        limit: Some(BYTES),
        warm_up: false,
        datagrams: None,
        file: None,
    };
    let wake = Arc::new(Event::new().unwrap());
    let sockets = [
        (Arc::new(Socket::from(receiver)), Role::Receive),
        (Arc::new(Socket::from(sender)), Role::Send),
    ];
    let began = Instant::now();
    let load = Load::start(&sockets, &settings, Arc::clone(&wake)).unwrap();
    load.begin_counting();
    while load.bytes(0) < BYTES {
        poll(&mut [PollFd::new(&wake, PollFlags::IN)], None).unwrap();
        wake.clear();
    }
    began.elapsed()
}

fn data_plane(c: &mut Criterion) {
    let mut group = c.benchmark_group("tcp_stream");
    group.sample_size(10).throughput(Throughput::Bytes(BYTES));
    let base = TechniqueSet::BASE;
    for (name, techniques) in [
        ("copy", base),
        ("sendfile", base.with(Technique::Sendfile)),
        ("discard", base.with(Technique::Trunc)),
        ("fast", TechniqueSet::FAST),
    ] {
        for length in [64 << 10, 128 << 10, 256 << 10, 1 << 20] {
            group.bench_with_input(BenchmarkId::new(name, length), &length, |bencher, length| {
                bencher.iter_custom(|times| (0..times).map(|_| transfer(*length, techniques)).sum());
            });
        }
    }
    group.finish();
}

criterion_group!(benches, data_plane);
criterion_main!(benches);
