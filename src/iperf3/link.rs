//! Sockets of both roles: the control connection with a deadline on everything, and options of data sockets.

use super::wire::{ErrorCode, Parameters};
use crate::sys::{
    event::Event, flow_label::lease_flow_label, socket::set_max_pacing_rate, stop::Stop,
    udp::set_dont_fragment,
};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};
use socket2::{Domain, Protocol, SockAddr, Socket, TcpKeepalive, Type};
use std::{
    io::{self, Read as _, Write as _},
    net::{IpAddr, Shutdown, SocketAddr, SocketAddrV6, UdpSocket},
    os::fd::{AsFd, BorrowedFd},
    time::{Duration, Instant},
};

/// How long a write to the control connection may take: its peer reads, or is gone.
const WRITE_PATIENCE: Duration = Duration::from_secs(10);

/// What came on a control connection.
pub(super) enum Received {
    /// This many bytes.
    Bytes(usize),
    /// Nothing now.
    Nothing,
    /// The end.
    Closed,
    /// A reset, or another error that ends it.
    Reset,
}

/// A control connection: never blocks without a deadline.
#[derive(Debug)]
pub(super) struct ControlLink {
    socket: Socket,
}

impl ControlLink {
    pub(super) fn new(socket: Socket) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        // Small messages, each waited for.
        socket.set_tcp_nodelay(true)?;
        Ok(Self { socket })
    }

    pub(super) const fn socket(&self) -> &Socket {
        &self.socket
    }

    pub(super) fn receive(&self, buffer: &mut [u8]) -> Received {
        match (&self.socket).read(buffer) {
            Ok(0) => Received::Closed,
            Ok(count) => Received::Bytes(count),
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Received::Nothing,
                _ => Received::Reset,
            },
        }
    }

    pub(super) fn send(&self, mut bytes: &[u8]) -> io::Result<()> {
        let deadline = Instant::now() + WRITE_PATIENCE;
        while !bytes.is_empty() {
            match (&self.socket).write(bytes) {
                Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Err(io::ErrorKind::TimedOut.into());
                    }
                    wait(&mut [PollFd::new(&self.socket, PollFlags::OUT)], Some(left));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Shuts down our side, reads what still comes for at most `patience`, closes. Unread bytes at the close would
    /// turn into a reset that can destroy what we sent last.
    pub(super) fn close_gently(self, patience: Duration) {
        let deadline = Instant::now() + patience;
        if self.socket.shutdown(Shutdown::Write).is_err() {
            return;
        }
        let mut buffer = [0; 4096];
        // Bounded in bytes too: a flood doesn't keep us.
        for _ in 0..1024 {
            match self.receive(&mut buffer) {
                Received::Bytes(_) => {}
                Received::Closed | Received::Reset => return,
                Received::Nothing => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return;
                    }
                    wait(&mut [PollFd::new(&self.socket, PollFlags::IN)], Some(left));
                }
            }
        }
    }
}

