//! The thread that receives connections: accepts, hears what each is for, answers `tcp-crr` itself.

use super::{
    ANSWERED, LISTENER, LOGGED, LatencyServer, PATIENCE, READ, SILENCE, STOP, STRANGERS, TESTS, Tests,
    guest::{Guest, GuestStage, Outcome},
};
use crate::{
    sys::stop::Stop,
    traffic::{
        rr_wire::{Answer, HELLO_LENGTH, Hello, Kind, Refusal},
        tcp_rr::payload,
    },
};
use rustix::{
    event::{Timespec, epoll},
    io::Errno,
};
use std::{
    collections::{BTreeMap, VecDeque},
    io::{self, Write as _},
    mem::MaybeUninit,
    net::{SocketAddr, TcpStream},
    sync::atomic::Ordering,
    thread,
    time::{Duration, Instant},
};

/// The first thread.
pub(super) struct Reception<'scope, 'env> {
    server: &'env LatencyServer,
    tests: &'env Tests,
    scope: &'scope thread::Scope<'scope, 'env>,
    epoll: std::os::fd::OwnedFd,
    guests: BTreeMap<u64, Guest>,
    answered: VecDeque<(TcpStream, Instant)>,
    next: u64,
    strangers: u64,
    scratch: Vec<u8>,
    responses: Vec<u8>,
}

impl<'scope, 'env> Reception<'scope, 'env> {
    pub(super) fn new(
        server: &'env LatencyServer,
        tests: &'env Tests,
        scope: &'scope thread::Scope<'scope, 'env>,
    ) -> io::Result<Self> {
        Ok(Self {
            server,
            tests,
            scope,
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            guests: BTreeMap::new(),
            answered: VecDeque::new(),
            next: STOP + 1,
            strangers: 0,
            scratch: vec![0; READ],
            responses: payload(READ),
        })
    }

    pub(super) fn run(&mut self, stop: &Stop) -> io::Result<u64> {
        let data = epoll::EventData::new_u64;
        epoll::add(
            &self.epoll,
            &self.server.listener,
            data(LISTENER),
            epoll::EventFlags::IN,
        )?;
        epoll::add(&self.epoll, stop, data(STOP), epoll::EventFlags::IN)?;
        let mut events = [MaybeUninit::<epoll::Event>::uninit(); 16];
        while !stop.is_stopped() {
            let timeout = self.next_timeout(Instant::now());
            let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
            let ready: Vec<u64> = match epoll::wait(&self.epoll, &mut events, timeout.as_ref()) {
                Ok((ready, _)) => ready.iter().map(|event| event.data.u64()).collect(),
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            for id in ready {
                match id {
                    LISTENER => self.accept(stop),
                    STOP => {}
                    id => {
                        if let Some(guest) = self.guests.remove(&id) {
                            self.attend(id, guest, true);
                        }
                    }
                }
            }
            self.show_out(Instant::now());
        }
        Ok(self.strangers)
    }

    /// When somebody's patience ends next.
    fn next_timeout(&self, now: Instant) -> Option<Duration> {
        let guest = self.guests.first_key_value().map(|(_, guest)| guest.since);
        let answered = self.answered.front().map(|(_, since)| *since);
        let first = [guest, answered].into_iter().flatten().min()?;
        Some((first + PATIENCE).saturating_duration_since(now) + Duration::from_millis(1))
    }

    /// Closes what took too long.
    fn show_out(&mut self, now: Instant) {
        while let Some(entry) = self.guests.first_entry() {
            if now.duration_since(entry.get().since) < PATIENCE {
                break;
            }
            let guest = entry.remove();
            self.refuse(&guest.peer, "it said nothing, or not enough, in time");
        }
        while let Some((_, since)) = self.answered.front() {
            if now.duration_since(*since) < PATIENCE {
                break;
            }
            self.answered.pop_front();
        }
    }

    fn accept(&mut self, stop: &Stop) {
        let (stream, peer) = match self.server.listener.accept() {
            Ok(accepted) => accepted,
            Err(error) => {
                use io::ErrorKind::{ConnectionAborted, Interrupted, WouldBlock};
                if !matches!(error.kind(), ConnectionAborted | Interrupted | WouldBlock) {
                    // Out of descriptors or memory: not to spin on it.
                    tracing::warn!(%error, "failed to accept a connection");
                    stop.wait(Duration::from_millis(10));
                }
                return;
            }
        };
        if let Err(error) = stream.set_nonblocking(true) {
            tracing::warn!(%error, "failed to set up a connection");
            return;
        }
        if self.guests.len() >= STRANGERS
            && let Some((_, oldest)) = self.guests.pop_first()
        {
            self.refuse(&oldest.peer, "it said nothing while many others came");
        }
        let id = self.next;
        self.next += 1;
        let guest = Guest {
            stream,
            peer,
            since: Instant::now(),
            stage: GuestStage::Hello {
                bytes: [0; HELLO_LENGTH],
                have: 0,
            },
        };
        self.attend(id, guest, false);
    }

    /// Goes on with a guest as far as it goes without waiting.
    fn attend(&mut self, id: u64, mut guest: Guest, watched: bool) {
        let outcome = loop {
            match guest.step(&mut self.scratch, &self.responses, &self.server.token) {
                Ok(Some(outcome)) => break outcome,
                Ok(None) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    break match guest.stage {
                        GuestStage::Response { .. } => Outcome::Write,
                        _ => Outcome::Read,
                    };
                }
                Err(_) => break Outcome::Gone,
            }
        };
        match outcome {
            Outcome::Read => self.watch(id, guest, watched, epoll::EventFlags::IN),
            Outcome::Write => self.watch(id, guest, watched, epoll::EventFlags::OUT),
            Outcome::Test(hello) => self.begin_test(id, guest, hello),
            Outcome::Answered => {
                self.tests.transactions.fetch_add(1, Ordering::Relaxed);
                if self.answered.len() >= ANSWERED {
                    self.answered.pop_front();
                }
                if watched {
                    let _ = epoll::delete(&self.epoll, &guest.stream);
                }
                self.answered.push_back((guest.stream, Instant::now()));
            }
            Outcome::Agreed => {}
            Outcome::Gone if matches!(guest.stage, GuestStage::Hello { .. }) => {
                self.refuse(&guest.peer, "it went away without a word");
            }
            Outcome::Gone => tracing::debug!(peer = %guest.peer, "a tcp-crr connection broke"),
            Outcome::Stranger(why) => self.refuse(&guest.peer, why),
        }
    }

