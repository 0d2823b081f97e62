//! Streams: threads that send and receive as fast as they can, or at a rate, and counters that others read.
//!
//! One plain thread drives one stream. Sockets block, with a timeout of [`PATIENCE`] on each call, so that a thread
//! sleeps inside the kernel's send and receive (the cheapest way for few streams) and still sees that it is to stop.
//! What a thread does is in `tcp_stream` and `udp_stream`.

mod record;

pub use record::{Recording, Schedule};

use super::{payload::Payload, tcp_stream, udp_stream};
use crate::{
    iperf3::wire::datagram::{Tally, Width},
    measure::{TcpSample, Techniques, tcp_info},
    sys::{clock, event::Event, udp},
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::Socket;
use std::{
    io,
    net::Shutdown,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

/// How long a thread may sleep in a call before it looks whether it is to stop.
pub const PATIENCE: Duration = Duration::from_millis(50);

/// How long a paced thread sleeps at most before it looks whether it is to stop, in nanoseconds.
const NAP: u64 = 20_000_000;

/// How long nothing may have come for receivers to be settled, in nanoseconds.
const SETTLED: u64 = 500_000;

/// Between looks at a test that has received all that was announced, in nanoseconds.
const GLANCE: u64 = 100_000;

/// How long what comes beyond what was announced is waited for, in nanoseconds.
const SURPLUS: u64 = 10_000_000;

/// How long [`Load::drain`] takes at most.
pub const DRAINED: Duration = Duration::from_secs(2);

const SENDMMSG: &str = "sendmmsg";

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

/// How streams are driven.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Bytes of a write and a read, at least 1.
    pub length: usize,
    /// Bits a second that each sending stream is held to.
    pub rate: Option<u64>,
    /// Blocks that are written between looks at the rate, at least 1.
    pub burst: u32,
    /// Send from a memory file (sendfile(2)), without copying from user space.
    pub sendfile: bool,
    /// Receive without copying to user space (MSG_TRUNC).
    pub discard: bool,
    /// Repeating digits instead of random bytes.
    pub repeating: bool,
    /// End once this many bytes were moved in one direction over all streams, counted from
    /// [`Load::begin_counting`].
    pub limit: Option<u64>,
    /// Whether there is a warm-up, so that nothing counts before [`Load::begin_counting`].
    pub warm_up: bool,
    /// UDP, and how; TCP if `None`.
    pub datagrams: Option<Datagrams>,
}

/// How streams of datagrams are driven; each datagram is `length` bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Datagrams {
    /// How wide sequence numbers are.
    pub width: Width,
    /// Let the kernel cut datagrams from long messages (UDP_SEGMENT).
    pub segment: bool,
    /// Let the kernel put datagrams together into long messages (UDP_GRO).
    pub coalesce: bool,
    /// Answer the datagrams that open streams (a server whose answer was lost).
    pub answers: bool,
}

/// How a stream's thread came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It was told to.
    Stopped,
    /// The limit was reached.
    Limit,
    /// The peer closed the stream.
    Closed,
    /// A call failed with this `errno`.
    Failed(i32),
}

const RUNNING: u32 = 0;
const FAILED: u32 = 0x1_0000;

impl End {
    const fn code(self) -> u32 {
        match self {
            Self::Stopped => 1,
            Self::Limit => 2,
            Self::Closed => 3,
            Self::Failed(errno) => FAILED | errno.cast_unsigned(),
        }
    }

    const fn from_code(code: u32) -> Option<Self> {
        match code {
            RUNNING => None,
            1 => Some(Self::Stopped),
            2 => Some(Self::Limit),
            3 => Some(Self::Closed),
            code => Some(Self::Failed((code & !FAILED).cast_signed())),
        }
    }

    /// Whether the stream broke, as against having been ended.
    pub const fn is_broken(self) -> bool {
        matches!(self, Self::Closed | Self::Failed(_))
    }
}

/// One stream's counters: written by its thread alone, on cache lines of their own (two, since processors fetch
/// them in pairs).
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Counter {
    pub(super) bytes: AtomicU64,
    /// Of UDP: datagrams sent, or the highest number seen.
    pub(super) packets: AtomicU64,
    pub(super) lost: AtomicU64,
    pub(super) out_of_order: AtomicU64,
    /// The bits of an `f64`: seconds.
    pub(super) jitter: AtomicU64,
    end: AtomicU32,
}

