//! Answering the datagrams of `udp-rr` tests: those of sessions that were agreed on, and no others.

use crate::{
    sys::stop::Stop,
    traffic::{
        rr_wire::{DATAGRAM_HEADER, Hello, LARGEST, read_datagram_header},
        tcp_rr::payload,
    },
};
use rand::{TryRng as _, rngs::SysRng};
use std::{
    collections::BTreeMap,
    io,
    net::UdpSocket,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// How long a read may wait before it looks at whether the server was stopped.
const LOOK: Duration = Duration::from_millis(100);

/// The sessions that are answered, and with how many bytes.
#[derive(Debug, Default)]
pub(super) struct Sessions(Mutex<BTreeMap<u64, usize>>);

impl Sessions {
    fn open(&self) -> MutexGuard<'_, BTreeMap<u64, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new session, of a number that nobody can guess.
    pub(super) fn begin(&self, hello: &Hello) -> io::Result<u64> {
        let session = SysRng.try_next_u64().map_err(io::Error::other)?;
        self.open()
            .insert(session, (hello.response as usize).max(DATAGRAM_HEADER));
        Ok(session)
    }

    pub(super) fn end(&self, session: u64) {
        self.open().remove(&session);
    }

    fn response(&self, session: u64) -> Option<usize> {
        self.open().get(&session).copied()
    }
}

/// Answers until stopped; returns how many datagrams were answered.
pub(super) fn answer(socket: &UdpSocket, sessions: &Sessions, stop: &Stop) -> u64 {
    let mut buffer = vec![0; LARGEST as usize];
    let mut response = payload(LARGEST as usize);
    let mut answered = 0;
    if let Err(error) = socket.set_read_timeout(Some(LOOK)) {
        tracing::warn!(%error, "failed to set a read timeout; udp-rr is not answered");
        return 0;
    }
    while !stop.is_stopped() {
        match socket.recv_from(&mut buffer) {
            Ok((count, peer)) => {
                let header = read_datagram_header(&buffer[..count]);
                let Some(length) = header.and_then(|(session, _)| sessions.response(session)) else {
                    continue;
                };
                response[..DATAGRAM_HEADER].copy_from_slice(&buffer[..DATAGRAM_HEADER]);
                // What can't be sent is lost, as datagrams are; the client counts it.
                answered += u64::from(socket.send_to(&response[..length], peer).is_ok());
            }
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) => {}
            // Of a peer that is gone; not to spin on anything else.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
            Err(error) => {
                tracing::warn!(%error, "failed to receive a datagram");
                stop.wait(Duration::from_millis(10));
            }
        }
    }
    answered
}
