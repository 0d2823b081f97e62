//! `tcp-crr`: connect, request, response, close, one transaction after the other.
//!
//! The time is from before connect(2) to after the last byte of the response; making the socket before and closing it
//! after count for the rate of transactions only. The request follows a hello of 36 bytes in the same segment.
//!
//! The client closes by reset (SO_LINGER of zero), right after the response. So no end is left in TIME_WAIT, a test
//! of any length and rate never runs out of ports, and the connection tracking of the nodes on the path forgets each
//! connection after 10 s, not after 120 s: an orderly close would, at 20 000 a second, fill a table of 262 144 in 13 s
//! and measure that. The cost of an orderly close is not part of the time either way.
//!
//! With a rate, transactions are due on an even schedule and still run one at a time: one that is due while another
//! runs begins late. Its time counts from when it was due, and how late it began is in the lag (no coordinated
//! omission). What was due and did not begin until a second after the end is unanswered.

use super::{
    latency::{
        Agreed, Ending, Lag, LatencyError, LatencyEvent, LatencyOptions, PathFacts, Stage, Tally, Tested,
        Window, conclude, join,
    },
    rr_wire::{ANSWER_LENGTH, HELLO_LENGTH, Kind, LARGEST},
    schedule::Schedule,
    tcp_rr::payload,
};
use crate::{
    measure::{LatencyResult, process_cpu},
    sys::{clock, stop::Stop},
};
use rustix::io::Errno;
use socket2::{SockAddr, Socket};
use std::{
    io::{self, Read as _, Write as _},
    thread,
    time::Duration,
};

/// The shortest timeout of a transaction: the kernel takes 0 for none.
const SHORTEST: Duration = Duration::from_millis(1);

/// Runs a `tcp-crr` test; the calling thread conducts and calls `on_event`, another does the work. Stopping it takes
/// effect between transactions, so at most the connect timeout later.
///
/// # Errors
/// Where there is no agreement; where the peer goes away, never answers, or `stop` is stopped, with what had been
/// measured until then. A single transaction that takes longer than the connect timeout is unanswered, no error.
pub fn run(
    options: &LatencyOptions,
    stop: &Stop,
    on_event: &mut dyn FnMut(LatencyEvent),
) -> Result<LatencyResult, LatencyError> {
    options.check_sizes(1, LARGEST)?;
    let Agreed { local, seen, .. } = options.agree(Kind::Crr)?;
    let stage = Stage::new()?;
    let cpu = process_cpu().map_err(LatencyError::system("read this process's CPU time"))?;
    on_event(LatencyEvent::Connected { local, seen });
    // A moment for the thread to start; the warm-up covers what it doesn't.
    let window = Window::new(clock::now() + 1_000_000, options);
    let (tested, stopped) = thread::scope(|scope| {
        let worker = scope.spawn(|| {
            let tested = transact(options, window, &stage);
            stage.finish();
            tested
        });
        let stopped = stage.conduct(window, stop, || {}, on_event);
        (join(worker), stopped)
    });
    let spent = process_cpu()
        .map_err(LatencyError::system("read this process's CPU time"))?
        .since(&cpu);
    let (tested, facts) = tested?;
    conclude(options, window, tested, stopped, seen.ip(), facts, spent)
}

fn transact(
    options: &LatencyOptions,
    window: Window,
    stage: &Stage,
) -> Result<(Tested, PathFacts), LatencyError> {
    let schedule = options
        .rate
        .map(|rate| Schedule::new(window.begin, options.omit, options.duration, rate));
    let mut lag = schedule.map(Lag::new).transpose()?;
    let mut request = options.hello(Kind::CrrTransaction).encode().to_vec();
    request.extend(payload(options.request as usize));
    let mut response = vec![0; options.response as usize];
    let address = SockAddr::from(options.address);
    let mut tally = Tally::new()?;
    let mut unanswered = 0;
    let mut facts = PathFacts::default();
    // Where it can't be had, transactions begin up to 50 µs late, and their lag says so.
    let _ = clock::set_fine_timers();
    clock::sleep_until(window.begin);
    let ending = loop {
        let socket = prepare(options, window)?;
        let begun = match &mut lag {
            None => clock::now(),
            Some(lag) => {
                let Some(due) = lag.next_due() else {
                    break Ending::Complete;
                };
                if !stage.sleep_until(due) {
                    break Ending::Complete;
                }
                lag.record(clock::now().saturating_sub(due));
                due
            }
        };
        if stage.is_cut() || begun >= window.end {
            break Ending::Complete;
        }
        let measured = begun >= window.from;
        let answered = socket
            .connect(&address)
            .and_then(|()| (&socket).write_all(&request))
            .and_then(|()| (&socket).read_exact(&mut response));
        let now = clock::now();
        match answered {
            Ok(()) => tally.record(now - begun, measured),
            Err(error) if timed_out(&error) => unanswered += u64::from(measured),
            Err(error) => {
                unanswered += u64::from(measured);
                break stage.ending(error);
            }
        }
        stage.tell(tally.all);
        // Asked of the first connection and of one that ends the test, where it delays nothing that is measured.
        if tally.all == 1 || now >= window.end {
            facts = PathFacts::of(&socket);
        }
    };
    if let (Some(schedule), Ending::Complete) = (schedule, &ending) {
        let due = if stage.is_cut() {
            schedule.measured_before(clock::now().min(window.end))
        } else {
            schedule.measured()
        };
        unanswered = due.saturating_sub(tally.latency.count());
    }
    let bytes = HELLO_LENGTH as u64 + u64::from(options.request + options.response);
    let tested = Tested {
        total_bytes: (HELLO_LENGTH + ANSWER_LENGTH) as u64 + tally.all * bytes,
        tally,
        send_lag: lag.map(Lag::close),
        unanswered,
        ending,
    };
    Ok((tested, facts))
}

/// A socket for one transaction, with its timeouts, that closes by reset.
fn prepare(options: &LatencyOptions, window: Window) -> Result<Socket, LatencyError> {
    let socket = options.socket()?;
    let left = Duration::from_nanos(window.deadline().saturating_sub(clock::now()));
    let timeout = options.connect_timeout.min(left).max(SHORTEST);
    let set = || {
        socket.set_linger(Some(Duration::ZERO))?;
        // It limits connect(2) too (socket(7)).
        socket.set_write_timeout(Some(timeout))?;
        socket.set_read_timeout(Some(timeout))
    };
    set().map_err(LatencyError::system("set up a TCP socket"))?;
    Ok(socket)
}

fn timed_out(error: &io::Error) -> bool {
    let kind = error.kind();
    // A connect(2) that its timeout cuts off fails with EINPROGRESS.
    kind == io::ErrorKind::WouldBlock
        || kind == io::ErrorKind::TimedOut
        || error.raw_os_error() == Some(Errno::INPROGRESS.raw_os_error())
}
