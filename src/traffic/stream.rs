//! Streams: threads that send and receive as fast as they can, or at a rate, and counters that others read.
//!
//! Of few streams one plain thread drives one stream: sockets block, with a timeout of [`PATIENCE`] on each call, so that a thread
//! sleeps inside the kernel's send and receive (the cheapest way for few streams) and still sees that it is to stop.
//! What a thread does is in `tcp_stream` and `udp_stream`. Of many TCP streams a thread a processor drives them all:
//! `event_loop`.

mod control;
mod record;
mod settings;

pub use control::End;
pub(super) use control::{Control, Counter, failure, wait_until};
pub use record::{Recording, Schedule};
pub use settings::{Datagrams, Settings};
use settings::{Granted, SENDMMSG};

use super::{
    disk_file,
    event_loop::{self, Lane},
    payload::Payload,
    tcp_stream, udp_stream,
};
use crate::{
    iperf3::wire::datagram::Tally,
    measure::{BurstLength, TcpSample, Techniques, sctp_status, tcp_info},
    scenario::Technique,
    sys::{clock, event::Event},
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::Socket;
use std::{
    io,
    net::Shutdown,
    num::NonZero,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

/// How long a thread may sleep in a call before it looks whether it is to stop.
pub const PATIENCE: Duration = Duration::from_millis(50);

/// How long nothing may have come for receivers to be settled, in nanoseconds.
const SETTLED: u64 = 500_000;

/// Between looks at a test that has received all that was announced, in nanoseconds.
const GLANCE: u64 = 100_000;

/// How long what comes beyond what was announced is waited for, in nanoseconds.
const SURPLUS: u64 = 10_000_000;

/// How long [`Load::drain`] takes at most.
pub const DRAINED: Duration = Duration::from_secs(2);

/// Stack of a data thread: its buffers are on the heap.
const STACK: usize = 128 << 10;

/// What one end of a stream does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Writes.
    Send,
    /// Reads.
    Receive,
}

struct Stream {
    socket: Arc<Socket>,
    role: Role,
    counter: Arc<Counter>,
}

/// A set of running streams. Dropping it closes them.
pub struct Load {
    control: Arc<Control>,
    streams: Vec<Stream>,
    /// The threads, with what their streams do.
    threads: Vec<(Role, JoinHandle<()>)>,
    techniques: Techniques,
    limit: Option<u64>,
    datagrams: Option<Datagrams>,
}

impl std::fmt::Debug for Load {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Load")
            .field("streams", &self.streams.len())
            .finish_non_exhaustive()
    }
}

impl Load {
    /// Starts a thread on each socket, or a few threads on all where there are many. `wake` is raised when a stream ends or the limit is reached.
    ///
    /// # Errors
    /// Where threads, memory files or socket timeouts can't be had.
    pub fn start(sockets: &[(Arc<Socket>, Role)], settings: &Settings, wake: Arc<Event>) -> io::Result<Self> {
        let sends = sockets.iter().any(|(_, role)| *role == Role::Send);
        let receives = sockets.iter().any(|(_, role)| *role == Role::Receive);
        let payload = Payload::new(
            if sends { settings.length } else { 0 },
            settings.repeating,
            sends && settings.file.is_none() && settings.techniques.has(Technique::Sendfile),
        )?;
        let control = Arc::new(Control {
            stop_sending: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            measuring: AtomicBool::new(false),
            uncut: AtomicBool::new(false),
            copied: AtomicBool::new(false),
            limited: settings.limit.is_some(),
            send_budget: AtomicI64::new(i64::MAX),
            receive_budget: AtomicI64::new(i64::MAX),
            wake,
        });
        let mut load = Self {
            control,
            streams: Vec::with_capacity(sockets.len()),
            threads: Vec::new(),
            techniques: Techniques::default(),
            limit: settings.limit,
            datagrams: settings.datagrams,
        };
        if !settings.warm_up {
            load.begin_counting();
        }
        let mut granted = Granted::default();
        let in_role = |wanted: Role| sockets.iter().filter(|(_, role)| *role == wanted).count();
        let (senders, receivers) = (in_role(Role::Send), in_role(Role::Receive));
        for (socket, role) in sockets {
            let streams = if *role == Role::Send { senders } else { receivers };
            granted.prepare(socket, *role, streams, settings);
            if !settings.is_driven_by_events(streams) {
                socket.set_nonblocking(false)?;
                socket.set_read_timeout(Some(PATIENCE))?;
                socket.set_write_timeout(Some(PATIENCE))?;
            }
            load.streams.push(Stream {
                socket: Arc::clone(socket),
                role: *role,
                counter: Arc::new(Counter::default()),
            });
        }
        load.techniques = granted.techniques(settings, sends, receives);
        load.techniques.congestion = load.congestion();
        let settings = Settings {
            techniques: granted.used,
            ..settings.clone()
        };
        let start = clock::now();
        for (role, streams) in [(Role::Receive, receivers), (Role::Send, senders)] {
            if settings.is_driven_by_events(streams) {
                load.spawn_loops(role, streams, &settings, &payload, start)?;
                continue;
            }
            for index in 0..load.streams.len() {
                if load.role(index) == Some(role) {
                    let thread = load.spawn(index, &settings, &payload, start)?;
                    load.threads.push((role, thread));
                }
            }
        }
        Ok(load)
    }

