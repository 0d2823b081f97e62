//! Bulk UDP: how one thread sends or receives the datagrams of one stream.
//!
//! Datagrams go to the kernel in batches (sendmmsg) and come from it in batches (recvmmsg). Where it was asked for and
//! the kernel has it, a message of a batch is a run of datagrams that the kernel or the NIC cuts (UDP_SEGMENT), and
//! on receive one that the kernel put together again (UDP_GRO); on the wire are the same datagrams. Held to a rate, a
//! sender sleeps until the next datagram is due and sends what is due then: one at a time where sleeping is fine
//! enough, a few where not.

use super::{
    pacer::Pacer,
    payload::Payload,
    stream::{Control, Counter, Datagrams, End, Role, Settings, failure, wait_until},
};
use crate::{
    iperf3::wire::datagram::{self, Header, LONGEST, Tally},
    sys::{
        clock,
        udp::{self, BATCH, ReceiveBatch},
    },
};
use socket2::Socket;
use std::{io, sync::atomic::Ordering::Relaxed};

/// The most datagrams of one message that the kernel cuts (UDP_MAX_SEGMENTS before Linux 6.9).
const SEGMENTS: usize = 64;

/// Bytes of a batch, about: more would not stay in the processor's cache.
const BATCH_BYTES: usize = 256 << 10;

/// How far behind its rate a sender may be and still catch up, in nanoseconds.
const CATCH_UP: u64 = 100_000_000;

/// How long a sender waits when the network has no buffer left (ENOBUFS), in nanoseconds.
const NO_BUFFER: u64 = 100_000;

/// Datagrams of one message for the kernel to cut, 1 where it would be no gain.
pub(super) fn segments(length: usize) -> usize {
    (LONGEST / length.max(1)).clamp(1, SEGMENTS)
}

/// What a sender sends in one call.
struct Outbox {
    buffer: Vec<u8>,
    length: usize,
    /// Datagrams of a message.
    segments: usize,
    /// Datagrams of a batch.
    most: usize,
}

impl Outbox {
    fn new(payload: &Payload, length: usize, segments: usize) -> Self {
        let message = segments * length;
        let messages = (BATCH_BYTES / message).clamp(1, BATCH);
        let most = messages * segments;
        let mut buffer = vec![0; most * length];
        for datagram in buffer.chunks_exact_mut(length) {
            for (to, from) in datagram.iter_mut().zip(payload.bytes()) {
                *to = *from;
            }
        }
        Self {
            buffer,
            length,
            segments,
            most,
        }
    }

    /// Numbers the first `count` datagrams and stamps them with now.
    fn write_headers(&mut self, count: usize, sequence: u64, datagrams: Datagrams) {
        let mut micros = clock::now() / 1000;
        for (datagram, sequence) in self
            .buffer
            .chunks_exact_mut(self.length)
            .take(count)
            .zip(sequence..)
        {
            // Those of one message leave at one time.
            if self.segments == 1 && count > 1 {
                micros = clock::now() / 1000;
            }
            Header { micros, sequence }.write(datagrams.width, datagram);
        }
    }

    /// Sends the first `count` datagrams; how many the kernel took.
    fn send(&self, socket: &Socket, count: usize) -> io::Result<usize> {
        let bytes = self.buffer.get(..count * self.length).unwrap_or(&self.buffer);
        let messages = udp::send_batch(socket, bytes, self.segments * self.length)?;
        Ok(count.min(messages * self.segments))
    }
}

