//! `udp-rr`: request and response as datagrams, one outstanding (closed loop) or at a rate (open loop).
//!
//! Both ends agree over TCP first, and the test lasts as long as that connection. Each datagram begins with the
//! agreed session and a sequence number, so none is smaller than 16 bytes: what is asked for below that is sent as 16.
//! The server answers only sessions it knows, so it can't be made to flood anybody.
//!
//! Nothing is ever sent again. Closed loop: an answer that has not come after [`LOST`] is lost, its request counts as
//! unanswered and the next one is sent; should it come later it is thrown away. Open loop: an answer counts whenever
//! it comes, until a second after the end, in any order, and once.

use super::{
    latency::{
        Agreed, Ending, Lag, LatencyError, LatencyEvent, LatencyOptions, PathFacts, Stage, Tally, Tested,
        Window, conclude, join,
    },
    rr_wire::{
        ANSWER_LENGTH, DATAGRAM_HEADER, HELLO_LENGTH, Kind, LARGEST_DATAGRAM, read_datagram_header,
        write_datagram_header,
    },
    schedule::Schedule,
    tcp_rr::payload,
};
use crate::{
    measure::{HistogramError, LatencyResult, process_cpu},
    sys::{clock, stop::Stop},
};
use std::{
    io,
    net::{SocketAddr, UdpSocket},
    thread,
    time::Duration,
};

/// How long a closed loop waits for an answer.
pub const LOST: Duration = Duration::from_millis(500);
/// How long a read may wait before it looks at whether the test was stopped.
const LOOK: Duration = Duration::from_millis(50);

/// Runs a `udp-rr` test; the calling thread conducts and calls `on_event`, others do the work.
///
/// # Errors
/// Where there is no agreement; where the peer's host says that nobody listens any more, nothing is ever answered, or
/// `stop` is stopped, with what had been measured until then. A lost datagram is unanswered, no error.
pub fn run(
    options: &LatencyOptions,
    stop: &Stop,
    on_event: &mut dyn FnMut(LatencyEvent),
) -> Result<LatencyResult, LatencyError> {
    options.check_sizes(1, LARGEST_DATAGRAM)?;
    // It stays open to the end: it is the test's life.
    let Agreed {
        stream: _agreement,
        local,
        seen,
        session,
    } = options.agree(Kind::UdpRr)?;
    let socket = connect(local, options.address)?;
    let stage = Stage::new()?;
    let cpu = process_cpu().map_err(LatencyError::system("read this process's CPU time"))?;
    on_event(LatencyEvent::Connected { local, seen });
    // A moment for the threads to start; the warm-up covers what it doesn't.
    let window = Window::new(clock::now() + 1_000_000, options);
    let probe = Probe {
        socket,
        session,
        request: length(options.request),
        response: length(options.response),
        window,
    };
    let (tested, stopped) = thread::scope(|scope| {
        let worker = scope.spawn(|| {
            let tested = match options.rate {
                None => probe.closed_loop(&stage),
                Some(rate) => {
                    let schedule = Schedule::new(window.begin, options.omit, options.duration, rate);
                    probe.open_loop(schedule, &stage)
                }
            };
            stage.finish();
            tested
        });
        // Reads end by themselves to look whether the test was cut.
        let stopped = stage.conduct(window, stop, || {}, on_event);
        (join(worker), stopped)
    });
    let spent = process_cpu()
        .map_err(LatencyError::system("read this process's CPU time"))?
        .since(&cpu);
    conclude(
        options,
        window,
        tested?,
        stopped,
        seen.ip(),
        PathFacts::default(),
        spent,
    )
}

/// Bytes of a datagram where so many were asked for.
fn length(asked: u32) -> usize {
    (asked as usize).max(DATAGRAM_HEADER)
}

fn connect(local: SocketAddr, address: SocketAddr) -> Result<UdpSocket, LatencyError> {
    let bind = local.ip();
    let socket = UdpSocket::bind(SocketAddr::new(bind, 0)).map_err(|source| LatencyError::Bind {
        address: bind,
        source,
    })?;
    socket
        .connect(address)
        .and_then(|()| socket.set_read_timeout(Some(LOOK)))
        .map_err(|source| LatencyError::Connect { address, source })?;
    Ok(socket)
}

/// What a read brought.
enum Heard {
    /// An answer of this test to the request of this number.
    Answer(u64),
    /// Nothing of this test, or nothing in [`LOOK`].
    Nothing,
}

struct Probe {
    socket: UdpSocket,
    session: u64,
    request: usize,
    response: usize,
    window: Window,
}

impl Probe {
    fn datagram(&self) -> Vec<u8> {
        payload(self.request)
    }

