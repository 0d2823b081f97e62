//! Bulk TCP: how one thread sends or receives on one stream.
//!
//! The hot loop does one call a block, one relaxed store and one relaxed load: no allocation, no lock, and no clock
//! unless a rate is asked for.

use super::{
    pacer::Pacer,
    payload::Payload,
    stream::{Control, Counter, End, Role, Settings, failure, wait_until},
};
use crate::sys::{clock, socket};
use socket2::Socket;
use std::{
    io::{self, Read as _, Write as _},
    sync::atomic::Ordering::Relaxed,
};

/// The least that one receive asks for where the kernel discards, in bytes: more costs nothing there, since nothing
/// is copied.
const DISCARD_LENGTH: usize = 1 << 20;

/// How many bytes wait before a receiver is woken, at most. Each wake-up costs the sender's processor an interrupt to
/// the receiver's. 256 KiB took less CPU a
/// byte than none in every mode tried; more was not shown to help.
const LOW_WATER: usize = 256 << 10;

/// Sends until told to stop.
pub(super) fn send(
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
        if control.take(&control.send_budget, length as i64) <= 0 {
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

/// Receives until told to stop.
pub(super) fn receive(control: &Control, socket: &Socket, counter: &Counter, settings: &Settings) -> End {
    let length = if settings.discard {
        settings.length.max(DISCARD_LENGTH)
    } else {
        settings.length
    };
    // Not where few bytes come or each is waited for: the last ones would be seen only after a timeout.
    if settings.rate.is_none() && settings.limit.is_none() {
        // A kernel that refuses wakes us more often, no more than that.
        let _ = socket::set_receive_low_water(socket, length.min(LOW_WATER) as i32);
    }
    if settings.discard {
        receive_blocks(control, counter, || socket::receive_discarding(socket, length))
    } else {
        let mut buffer = vec![0; length];
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
