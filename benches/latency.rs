//! What recording costs, and what a transaction on loopback takes.

#![expect(
    clippy::unwrap_used,
    reason = "a bench that can't run must not look like a fast one"
)]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use encapbench::{
    measure::LatencyHistogram,
    sys::stop::Stop,
    traffic::{
        latency::LatencyOptions,
        rr_server::LatencyServer,
        rr_wire::{ANSWER_LENGTH, Hello, Kind, Token},
        schedule::Schedule,
        tcp_crr, tcp_rr,
    },
    units::EventRate,
};
use std::{
    error::Error,
    hint::black_box,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    thread,
    time::Duration,
};

const TOKEN: Token = Token::new([7; 16]);

type Outcome = Result<(), Box<dyn Error>>;

fn recording(criterion: &mut Criterion) -> Outcome {
    let mut histogram = LatencyHistogram::new()?;
    let mut other = LatencyHistogram::new()?;
    let mut state = 1_u64;
    let mut group = criterion.benchmark_group("histogram");
    group.throughput(Throughput::Elements(1));
    group.bench_function("record", |bencher| {
        bencher.iter(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            histogram.record(black_box(state >> 44))
        });
    });
    for time in 0..100_000 {
        other.record(time * 17);
    }
    group.bench_function("merge", |bencher| bencher.iter(|| histogram.add(&other).is_ok()));
    group.bench_function("encode", |bencher| bencher.iter(|| other.encode().is_ok()));
    group.finish();

    let rate = EventRate::new(7777).ok_or("a rate")?;
    let schedule = Schedule::new(0, Duration::ZERO, Duration::from_mins(1), rate);
    criterion.bench_function("schedule/due", |bencher| {
        bencher.iter(|| schedule.due(black_box(123_456)));
    });
    Ok(())
}

/// One request and response by hand, as the closed loop makes them; and whole short tests.
fn transactions(criterion: &mut Criterion) -> Outcome {
    let server = LatencyServer::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), TOKEN)?;
    let address = server.address();
    let stop = Stop::new()?;
    thread::scope(|scope| {
        scope.spawn(|| server.serve(&stop));
        let measured = measure_transactions(criterion, address);
        stop.stop();
        measured
    })
}

fn measure_transactions(criterion: &mut Criterion, address: SocketAddr) -> Outcome {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let hello = Hello {
        kind: Kind::Rr,
        request: 1,
        response: 1,
        token: TOKEN,
    };
    stream.write_all(&hello.encode())?;
    stream.read_exact(&mut [0; ANSWER_LENGTH])?;
    let mut byte = [0; 1];
    let mut group = criterion.benchmark_group("loopback");
    group.bench_function("tcp-rr transaction", |bencher| {
        bencher.iter(|| {
            stream
                .write_all(&byte)
                .and_then(|()| stream.read_exact(&mut byte))
                .is_ok()
        });
    });
    group.sample_size(10);
    let options = LatencyOptions {
        address,
        bind: None,
        token: TOKEN,
        request: 1,
        response: 1,
        duration: Duration::from_millis(100),
        omit: Duration::ZERO,
        rate: None,
        connect_timeout: Duration::from_secs(5),
        congestion: None,
    };
    let never = Stop::new()?;
    // Time a transaction, not a test: a test of 100 ms takes 100 ms.
    for (name, run) in [
        ("tcp-rr, whole", tcp_rr::run as fn(&_, &_, &mut dyn FnMut(_)) -> _),
        ("tcp-crr, whole", tcp_crr::run),
    ] {
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|count| {
                let mean = run(&options, &never, &mut |_| {})
                    .ok()
                    .and_then(|result| result.latency.mean())
                    .unwrap_or(f64::NAN);
                Duration::from_secs_f64(mean.max(0.0) * count as f64 / 1e9)
            });
        });
    }
    group.finish();
    Ok(())
}

fn run(criterion: &mut Criterion) {
    for outcome in [recording(criterion), transactions(criterion)] {
        outcome.unwrap();
    }
}

criterion_group!(benches, run);
criterion_main!(benches);