/// Polls until something is ready or `timeout` passes; forever without one. An interrupted poll returns early.
pub(super) fn wait(fds: &mut [PollFd<'_>], timeout: Option<Duration>) {
    let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
    match poll(fds, timeout.as_ref()) {
        Ok(_) | Err(Errno::INTR) => {}
        // Out of memory at worst: not to spin.
        Err(_) => std::thread::sleep(Duration::from_millis(1)),
    }
}

/// Polls a control connection, an event and a stop token; an already stopped token is left out.
pub(super) fn wait_for(link: &ControlLink, event: &Event, stop: Option<&Stop>, timeout: Option<Duration>) {
    wait_for_any(link, event, stop, &[], timeout);
}

/// As [`wait_for`], with more descriptors.
pub(super) fn wait_for_any(
    link: &ControlLink,
    event: &Event,
    stop: Option<&Stop>,
    others: &[BorrowedFd<'_>],
    timeout: Option<Duration>,
) {
    let (socket, event) = (link.socket.as_fd(), event.as_fd());
    let mut fds = vec![
        PollFd::new(&socket, PollFlags::IN),
        PollFd::new(&event, PollFlags::IN),
    ];
    fds.extend(others.iter().map(|fd| PollFd::new(fd, PollFlags::IN)));
    let stop = stop.map(Stop::fd);
    if let Some(stop) = &stop {
        fds.push(PollFd::new(stop, PollFlags::IN));
    }
    wait(&mut fds, timeout);
}

/// Why a connection could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The system refused, or the peer did.
    #[error("failed to connect to {0}")]
    Failed(SocketAddr, #[source] io::Error),
    /// It took too long.
    #[error("failed to connect to {0} within {1:?}")]
    Timeout(SocketAddr, Duration),
    /// The stop token was used meanwhile.
    #[error("interrupted while connecting to {0}")]
    Interrupted(SocketAddr),
    /// The kernel has no such transport.
    #[error("this kernel has no {0}: {1}")]
    NoTransport(&'static str, &'static str),
    /// A wanted socket option was refused.
    #[error("failed to set {option} on a socket to {address}")]
    Option {
        /// The peer.
        address: SocketAddr,
        /// iperf3's code for it.
        code: ErrorCode,
        /// The option and its value.
        option: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The kernel gave a smaller buffer than asked for.
    #[error("asked for a socket buffer of {wanted} bytes and got {given}: raise net.core.{limit}")]
    Window {
        /// What was asked for.
        wanted: u64,
        /// What the kernel gave.
        given: u64,
        /// The sysctl that bounds it.
        limit: &'static str,
    },
}

/// How a client's sockets are made, apart from what its test asks for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SocketOptions {
    /// The network device of all connections (SO_BINDTODEVICE).
    pub device: Option<String>,
    /// The local port of the first stream; the others take those after it.
    pub port: Option<u16>,
    /// How long sent TCP data may stay without an answer (TCP_USER_TIMEOUT).
    pub user_timeout: Option<Duration>,
    /// Keepalive of the control connection: seconds until the first probe, seconds between them, how many; the
    /// system's where 0.
    pub keepalive: Option<(u32, u32, u32)>,
    /// Data connections over multipath TCP (RFC 8684).
    pub mptcp: bool,
    /// The IPv6 flow label of data connections, 1 to 0xfffff.
    pub flow_label: Option<u32>,
    /// Local addresses of SCTP associations (`sctp_bindx`); none for the kernel's choice.
    pub sctp_addresses: Vec<IpAddr>,
    /// Outgoing SCTP streams that an association asks for, 1 to 65535; the kernel's where `None`.
    pub sctp_streams: Option<u16>,
}

impl SocketOptions {
    /// Sets them on a socket that is not connected yet.
    pub(super) fn set(&self, socket: &Socket, address: SocketAddr, tcp: bool) -> Result<(), ConnectError> {
        let refused = |option: String| {
            move |source: io::Error| ConnectError::Option {
                address,
                code: ErrorCode::with_source(143, &source),
                option,
                source,
            }
        };
        if let Some(device) = &self.device {
            socket
                .bind_device(Some(device.as_bytes()))
                .map_err(refused(format!("SO_BINDTODEVICE {device}")))?;
        }
        if tcp {
            self.set_user_timeout(socket, address)?;
        }
        Ok(())
    }

    /// Sets what is for the control connection alone.
    pub(super) fn set_control(&self, socket: &Socket, address: SocketAddr) -> Result<(), ConnectError> {
        self.set(socket, address, true)?;
        self.keep_alive(socket, address)
    }

    /// An address to connect a data connection to: with the flow label where there is one.
    pub(super) fn target(&self, address: SocketAddr) -> SocketAddr {
        match (address, self.flow_label) {
            (SocketAddr::V6(v6), Some(label)) => {
                SocketAddrV6::new(*v6.ip(), v6.port(), label.to_be(), v6.scope_id()).into()
            }
            _ => address,
        }
    }

    /// The transport of a TCP data connection.
    pub(super) const fn protocol(&self) -> Protocol {
        if self.mptcp {
            Protocol::MPTCP
        } else {
            Protocol::TCP
        }
    }

    /// Leases the flow label, where there is one.
    pub(super) fn set_flow_label(&self, socket: &Socket, address: SocketAddr) -> Result<(), ConnectError> {
        let Some(label) = self.flow_label else {
            return Ok(());
        };
        let leased = match address {
            SocketAddr::V6(v6) => lease_flow_label(socket, *v6.ip(), label),
            SocketAddr::V4(_) => Err(io::ErrorKind::Unsupported.into()),
        };
        leased.map_err(|source| ConnectError::Option {
            address,
            code: ErrorCode::with_source(127, &source),
            option: format!("IPV6_FLOWLABEL {label:#x}"),
            source,
        })
    }

    /// Sets on an accepted control connection what its listener didn't hand down.
    pub(super) fn set_accepted(&self, socket: &Socket, peer: SocketAddr) -> Result<(), ConnectError> {
        self.set_user_timeout(socket, peer)?;
        self.keep_alive(socket, peer)
    }

    /// Sets how long what was sent may stay without an answer.
    pub(super) fn set_user_timeout(&self, socket: &Socket, address: SocketAddr) -> Result<(), ConnectError> {
        let Some(timeout) = self.user_timeout else {
            return Ok(());
        };
        socket
            .set_tcp_user_timeout(Some(timeout))
            .map_err(|source| ConnectError::Option {
                address,
                code: ErrorCode::with_source(148, &source),
                option: format!("TCP_USER_TIMEOUT {} ms", timeout.as_millis()),
                source,
            })
    }

    /// Sets keepalive.
    pub(super) fn keep_alive(&self, socket: &Socket, address: SocketAddr) -> Result<(), ConnectError> {
        let Some((idle, interval, count)) = self.keepalive else {
            return Ok(());
        };
        let seconds = |seconds: u32| Duration::from_secs(seconds.into());
        let mut keepalive = TcpKeepalive::new();
        if idle > 0 {
            keepalive = keepalive.with_time(seconds(idle));
        }
        if interval > 0 {
            keepalive = keepalive.with_interval(seconds(interval));
        }
        if count > 0 {
            keepalive = keepalive.with_retries(count);
        }
        socket
            .set_tcp_keepalive(&keepalive)
            .map_err(|source| ConnectError::Option {
                address,
                code: ErrorCode::with_source(155, &source),
                option: "SO_KEEPALIVE".to_owned(),
                source,
            })
    }
}

fn bind_to(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    // A port that was asked for may still be remembered by the kernel from the test before.
    socket.set_reuse_address(address.port() != 0)?;
    socket.bind(&SockAddr::from(address))
}

/// A UDP socket that is connected and set up, and doesn't block.
pub(super) fn connect_datagrams(
    address: SocketAddr,
    bind: Option<SocketAddr>,
    prepare: impl FnOnce(&Socket) -> Result<(), ConnectError>,
) -> Result<UdpSocket, ConnectError> {
    let failed = |error: io::Error| ConnectError::Failed(address, error);
    let socket =
        Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP)).map_err(failed)?;
    if let Some(bind) = bind {
        bind_to(&socket, bind).map_err(failed)?;
    }
    prepare(&socket)?;
    socket.set_nonblocking(true).map_err(failed)?;
    socket.connect(&address.into()).map_err(failed)?;
    Ok(socket.into())
}

