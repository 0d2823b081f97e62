//! Bulk TCP over many streams: how one thread drives hundreds or thousands of them (epoll(7), edge-triggered).
//!
//! A stream that may go on stands in a queue; the thread takes the first, moves one block of it, and puts it back at the
//! end, so that none starves. A stream that the kernel stops leaves the queue until an event tells that it may go on.
//! Held to a rate, it waits in a heap until its next block is due.

use super::{
    pacer::Pacer,
    payload::Payload,
    stream::{Control, Counter, End, PATIENCE, Role, Settings, failure},
    tcp_stream::receive_length,
};
use crate::{
    scenario::Technique,
    sys::{clock, socket},
};
use rustix::{
    event::{Timespec, epoll},
    io::Errno,
};
use socket2::Socket;
use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    io::{self, Read as _, Write as _},
    mem::MaybeUninit,
    os::fd::OwnedFd,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

/// Events taken at once.
const EVENTS: usize = 256;

/// Blocks moved between looks for events.
const TURNS: usize = 64;

/// A wait shorter than this, in nanoseconds, is a sleep of its own: epoll counts in milliseconds on older kernels.
const SHORT: u64 = 2_000_000;

/// One stream of a thread.
pub(super) struct Lane {
    pub(super) socket: Arc<Socket>,
    pub(super) counter: Arc<Counter>,
}

/// What a turn of a stream came to.
enum Turn {
    /// It may go on at once.
    Again,
    /// The kernel stopped it; an event will tell.
    Wait,
    /// Its next block is due then.
    Due(u64),
    /// It has ended.
    Over(End),
}

/// What is ready to be driven, and what will be.
struct Queue {
    epoll: OwnedFd,
    ready: VecDeque<usize>,
    due: BinaryHeap<Reverse<(u64, usize)>>,
    /// Whether a stream is in `ready` or `due`.
    queued: Vec<bool>,
    /// Whether the peer has closed its side, so that reading must go on to the end.
    hung: Vec<bool>,
}

impl Queue {
    fn new(lanes: &[Lane], interest: epoll::EventFlags) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        for (index, lane) in lanes.iter().enumerate() {
            lane.socket.set_nonblocking(true)?;
            epoll::add(
                &epoll,
                &*lane.socket,
                epoll::EventData::new_u64(index as u64),
                interest | epoll::EventFlags::ET | epoll::EventFlags::RDHUP,
            )?;
        }
        Ok(Self {
            epoll,
            ready: (0..lanes.len()).collect(),
            due: BinaryHeap::new(),
            queued: vec![true; lanes.len()],
            hung: vec![false; lanes.len()],
        })
    }

    fn push(&mut self, index: usize) {
        if let Some(queued) = self.queued.get_mut(index)
            && !*queued
        {
            *queued = true;
            self.ready.push_back(index);
        }
    }

    /// Takes events; waits for one where nothing is ready, [`PATIENCE`] at most.
    fn look(&mut self) {
        let patience = u64::try_from(PATIENCE.as_nanos()).unwrap_or(u64::MAX);
        let mut wait = if self.ready.is_empty() { patience } else { 0 };
        if let Some(Reverse((due, _))) = self.due.peek() {
            wait = wait.min(due.saturating_sub(clock::now()));
        }
        if wait > 0 && wait < SHORT {
            clock::sleep_until(clock::now() + wait);
            wait = 0;
        }
        let timeout = Timespec::try_from(Duration::from_nanos(wait)).unwrap_or_default();
        let mut events = [MaybeUninit::<epoll::Event>::uninit(); EVENTS];
        let happened = match epoll::wait(&self.epoll, &mut events, Some(&timeout)) {
            Ok((happened, _)) => happened,
            Err(Errno::INTR) => return,
            Err(_) => {
                // Nothing can be wrong with a descriptor of our own; not to spin if it is.
                clock::sleep_until(clock::now() + SHORT);
                return;
            }
        };
        for event in happened {
            let (data, flags) = (event.data, event.flags);
            let index = data.u64() as usize;
            let closing = epoll::EventFlags::RDHUP | epoll::EventFlags::HUP | epoll::EventFlags::ERR;
            if flags.intersects(closing)
                && let Some(hung) = self.hung.get_mut(index)
            {
                *hung = true;
            }
            self.push(index);
        }
        self.release();
    }

    /// Makes ready what is due.
    fn release(&mut self) {
        if self.due.is_empty() {
            return;
        }
        let now = clock::now();
        while let Some(Reverse((due, index))) = self.due.peek().copied()
            && due <= now
        {
            self.due.pop();
            self.ready.push_back(index);
        }
    }

    /// Drives what is ready until told to stop. `turn` moves a block of a stream; it is told whether the peer has closed
    /// its side.
    fn drive(
        mut self,
        control: &Control,
        role: Role,
        lanes: &[Lane],
        mut turn: impl FnMut(usize, bool) -> Turn,
    ) {
        let mut open = lanes.len();
        while open > 0 && !control.to_stop(role) {
            self.look();
            for _ in 0..TURNS {
                let Some(index) = self.ready.pop_front() else {
                    break;
                };
                let hung = self.hung.get(index).copied().unwrap_or(false);
                let outcome = turn(index, hung);
                if let Turn::Again = outcome {
                    self.ready.push_back(index);
                    continue;
                }
                if let Turn::Due(due) = outcome {
                    self.due.push(Reverse((due, index)));
                    continue;
                }
                if let (Turn::Wait, Some(queued)) = (&outcome, self.queued.get_mut(index)) {
                    *queued = false;
                }
                // What has ended stays `queued`, so that no event brings it back.
                if let (Turn::Over(end), Some(lane)) = (outcome, lanes.get(index)) {
                    open -= 1;
                    lane.counter.end.store(end.code(), Relaxed);
                    control.wake.raise();
                }
                if control.to_stop(role) {
                    break;
                }
            }
        }
        for lane in lanes {
            let stopped = End::Stopped.code();
            let _ = lane.counter.end.compare_exchange(0, stopped, Relaxed, Relaxed);
        }
        control.wake.raise();
    }
}