    /// Starts a thread a processor for all streams in one role.
    fn spawn_loops(
        &mut self,
        role: Role,
        streams: usize,
        settings: &Settings,
        payload: &Payload,
        start: u64,
    ) -> io::Result<()> {
        let threads = thread::available_parallelism()
            .map_or(1, NonZero::get)
            .min(streams);
        for part in 0..threads {
            let lanes: Vec<Lane> = self
                .streams
                .iter()
                .filter(|stream| stream.role == role)
                .skip(part)
                .step_by(threads)
                .map(|stream| Lane {
                    socket: Arc::clone(&stream.socket),
                    counter: Arc::clone(&stream.counter),
                })
                .collect();
            let (control, settings, payload) = (Arc::clone(&self.control), settings.clone(), payload.clone());
            let thread = thread::Builder::new()
                .name(format!("streams-{part}"))
                .stack_size(STACK)
                .spawn(move || match role {
                    Role::Send => event_loop::send(&control, &lanes, &settings, &payload, start),
                    Role::Receive => event_loop::receive(&control, &lanes, &settings),
                })?;
            self.threads.push((role, thread));
        }
        Ok(())
    }

    fn spawn(
        &self,
        index: usize,
        settings: &Settings,
        payload: &Payload,
        start: u64,
    ) -> io::Result<JoinHandle<()>> {
        let stream = &self.streams[index];
        let (control, socket, counter) = (
            Arc::clone(&self.control),
            Arc::clone(&stream.socket),
            Arc::clone(&stream.counter),
        );
        let (role, settings, payload) = (stream.role, settings.clone(), payload.clone());
        thread::Builder::new()
            .name(format!("stream-{index}"))
            .stack_size(STACK)
            .spawn(move || {
                let (control, counter) = (&*control, &*counter);
                let end = match (role, settings.datagrams) {
                    (Role::Send, None) => match &settings.file {
                        Some(file) => disk_file::send(control, &socket, counter, &settings, file, start),
                        None => tcp_stream::send(control, &socket, counter, &settings, &payload, start),
                    },
                    (Role::Receive, None) => match &settings.file {
                        Some(file) => disk_file::receive(control, &socket, counter, &settings, file),
                        None => tcp_stream::receive(control, &socket, counter, &settings),
                    },
                    (Role::Send, Some(datagrams)) => {
                        udp_stream::send(control, &socket, counter, &settings, datagrams, &payload, start)
                    }
                    (Role::Receive, Some(datagrams)) => {
                        udp_stream::receive(control, &socket, counter, &settings, datagrams)
                    }
                };
                counter.end.store(end.code(), Relaxed);
                control.wake.raise();
            })
    }

