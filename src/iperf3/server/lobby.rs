//! Connections that have not yet sent their cookie, and those that were refused and are on their way out: bounded in
//! number and in time, polled by one thread.

use super::{
    super::{session::canonical, wire::Cookie},
    Rejection,
};
use crate::iperf3::wire::{State, cookie::COOKIE_LENGTH};
use socket2::Socket;
use std::{
    collections::VecDeque,
    io::{self, Read as _, Write as _},
    net::{Shutdown, SocketAddr},
    time::{Duration, Instant},
};

/// Connections taken in one go, so that a flood of them does not keep us from those that are here.
const ACCEPTS: usize = 64;

/// How long we leave the listener alone when there are no descriptors left.
const BREATHER: Duration = Duration::from_millis(20);

/// How long we read on after a refusal, so that it arrives: unread bytes at the close would turn into a reset that can
/// destroy it.
const GOODBYE: Duration = Duration::from_secs(1);

/// Reads of a refused connection in one go.
const LAST_READS: usize = 8;

struct Guest {
    socket: Socket,
    peer: SocketAddr,
    deadline: Instant,
    cookie: [u8; COOKIE_LENGTH],
    read: usize,
}

/// A connection that was told that we are busy.
struct Leaving {
    socket: Socket,
    deadline: Instant,
}

/// What became of a connection.
pub(super) enum Stranger {
    /// Its cookie is here.
    Known {
        socket: Socket,
        peer: SocketAddr,
        cookie: Cookie,
    },
    /// It came to nothing.
    Gone(SocketAddr, Rejection),
}

/// The lobby, in order of arrival: all have the same patience, so the first has the first deadline.
pub(super) struct Lobby {
    guests: VecDeque<Guest>,
    leaving: VecDeque<Leaving>,
    /// Whose fate was seen while others came in.
    settled: Vec<Stranger>,
    crowded: Vec<SocketAddr>,
    patience: Duration,
    room: usize,
}

impl Lobby {
    pub(super) fn new(patience: Duration, room: usize) -> Self {
        Self {
            guests: VecDeque::new(),
            leaving: VecDeque::new(),
            settled: Vec::new(),
            crowded: Vec::new(),
            patience,
            room: room.max(1),
        }
    }

    /// Takes in who is waiting at the listener; false where the system has no descriptor left for them and there was
    /// nobody here to send away for it.
    pub(super) fn accept(&mut self, listener: &Socket) -> bool {
        for _ in 0..ACCEPTS {
            match listener.accept() {
                Ok((socket, address)) => {
                    let Some(peer) = address.as_socket().map(canonical) else {
                        continue;
                    };
                    if socket.set_nonblocking(true).is_err() {
                        continue;
                    }
                    if self.guests.len() >= self.room
                        && let Some(mut oldest) = self.guests.pop_front()
                    {
                        // It may have said all that was wanted, and nobody has listened yet.
                        if oldest.read_on() == Some(true) {
                            self.settled.push(oldest.known());
                        } else {
                            self.crowded.push(oldest.peer);
                        }
                    }
                    self.guests.push_back(Guest {
                        socket,
                        peer,
                        deadline: Instant::now() + self.patience,
                        cookie: [0; COOKIE_LENGTH],
                        read: 0,
                    });
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
                // One connection died while it waited (accept(2)).
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    tracing::warn!(%error, "failed to accept a connection");
                    // No descriptors or no memory: those that only wait make room for who may have something to say.
                    if self.make_room() {
                        continue;
                    }
                    // The listener stays readable, so breathe.
                    std::thread::sleep(BREATHER);
                    return false;
                }
            }
        }
        true
    }

    /// Closes what can be spared: refused connections, or the half of the guests that has waited longest.
    fn make_room(&mut self) -> bool {
        let refused = !self.leaving.is_empty();
        self.leaving.clear();
        if refused {
            return true;
        }
        let oldest = self.guests.len().div_ceil(2);
        self.crowded
            .extend(self.guests.drain(..oldest).map(|guest| guest.peer));
        oldest > 0
    }

    /// Tells a connection that we are busy, and lets it go.
    pub(super) fn refuse(&mut self, socket: Socket) {
        // A fresh connection has room for a byte, and where not, it is simply closed.
        if (&socket).write(&[State::AccessDenied.byte()]).is_err()
            || socket.shutdown(Shutdown::Write).is_err()
        {
            return;
        }
        if self.leaving.len() >= self.room {
            self.leaving.pop_front();
        }
        self.leaving.push_back(Leaving {
            socket,
            deadline: Instant::now() + GOODBYE,
        });
    }

    /// Reads from everyone; returns those whose fate is known.
    pub(super) fn settle(&mut self, now: Instant) -> Vec<Stranger> {
        self.leaving
            .retain(|leaving| now < leaving.deadline && !leaving.is_gone());
        let mut settled = std::mem::take(&mut self.settled);
        let crowded = self.crowded.drain(..);
        settled.extend(crowded.map(|peer| Stranger::Gone(peer, Rejection::Crowded)));
        for mut guest in std::mem::take(&mut self.guests) {
            match guest.read_on() {
                Some(true) => settled.push(guest.known()),
                Some(false) => settled.push(Stranger::Gone(guest.peer, Rejection::NoCookie)),
                None if now >= guest.deadline => {
                    settled.push(Stranger::Gone(guest.peer, Rejection::NoCookie));
                }
                None => self.guests.push_back(guest),
            }
        }
        settled
    }

    pub(super) fn sockets(&self) -> impl Iterator<Item = &Socket> {
        let guests = self.guests.iter().map(|guest| &guest.socket);
        guests.chain(self.leaving.iter().map(|leaving| &leaving.socket))
    }

    /// How long until the first patience ends.
    pub(super) fn timeout(&self, now: Instant) -> Option<Duration> {
        let guest = self.guests.front().map(|guest| guest.deadline);
        let leaving = self.leaving.front().map(|leaving| leaving.deadline);
        let first = match (guest, leaving) {
            (Some(guest), Some(leaving)) => guest.min(leaving),
            (guest, leaving) => guest.or(leaving)?,
        };
        Some(first.saturating_duration_since(now))
    }
}

impl Leaving {
    /// Whether the peer has closed, as far as we care to read.
    fn is_gone(&self) -> bool {
        let mut buffer = [0; 4096];
        for _ in 0..LAST_READS {
            match (&self.socket).read(&mut buffer) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) => {
                    let kind = error.kind();
                    return kind != io::ErrorKind::WouldBlock && kind != io::ErrorKind::Interrupted;
                }
            }
        }
        // Whoever talks on and on has heard enough.
        true
    }
}

impl Guest {
    fn known(self) -> Stranger {
        Stranger::Known {
            socket: self.socket,
            peer: self.peer,
            cookie: Cookie::from_bytes(self.cookie),
        }
    }

    /// Reads towards the cookie: whether it is whole, false where it will never be, `None` where it needs more.
    fn read_on(&mut self) -> Option<bool> {
        while let Some(rest) = self.cookie.get_mut(self.read..).filter(|rest| !rest.is_empty()) {
            match (&self.socket).read(rest) {
                Ok(0) => return Some(false),
                Ok(count) => self.read += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Some(false),
            }
        }
        Some(true)
    }
}