    fn watch(&mut self, id: u64, guest: Guest, watched: bool, interest: epoll::EventFlags) {
        let data = epoll::EventData::new_u64(id);
        let watching = if watched {
            epoll::modify(&self.epoll, &guest.stream, data, interest)
        } else {
            epoll::add(&self.epoll, &guest.stream, data, interest)
        };
        match watching {
            Ok(()) => {
                self.guests.insert(id, guest);
            }
            Err(error) => tracing::warn!(%error, peer = %guest.peer, "failed to watch a connection"),
        }
    }

    fn begin_test(&mut self, id: u64, guest: Guest, hello: Hello) {
        let Guest { mut stream, peer, .. } = guest;
        let _ = epoll::delete(&self.epoll, &stream);
        let tests = self.tests;
        if tests.running().len() >= TESTS {
            let _ = stream.write_all(&Answer::Refused(Refusal::Busy).encode());
            self.refuse(&peer, "there are too many tests already");
            return;
        }
        let seen = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        let begin = || {
            stream.set_nonblocking(false)?;
            stream.set_write_timeout(Some(SILENCE))?;
            let session = if hello.kind == Kind::UdpRr {
                Some(tests.sessions.begin(&hello)?)
            } else {
                stream.set_read_timeout(Some(SILENCE))?;
                None
            };
            let answer = Answer::Accepted {
                seen,
                session: session.unwrap_or_default(),
            };
            tests.running().insert(id, stream.try_clone()?);
            let begun = stream.write_all(&answer.encode()).and_then(|()| {
                thread::Builder::new()
                    .name(if session.is_some() { "udp-rr" } else { "tcp-rr" }.to_owned())
                    .spawn_scoped(self.scope, move || match session {
                        None => tests.answer(id, &stream, hello),
                        Some(session) => tests.keep(id, &stream, session),
                    })
            });
            if begun.is_err() {
                tests.running().remove(&id);
                tests.sessions.end(session.unwrap_or_default());
            }
            begun.map(|_| ())
        };
        if let Err(error) = begin() {
            tracing::warn!(%error, %peer, "failed to begin a test");
        }
    }

    fn refuse(&mut self, peer: &SocketAddr, why: &str) {
        self.strangers += 1;
        if self.strangers <= LOGGED {
            tracing::warn!(%peer, "refused a connection to the latency port: {why}; running tests go on");
        } else if self.strangers == LOGGED + 1 {
            tracing::warn!("refused more connections to the latency port; no more of them are logged");
        }
    }
}
