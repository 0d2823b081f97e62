//! How SCTP streams come in.
//!
//! A listener for SCTP costs every test that doesn't use it, and window and MSS sit on it: so a test opens one only when
//! it is inside the gate (see `door`), and has it for itself. Whoever comes to it has to send the test's cookie, in a
//! lobby as bounded as that of the server's own listener.

use super::{
    Rejection, ServerOptions,
    lobby::{Lobby, Stranger},
    test::set_window,
};
use crate::iperf3::{
    association,
    wire::{Cookie, ErrorCode, Parameters},
};
use socket2::Socket;
use std::{
    net::{IpAddr, SocketAddr},
    os::fd::{AsFd, BorrowedFd},
    time::{Duration, Instant},
};

/// Where a test's SCTP streams come in.
pub(super) struct Associations {
    listener: Socket,
    lobby: Lobby,
    cookie: Cookie,
}

/// Who has come.
pub(super) enum Association {
    /// A stream of the test.
    Stream(Socket),
    /// Somebody else, who is on the way out.
    Other(SocketAddr, Rejection),
}

impl Associations {
    /// Opens it, for the test of `cookie` whose control connection came to `local`.
    pub(super) fn open(
        cookie: Cookie,
        server: SocketAddr,
        local: IpAddr,
        parameters: &Parameters,
        options: &ServerOptions,
    ) -> Result<Self, ErrorCode> {
        let listener = association::listen(server, local, parameters, &options.sockets)?;
        // Before the handshake, in which the receive window is told.
        set_window(&listener, parameters)?;
        let room = options.strangers.max(parameters.total_streams());
        Ok(Self {
            listener,
            lobby: Lobby::new(options.cookie_patience, room),
            cookie,
        })
    }

    /// Who has come since the last time; of streams no more than `most`.
    pub(super) fn accept(&mut self, most: usize) -> Vec<Association> {
        // Where descriptors lack, the lobby has made room for the next time.
        self.lobby.accept(&self.listener);
        let mut streams = 0;
        let mut come = Vec::new();
        for stranger in self.lobby.settle(Instant::now()) {
            come.push(match stranger {
                Stranger::Known { socket, cookie, .. } if cookie == self.cookie && streams < most => {
                    streams += 1;
                    Association::Stream(socket)
                }
                Stranger::Known { socket, peer, .. } => {
                    self.lobby.refuse(socket);
                    Association::Other(peer, Rejection::Busy)
                }
                Stranger::Gone(peer, reason) => Association::Other(peer, reason),
            });
        }
        come
    }

    /// What to poll.
    pub(super) fn fds(&self) -> Vec<BorrowedFd<'_>> {
        let guests = self.lobby.sockets().map(Socket::as_fd);
        std::iter::once(self.listener.as_fd()).chain(guests).collect()
    }

    /// How long until somebody's patience ends.
    pub(super) fn timeout(&self) -> Option<Duration> {
        self.lobby.timeout(Instant::now())
    }
}

impl Drop for Associations {
    fn drop(&mut self) {
        // Ends the listening itself (RFC 6458 3.1.3) and not only our use of it: a process that we are just starting may
        // have the descriptor still, and then the next test couldn't have the port.
        let _ = self.listener.listen(0);
    }
}
