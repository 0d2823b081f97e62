//! How UDP streams come in.
//!
//! A UDP stream opens with a bare datagram that names no test. So tests pass through the opening of their streams one
//! at a time (the [`Gate`]), and while one does, it has a socket of its own at the server's port (the [`Door`]): what
//! opens a stream there, from the address of that test's client, is a stream of that test.

use crate::{
    iperf3::{
        link,
        wire::{Cookie, ErrorCode, Parameters, datagram},
    },
    sys::event::Event,
};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::{
    collections::VecDeque,
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
    os::fd::{AsFd, BorrowedFd},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// How long a test may take to open its streams while another waits to.
const CROWDED: Duration = Duration::from_secs(2);

/// Datagrams looked at in one go, so that a flood does not keep us from all else.
const LOOKS: usize = 64;

/// Lets one test at a time open UDP streams, in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Gate {
    line: Mutex<VecDeque<Place>>,
}

/// A place in the line; the first is inside.
#[derive(Debug)]
struct Place {
    cookie: Cookie,
    wake: Arc<Event>,
    /// When it came to stand here, or for the first one when it got inside.
    since: Instant,
}

impl Gate {
    fn line(&self) -> MutexGuard<'_, VecDeque<Place>> {
        // The line is whole whatever thread died while holding it.
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a test is inside; it joins the line if it isn't there yet. `wake` is raised when it gets inside, and
    /// when it is inside and another comes to wait.
    pub(super) fn enter(&self, cookie: Cookie, wake: &Arc<Event>) -> bool {
        let mut line = self.line();
        if line.iter().all(|place| place.cookie != cookie) {
            line.push_back(Place {
                cookie,
                wake: Arc::clone(wake),
                since: Instant::now(),
            });
            if line.len() > 1
                && let Some(inside) = line.front()
            {
                inside.wake.raise();
            }
        }
        line.front().is_some_and(|place| place.cookie == cookie)
    }

    /// Leaves, from inside or from the line.
    pub(super) fn leave(&self, cookie: Cookie) {
        let mut line = self.line();
        let inside = line.front().is_some_and(|place| place.cookie == cookie);
        line.retain(|place| place.cookie != cookie);
        if inside && let Some(next) = line.front_mut() {
            next.since = Instant::now();
            next.wake.raise();
        }
    }

    /// Until when the test inside must be through, where another waits: nothing that it does puts that off.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let line = self.line();
        let (inside, next) = (line.front()?, line.get(1)?);
        Some(inside.since.max(next.since) + CROWDED)
    }
}

/// Where a test's UDP streams come in.
#[derive(Debug)]
pub(super) struct Door {
    socket: UdpSocket,
    local: SocketAddr,
    client: IpAddr,
    known: Vec<(SocketAddr, Arc<Socket>)>,
}

fn refused(code: i32) -> impl Fn(io::Error) -> ErrorCode {
    move |error| ErrorCode::with_source(code, &error)
}

/// A socket at an address that others are bound to as well.
fn bind(local: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(local), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::from(local))?;
    Ok(socket)
}

impl Door {
    /// Opens it at the server's end of a control connection, for streams from the client's. An error says that the
    /// port is taken for UDP.
    pub(super) fn open(local: SocketAddr, client: IpAddr) -> Result<Self, ErrorCode> {
        // What is mapped came to a socket of both families and is IPv4 on the wire.
        let local = match local.ip().to_canonical() {
            IpAddr::V4(address) => SocketAddr::new(address.into(), local.port()),
            IpAddr::V6(_) => local,
        };
        Ok(Self {
            socket: bind(local).map_err(refused(ErrorCode::STREAM_LISTEN))?.into(),
            local,
            client: client.to_canonical(),
            known: Vec::new(),
        })
    }

    /// The next stream that has come, answered; `None` where there is none now.
    pub(super) fn accept(&mut self, parameters: &Parameters) -> Result<Option<Arc<Socket>>, ErrorCode> {
        let mut buffer = [0; 8];
        for _ in 0..LOOKS {
            let (count, source) = match self.socket.recv_from(&mut buffer) {
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(refused(ErrorCode::STREAM_ACCEPT)(error)),
            };
            let opens = buffer.get(..count).is_some_and(datagram::is_connect);
            if !opens || source.ip().to_canonical() != self.client {
                tracing::debug!(%source, "ignored a datagram that opens no stream of this test");
                continue;
            }
            if let Some((_, socket)) = self.known.iter().find(|(known, _)| *known == source) {
                // A second one overtook us while we made its stream.
                let _ = socket.send(&datagram::REPLY);
                continue;
            }
            let socket = Arc::new(self.make_stream(source, parameters)?);
            self.known.push((source, Arc::clone(&socket)));
            return Ok(Some(socket));
        }
        Ok(None)
    }