/// What to do where a kernel has no SCTP.
pub const SCTP_ADVICE: &str = "load its module (modprobe sctp), or take a kernel that has one";

/// Whether an error of socket(2) says that the kernel has no SCTP.
pub(super) fn lacks_sctp(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EPROTONOSUPPORT | libc::ESOCKTNOSUPPORT | libc::EPFNOSUPPORT)
    )
}

/// A socket for streams of bytes.
///
/// # Errors
/// Says so where the kernel has no such transport.
pub(super) fn stream_socket(address: SocketAddr, protocol: Protocol) -> Result<Socket, ConnectError> {
    Socket::new(Domain::for_address(address), Type::STREAM, Some(protocol)).map_err(|error| {
        match (protocol, error.raw_os_error()) {
            (
                Protocol::MPTCP,
                Some(libc::EPROTONOSUPPORT | libc::ENOPROTOOPT | libc::EINVAL | libc::ESOCKTNOSUPPORT),
            ) => ConnectError::NoTransport("multipath TCP", "see the sysctl net.mptcp.enabled"),
            (Protocol::SCTP, _) if lacks_sctp(&error) => ConnectError::NoTransport("SCTP", SCTP_ADVICE),
            _ => ConnectError::Failed(address, error),
        }
    })
}

/// Connects with a deadline, interruptibly. `prepare` sets options before the SYN.
pub(super) fn connect(
    address: SocketAddr,
    protocol: Protocol,
    bind: Option<SocketAddr>,
    timeout: Duration,
    stop: &Stop,
    prepare: impl FnOnce(&Socket) -> Result<(), ConnectError>,
) -> Result<Socket, ConnectError> {
    let failed = |error: io::Error| ConnectError::Failed(address, error);
    let socket = stream_socket(address, protocol)?;
    if let Some(bind) = bind {
        bind_to(&socket, bind).map_err(failed)?;
    }
    prepare(&socket)?;
    socket.set_nonblocking(true).map_err(failed)?;
    match socket.connect(&address.into()) {
        Ok(()) => return Ok(socket),
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {}
        Err(error) => return Err(failed(error)),
    }
    let deadline = Instant::now() + timeout;
    loop {
        if stop.is_stopped() {
            return Err(ConnectError::Interrupted(address));
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ConnectError::Timeout(address, timeout));
        }
        let (stopped, fd) = (stop.fd(), socket.as_fd());
        let mut fds = [
            PollFd::new(&fd, PollFlags::OUT),
            PollFd::new(&stopped, PollFlags::IN),
        ];
        wait(&mut fds, Some(left));
        if !fds[0].revents().is_empty() {
            return match socket.take_error().map_err(failed)? {
                None => Ok(socket),
                Some(error) => Err(failed(error)),
            };
        }
    }
}

/// A socket option that was refused: iperf3's code for it, and words.
pub(super) struct Refused {
    pub(super) code: ErrorCode,
    pub(super) option: String,
    pub(super) source: io::Error,
}