    /// Starts counting towards the limit: what was moved before (the warm-up) doesn't count.
    pub fn begin_counting(&self) {
        self.control.measuring.store(true, Relaxed);
        if let Some(limit) = self.limit {
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            self.control.send_budget.store(limit, Relaxed);
            self.control.receive_budget.store(limit, Relaxed);
        }
    }

    /// Whether the limit was reached in either direction, and all of it was handed to the kernel.
    pub fn limit_reached(&self) -> bool {
        self.control.limited && (self.all_sent() || self.control.receive_budget.load(Relaxed) <= 0)
    }

    /// Whether all senders have handed to the kernel what they had to send: the limit, or a file.
    pub fn all_sent(&self) -> bool {
        let mut senders = self
            .streams
            .iter()
            .filter(|stream| stream.role == Role::Send)
            .peekable();
        senders.peek().is_some()
            && senders.all(|stream| stream.counter.end.load(Relaxed) == End::Limit.code())
    }

    /// How many streams there are.
    pub const fn len(&self) -> usize {
        self.streams.len()
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.streams.is_empty()
    }

    /// Bytes that a stream has moved so far.
    pub fn bytes(&self, index: usize) -> u64 {
        self.streams
            .get(index)
            .map_or(0, |stream| stream.counter.bytes.load(Relaxed))
    }

    /// What a UDP stream has counted so far: a sender only datagrams.
    pub fn datagrams(&self, index: usize) -> Option<Tally> {
        self.datagrams?;
        let counter = &self.streams.get(index)?.counter;
        Some(Tally::counted(
            counter.packets.load(Relaxed),
            counter.lost.load(Relaxed),
            counter.out_of_order.load(Relaxed),
            f64::from_bits(counter.jitter.load(Relaxed)),
        ))
    }

    /// How evenly the datagrams of a UDP stream came so far; `None` where no rate says what even is.
    pub fn burst_length(&self, index: usize) -> Option<BurstLength> {
        let [count, datagrams, longest] = &self.streams.get(index)?.counter.bursts;
        let count = count.load(Relaxed);
        (count > 0).then(|| BurstLength {
            mean: datagrams.load(Relaxed) as f64 / count as f64,
            longest: longest.load(Relaxed),
        })
    }

    /// A stream's role.
    pub fn role(&self, index: usize) -> Option<Role> {
        self.streams.get(index).map(|stream| stream.role)
    }

    /// A stream's TCP_INFO now, or what SCTP has of it.
    pub fn tcp_sample(&self, index: usize) -> Option<TcpSample> {
        if self.datagrams.is_some() {
            return None;
        }
        let socket = &*self.streams.get(index)?.socket;
        tcp_info::sample(socket)
            .or_else(|_| sctp_status::sample(socket))
            .ok()
    }

    /// The first stream that broke, and how.
    pub fn broken(&self) -> Option<(usize, End)> {
        self.streams.iter().enumerate().find_map(|(index, stream)| {
            End::from_code(stream.counter.end.load(Relaxed))
                .filter(|end| end.is_broken())
                .map(|end| (index, end))
        })
    }

    /// What was used.
    pub fn techniques(&self) -> Techniques {
        let mut techniques = self.techniques.clone();
        if self.control.uncut.load(Relaxed) {
            SENDMMSG.clone_into(&mut techniques.send);
            let gso = Technique::Gso.name();
            techniques.in_use.retain(|name| name != gso);
            techniques.refused.push(gso.to_owned());
        }
        if self.control.copied.load(Relaxed) {
            techniques.send.push_str(", copied by the kernel");
        }
        let last = |role| self.streams.iter().rfind(|stream| stream.role == role);
        let size = |size: io::Result<usize>| size.map_or(0, |size| size as u64);
        techniques.send_buffer = last(Role::Send).map_or(0, |stream| size(stream.socket.send_buffer_size()));
        techniques.receive_buffer =
            last(Role::Receive).map_or(0, |stream| size(stream.socket.recv_buffer_size()));
        techniques
    }

