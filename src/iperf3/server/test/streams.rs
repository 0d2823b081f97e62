//! How a test at the server comes by its streams: TCP connections that the accept loop hands over, datagrams at the
//! door or SCTP associations when it is this test's turn.

use super::{Run, lock};
use crate::{
    iperf3::{
        association, link,
        server::{
            Note, ServerEvent,
            associations::{Association, Associations},
            door::Door,
        },
        session::DataStream,
        wire::{ErrorCode, Parameters, Transport, server::Input},
    },
    measure::Direction,
    sys::{descriptors, event::Event},
    traffic::stream::Role,
};
use socket2::Socket;
use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// How long a test may wait for its turn to open UDP or SCTP streams.
pub(super) const LINE: Duration = Duration::from_mins(1);

/// Streams that arrived for a test.
#[derive(Debug)]
pub(in crate::iperf3::server) struct Arrivals {
    /// `None` once the test wants no more.
    queue: Mutex<Option<Vec<Socket>>>,
    wake: Arc<Event>,
    most: usize,
}

impl Arrivals {
    /// Hands a stream over; gives it back where it is not wanted.
    pub(in crate::iperf3::server) fn push(&self, socket: Socket) -> Result<(), Socket> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *queue {
            Some(queue) if queue.len() < self.most => {
                queue.push(socket);
                self.wake.raise();
                Ok(())
            }
            _ => Err(socket),
        }
    }

    fn take(&self) -> Vec<Socket> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.as_mut().map(std::mem::take).unwrap_or_default()
    }

    pub(super) fn close(&self) {
        *self.queue.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl Run {
    pub(super) fn prepare(&mut self, parameters: Parameters) -> Result<(), ErrorCode> {
        if parameters.transport == Transport::Sctp {
            association::ask()?;
        } else if parameters.mptcp && !self.test.options.sockets.mptcp {
            return Err(ErrorCode::new(ErrorCode::UNIMPLEMENTED));
        }
        self.open_file(&parameters)?;
        if let Some(hooks) = &self.test.options.hooks {
            (hooks.admit)(&parameters)?;
        }
        if parameters.transport == Transport::Udp {
            self.in_line = Some(Instant::now());
            self.accepted(parameters);
            return Ok(());
        }
        if let Err(error) = descriptors::reserve(parameters.total_streams()) {
            tracing::warn!(peer = %self.test.peer, "refused a test of {} streams: {error}", parameters.total_streams());
            let error = io::Error::from_raw_os_error(libc::EMFILE);
            return Err(ErrorCode::with_source(ErrorCode::CREATE_STREAM, &error));
        }
        if parameters.transport == Transport::Sctp {
            self.in_line = Some(Instant::now());
            self.accepted(parameters);
            return Ok(());
        }
        // On a listener of our own, options can be set where they take part in the handshake.
        if let Some(listener) = &self.test.listener {
            link::set_mss(listener, &parameters).map_err(|refused| refused.code)?;
            set_window(listener, &parameters)?;
        }
        let arrivals = Arc::new(Arrivals {
            queue: Mutex::new(Some(Vec::new())),
            wake: Arc::clone(&self.wake),
            most: parameters.total_streams(),
        });
        self.arrivals = Some(Arc::clone(&arrivals));
        lock(&self.test.waiting).insert(self.test.cookie, arrivals);
        self.accepted(parameters);
        Ok(())
    }

    /// Refuses a test that can't have the server's file: what is sent would be overwritten by what comes, or the system
    /// refuses.
    fn open_file(&self, parameters: &Parameters) -> Result<(), ErrorCode> {
        let Some(file) = &self.test.options.file else {
            return Ok(());
        };
        let opened = match parameters.transport {
            _ if parameters.bidirectional => Err(io::ErrorKind::InvalidInput.into()),
            Transport::Tcp | Transport::Sctp => file.open(role(0, parameters).0).map(|_| ()),
            Transport::Udp => return Err(ErrorCode::new(ErrorCode::UDP_FILE)),
        };
        opened.map_err(|error| {
            tracing::warn!(peer = %self.test.peer, "refused a test: {}: {error}", file.path().display());
            ErrorCode::with_source(ErrorCode::FILE, &error)
        })
    }

    fn accepted(&mut self, parameters: Parameters) {
        let accepted = ServerEvent::Accepted {
            cookie: self.test.cookie,
            parameters: Box::new(parameters.clone()),
        };
        self.parameters = parameters;
        let _ = self.test.notes.send(Note::Event(accepted));
        let _ = self.test.notes.send(Note::Begun);
    }

    /// Waits to open UDP or SCTP streams; what to tell the machine once that is decided.
    pub(super) fn stand_in_line(&mut self) -> Option<Input<'static>> {
        let since = self.in_line?;
        if self.test.gate.enter(self.test.cookie, &self.wake) {
            self.in_line = None;
            Some(match self.open_door() {
                Ok(()) => Input::Prepared,
                Err(code) => {
                    self.leave_gate();
                    Input::Refuse(code)
                }
            })
        } else if since.elapsed() >= LINE {
            self.leave_gate();
            Some(Input::Refuse(ErrorCode::new(ErrorCode::ACCESS_DENIED)))
        } else {
            None
        }
    }

    fn open_door(&mut self) -> Result<(), ErrorCode> {
        let (local, client) = self.control;
        if self.parameters.transport == Transport::Udp {
            self.door = Some(Door::open(local, client.ip())?);
        } else {
            self.associations = Some(Associations::open(
                self.test.cookie,
                self.test.address,
                local.ip(),
                &self.parameters,
                &self.test.options,
            )?);
        }
        Ok(())
    }

    pub(super) fn leave_gate(&mut self) {
        self.in_line = None;
        self.door = None;
        self.associations = None;
        self.test.gate.leave(self.test.cookie);
    }

    /// Takes streams that have come.
    pub(super) fn take_streams(&mut self) -> Result<(), ErrorCode> {
        self.take_arrivals()?;
        self.take_datagrams()?;
        self.take_associations()?;
        let late = (self.door.is_some() || self.associations.is_some())
            && self
                .test
                .gate
                .deadline()
                .is_some_and(|deadline| Instant::now() >= deadline);
        if late && self.streams.len() < self.parameters.total_streams() {
            return Err(ErrorCode::new(ErrorCode::STREAM_ACCEPT));
        }
        Ok(())
    }

    fn take_datagrams(&mut self) -> Result<(), ErrorCode> {
        let Some(door) = &mut self.door else {
            return Ok(());
        };
        door.answer_again();
        while self.streams.len() < self.parameters.total_streams()
            && let Some(socket) = door.accept(&self.parameters)?
        {
            add(&mut self.streams, &self.parameters, socket)?;
        }
        Ok(())
    }

    fn take_associations(&mut self) -> Result<(), ErrorCode> {
        let Some(associations) = &mut self.associations else {
            return Ok(());
        };
        let missing = self.parameters.total_streams() - self.streams.len();
        for association in associations.accept(missing) {
            match association {
                Association::Stream(socket) => {
                    set_window(&socket, &self.parameters)?;
                    let ipv6 = socket.local_addr().is_ok_and(|address| address.is_ipv6());
                    association::set_options(&socket, &self.parameters, ipv6)
                        .map_err(|refused| refused.code)?;
                    add(&mut self.streams, &self.parameters, socket)?;
                }
                Association::Other(peer, reason) => {
                    let rejected = ServerEvent::Rejected { peer, reason };
                    let _ = self.test.notes.send(Note::Event(rejected));
                    self.test.wake_server.raise();
                }
            }
        }
        Ok(())
    }

    fn take_arrivals(&mut self) -> Result<(), ErrorCode> {
        let Some(arrivals) = &self.arrivals else {
            return Ok(());
        };
        for socket in arrivals.take() {
            if self.streams.len() >= self.parameters.total_streams() {
                break;
            }
            set_window(&socket, &self.parameters)?;
            if let Some(name) = &self.parameters.congestion
                && let Err(refused) = link::set_congestion(&socket, name)
            {
                // As stock: go on with the system's own, which the results name.
                tracing::warn!(name, error = %refused.source, "the client's congestion control was refused");
            }
            if let Err(error) = self
                .test
                .options
                .sockets
                .set_user_timeout(&socket, self.test.peer)
            {
                tracing::warn!(%error, "a stream goes on without an option");
            }
            link::set_options(&socket, &self.parameters, self.test.ipv6).map_err(|refused| refused.code)?;
            add(&mut self.streams, &self.parameters, socket)?;
        }
        Ok(())
    }
}