/// Where a sending stream is.
struct Sending {
    /// Whether the current block is taken out of the budget.
    begun: bool,
    /// Bytes of it that are written.
    offset: usize,
    total: u64,
    pacer: Option<Pacer>,
    until_look: u32,
}

/// Sends on all lanes until told to stop.
pub(super) fn send(control: &Control, lanes: &[Lane], settings: &Settings, payload: &Payload, start: u64) {
    let queue = match Queue::new(lanes, epoll::EventFlags::OUT) {
        Ok(queue) => queue,
        Err(error) => return fail(control, lanes, &error),
    };
    if settings.rate.is_some() {
        // Without it sleeps end up to 50 µs late; the rate holds all the same.
        let _ = clock::set_fine_timers();
    }
    let (length, burst) = (settings.length, settings.burst.max(1));
    let mut sending: Vec<Sending> = lanes
        .iter()
        .enumerate()
        .map(|(index, _)| Sending {
            begun: false,
            offset: 0,
            total: 0,
            // Not all at the same moment.
            pacer: settings.rate.map(|rate| {
                let block = u64::try_from(length as u128 * 8_000_000_000 / u128::from(rate.max(1)));
                let step = block.unwrap_or(0) / lanes.len().max(1) as u64;
                Pacer::new(rate, start + step * index as u64)
            }),
            until_look: 0,
        })
        .collect();
    let write = |socket: &Socket, offset: usize| -> io::Result<usize> {
        if let Some(file) = payload.file() {
            let mut position = offset as u64;
            Ok(rustix::fs::sendfile(
                socket,
                file,
                Some(&mut position),
                length - offset,
            )?)
        } else {
            let mut writer = socket;
            writer.write(payload.bytes().get(offset..).unwrap_or_default())
        }
    };
    queue.drive(control, Role::Send, lanes, |index, _| {
        let (Some(lane), Some(state)) = (lanes.get(index), sending.get_mut(index)) else {
            return Turn::Over(End::Stopped);
        };
        if !state.begun {
            if let (Some(pacer), 0) = (&state.pacer, state.until_look) {
                let due = pacer.due(state.total);
                if due > clock::now() {
                    return Turn::Due(due);
                }
                state.until_look = burst;
            }
            if control.take(&control.send_budget, length as i64) <= 0 {
                return Turn::Over(End::Limit);
            }
            state.until_look = state.until_look.saturating_sub(1);
            state.begun = true;
        }
        let asked = length - state.offset;
        match write(&lane.socket, state.offset) {
            Ok(0) => Turn::Over(End::Closed),
            Ok(written) => {
                state.total += written as u64;
                lane.counter.bytes.store(state.total, Relaxed);
                if written < asked {
                    state.offset += written;
                    Turn::Wait
                } else {
                    (state.begun, state.offset) = (false, 0);
                    Turn::Again
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Turn::Again,
            Err(error) => failure(&error).map_or(Turn::Wait, Turn::Over),
        }
    });
}

/// Receives on all lanes until told to stop.
pub(super) fn receive(control: &Control, lanes: &[Lane], settings: &Settings) {
    let queue = match Queue::new(lanes, epoll::EventFlags::IN) {
        Ok(queue) => queue,
        Err(error) => return fail(control, lanes, &error),
    };
    let length = receive_length(settings);
    let discard = settings.techniques.has(Technique::Trunc);
    let mut buffer = vec![0; if discard { 0 } else { length }];
    let mut totals = vec![0_u64; lanes.len()];
    queue.drive(control, Role::Receive, lanes, |index, hung| {
        let (Some(lane), Some(total)) = (lanes.get(index), totals.get_mut(index)) else {
            return Turn::Over(End::Stopped);
        };
        let received = if discard {
            socket::receive_discarding(&*lane.socket, length)
        } else {
            let mut reader = &*lane.socket;
            reader.read(&mut buffer)
        };
        match received {
            Ok(0) if control.to_stop(Role::Receive) => Turn::Over(End::Stopped),
            Ok(0) => Turn::Over(End::Closed),
            Ok(count) => {
                *total += count as u64;
                lane.counter.bytes.store(*total, Relaxed);
                control.count_received(count as u64);
                // Fewer than asked for: the rest will be an event, but for an end that was one already.
                if count < length && !hung {
                    Turn::Wait
                } else {
                    Turn::Again
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Turn::Again,
            Err(error) => failure(&error).map_or(Turn::Wait, Turn::Over),
        }
    });
}

/// Ends all lanes by an error.
fn fail(control: &Control, lanes: &[Lane], error: &io::Error) {
    for lane in lanes {
        let end = End::Failed(error.raw_os_error().unwrap_or(0));
        lane.counter.end.store(end.code(), Relaxed);
    }
    control.wake.raise();
}
