//! `tcp-rr`: request and response on one TCP connection, one outstanding (closed loop) or at a rate (open loop).
//!
//! Closed loop: the next request is sent when the answer to the last one has come; the time is from before the send to
//! after the last byte of the answer. A request belongs to the measured time when it is sent in it.
//!
//! Open loop: one thread sends each request when it is due, whether or not the ones before were answered, another
//! takes the answers, which come in order. The time is from when the request was *due*, so that a stall counts for all
//! requests that it held up (no coordinated omission). How late each was really sent is a histogram of its own. When
//! the send buffer is full the sender waits in the kernel, and what is due meanwhile is late: it shows as lag and as
//! latency. What could not be sent until the end counts as unanswered, and its lag as at least the time until then.
//! The sender sleeps until each due time and never spins: on a machine of few cores that would take from the load.

use super::{
    latency::{
        Agreed, Ending, Lag, LatencyError, LatencyEvent, LatencyOptions, PathFacts, Stage, Tally, Tested,
        Window, conclude, join,
    },
    rr_wire::{ANSWER_LENGTH, HELLO_LENGTH, Kind, LARGEST},
    schedule::Schedule,
};
use crate::{
    measure::{HistogramError, LatencyResult, process_cpu},
    sys::{clock, stop::Stop},
};
use std::{
    io::{self, Read as _, Write as _},
    net::{Shutdown, TcpStream},
    thread,
};

/// How much is read at once, in bytes: answers of many requests after a stall.
const READ: usize = 64 * 1024;

/// Runs a `tcp-rr` test; the calling thread conducts and calls `on_event`, others do the work.
///
/// # Errors
/// Where there is no agreement; where the peer goes away, never answers, or `stop` is stopped, with what had been
/// measured until then.
pub fn run(
    options: &LatencyOptions,
    stop: &Stop,
    on_event: &mut dyn FnMut(LatencyEvent),
) -> Result<LatencyResult, LatencyError> {
    options.check_sizes(1, LARGEST)?;
    let Agreed {
        stream, local, seen, ..
    } = options.agree(Kind::Rr)?;
    let stage = Stage::new()?;
    let cpu = process_cpu().map_err(LatencyError::system("read this process's CPU time"))?;
    on_event(LatencyEvent::Connected { local, seen });
    // A moment for the threads to start; the warm-up covers what it doesn't.
    let window = Window::new(clock::now() + 1_000_000, options);
    let (tested, stopped) = thread::scope(|scope| {
        let worker = scope.spawn(|| {
            let tested = match options.rate {
                None => closed_loop(&stream, options, window, &stage),
                Some(rate) => {
                    let schedule = Schedule::new(window.begin, options.omit, options.duration, rate);
                    open_loop(&stream, options, window, schedule, &stage)
                }
            };
            stage.finish();
            tested
        });
        let shut = || {
            // Wakes whoever is in a read or a write; fails only where the connection is gone already.
            let _ = stream.shutdown(Shutdown::Both);
        };
        let stopped = stage.conduct(window, stop, shut, on_event);
        (join(worker), stopped)
    });
    let spent = process_cpu()
        .map_err(LatencyError::system("read this process's CPU time"))?
        .since(&cpu);
    let facts = PathFacts::of(&stream);
    conclude(options, window, tested?, stopped, seen.ip(), facts, spent)
}

fn closed_loop(
    mut stream: &TcpStream,
    options: &LatencyOptions,
    window: Window,
    stage: &Stage,
) -> Result<Tested, HistogramError> {
    let request = payload(options.request as usize);
    let mut response = vec![0; options.response as usize];
    let mut tally = Tally::new()?;
    clock::sleep_until(window.begin);
    let (ending, unanswered) = loop {
        let sent = clock::now();
        if sent >= window.end || stage.is_cut() {
            break (Ending::Complete, 0);
        }
        let measured = sent >= window.from;
        let transacted = stream
            .write_all(&request)
            .and_then(|()| stream.read_exact(&mut response));
        if let Err(error) = transacted {
            break (stage.ending(error), u64::from(measured));
        }
        tally.record(clock::now() - sent, measured);
        stage.tell(tally.all);
    };
    let total_bytes = overhead() + tally.all * u64::from(options.request + options.response);
    Ok(Tested {
        tally,
        send_lag: None,
        unanswered,
        total_bytes,
        ending,
    })
}

fn open_loop(
    stream: &TcpStream,
    options: &LatencyOptions,
    window: Window,
    schedule: Schedule,
    stage: &Stage,
) -> Result<Tested, HistogramError> {
    let (sent, received) = thread::scope(|scope| {
        let sender = scope.spawn(|| send_on_time(stream, options.request as usize, schedule, stage));
        let received = receive(stream, options.response as usize, schedule, stage);
        if !matches!(received, Ok((_, Ending::Complete))) {
            // The sender may be waiting for room that a dead peer won't make.
            let _ = stream.shutdown(Shutdown::Both);
        }
        (join(sender), received)
    });
    let (lag, (tally, ending)) = (sent?, received?);
    let due = match &ending {
        Ending::Broken(_, time) => schedule.measured_before(*time),
        Ending::Complete if stage.is_cut() => schedule.measured_before(clock::now().min(window.end)),
        Ending::Complete => schedule.measured(),
    };
    let unanswered = due.saturating_sub(tally.latency.count());
    let total_bytes =
        overhead() + lag.sent * u64::from(options.request) + tally.all * u64::from(options.response);
    Ok(Tested {
        tally,
        send_lag: Some(lag.close()),
        unanswered,
        total_bytes,
        ending,
    })
}

/// Sends each request when it is due.
fn send_on_time(
    mut stream: &TcpStream,
    length: usize,
    schedule: Schedule,
    stage: &Stage,
) -> Result<Lag, HistogramError> {
    let request = payload(length);
    let mut lag = Lag::new(schedule)?;
    // Where it can't be had, sends are up to 50 µs late, and their lag says so.
    let _ = clock::set_fine_timers();
    while let Some(due) = lag.next_due() {
        if !stage.sleep_until(due) {
            break;
        }
        let late = clock::now().saturating_sub(due);
        if stream.write_all(&request).is_err() {
            // The receiver sees the same connection break and says how.
            break;
        }
        lag.record(late);
    }
    Ok(lag)
}

/// Takes the answers and times each from when its request was due.
fn receive(
    mut stream: &TcpStream,
    length: usize,
    schedule: Schedule,
    stage: &Stage,
) -> Result<(Tally, Ending), HistogramError> {
    let mut buffer = vec![0; length.max(READ)];
    let mut tally = Tally::new()?;
    let mut have = 0;
    while tally.all < schedule.total() {
        match stream.read(&mut buffer) {
            Ok(0) => return Ok((tally, stage.ending(io::ErrorKind::UnexpectedEof.into()))),
            Ok(count) => {
                let now = clock::now();
                have += count;
                while have >= length && tally.all < schedule.total() {
                    have -= length;
                    let index = tally.all;
                    tally.record(
                        now.saturating_sub(schedule.due(index)),
                        schedule.is_measured(index),
                    );
                }
                stage.tell(tally.all);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Ok((tally, stage.ending(error))),
        }
    }
    Ok((tally, Ending::Complete))
}

/// Bytes of a request or response: a fixed pattern that a compressing tunnel gains little on.
pub(super) fn payload(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        })
        .collect()
}

/// Bytes of hello and answer.
const fn overhead() -> u64 {
    (HELLO_LENGTH + ANSWER_LENGTH) as u64
}
