//! Bulk TCP: how one thread sends or receives on one stream.
//!
//! The hot loop does one call a block, one relaxed store and one relaxed load: no allocation, no lock, and no clock
//! unless a rate is asked for.

use super::{
    pacer::Pacer,
    payload::Payload,
    stream::{Control, Counter, End, Role, Settings, failure, wait_until},
};
use crate::{
    scenario::Technique,
    sys::{clock, socket},
};
use socket2::Socket;
use std::{
    io::{self, Read as _, Write as _},
    sync::atomic::Ordering::Relaxed,
};

/// The least that one receive asks for where the kernel discards, in bytes: more costs nothing there, since nothing
/// is copied.
const DISCARD_LENGTH: usize = 1 << 20;

/// What a stream sends, block by block.
pub(super) trait Blocks {
    /// The bytes of the next block; 0 where there is no more.
    fn next(&mut self) -> io::Result<usize>;

    /// Moves some of the block from an offset in it.
    fn write(&mut self, socket: &Socket, offset: usize) -> io::Result<usize>;
}

/// The same block again and again.
struct Same<F> {
    length: usize,
    write: F,
}

impl<F: FnMut(&Socket, usize) -> io::Result<usize>> Blocks for Same<F> {
    fn next(&mut self) -> io::Result<usize> {
        Ok(self.length)
    }

    fn write(&mut self, socket: &Socket, offset: usize) -> io::Result<usize> {
        (self.write)(socket, offset)
    }
}

/// Sends until told to stop.
pub(super) fn send(
    control: &Control,
    socket: &Socket,
    counter: &Counter,
    settings: &Settings,
    payload: &Payload,
    start: u64,
) -> End {
    let length = settings.length;
    let bytes = payload.bytes();
    if settings.techniques.has(Technique::Zerocopy) {
        let mut pending = Pending::default();
        let write = |socket: &Socket, offset| pending.send(socket, bytes.get(offset..).unwrap_or_default());
        let mut blocks = Same { length, write };
        let end = send_blocks(control, socket, counter, settings, start, &mut blocks);
        pending.finish(socket);
        control.copied.store(pending.is_copied(), Relaxed);
        end
    } else if let Some(file) = payload.file() {
        let write = |socket: &Socket, offset: usize| {
            let mut position = offset as u64;
            Ok(rustix::fs::sendfile(
                socket,
                file,
                Some(&mut position),
                length - offset,
            )?)
        };
        let mut blocks = Same { length, write };
        send_blocks(control, socket, counter, settings, start, &mut blocks)
    } else {
        let write = |mut socket: &Socket, offset| socket.write(bytes.get(offset..).unwrap_or_default());
        let mut blocks = Same { length, write };
        send_blocks(control, socket, counter, settings, start, &mut blocks)
    }
}

/// Writes blocks until told to stop, the limit is reached or there are no more.
pub(super) fn send_blocks(
    control: &Control,
    socket: &Socket,
    counter: &Counter,
    settings: &Settings,
    start: u64,
    blocks: &mut impl Blocks,
) -> End {
    let pacer = settings.rate.map(|rate| Pacer::new(rate, start));
    if pacer.is_some() {
        // Without it sleeps end up to 50 µs late; the rate holds all the same.
        let _ = clock::set_fine_timers();
    }
    let mut total = 0_u64;
    let mut until_look = 0;
    loop {
        if control.to_stop(Role::Send) {
            return End::Stopped;
        }
        if control.take(&control.send_budget, settings.length as i64) <= 0 {
            return End::Limit;
        }
        if let Some(pacer) = &pacer {
            if until_look == 0 {
                if !wait_until(control, pacer.due(total)) {
                    return End::Stopped;
                }
                until_look = settings.burst.max(1);
            }
            until_look -= 1;
        }
        let length = match blocks.next() {
            Ok(0) => return End::Limit,
            Ok(length) => length,
            Err(error) => return End::Failed(error.raw_os_error().unwrap_or(libc::EIO)),
        };
        let mut offset = 0;
        while offset < length {
            match blocks.write(socket, offset) {
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

/// Sends without a copy whose end the kernel has not told yet.
#[derive(Debug, Default)]
struct Pending {
    sent: u64,
    seen: socket::Completions,
}

impl Pending {
    /// How many may be on their way before it is asked for their end.
    const MOST: u64 = 16;

    fn send(&mut self, socket: &Socket, bytes: &[u8]) -> io::Result<usize> {
        if self.sent - self.seen.done >= Self::MOST {
            self.look(socket);
        }
        let sent = match socket::send_uncopied(socket, bytes) {
            // Too many ends have not been read: this one goes the plain way.
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                self.look(socket);
                let mut writer = socket;
                return writer.write(bytes);
            }
            sent => sent?,
        };
        self.sent += 1;
        Ok(sent)
    }

    fn look(&mut self, socket: &Socket) {
        let more = socket::completions(socket);
        self.seen.done += more.done;
        self.seen.copied += more.copied;
    }

    /// Waits a little for the rest.
    fn finish(&mut self, socket: &Socket) {
        for _ in 0..20 {
            self.look(socket);
            if self.seen.done >= self.sent {
                break;
            }
            clock::sleep_until(clock::now() + 1_000_000);
        }
    }

    /// Whether the kernel copied most after all.
    const fn is_copied(&self) -> bool {
        self.seen.copied * 2 > self.seen.done
    }
}

/// Bytes that a receive asks for.
pub(super) fn receive_length(settings: &Settings) -> usize {
    if settings.techniques.has(Technique::Trunc) {
        settings.length.max(DISCARD_LENGTH)
    } else {
        settings.length
    }
}

/// Receives until told to stop.
pub(super) fn receive(control: &Control, socket: &Socket, counter: &Counter, settings: &Settings) -> End {
    let discard = settings.techniques.has(Technique::Trunc);
    let length = receive_length(settings);
    if discard {
        receive_blocks(control, counter, || socket::receive_discarding(socket, length))
    } else {
        let mut buffer = vec![0; length];
        let mut reader = socket;
        receive_blocks(control, counter, || reader.read(&mut buffer))
    }
}

pub(super) fn receive_blocks(
    control: &Control,
    counter: &Counter,
    mut read: impl FnMut() -> io::Result<usize>,
) -> End {
    let mut total = 0_u64;
    loop {
        match read() {
            Ok(0) if control.to_stop(Role::Receive) => return End::Stopped,
            Ok(0) => return End::Closed,
            Ok(count) => {
                total += count as u64;
                counter.bytes.store(total, Relaxed);
                control.count_received(count as u64);
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