/// Sends until told to stop.
pub(super) fn send(
    control: &Control,
    socket: &Socket,
    counter: &Counter,
    settings: &Settings,
    datagrams: Datagrams,
    payload: &Payload,
    start: u64,
) -> End {
    let mut pacer = settings.rate.map(|rate| Pacer::new(rate, start));
    if pacer.is_some() {
        // Without it sleeps end up to 50 µs late; the rate holds all the same.
        let _ = clock::set_fine_timers();
    }
    let length = settings.length;
    let cut = if datagrams.segment { segments(length) } else { 1 };
    let mut outbox = Outbox::new(payload, length, cut);
    let (mut packets, mut total) = (0_u64, 0_u64);
    // Datagrams that may be sent before the next look at the rate.
    let mut may = 0;
    loop {
        if control.to_stop(Role::Send) {
            return End::Stopped;
        }
        let mut count = outbox.most;
        if let Some(pacer) = &mut pacer {
            if may == 0 {
                if !wait_until(control, pacer.due(total)) {
                    return End::Stopped;
                }
                let now = clock::now();
                pacer.forgive(total, now, CATCH_UP);
                let due = pacer.allowance(now).saturating_sub(total) / length as u64 + 1;
                may = usize::try_from(due)
                    .unwrap_or(usize::MAX)
                    .min(outbox.most)
                    .max(settings.burst as usize);
            }
            count = count.min(may);
        }
        let wanted = (count * length) as i64;
        let granted = control.take(&control.send_budget, wanted);
        if granted <= 0 {
            return End::Limit;
        }
        count = count.min((granted as u64).div_ceil(length as u64) as usize);
        outbox.write_headers(count, packets + 1, datagrams);
        let sent = match outbox.send(socket, count) {
            Ok(sent) => sent,
            Err(error) => {
                if control.to_stop(Role::Send) {
                    return End::Stopped;
                }
                match error.raw_os_error() {
                    Some(libc::ENOBUFS) => clock::sleep_until(clock::now() + NO_BUFFER),
                    // The path can't: the MTU is smaller than a datagram, or checksums are not offloaded.
                    Some(libc::EINVAL | libc::EMSGSIZE | libc::EIO) if outbox.segments > 1 => {
                        control.uncut.store(true, Relaxed);
                        let _ = udp::set_segment(socket, 0);
                        outbox = Outbox::new(payload, length, 1);
                    }
                    _ => {
                        if let Some(end) = failure(&error) {
                            return end;
                        }
                    }
                }
                0
            }
        };
        may = may.saturating_sub(sent);
        control.give_back(&control.send_budget, (granted, wanted), (sent * length) as i64);
        packets += sent as u64;
        total += (sent * length) as u64;
        counter.packets.store(packets, Relaxed);
        counter.bytes.store(total, Relaxed);
    }
}

/// Receives until told to stop.
pub(super) fn receive(
    control: &Control,
    socket: &Socket,
    counter: &Counter,
    settings: &Settings,
    datagrams: Datagrams,
) -> End {
    let length = settings.length;
    let room = if datagrams.coalesce { LONGEST } else { length };
    let mut batch = ReceiveBatch::new(room, (BATCH_BYTES / room).clamp(1, BATCH));
    let (mut tally, mut total) = (Tally::default(), 0_u64);
    let mut measuring = control.measuring.load(Relaxed);
    loop {
        if let Err(error) = batch.receive(socket) {
            if control.to_stop(Role::Receive) {
                return End::Stopped;
            }
            // A refused answer of ours is no word about what comes.
            if error.raw_os_error() != Some(libc::ECONNREFUSED)
                && let Some(end) = failure(&error)
            {
                return end;
            }
            continue;
        }
        let now = clock::now();
        if !measuring && control.measuring.load(Relaxed) {
            measuring = true;
            tally.end_warm_up();
        }
        let before = total;
        for message in batch.messages() {
            let size = message.segment.unwrap_or(room);
            for piece in message.bytes.chunks(size) {
                let piece = piece.get(..length).unwrap_or(piece);
                if let Some(header) = Header::read(datagrams.width, piece) {
                    tally.count(header, now);
                    total += piece.len() as u64;
                } else if datagrams.answers && datagram::is_connect(piece) {
                    // Our answer was lost, or theirs came twice. A lost one is asked for again.
                    let _ = socket.send(&datagram::REPLY);
                }
            }
        }
        counter.bytes.store(total, Relaxed);
        counter.packets.store(tally.packets, Relaxed);
        counter.lost.store(tally.lost, Relaxed);
        counter.out_of_order.store(tally.out_of_order, Relaxed);
        counter.jitter.store(tally.jitter.to_bits(), Relaxed);
        control.count_received(total - before);
        if control.to_stop(Role::Receive) {
            return End::Stopped;
        }
    }
}
