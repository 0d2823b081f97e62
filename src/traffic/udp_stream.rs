//! Bulk UDP: how one thread sends or receives the datagrams of one stream.
//!
//! Datagrams go to the kernel in batches (sendmmsg) and come from it in batches (recvmmsg). Where it was asked for and
//! the kernel has it, a message of a batch is a run of datagrams that the kernel or the NIC cuts (UDP_SEGMENT), and
//! on receive one that the kernel put together again (UDP_GRO); on the wire are the same datagrams. Held to a rate, a
//! sender sleeps until the next datagram is due and sends what is due then: one at a time where sleeping is fine
//! enough, a few where not.

use super::{
    bursts::Bursts,
    pacer::Pacer,
    payload::Payload,
    stream::{Control, Counter, Datagrams, End, Role, Settings, failure, wait_until},
};
use crate::{
    iperf3::wire::datagram::{self, Header, LONGEST, Tally},
    scenario::Technique,
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

/// What is sent at once, at most, where a rate is kept that leaves less than [`APART`] between two datagrams, in
/// nanoseconds of it.
const TICK: u64 = 100_000;

/// Time between two datagrams from which each is stamped and sent by a call of its own, in nanoseconds: those of a batch are
/// all stamped before the first is sent, which would be heard as jitter.
const APART: u64 = 2_000;

/// How long a receiver sleeps while its buffer fills, in nanoseconds: what comes to a sleeper costs its sender no wake-up.
const NAP: u64 = 100_000;

/// How far behind its rate a sender may be and still catch up, in nanoseconds.
const CATCH_UP: u64 = 1_000_000_000;

/// How far behind its rate a sender is, in nanoseconds, that was kept from the processor: it no longer catches up by
/// single datagrams, of which each waits for a wake-up that comes as late as the last.
const HELD_UP: u64 = 1_000_000;

/// What a sender that was held up sends at once, in bytes: below a third of the receive buffer that Linux gives a
/// socket by default (net.core.rmem_default), since the receiver of a busy machine is held up too.
const AT_ONCE: usize = 64 << 10;

/// How many times its rate a sender that was held up makes good for at most.
const MAKE_GOOD: u64 = 8;

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
    fn new(payload: &Payload, length: usize, segments: usize, batch: bool) -> Self {
        let message = segments * length;
        let messages = if batch {
            (BATCH_BYTES / message).clamp(1, BATCH)
        } else {
            1
        };
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

/// Datagrams that may be sent at once at a rate, at least 1.
fn at_once(rate: u64, length: usize) -> u64 {
    let given = |nanos: u64| {
        let bytes = u128::from(nanos) * u128::from(rate) / 8_000_000_000;
        u64::try_from(bytes / length.max(1) as u128).unwrap_or(u64::MAX)
    };
    if given(APART) < 1 { 1 } else { given(TICK) }
}

/// Sleeps to the microsecond: up to a little before the time, and turns round and round for the rest.
struct Sleeper {
    /// How late sleeps have ended lately, in nanoseconds; `None` where turning round would keep the peer from the only
    /// processor.
    late: Option<u64>,
}

impl Sleeper {
    /// The least and the most time of turning round, in nanoseconds.
    const LEAST: u64 = 5_000;
    const MOST: u64 = 80_000;

    fn new() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self {
            late: (processors > 1).then_some(Self::MOST),
        }
    }

    /// Sleeps until `due`; false if it was told to stop meanwhile.
    fn sleep_until(&mut self, control: &Control, due: u64) -> bool {
        let Some(late) = &mut self.late else {
            return wait_until(control, due);
        };
        let now = clock::now();
        if now + *late < due {
            let wake = due - *late;
            if !wait_until(control, wake) {
                return false;
            }
            // Up at once, down slowly.
            let was = clock::now().saturating_sub(wake);
            *late = was.max((*late * 15 + was) / 16).clamp(Self::LEAST, Self::MOST);
        }
        while clock::now() < due {
            std::hint::spin_loop();
        }
        true
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
    let cut = if settings.techniques.has(Technique::Gso) {
        segments(length)
    } else {
        1
    };
    let batch = settings.techniques.has(Technique::Batch);
    let mut outbox = Outbox::new(payload, length, cut, batch);
    let (mut packets, mut total) = (0_u64, 0_u64);
    // Datagrams that may be sent before the next look at the rate.
    let mut may = 0;
    // What is overdue goes out at twice the rate, and where it is much at several times the rate, but not at once.
    let mut not_before = 0;
    let tick = settings.rate.map_or(1, |rate| at_once(rate, length));
    let mut sleeper = Sleeper::new();
    loop {
        if control.to_stop(Role::Send) {
            return End::Stopped;
        }
        let mut count = outbox.most;
        if let Some(pacer) = &mut pacer {
            if may == 0 {
                if !sleeper.sleep_until(control, pacer.due(total).max(not_before)) {
                    return End::Stopped;
                }
                let now = clock::now();
                pacer.forgive(total, now, CATCH_UP);
                let due = pacer.allowance(now).saturating_sub(total) / length as u64 + 1;
                let (most, times) = if now.saturating_sub(pacer.due(total)) > HELD_UP {
                    (tick.max((AT_ONCE / length.max(1)) as u64), MAKE_GOOD)
                } else {
                    (tick, 2)
                };
                may = usize::try_from(due.min(most))
                    .unwrap_or(usize::MAX)
                    .min(outbox.most)
                    .max(settings.burst as usize);
                not_before = now + pacer.spacing((may * length) as u64) / times;
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
                        outbox = Outbox::new(payload, length, 1, batch);
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
    let room = if settings.techniques.has(Technique::Gro) {
        LONGEST
    } else {
        length
    };
    let used = |technique| settings.techniques.has(technique);
    let most = if used(Technique::Batch) {
        (BATCH_BYTES / room).clamp(1, BATCH)
    } else {
        1
    };
    let mut batch = ReceiveBatch::new(room, most);
    // Where a rate is kept each datagram is heard when it comes.
    let naps = settings.rate.is_none() && used(Technique::Batch) && used(Technique::BigBuffer);
    let mut bursts = settings.rate.map(|rate| Bursts::new(length, rate));
    let real_ahead = clock::real_ahead();
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
            if let Some(bursts) = &mut bursts {
                bursts.restart();
            }
        }
        let before = total;
        for message in batch.messages() {
            let arrived = message.arrived.map_or(now, |at| at.saturating_sub(real_ahead));
            let size = message.segment.unwrap_or(room);
            for piece in message.bytes.chunks(size) {
                let piece = piece.get(..length).unwrap_or(piece);
                if let Some(header) = Header::read(datagrams.width, piece) {
                    tally.count(header, arrived);
                    if let Some(bursts) = &mut bursts {
                        bursts.count(arrived);
                    }
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
        if let Some(bursts) = &bursts {
            let told = [bursts.count, bursts.datagrams, bursts.longest];
            for (counter, told) in counter.bursts.iter().zip(told) {
                counter.store(told, Relaxed);
            }
        }
        control.count_received(total - before);
        if control.to_stop(Role::Receive) {
            return End::Stopped;
        }
        if naps && !batch.was_full() && batch.messages().nth(1).is_some() {
            clock::sleep_until(clock::now() + NAP);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_leaves_no_time_between_goes_in_batches() {
        // 11.6 µs between two, 2.3 µs, 1.2 µs.
        assert_eq!(at_once(1_000_000_000, 1448), 1);
        assert_eq!(at_once(5_000_000_000, 1448), 1);
        assert_eq!(at_once(10_000_000_000, 1448), 86);
        assert_eq!(at_once(1, 1448), 1);
        assert!(at_once(u64::MAX, 1) > 1);
    }
}