/// What all threads of a load share. Read-mostly: the budgets are touched only where there is a limit.
#[derive(Debug)]
pub(super) struct Control {
    stop_sending: AtomicBool,
    stop: AtomicBool,
    /// Whether the warm-up is over.
    pub(super) measuring: AtomicBool,
    /// Whether the path couldn't do UDP_SEGMENT.
    pub(super) uncut: AtomicBool,
    pub(super) limited: bool,
    pub(super) send_budget: AtomicI64,
    receive_budget: AtomicI64,
    wake: Arc<Event>,
}

impl Control {
    /// Takes up to `wanted` bytes out of a budget; 0 or less where it is used up.
    pub(super) fn take(&self, budget: &AtomicI64, wanted: i64) -> i64 {
        if self.limited {
            budget.fetch_sub(wanted, Relaxed).min(wanted)
        } else {
            wanted
        }
    }

    /// Puts back what was taken and not used.
    pub(super) fn give_back(&self, budget: &AtomicI64, (granted, wanted): (i64, i64), used: i64) {
        if self.limited && used < granted {
            budget.fetch_add(wanted - used, Relaxed);
        }
    }

    /// Counts received bytes towards the limit.
    pub(super) fn count_received(&self, bytes: u64) {
        if self.limited && bytes > 0 {
            let bytes = bytes as i64;
            let before = self.receive_budget.fetch_sub(bytes, Relaxed);
            if before > 0 && before <= bytes {
                self.wake.raise();
            }
        }
    }

    pub(super) fn to_stop(&self, role: Role) -> bool {
        self.stop.load(Relaxed) || role == Role::Send && self.stop_sending.load(Relaxed)
    }
}

struct Stream {
    socket: Arc<Socket>,
    role: Role,
    counter: Arc<Counter>,
    thread: Option<JoinHandle<()>>,
}

