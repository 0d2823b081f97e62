//! Bulk TCP: threads that send and receive as fast as they can, or at a rate, and counters that others read.
//!
//! One plain thread drives one stream. Sockets block, with a timeout of [`PATIENCE`] on each call, so that a thread
//! sleeps inside the kernel's send and receive (the cheapest way for few streams) and still sees that it is to stop.
//! The hot loop does one call a block, one relaxed store and one relaxed load: no allocation, no lock, and no clock
//! unless a rate is asked for.

mod record;

pub use record::{Recording, Schedule};

use super::{pacer::Pacer, payload::Payload};
use crate::{
    measure::{TcpSample, Techniques, tcp_info},
    sys::{clock, event::Event, socket},
};
use socket2::Socket;
use std::{
    io::{self, Read as _, Write as _},
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

/// The least that one receive asks for where the kernel discards, in bytes: more costs nothing there, since nothing
/// is copied.
const DISCARD_LENGTH: usize = 1 << 20;

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
struct Counter {
    bytes: AtomicU64,
    end: AtomicU32,
}

/// What all threads of a load share. Read-mostly: the budgets are touched only where there is a limit.
#[derive(Debug)]
struct Control {
    stop_sending: AtomicBool,
    stop: AtomicBool,
    limited: bool,
    send_budget: AtomicI64,
    receive_budget: AtomicI64,
    wake: Arc<Event>,
}

impl Control {
    fn to_stop(&self, role: Role) -> bool {
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
            limited: settings.limit.is_some(),
            send_budget: AtomicI64::new(i64::MAX),
            receive_budget: AtomicI64::new(i64::MAX),
            wake,
        });
        let mut load = Self {
            control,
            streams: Vec::with_capacity(sockets.len()),
            techniques: techniques(settings, sends, receives),
            limit: settings.limit,
        };
        for (socket, role) in sockets {
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
        load.techniques.congestion = load.congestion();
        let start = clock::now();
        for index in 0..load.streams.len() {
            let thread = load.spawn(index, settings, &payload, start)?;
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
            .name(format!("tcp-stream-{index}"))
            .stack_size(STACK)
            .spawn(move || {
                let end = match role {
                    Role::Send => send(&control, &socket, &counter, &settings, &payload, start),
                    Role::Receive => receive(&control, &socket, &counter, &settings),
                };
                counter.end.store(end.code(), Relaxed);
                control.wake.raise();
            })
    }

    /// Starts counting towards the limit: what was moved before (the warm-up) doesn't count.
    pub fn begin_counting(&self) {
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
    pub const fn techniques(&self) -> &Techniques {
        &self.techniques
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

fn techniques(settings: &Settings, sends: bool, receives: bool) -> Techniques {
    let send = if settings.sendfile { "sendfile" } else { "write" };
    let receive = if settings.discard { "msg_trunc" } else { "read" };
    Techniques {
        send: if sends { send } else { "" }.to_owned(),
        receive: if receives { receive } else { "" }.to_owned(),
        length: settings.length as u64,
        congestion: None,
    }
}

fn send(
    control: &Control,
    socket: &Socket,
    counter: &Counter,
    settings: &Settings,
    payload: &Payload,
    start: u64,
) -> End {
    let pacer = settings.rate.map(|rate| Pacer::new(rate, start));
    if pacer.is_some() {
        // Without it sleeps end up to 50 µs late; the rate holds all the same.
        let _ = clock::set_fine_timers();
    }
    let (length, burst) = (settings.length, settings.burst.max(1));
    if let Some(file) = payload.file() {
        send_blocks(control, counter, pacer, (length, burst), |offset| {
            let mut position = offset as u64;
            Ok(rustix::fs::sendfile(
                socket,
                file,
                Some(&mut position),
                length - offset,
            )?)
        })
    } else {
        let bytes = payload.bytes();
        let mut writer = socket;
        send_blocks(control, counter, pacer, (length, burst), |offset| {
            writer.write(bytes.get(offset..).unwrap_or_default())
        })
    }
}

/// Writes blocks until told to stop. `write` moves some of a block from an offset in it.
fn send_blocks(
    control: &Control,
    counter: &Counter,
    pacer: Option<Pacer>,
    (length, burst): (usize, u32),
    mut write: impl FnMut(usize) -> io::Result<usize>,
) -> End {
    let mut total = 0_u64;
    let mut until_look = 0;
    loop {
        if control.to_stop(Role::Send) {
            return End::Stopped;
        }
        if control.limited && control.send_budget.fetch_sub(length as i64, Relaxed) <= 0 {
            return End::Limit;
        }
        if let Some(pacer) = &pacer {
            if until_look == 0 {
                if !wait_until(control, pacer.due(total)) {
                    return End::Stopped;
                }
                until_look = burst;
            }
            until_look -= 1;
        }
        let mut offset = 0;
        while offset < length {
            match write(offset) {
                Ok(0) => return End::Closed,
                Ok(written) => {
                    offset += written;
                    total += written as u64;
                    counter.bytes.store(total, Relaxed);
                    if offset < length && control.to_stop(Role::Send) {
                        return End::Stopped;
                    }
                }
                Err(error) => {
                    if control.to_stop(Role::Send) {
                        return End::Stopped;
                    }
                    if let Some(end) = failure(&error) {
                        return end;
                    }
                }
            }
        }
    }
}

/// Sleeps until `due`; false if it was told to stop meanwhile.
fn wait_until(control: &Control, due: u64) -> bool {
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

fn receive(control: &Control, socket: &Socket, counter: &Counter, settings: &Settings) -> End {
    if settings.discard {
        let length = settings.length.max(DISCARD_LENGTH);
        receive_blocks(control, counter, || socket::receive_discarding(socket, length))
    } else {
        let mut buffer = vec![0; settings.length];
        let mut reader = socket;
        receive_blocks(control, counter, || reader.read(&mut buffer))
    }
}

fn receive_blocks(control: &Control, counter: &Counter, mut read: impl FnMut() -> io::Result<usize>) -> End {
    let mut total = 0_u64;
    loop {
        match read() {
            Ok(0) if control.to_stop(Role::Receive) => return End::Stopped,
            Ok(0) => return End::Closed,
            Ok(count) => {
                total += count as u64;
                counter.bytes.store(total, Relaxed);
                if control.limited {
                    let before = control.receive_budget.fetch_sub(count as i64, Relaxed);
                    if before > 0 && before <= count as i64 {
                        control.wake.raise();
                    }
                }
            }
            Err(error) => {
                if control.to_stop(Role::Receive) {
                    return End::Stopped;
                }
                if let Some(end) = failure(&error) {
                    return end;
                }
            }
        }
        if control.to_stop(Role::Receive) {
            return End::Stopped;
        }
    }
}

/// How a failed call ends a stream; `None` where it only took too long.
fn failure(error: &io::Error) -> Option<End> {
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