    /// Waits until receivers of datagrams have taken what has arrived, where the senders have stopped: what waits in
    /// a socket would else count as lost. `patience` at most.
    pub fn settle(&self, patience: Duration) {
        if self.datagrams.is_none() {
            return;
        }
        let deadline = clock::now() + u64::try_from(patience.as_nanos()).unwrap_or(u64::MAX);
        let mut before = self.received();
        while clock::now() < deadline {
            clock::sleep_until(clock::now() + SETTLED);
            let waiting = self.is_data_waiting();
            let now = self.received();
            if !waiting && now == before {
                return;
            }
            before = now;
        }
    }

    /// Waits for the rest of a TCP test that is about all its bytes, where the senders have stopped: until the limit, if
    /// there is one, has been received and nothing waits, or nothing came for `quiet`; [`DRAINED`] at most. Returns how long ago bytes last
    /// came, or the whole time where none did.
    pub fn drain(&self, quiet: Duration) -> Duration {
        let began = clock::now();
        if self.datagrams.is_some() || self.receivers().next().is_none() {
            return Duration::ZERO;
        }
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let (mut before, mut last) = (self.received(), began);
        let mut complete = None;
        loop {
            let reached = self.limit.is_some() && self.control.receive_budget.load(Relaxed) <= 0;
            clock::sleep_until(clock::now() + if reached { GLANCE } else { SETTLED });
            let waiting = self.is_data_waiting();
            let (now, received) = (clock::now(), self.received());
            if received != before {
                (before, last) = (received, now);
            } else if !waiting && (reached || now - last >= nanos(quiet)) {
                // What waits and is not read yet is a receiver's that has no processor: it will come.
                break;
            }
            // A sender that goes on regardless doesn't keep us.
            if reached && now - *complete.get_or_insert(now) >= SURPLUS || now - began >= nanos(DRAINED) {
                break;
            }
        }
        Duration::from_nanos(clock::now() - last)
    }

    fn receivers(&self) -> impl Iterator<Item = &Stream> {
        self.streams.iter().filter(|stream| stream.role == Role::Receive)
    }

    fn received(&self) -> u64 {
        self.receivers()
            .map(|stream| stream.counter.bytes.load(Relaxed))
            .sum()
    }

    /// Whether a receiver that still reads has something, or its end, to read.
    fn is_data_waiting(&self) -> bool {
        let mut fds: Vec<_> = self
            .receivers()
            .filter(|stream| End::from_code(stream.counter.end.load(Relaxed)).is_none())
            .map(|stream| PollFd::new(&*stream.socket, PollFlags::IN))
            .collect();
        poll(&mut fds, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
    }

    /// The congestion control of the last stream, read back.
    fn congestion(&self) -> Option<String> {
        congestion(&self.streams.last()?.socket)
    }

    /// Stops the senders and waits until their last write is counted: [`PATIENCE`] at most where the peer reads
    /// nothing, else at once. Receivers go on, so that the peer is not blocked.
    pub fn stop_sending(&mut self) {
        self.control.stop_sending.store(true, Relaxed);
        for (_, thread) in self.threads.extract_if(.., |(role, _)| *role == Role::Send) {
            // A data thread has nothing that panics.
            let _ = thread.join();
        }
    }

    /// Stops everything and closes the sockets.
    pub fn close(self) {
        drop(self);
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.control.stop.store(true, Relaxed);
        for stream in &self.streams {
            // Wakes threads that sleep in a call; fails where the peer has closed already.
            let _ = stream.socket.shutdown(Shutdown::Both);
        }
        for (_, thread) in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// The congestion control of a socket, read back (TCP_CONGESTION).
pub fn congestion(socket: &Socket) -> Option<String> {
    let name = socket.tcp_congestion().ok()?;
    let name: Vec<u8> = name.into_iter().take_while(|byte| *byte != 0).collect();
    String::from_utf8(name).ok()
}
