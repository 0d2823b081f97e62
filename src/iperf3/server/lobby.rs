//! Connections that have not yet sent their cookie: bounded in number and in time, polled by one thread.

use super::{
    super::{session::canonical, wire::Cookie},
    Rejection,
};
use crate::iperf3::wire::cookie::COOKIE_LENGTH;
use socket2::Socket;
use std::{
    collections::VecDeque,
    io::{self, Read as _},
    net::SocketAddr,
    time::{Duration, Instant},
};

/// Connections taken in one go, so that a flood of them does not keep us from those that are here.
const ACCEPTS: usize = 64;

/// How long we leave the listener alone when there are no descriptors left.
const BREATHER: Duration = Duration::from_millis(20);

struct Guest {
    socket: Socket,
    peer: SocketAddr,
    deadline: Instant,
    cookie: [u8; COOKIE_LENGTH],
    read: usize,
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
    crowded: Vec<SocketAddr>,
    patience: Duration,
    room: usize,
}

impl Lobby {
    pub(super) fn new(patience: Duration, room: usize) -> Self {
        Self {
            guests: VecDeque::new(),
            crowded: Vec::new(),
            patience,
            room: room.max(1),
        }
    }

    /// Takes in who is waiting at the listener.
    pub(super) fn accept(&mut self, listener: &Socket) {
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
                        && let Some(oldest) = self.guests.pop_front()
                    {
                        self.crowded.push(oldest.peer);
                    }
                    self.guests.push_back(Guest {
                        socket,
                        peer,
                        deadline: Instant::now() + self.patience,
                        cookie: [0; COOKIE_LENGTH],
                        read: 0,
                    });
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // One connection died while it waited (accept(2)).
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    // No descriptors or no memory: the listener stays readable, so breathe.
                    tracing::warn!(%error, "failed to accept a connection");
                    std::thread::sleep(BREATHER);
                    return;
                }
            }
        }
    }

    /// Reads from everyone; returns those whose fate is known.
    pub(super) fn settle(&mut self, now: Instant) -> Vec<Stranger> {
        let mut settled: Vec<_> = self
            .crowded
            .drain(..)
            .map(|peer| Stranger::Gone(peer, Rejection::Crowded))
            .collect();
        for mut guest in std::mem::take(&mut self.guests) {
            match guest.read_on() {
                Some(true) => settled.push(Stranger::Known {
                    socket: guest.socket,
                    peer: guest.peer,
                    cookie: Cookie::from_bytes(guest.cookie),
                }),
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
        self.guests.iter().map(|guest| &guest.socket)
    }

    /// How long until the first patience ends.
    pub(super) fn timeout(&self, now: Instant) -> Option<Duration> {
        self.guests
            .front()
            .map(|guest| guest.deadline.saturating_duration_since(now))
    }
}

impl Guest {
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
