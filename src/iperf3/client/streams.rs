//! How the client opens its data connections.

use super::{ClientError, Run};
use crate::{
    iperf3::{
        association,
        link::{self, ConnectError},
        session::DataStream,
        wire::{State, Transport, client::Phase, stream_id},
    },
    measure::Direction,
    sys::descriptors,
    traffic::stream::Role,
};
use socket2::{Protocol, Socket};
use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

impl Run<'_> {
    pub(super) fn open_streams(&mut self) -> Result<(), ClientError> {
        let per_direction = self.parameters.streams();
        descriptors::reserve(self.parameters.total_streams()).map_err(ClientError::Descriptors)?;
        for index in 0..self.parameters.total_streams() {
            // In bidir the first half sends, the second receives.
            let (role, direction) = if self.parameters.reverse || index >= per_direction {
                (Role::Receive, Direction::Reverse)
            } else {
                (Role::Send, Direction::Forward)
            };
            let id = stream_id(index) as u32;
            if self.parameters.transport == Transport::Udp {
                let socket = self.open_datagrams(id, self.local(index))?;
                let stream =
                    DataStream::new(socket, role, direction).map_err(|source| ClientError::Stream {
                        id,
                        source: ConnectError::Failed(self.options.address, source),
                    })?;
                self.streams.push(stream);
                continue;
            }
            if self.parameters.many_streams.is_some() && index > 0 {
                self.expect_many()?;
            }
            let sockets = &self.options.sockets;
            let (address, timeout) = (sockets.target(self.options.address), self.options.connect_timeout);
            let protocol = match self.parameters.transport {
                Transport::Sctp => Protocol::SCTP,
                _ => sockets.protocol(),
            };
            let local = self.local(index);
            let socket = link::connect(address, protocol, local, timeout, self.stop, |socket| {
                self.prepare(socket)
            })
            .map_err(|source| ClientError::Stream { id, source })?;
            let cookie = self.cookie.as_bytes();
            let failed = |source| ClientError::Stream {
                id,
                source: ConnectError::Failed(address, source),
            };
            // A fresh connection has room for 37 bytes.
            if socket.send(cookie).map_err(failed)? != cookie.len() {
                return Err(failed(io::ErrorKind::WriteZero.into()));
            }
            self.streams
                .push(DataStream::new(socket, role, direction).map_err(failed)?);
        }
        Ok(())
    }

    /// Makes sure that the server waits for more than one stream: a stock one begins the test with the first.
    pub(super) fn expect_many(&mut self) -> Result<(), ClientError> {
        self.listen();
        let address = self.options.address;
        match self.machine.phase() {
            // Over: it has said why.
            Phase::Opening | Phase::Over => Ok(()),
            _ => {
                // It may be gone already.
                let _ = self.link.send(&[State::ClientTerminate.byte()]);
                Err(ClientError::StockServer { address })
            }
        }
    }

    /// The local end of a stream, where it is not the kernel's choice.
    fn local(&self, index: usize) -> Option<SocketAddr> {
        let sockets = &self.options.sockets;
        let ip = match sockets.sctp_addresses.first() {
            Some(first) if self.parameters.transport == Transport::Sctp => Some(*first),
            _ => self.options.bind,
        };
        let port = sockets.port;
        if ip.is_none() && port.is_none() {
            return None;
        }
        let any = match self.options.address {
            SocketAddr::V4(_) => IpAddr::from(Ipv4Addr::UNSPECIFIED),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let port = port.map_or(0, |port| port.wrapping_add(index as u16));
        Some(SocketAddr::new(ip.unwrap_or(any), port))
    }

    /// Sets what has to be set before the SYN, and the rest.
    pub(super) fn prepare(&self, socket: &Socket) -> Result<(), ConnectError> {
        let address = self.options.address;
        let refused = |refused: link::Refused| ConnectError::Option {
            address,
            code: refused.code,
            option: refused.option,
            source: refused.source,
        };
        let (sockets, transport) = (&self.options.sockets, self.parameters.transport);
        sockets.set(socket, address, transport == Transport::Tcp)?;
        sockets.set_flow_label(socket, address)?;
        match transport {
            Transport::Tcp => link::set_mss(socket, &self.parameters).map_err(refused)?,
            Transport::Sctp => association::prepare(socket, &self.parameters, sockets).map_err(refused)?,
            Transport::Udp => {}
        }
        if let Some(window) = self.options.test.window
            && let Some(small) = link::set_window(socket, window.0).map_err(refused)?
        {
            return Err(ConnectError::Window {
                wanted: window.0,
                given: small.given,
                limit: small.limit,
            });
        }
        let (parameters, ipv6) = (&self.parameters, address.is_ipv6());
        if let (Transport::Tcp, Some(name)) = (transport, &self.options.test.congestion) {
            link::set_congestion(socket, name).map_err(refused)?;
        }
        match transport {
            Transport::Tcp => link::set_options(socket, parameters, ipv6),
            Transport::Udp => link::set_datagram_options(socket, parameters, ipv6),
            Transport::Sctp => association::set_options(socket, parameters, ipv6),
        }
        .map_err(refused)
    }
}