    fn send(&self, datagram: &mut [u8], sequence: u64) -> io::Result<()> {
        write_datagram_header(datagram, self.session, sequence);
        match self.socket.send(datagram) {
            Ok(_) => Ok(()),
            // A full queue of this host loses the datagram, as any other on the path does.
            Err(error) if transient(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn hear(&self, buffer: &mut [u8]) -> io::Result<Heard> {
        match self.socket.recv(buffer) {
            Ok(count) if count == self.response => Ok(match read_datagram_header(&buffer[..count]) {
                Some((session, sequence)) if session == self.session => Heard::Answer(sequence),
                _ => Heard::Nothing,
            }),
            Ok(_) => Ok(Heard::Nothing),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock || transient(&error) => {
                Ok(Heard::Nothing)
            }
            Err(error) => Err(error),
        }
    }

    fn closed_loop(&self, stage: &Stage) -> Result<Tested, HistogramError> {
        let mut datagram = self.datagram();
        let mut buffer = vec![0; self.response + 1];
        let mut tally = Tally::new()?;
        let (mut sent, mut unanswered) = (0, 0);
        clock::sleep_until(self.window.begin);
        let ending = loop {
            let begun = clock::now();
            if begun >= self.window.end || stage.is_cut() {
                break Ending::Complete;
            }
            let measured = begun >= self.window.from;
            let lost = begun + LOST.as_nanos() as u64;
            let answered = self
                .send(&mut datagram, sent)
                .and_then(|()| self.wait_for(sent, lost, &mut buffer, stage));
            sent += 1;
            match answered {
                Ok(Some(time)) => tally.record(time - begun, measured),
                Ok(None) => unanswered += u64::from(measured),
                Err(error) => {
                    unanswered += u64::from(measured);
                    break stage.ending(error);
                }
            }
            stage.tell(tally.all);
        };
        let total_bytes = self.bytes(sent, tally.all);
        Ok(Tested {
            tally,
            send_lag: None,
            unanswered,
            total_bytes,
            ending,
        })
    }

    /// When the answer of this number came; `None` where it is lost.
    fn wait_for(
        &self,
        sequence: u64,
        lost: u64,
        buffer: &mut [u8],
        stage: &Stage,
    ) -> io::Result<Option<u64>> {
        loop {
            if matches!(self.hear(buffer)?, Heard::Answer(number) if number == sequence) {
                return Ok(Some(clock::now()));
            }
            if clock::now() >= lost || stage.is_cut() {
                return Ok(None);
            }
        }
    }

    fn open_loop(&self, schedule: Schedule, stage: &Stage) -> Result<Tested, HistogramError> {
        let (lag, received) = thread::scope(|scope| {
            let sender = scope.spawn(|| self.send_on_time(schedule, stage));
            let received = self.receive(schedule, stage);
            (join(sender), received)
        });
        let (lag, (tally, ending)) = (lag?, received?);
        let due = match &ending {
            Ending::Broken(_, time) => schedule.measured_before(*time),
            Ending::Complete => schedule.measured_before(clock::now().min(self.window.end)),
        };
        Ok(Tested {
            total_bytes: self.bytes(lag.sent, tally.all),
            unanswered: due.saturating_sub(tally.latency.count()),
            send_lag: Some(lag.close()),
            tally,
            ending,
        })
    }

    fn send_on_time(&self, schedule: Schedule, stage: &Stage) -> Result<Lag, HistogramError> {
        let mut datagram = self.datagram();
        let mut lag = Lag::new(schedule)?;
        // Where it can't be had, sends are up to 50 µs late, and their lag says so.
        let _ = clock::set_fine_timers();
        while let Some(due) = lag.next_due() {
            if !stage.sleep_until(due) {
                break;
            }
            let late = clock::now().saturating_sub(due);
            if self.send(&mut datagram, lag.sent).is_err() {
                // An error that came back from the path is told once: to this thread or to the receiver.
                stage.abandon();
                break;
            }
            lag.record(late);
        }
        Ok(lag)
    }

    fn receive(&self, schedule: Schedule, stage: &Stage) -> Result<(Tally, Ending), HistogramError> {
        let mut buffer = vec![0; self.response + 1];
        let mut tally = Tally::new()?;
        let mut answered = Once::new(schedule.total());
        while tally.all < schedule.total() && !stage.is_cut() {
            if stage.is_abandoned() {
                return Ok((tally, stage.ending(io::ErrorKind::ConnectionRefused.into())));
            }
            let heard = self.hear(&mut buffer);
            let now = clock::now();
            match heard {
                Ok(Heard::Answer(number)) if answered.first(number) => {
                    tally.record(
                        now.saturating_sub(schedule.due(number)),
                        schedule.is_measured(number),
                    );
                    stage.tell(tally.all);
                }
                Ok(_) => {}
                Err(error) => {
                    stage.abandon();
                    return Ok((tally, stage.ending(error)));
                }
            }
        }
        Ok((tally, Ending::Complete))
    }

    const fn bytes(&self, sent: u64, answered: u64) -> u64 {
        (HELLO_LENGTH + ANSWER_LENGTH) as u64 + sent * self.request as u64 + answered * self.response as u64
    }
}

/// Whether an error of a datagram socket leaves it as good as it was.
fn transient(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::Interrupted
        || error.raw_os_error() == Some(rustix::io::Errno::NOBUFS.raw_os_error())
        || error.raw_os_error() == Some(rustix::io::Errno::PERM.raw_os_error())
}

/// Which numbers were seen, one bit each.
struct Once {
    seen: Vec<u64>,
    total: u64,
}

impl Once {
    fn new(total: u64) -> Self {
        Self {
            seen: vec![0; total.div_ceil(64) as usize],
            total,
        }
    }

    /// Whether a number is one that can be and was not seen before.
    fn first(&mut self, number: u64) -> bool {
        if number >= self.total {
            return false;
        }
        let (word, bit) = ((number / 64) as usize, 1 << (number % 64));
        let first = self.seen[word] & bit == 0;
        self.seen[word] |= bit;
        first
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    proptest! {
        #[test]
        fn a_number_is_first_once(total in 1..300_u64, numbers in prop::collection::vec(0..400_u64, 0..600)) {
            let mut once = Once::new(total);
            let mut seen = HashSet::new();
            for number in numbers {
                prop_assert_eq!(once.first(number), number < total && seen.insert(number));
            }
        }
    }
}
