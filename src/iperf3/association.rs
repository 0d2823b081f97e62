//! SCTP data connections: one-to-one sockets, which are to SCTP what connections are to TCP (RFC 6458). Beside these,
//! a test over SCTP is as one over TCP.

use super::{
    link::{self, Refused, SCTP_ADVICE, SocketOptions, refused},
    wire::{ErrorCode, Parameters},
};
use crate::sys::sctp;
use socket2::{Domain, SockAddr, Socket};
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// What SCTP_MAXSEG takes, as iperf3: any other MSS is left to the kernel.
const SEGMENTS: std::ops::RangeInclusive<i64> = 512..=131_072;

/// Associations that the kernel keeps until they are accepted.
const BACKLOG: i32 = 1024;

fn set_max_segment(socket: &Socket, parameters: &Parameters) -> Result<(), Refused> {
    match parameters.mss.filter(|mss| SEGMENTS.contains(mss)) {
        Some(mss) => sctp::set_max_segment(socket, mss as u32)
            .map_err(refused(ErrorCode::SET_MSS, format!("SCTP_MAXSEG {mss}"))),
        None => Ok(()),
    }
}

/// Sets what has to be set before the association is made, on a socket that is bound where `sockets` have addresses.
pub(super) fn prepare(
    socket: &Socket,
    parameters: &Parameters,
    sockets: &SocketOptions,
) -> Result<(), Refused> {
    set_max_segment(socket, parameters)?;
    if let Some(streams) = sockets.sctp_streams {
        sctp::set_streams(socket, streams).map_err(refused(
            ErrorCode::SCTP_STREAMS,
            format!("SCTP_INITMSG, {streams} streams,"),
        ))?;
    }
    let more = sockets.sctp_addresses.get(1..).unwrap_or_default();
    if !more.is_empty() {
        // All take the port of the first.
        let addresses: Vec<_> = more.iter().map(|ip| SocketAddr::new(*ip, 0)).collect();
        sctp::bind_more(socket, &addresses)
            .map_err(refused(ErrorCode::SCTP_ADDRESSES, "sctp_bindx, more addresses,"))?;
    }
    Ok(())
}

/// Sets the rest of what a test asks for, apart from buffers. Messages longer than a packet are cut by the kernel, as is
/// its default.
pub(super) fn set_options(socket: &Socket, parameters: &Parameters, ipv6: bool) -> Result<(), Refused> {
    if parameters.nodelay {
        sctp::set_nodelay(socket).map_err(refused(ErrorCode::SET_NODELAY, "SCTP_NODELAY"))?;
    }
    link::set_ip_options(socket, parameters, ipv6)
}

/// When it was last seen that this kernel has none.
static LACKING: Mutex<Option<Instant>> = Mutex::new(None);

/// How long that is believed: the kernel looks for the module each time, by a modprobe of its own, and clients shall not be
/// able to have that done as often as they like.
const BELIEVED: Duration = Duration::from_secs(1);

/// Whether this kernel has SCTP, as an answer to a client that asks for it.
pub(super) fn ask() -> Result<(), ErrorCode> {
    let mut lacking = LACKING.lock().unwrap_or_else(PoisonError::into_inner);
    if lacking.is_some_and(|since| since.elapsed() < BELIEVED) {
        return Err(ErrorCode::new(ErrorCode::NO_SCTP));
    }
    let asked = open(Domain::IPV4).map(drop);
    *lacking = asked
        .is_err_and(|code| code.code == ErrorCode::NO_SCTP)
        .then(Instant::now);
    asked
}

fn open(domain: Domain) -> Result<Socket, ErrorCode> {
    sctp::socket(domain).map_err(|error| {
        if link::lacks_sctp(&error) {
            tracing::warn!("this kernel has no SCTP: {SCTP_ADVICE}");
            ErrorCode::new(ErrorCode::NO_SCTP)
        } else {
            ErrorCode::with_source(ErrorCode::STREAM_LISTEN, &error)
        }
    })
}

/// A listener for a test whose control connection came to `local`, at a server that is bound to `server`: at the same
/// port and the same addresses, or at those that `sockets` name.
pub(super) fn listen(
    server: SocketAddr,
    local: IpAddr,
    parameters: &Parameters,
    sockets: &SocketOptions,
) -> Result<Socket, ErrorCode> {
    let ip = match (server.ip().to_canonical(), local.to_canonical()) {
        (ip, IpAddr::V4(_)) if ip.is_unspecified() => IpAddr::from(Ipv4Addr::UNSPECIFIED),
        (ip, IpAddr::V6(_)) if ip.is_unspecified() => Ipv6Addr::UNSPECIFIED.into(),
        (ip, _) => ip,
    };
    let named = &sockets.sctp_addresses;
    let ipv6 = if named.is_empty() {
        ip.is_ipv6()
    } else {
        named.iter().any(IpAddr::is_ipv6)
    };
    let socket = open(if ipv6 { Domain::IPV6 } else { Domain::IPV4 })?;
    let failed = |error| ErrorCode::with_source(ErrorCode::STREAM_LISTEN, &error);
    socket.set_reuse_address(true).map_err(failed)?;
    socket.set_nonblocking(true).map_err(failed)?;
    if let Some(device) = &sockets.device {
        socket.bind_device(Some(device.as_bytes())).map_err(failed)?;
    }
    if ipv6 {
        let only = named.iter().all(IpAddr::is_ipv6);
        socket.set_only_v6(only).map_err(failed)?;
    }
    if named.is_empty() {
        let address = match server {
            // A link-local address is one with its scope alone.
            SocketAddr::V6(v6) if !v6.ip().is_unspecified() && ip.is_ipv6() => server,
            _ => SocketAddr::new(ip, server.port()),
        };
        socket.bind(&SockAddr::from(address)).map_err(failed)?;
    } else {
        let addresses: Vec<_> = named
            .iter()
            .map(|ip| SocketAddr::new(*ip, server.port()))
            .collect();
        sctp::bind_more(&socket, &addresses)
            .map_err(|error| ErrorCode::with_source(ErrorCode::SCTP_ADDRESSES, &error))?;
    }
    set_max_segment(&socket, parameters).map_err(|refused| refused.code)?;
    socket.listen(BACKLOG).map_err(failed)?;
    Ok(socket)
}