/// A set of running streams. Dropping it closes them.
pub struct Load {
    control: Arc<Control>,
    streams: Vec<Stream>,
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
    /// Starts a thread on each socket. `wake` is raised when a stream ends or the limit is reached.
    ///
    /// # Errors
    /// Where threads, memory files or socket timeouts can't be had.
    pub fn start(sockets: &[(Arc<Socket>, Role)], settings: &Settings, wake: Arc<Event>) -> io::Result<Self> {
        let sends = sockets.iter().any(|(_, role)| *role == Role::Send);
        let receives = sockets.iter().any(|(_, role)| *role == Role::Receive);
        let payload = Payload::new(
            if sends { settings.length } else { 0 },
            settings.repeating,
            sends && settings.sendfile,
        )?;
        let control = Arc::new(Control {
            stop_sending: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            measuring: AtomicBool::new(false),
            uncut: AtomicBool::new(false),
            limited: settings.limit.is_some(),
            send_budget: AtomicI64::new(i64::MAX),
            receive_budget: AtomicI64::new(i64::MAX),
            wake,
        });
        let mut load = Self {
            control,
            streams: Vec::with_capacity(sockets.len()),
            techniques: Techniques::default(),
            limit: settings.limit,
            datagrams: settings.datagrams,
        };
        if !settings.warm_up {
            load.begin_counting();
        }
        let mut settings = *settings;
        for (socket, role) in sockets {
            if let Some(datagrams) = &mut settings.datagrams {
                datagrams.offload(socket, *role, settings.length);
            }
            socket.set_nonblocking(false)?;
            socket.set_read_timeout(Some(PATIENCE))?;
            socket.set_write_timeout(Some(PATIENCE))?;
            load.streams.push(Stream {
                socket: Arc::clone(socket),
                role: *role,
                counter: Arc::new(Counter::default()),
                thread: None,
            });
        }
        load.techniques = techniques(&settings, sends, receives);
        load.techniques.congestion = load.congestion();
        let start = clock::now();
        for index in 0..load.streams.len() {
            let thread = load.spawn(index, &settings, &payload, start)?;
            if let Some(stream) = load.streams.get_mut(index) {
                stream.thread = Some(thread);
            }
        }
        Ok(load)
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
        let (role, settings, payload) = (stream.role, *settings, payload.clone());
        thread::Builder::new()
            .name(format!("stream-{index}"))
            .stack_size(STACK)
            .spawn(move || {
                let (control, counter) = (&*control, &*counter);
                let end = match (role, settings.datagrams) {
                    (Role::Send, None) => {
                        tcp_stream::send(control, &socket, counter, &settings, &payload, start)
                    }
                    (Role::Receive, None) => tcp_stream::receive(control, &socket, counter, &settings),
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
        let mut senders = self
            .streams
            .iter()
            .filter(|stream| stream.role == Role::Send)
            .peekable();
        let sent = senders.peek().is_some()
            && senders.all(|stream| stream.counter.end.load(Relaxed) == End::Limit.code());
        self.control.limited && (sent || self.control.receive_budget.load(Relaxed) <= 0)
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

    /// A stream's role.
    pub fn role(&self, index: usize) -> Option<Role> {
        self.streams.get(index).map(|stream| stream.role)
    }

    /// A stream's TCP_INFO now.
    pub fn tcp_sample(&self, index: usize) -> Option<TcpSample> {
        tcp_info::sample(&*self.streams.get(index)?.socket).ok()
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
        }
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

    /// Waits for the rest of a TCP test that ends by bytes, where the senders have stopped: until the limit has been
    /// received and nothing waits, or nothing came for `quiet`; [`DRAINED`] at most. Returns how long ago bytes last
    /// came, or the whole time where none did.
    pub fn drain(&self, quiet: Duration) -> Duration {
        let began = clock::now();
        if self.limit.is_none() || self.datagrams.is_some() || self.receivers().next().is_none() {
            return Duration::ZERO;
        }
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let (mut before, mut last) = (self.received(), began);
        let mut complete = None;
        loop {
            let reached = self.control.receive_budget.load(Relaxed) <= 0;
            clock::sleep_until(clock::now() + if reached { GLANCE } else { SETTLED });
            let waiting = self.is_data_waiting();
            let (now, received) = (clock::now(), self.received());
            if received != before {
                (before, last) = (received, now);
            } else if reached && !waiting || now - last >= nanos(quiet) {
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

    /// Whether a receiver has something, or its end, to read.
    fn is_data_waiting(&self) -> bool {
        let mut fds: Vec<_> = self
            .receivers()
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
        for stream in &mut self.streams {
            if stream.role == Role::Send
                && let Some(thread) = stream.thread.take()
            {
                // A data thread has nothing that panics.
                let _ = thread.join();
            }
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
        for stream in &mut self.streams {
            if let Some(thread) = stream.thread.take() {
                let _ = thread.join();
            }
        }
    }
}

/// The congestion control of a socket, read back (TCP_CONGESTION).
pub fn congestion(socket: &Socket) -> Option<String> {
    let name = socket.tcp_congestion().ok()?;
    let name: Vec<u8> = name.into_iter().take_while(|byte| *byte != 0).collect();
    String::from_utf8(name).ok()
}

impl Datagrams {
    /// Sets up the offloads that were asked for, and forgets those that the kernel hasn't.
    fn offload(&mut self, socket: &Socket, role: Role, length: usize) {
        match role {
            Role::Send if self.segment => {
                self.segment = udp_stream::segments(length) > 1
                    && u16::try_from(length).is_ok_and(|length| udp::set_segment(socket, length).is_ok());
            }
            Role::Receive if self.coalesce => self.coalesce = udp::set_coalescing(socket, true).is_ok(),
            _ => {}
        }
    }
}

fn techniques(settings: &Settings, sends: bool, receives: bool) -> Techniques {
    let (send, receive) = match settings.datagrams {
        Some(datagrams) => (
            if datagrams.segment {
                "udp_segment"
            } else {
                SENDMMSG
            },
            if datagrams.coalesce { "udp_gro" } else { "recvmmsg" },
        ),
        None => (
            if settings.sendfile { "sendfile" } else { "write" },
            if settings.discard { "msg_trunc" } else { "read" },
        ),
    };
    Techniques {
        send: if sends { send } else { "" }.to_owned(),
        receive: if receives { receive } else { "" }.to_owned(),
        length: settings.length as u64,
        congestion: None,
    }
}

/// Sleeps until `due`; false if it was told to stop meanwhile.
pub(super) fn wait_until(control: &Control, due: u64) -> bool {
    loop {
        let now = clock::now();
        if now >= due {
            return true;
        }
        clock::sleep_until(due.min(now + NAP));
        if control.to_stop(Role::Send) {
            return false;
        }
    }
}

/// How a failed call ends a stream; `None` where it only took too long.
pub(super) fn failure(error: &io::Error) -> Option<End> {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
            if error.raw_os_error() != Some(libc::ETIMEDOUT) =>
        {
            None
        }
        io::ErrorKind::Interrupted => None,
        io::ErrorKind::BrokenPipe => Some(End::Closed),
        _ => Some(End::Failed(error.raw_os_error().unwrap_or(0))),
    }
}