    fn make_stream(&self, source: SocketAddr, parameters: &Parameters) -> Result<Socket, ErrorCode> {
        let failed = refused(ErrorCode::CREATE_STREAM);
        let socket = bind(self.local).map_err(&failed)?;
        socket.connect(&SockAddr::from(source)).map_err(&failed)?;
        // Between bind and connect it took in what anybody sent.
        let mut buffer = [std::mem::MaybeUninit::uninit(); 1];
        for _ in 0..LOOKS {
            if socket.recv(&mut buffer).is_err() {
                break;
            }
        }
        super::test::set_window(&socket, parameters)?;
        link::set_datagram_options(&socket, parameters, self.local.is_ipv6())
            .map_err(|refused| refused.code)?;
        socket.send(&datagram::REPLY).map_err(&failed)?;
        Ok(socket)
    }

    /// Answers again where a client asks again on a stream that is open.
    pub(super) fn answer_again(&self) {
        let mut buffer = [0; 8];
        for (_, socket) in &self.known {
            for _ in 0..LOOKS {
                // Whatever it is: before the test runs nothing else has a place here.
                match io::Read::read(&mut &**socket, &mut buffer) {
                    Ok(count) if buffer.get(..count).is_some_and(datagram::is_connect) => {
                        let _ = socket.send(&datagram::REPLY);
                    }
                    Ok(_) => {}
                    Err(_) => break,
                }
            }
        }
    }

    /// What to poll.
    pub(super) fn fds(&self) -> Vec<BorrowedFd<'_>> {
        let streams = self.known.iter().map(|(_, socket)| socket.as_fd());
        std::iter::once(self.socket.as_fd()).chain(streams).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cookie(letter: u8) -> Cookie {
        Cookie::from_random([letter; 36])
    }

    #[test]
    fn the_gate_lets_one_in_after_the_other() {
        let gate = Gate::default();
        let wake = Arc::new(Event::new().unwrap());
        let (a, b, c) = (cookie(1), cookie(2), cookie(3));
        assert!(gate.enter(a, &wake) && gate.enter(a, &wake));
        assert_eq!(gate.deadline(), None);
        assert!(!gate.enter(b, &wake));
        let deadline = gate.deadline().unwrap();
        assert!(deadline <= Instant::now() + CROWDED);
        // Others and repeats don't put it off.
        assert!(!gate.enter(c, &wake) && gate.enter(a, &wake) && !gate.enter(b, &wake));
        assert_eq!(gate.deadline(), Some(deadline));
        gate.leave(b);
        gate.leave(a);
        assert!(!gate.enter(b, &wake) && gate.enter(c, &wake));
        gate.leave(c);
        assert!(gate.enter(b, &wake));
        gate.leave(b);
        gate.leave(b);
    }

    #[test]
    fn only_what_opens_a_stream_of_this_client_comes_in() {
        let local: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let free = UdpSocket::bind(local).unwrap().local_addr().unwrap();
        let mut door = Door::open(free, "127.0.0.1".parse().unwrap()).unwrap();
        let client = UdpSocket::bind(local).unwrap();
        let spoof = UdpSocket::bind("127.0.0.2:0").unwrap();
        for socket in [&client, &spoof] {
            socket.connect(free).unwrap();
            socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        }
        let parameters = Parameters::default();
        spoof.send(&datagram::CONNECT).unwrap();
        for garbage in [
            &b""[..],
            b"123",
            b"garbage that is longer",
            &datagram::CONNECT[..3],
        ] {
            client.send(garbage).unwrap();
        }
        assert!(door.accept(&parameters).unwrap().is_none());
        client.send(&datagram::LEGACY_CONNECT).unwrap();
        client.send(&datagram::LEGACY_CONNECT).unwrap();
        let stream = door.accept(&parameters).unwrap().unwrap();
        assert_eq!(stream.peer_addr().unwrap().as_socket(), client.local_addr().ok());
        assert!(door.accept(&parameters).unwrap().is_none());
        let mut buffer = [0; 9];
        for _ in 0..2 {
            assert_eq!(client.recv(&mut buffer).unwrap(), 4);
            assert_eq!(buffer[..4], datagram::REPLY);
        }
        // Asked once more, it answers once more.
        client.send(&datagram::CONNECT).unwrap();
        door.answer_again();
        assert_eq!(client.recv(&mut buffer).unwrap(), 4);
        assert!(spoof.recv(&mut buffer).is_err());
    }
}
