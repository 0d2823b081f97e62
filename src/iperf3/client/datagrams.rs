//! How the client opens UDP streams: one after the other, a datagram each way.

use super::{ClientError, Run};
use crate::iperf3::{
    link::{self, ConnectError},
    wire::{
        client::Phase,
        datagram::{self, SHORTEST},
    },
};
use socket2::Socket;
use std::{
    io,
    net::{SocketAddr, UdpSocket},
    os::fd::AsFd,
    time::{Duration, Instant},
};

/// How long the server may take to answer, as in iperf3.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long until we ask again, where we may.
const AGAIN: Duration = Duration::from_millis(250);

/// How long the server's port may be closed.
const REFUSED: Duration = Duration::from_secs(3);

/// How long until we ask again where it was.
const PAUSE: Duration = Duration::from_millis(50);

impl Run<'_> {
    /// Opens a stream. Where the server ended the test meanwhile, the machine knows why.
    pub(super) fn open_datagrams(
        &mut self,
        id: u32,
        local: Option<SocketAddr>,
    ) -> Result<Socket, ClientError> {
        let address = self.options.sockets.target(self.options.address);
        let failed = |source| ClientError::Stream { id, source };
        let broken = |error| failed(ConnectError::Failed(address, error));
        let socket =
            link::connect_datagrams(address, local, |socket| self.prepare(socket)).map_err(failed)?;
        let began = Instant::now();
        let deadline = began + PATIENCE;
        // Some servers open the port of the next stream only once they have answered the one before. What was refused
        // reached nobody, so that asking again can't be taken for another stream.
        let may_be_refused =
            |error: &io::Error| error.kind() == io::ErrorKind::ConnectionRefused && began.elapsed() < REFUSED;
        let mut next = Some(began);
        loop {
            let now = Instant::now();
            if next.is_some_and(|next| now >= next) {
                next = match socket.send(&datagram::CONNECT) {
                    Ok(_) => self.options.ask_again.then(|| now + AGAIN),
                    Err(error) if may_be_refused(&error) => Some(now + PAUSE),
                    Err(error) => return Err(broken(error)),
                };
            }
            match is_answered(&socket) {
                Ok(true) => return Ok(socket.into()),
                Ok(false) => {}
                Err(error) if may_be_refused(&error) => next = Some(now + PAUSE),
                Err(error) => return Err(broken(error)),
            }
            if self.stop.is_stopped() {
                return Err(failed(ConnectError::Interrupted(address)));
            }
            if now >= deadline {
                return Err(failed(ConnectError::Timeout(address, PATIENCE)));
            }
            self.listen();
            match self.machine.phase() {
                Phase::Opening => {}
                Phase::Over => return Err(failed(ConnectError::Interrupted(address))),
                // The test starts, so the server has all streams: only its answer to the last one was lost.
                _ => return Ok(socket.into()),
            }
            let until = next.map_or(deadline, |next| next.min(deadline));
            link::wait_for_any(
                &self.link,
                &self.wake,
                Some(self.stop),
                &[socket.as_fd()],
                Some(until.saturating_duration_since(now)),
            );
        }
    }
}

/// Whether the server has the stream, by what came. Data is an answer too, since a server sends it only when all streams are open; it stays where it
/// is, to be counted.
fn is_answered(socket: &UdpSocket) -> io::Result<bool> {
    let mut buffer = [0; SHORTEST];
    // Bounded, so that a flood is noticed as silence.
    for _ in 0..64 {
        match socket.peek(&mut buffer) {
            Ok(SHORTEST) => return Ok(true),
            Ok(_) => {
                let count = socket.recv(&mut buffer)?;
                if buffer.get(..count).is_some_and(datagram::is_reply) {
                    return Ok(true);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(false)
}