/// Adds a stream to those that have come.
fn add(
    streams: &mut Vec<DataStream>,
    parameters: &Parameters,
    socket: impl Into<Arc<Socket>>,
) -> Result<(), ErrorCode> {
    let (role, direction) = role(streams.len(), parameters);
    let stream = DataStream::new(socket, role, direction)
        .map_err(|error| ErrorCode::with_source(ErrorCode::CREATE_STREAM, &error))?;
    streams.push(stream);
    Ok(())
}

/// What a stream does, by the order in which it came: in bidir the first half receives, the second sends.
fn role(index: usize, parameters: &Parameters) -> (Role, Direction) {
    if parameters.reverse || index >= parameters.streams() {
        (Role::Send, Direction::Reverse)
    } else {
        (Role::Receive, Direction::Forward)
    }
}

pub(in crate::iperf3::server) fn set_window(
    socket: &Socket,
    parameters: &Parameters,
) -> Result<(), ErrorCode> {
    match parameters
        .window
        .and_then(|window| u64::try_from(window).ok())
        .filter(|window| *window > 0)
    {
        Some(window) => match link::set_window(socket, window) {
            Ok(None) => Ok(()),
            Ok(Some(_)) => Err(ErrorCode::new(ErrorCode::BUFFER_NOT_GIVEN)),
            Err(refused) => Err(refused.code),
        },
        None => Ok(()),
    }
}