pub(super) fn refused(code: i32, option: impl Into<String>) -> impl FnOnce(io::Error) -> Refused {
    move |source| Refused {
        code: ErrorCode::with_source(code, &source),
        option: option.into(),
        source,
    }
}

/// Sets on a data socket what its test asks for, apart from buffers and MSS.
pub(super) fn set_options(socket: &Socket, parameters: &Parameters, ipv6: bool) -> Result<(), Refused> {
    if parameters.nodelay {
        socket
            .set_tcp_nodelay(true)
            .map_err(refused(ErrorCode::SET_NODELAY, "TCP_NODELAY"))?;
    }
    set_ip_options(socket, parameters, ipv6)
}

/// Receive buffer that is asked for where datagrams come coalesced, in bytes: without it two messages fill it.
const FAST_BUFFER: usize = 4 << 20;

/// Sets on a UDP socket what its test asks for, apart from buffers that it names.
pub(super) fn set_datagram_options(
    socket: &Socket,
    parameters: &Parameters,
    ipv6: bool,
) -> Result<(), Refused> {
    let buffer = || refused(124, "the socket buffers");
    let length = parameters.block();
    if parameters.window.is_none() && parameters.segmentation.is_some_and(|offload| offload.gro != 0) {
        // As far as net.core.rmem_max goes.
        socket.set_recv_buffer_size(FAST_BUFFER).map_err(buffer())?;
    }
    if socket.recv_buffer_size().map_err(buffer())? < length {
        socket.set_recv_buffer_size(length + 1024).map_err(buffer())?;
    }
    if socket.send_buffer_size().map_err(buffer())? < length {
        socket.set_send_buffer_size(length + 1024).map_err(buffer())?;
    }
    if !ipv6 && parameters.dont_fragment.is_some_and(|value| value != 0) {
        set_dont_fragment(socket).map_err(refused(145, "IP_MTU_DISCOVER"))?;
    }
    set_ip_options(socket, parameters, ipv6)
}

/// Sets what all transports have in common.
pub(super) fn set_ip_options(socket: &Socket, parameters: &Parameters, ipv6: bool) -> Result<(), Refused> {
    if let Some(tos) = parameters
        .tos
        .and_then(|tos| u32::try_from(tos).ok())
        .filter(|tos| *tos != 0)
    {
        if ipv6 {
            rustix::net::sockopt::set_ipv6_tclass(socket, tos)
                .map_err(|errno| refused(126, format!("IPV6_TCLASS {tos}"))(errno.into()))?;
        } else {
            socket
                .set_tos_v4(tos)
                .map_err(refused(ErrorCode::TOS_NOT_SET, format!("IP_TOS {tos}")))?;
        }
    }
    if let Some(rate) = parameters
        .fqrate
        .and_then(|rate| u64::try_from(rate).ok())
        .filter(|rate| *rate > 0)
    {
        set_max_pacing_rate(socket, rate / 8).map_err(refused(140, "SO_MAX_PACING_RATE"))?;
    }
    Ok(())
}

/// Sets TCP_MAXSEG: before connect or listen, so that it is what the peer hears.
pub(super) fn set_mss(socket: &Socket, parameters: &Parameters) -> Result<(), Refused> {
    match parameters
        .mss
        .and_then(|mss| u32::try_from(mss).ok())
        .filter(|mss| *mss > 0)
    {
        Some(mss) => socket
            .set_tcp_mss(mss)
            .map_err(refused(ErrorCode::SET_MSS, format!("TCP_MAXSEG {mss}"))),
        None => Ok(()),
    }
}

/// Sets the congestion control.
pub(super) fn set_congestion(socket: &Socket, name: &str) -> Result<(), Refused> {
    socket
        .set_tcp_congestion(name.as_bytes())
        .map_err(refused(ErrorCode::CONGESTION, format!("TCP_CONGESTION {name}")))
}

/// A buffer that the kernel made smaller than asked for.
pub(super) struct SmallBuffer {
    pub(super) given: u64,
    pub(super) limit: &'static str,
}

/// Sets both socket buffers and reads them back. The kernel doubles what it is asked for, and caps it silently.
pub(super) fn set_window(socket: &Socket, window: u64) -> Result<Option<SmallBuffer>, Refused> {
    let size = usize::try_from(window).unwrap_or(usize::MAX);
    let refuse = || refused(124, format!("a socket buffer of {window} bytes"));
    socket.set_send_buffer_size(size).map_err(refuse())?;
    socket.set_recv_buffer_size(size).map_err(refuse())?;
    let sent = socket.send_buffer_size().map_err(refuse())? as u64;
    let received = socket.recv_buffer_size().map_err(refuse())? as u64;
    Ok(if sent < window {
        Some(SmallBuffer {
            given: sent,
            limit: "wmem_max",
        })
    } else if received < window {
        Some(SmallBuffer {
            given: received,
            limit: "rmem_max",
        })
    } else {
        None
    })
}
