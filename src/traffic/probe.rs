//! Probes of a path between two places, for the doctor: does a small datagram get through, a TCP connection, a packet
//! as large as the kernel takes the path to carry (with DF, RFC 1191), and bulk data; and whose address does the
//! other end see. One end serves, the other asks; both send nothing but to each other.

use crate::evidence::{BulkSeen, ProbeSeen, ProbeTarget};
use crate::measure::tcp_info;
use crate::sys::stop::Stop;
use rustix::net::sockopt::{Ipv4PathMtuDiscovery, ip_mtu, set_ip_mtu_discover};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

/// How each message begins, so that what strangers send is left alone.
const MAGIC: [u8; 4] = *b"EBP1";
/// A question by UDP: magic, token, number.
const QUESTION: usize = 4 + 8 + 4;
/// Its answer: the question, the length that arrived, the source's address.
const ANSWER: usize = QUESTION + 4 + 4;
/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_millis(250);
/// The same before a path is said to lose packets for their size: a busy machine answers late.
const LONG_PATIENCE: Duration = Duration::from_secs(1);
/// How often a datagram is sent before it counts as lost.
const TRIES: u32 = 4;
/// How long a connection may take, in which a lost SYN is sent again once (RFC 6298).
const CONNECT: Duration = Duration::from_millis(2500);
/// How long bulk data may take: a hundred times what a gigabit needs.
const BULK: Duration = Duration::from_secs(3);
/// IP and UDP headers.
const HEADERS: u32 = 28;
/// The least MTU that IPv4 knows as every host's (RFC 791).
const LEAST: u32 = 576;

/// The end that answers.
#[derive(Debug)]
pub struct ProbeServer {
    udp: UdpSocket,
    tcp: TcpListener,
    token: u64,
}

impl ProbeServer {
    /// Listens on one port of TCP and UDP.
    ///
    /// # Errors
    /// As bind(2).
    pub fn bind(address: IpAddr, token: u64) -> io::Result<Self> {
        let mut last = io::Error::from(ErrorKind::AddrInUse);
        // The port that TCP got may be taken in UDP.
        for _ in 0..16 {
            let tcp = TcpListener::bind((address, 0))?;
            match UdpSocket::bind((address, tcp.local_addr()?.port())) {
                Ok(udp) => {
                    tcp.set_nonblocking(true)?;
                    udp.set_read_timeout(Some(Duration::from_millis(50)))?;
                    return Ok(Self { udp, tcp, token });
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Its port.
    ///
    /// # Errors
    /// As getsockname(2).
    pub fn port(&self) -> io::Result<u16> {
        Ok(self.tcp.local_addr()?.port())
    }

    /// Answers until stopped.
    pub fn serve(&self, stop: &Stop) {
        thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.is_stopped() {
                    match self.tcp.accept() {
                        Ok((stream, source)) => {
                            scope.spawn(move || {
                                if let Err(error) = self.swallow(stream, source, stop) {
                                    tracing::debug!("probe from {source}: {error}");
                                }
                            });
                        }
                        Err(_) => {
                            stop.wait(Duration::from_millis(5));
                        }
                    }
                }
            });
            let mut bytes = vec![0; 1 << 16];
            while !stop.is_stopped() {
                if let Ok((length, source)) = self.udp.recv_from(&mut bytes)
                    && let Some(answer) = self.answer(&bytes[..length], source)
                {
                    // One that can't be sent is one that doesn't arrive.
                    let _ = self.udp.send_to(&answer, source);
                }
            }
        });
    }

    fn answer(&self, bytes: &[u8], source: SocketAddr) -> Option<Vec<u8>> {
        let question = bytes.get(..QUESTION)?;
        if question[..4] != MAGIC || question[4..12] != self.token.to_be_bytes() {
            return None;
        }
        let mut answer = question.to_vec();
        answer.extend((bytes.len() as u32).to_be_bytes());
        answer.extend(octets(source.ip()));
        Some(answer)
    }

    /// Says whom it sees, then takes all that comes.
    fn swallow(&self, mut stream: TcpStream, source: SocketAddr, stop: &Stop) -> io::Result<()> {
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(Duration::from_millis(200)))?;
        let mut token = [0; 12];
        stream.read_exact(&mut token)?;
        if token[..4] != MAGIC || token[4..] != self.token.to_be_bytes() {
            return Ok(());
        }
        stream.write_all(&octets(source.ip()))?;
        let mut bytes = vec![0; 1 << 16];
        let deadline = Instant::now() + 2 * BULK;
        while !stop.is_stopped() && Instant::now() < deadline {
            match stream.read(&mut bytes) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

fn octets(address: IpAddr) -> [u8; 4] {
    match address {
        IpAddr::V4(address) => address.octets(),
        IpAddr::V6(address) => address.to_ipv4_mapped().unwrap_or(Ipv4Addr::UNSPECIFIED).octets(),
    }
}

/// Probes a path. Never fails: that something did not work is what it tells.
pub fn probe(target: &ProbeTarget, token: u64, stop: &Stop) -> ProbeSeen {
    let mut seen = ProbeSeen::default();
    if let Err(error) = datagrams(target, token, stop, &mut seen) {
        seen.error = Some(error.to_string());
    }
    if stop.is_stopped() {
        return seen;
    }
    if let Err(error) = stream(target, token, &mut seen) {
        seen.error.get_or_insert_with(|| error.to_string());
    }
    seen
}

struct Asker<'a> {
    socket: UdpSocket,
    token: u64,
    number: u32,
    patience: Duration,
    stop: &'a Stop,
}

impl Asker<'_> {
    /// Sends a datagram of `mtu` bytes of IP, up to `tries` times; whom the other end saw where it answered.
    fn ask(&mut self, mtu: u32, tries: u32) -> io::Result<Option<Ipv4Addr>> {
        let length = (mtu.saturating_sub(HEADERS) as usize).max(QUESTION);
        let mut answer = [0; 64];
        for _ in 0..tries {
            self.number += 1;
            let mut bytes = Vec::with_capacity(length);
            bytes.extend(MAGIC);
            bytes.extend(self.token.to_be_bytes());
            bytes.extend(self.number.to_be_bytes());
            bytes.resize(length, 0);
            match self.socket.send(&bytes) {
                Ok(_) => {}
                // An ICMP that came for an earlier one.
                Err(error) if is_icmp(&error) => {
                    self.socket.send(&bytes)?;
                }
                Err(error) => return Err(error),
            }
            let deadline = Instant::now() + self.patience;
            while Instant::now() < deadline && !self.stop.is_stopped() {
                match self.socket.recv(&mut answer) {
                    Ok(ANSWER) if answer[..QUESTION] == bytes[..QUESTION] => {
                        let source: [u8; 4] = answer[QUESTION + 4..ANSWER].try_into().unwrap_or_default();
                        return Ok(Some(source.into()));
                    }
                    Ok(_) => {}
                    Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                    // "Fragmentation needed" and the like, which the kernel keeps for the socket.
                    Err(error) if is_icmp(&error) => break,
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(None)
    }
}

fn is_icmp(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EHOSTUNREACH | libc::ENETUNREACH | libc::ECONNREFUSED | libc::EACCES)
    )
}

fn is_too_long(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EMSGSIZE)
}

fn datagrams(target: &ProbeTarget, token: u64, stop: &Stop, seen: &mut ProbeSeen) -> io::Result<()> {
    let socket = UdpSocket::bind((target.bind, 0))?;
    socket.connect((target.address, target.port))?;
    socket.set_read_timeout(Some(Duration::from_millis(50)))?;
    let mut asker = Asker {
        socket,
        token,
        number: 0,
        patience: PATIENCE,
        stop,
    };
    let Some(source) = asker.ask(0, TRIES)? else {
        return Ok(());
    };
    seen.datagram = true;
    seen.source = Some(source.into());
    // What the kernel takes the path to carry: the route's MTU, or what an ICMP told. With DF the datagrams that
    // are too long for it are refused, those that are too long for a router come back as an ICMP, and then it
    // takes less.
    set_ip_mtu_discover(&asker.socket, Ipv4PathMtuDiscovery::DO)?;
    let mut mtu = ip_mtu(&asker.socket)?;
    for _ in 0..4 {
        match asker.ask(mtu, 2) {
            Ok(Some(_)) => {
                seen.believed_mtu = Some(mtu);
                seen.passing_mtu = Some(mtu);
                return Ok(());
            }
            Ok(None) => {}
            Err(error) if is_too_long(&error) => {}
            Err(error) => return Err(error),
        }
        let now = ip_mtu(&asker.socket)?;
        if now >= mtu {
            break;
        }
        mtu = now;
    }
    // It does not get through, and nothing says so.
    seen.believed_mtu = Some(mtu);
    set_ip_mtu_discover(&asker.socket, Ipv4PathMtuDiscovery::PROBE)?;
    let (mut passes, mut fails) = (0, mtu);
    if asker.ask(LEAST.min(mtu), 2)?.is_some() {
        passes = LEAST.min(mtu);
        while fails - passes > 4 && !stop.is_stopped() {
            let middle = passes.midpoint(fails);
            if asker.ask(middle, 2)?.is_some() {
                passes = middle;
            } else {
                fails = middle;
            }
        }
    }
    asker.patience = LONG_PATIENCE;
    if asker.ask(mtu, TRIES)?.is_some() {
        passes = mtu;
    }
    seen.passing_mtu = (passes > 0).then_some(passes);
    Ok(())
}

fn stream(target: &ProbeTarget, token: u64, seen: &mut ProbeSeen) -> io::Result<()> {
    let domain = Domain::for_address(SocketAddr::new(target.address, target.port));
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    socket.bind(&SockAddr::from(SocketAddr::new(target.bind, 0)))?;
    socket.connect_timeout(
        &SockAddr::from(SocketAddr::new(target.address, target.port)),
        CONNECT,
    )?;
    let mut stream: TcpStream = socket.into();
    stream.set_nodelay(true)?;
    stream.set_write_timeout(Some(BULK))?;
    stream.set_read_timeout(Some(CONNECT))?;
    let mut hello = MAGIC.to_vec();
    hello.extend(token.to_be_bytes());
    stream.write_all(&hello)?;
    let mut source = [0; 4];
    stream.read_exact(&mut source)?;
    seen.connection = true;
    seen.source = Some(Ipv4Addr::from(source).into());
    if target.bulk > 0 {
        seen.bulk = Some(bulk(&mut stream, target.bulk)?);
    }
    Ok(())
}

fn bulk(stream: &mut TcpStream, bytes: u64) -> io::Result<BulkSeen> {
    let begun = Instant::now();
    stream.set_nonblocking(true)?;
    let chunk = vec![0; 1 << 16];
    let mut sent = 0;
    let acked = |stream: &TcpStream| -> io::Result<u64> {
        // tcpi_bytes_acked (linux/tcp.h): the SYN and the 12 bytes before count too.
        let info = crate::sys::socket::tcp_info(stream)?;
        let field = info
            .bytes()
            .get(120..128)
            .and_then(|field| field.first_chunk().copied());
        Ok(field.map_or(0, u64::from_ne_bytes).saturating_sub(13))
    };
    while begun.elapsed() < BULK {
        if sent < bytes {
            let length = (bytes - sent).min(chunk.len() as u64) as usize;
            match stream.write(&chunk[..length]) {
                Ok(written) => {
                    sent += written as u64;
                    continue;
                }
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Err(error) => return Err(error),
            }
        } else if acked(stream)? >= bytes {
            break;
        }
        thread::sleep(Duration::from_millis(1));
    }
    Ok(BulkSeen {
        bytes,
        arrived: acked(stream)?.min(bytes),
        milliseconds: begun.elapsed().as_millis() as u64,
        retransmits: u32::try_from(tcp_info::sample(&*stream)?.retransmits).unwrap_or(u32::MAX),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_carries_all() {
        let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let server = ProbeServer::bind(address, 7).unwrap();
        let target = ProbeTarget {
            bind: address,
            address,
            port: server.port().unwrap(),
            bulk: 1 << 20,
        };
        let stop = Stop::new().unwrap();
        thread::scope(|scope| {
            scope.spawn(|| server.serve(&stop));
            let seen = probe(&target, 7, &stop);
            assert!(seen.datagram && seen.connection, "{seen:?}");
            assert_eq!(seen.source, Some(address));
            assert_eq!(seen.passing_mtu, seen.believed_mtu);
            assert!(seen.bulk.unwrap().is_whole(), "{seen:?}");
            // A stranger gets no answer.
            let stranger = probe(&target, 8, &stop);
            assert!(!stranger.datagram && !stranger.connection, "{stranger:?}");
            stop.stop();
        });
    }

    #[test]
    fn nobody_there_is_an_answer() {
        let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let port = TcpListener::bind((address, 0))
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let target = ProbeTarget {
            bind: address,
            address,
            port,
            bulk: 0,
        };
        let seen = probe(&target, 7, &Stop::new().unwrap());
        assert!(
            !seen.datagram && !seen.connection && seen.error.is_some(),
            "{seen:?}"
        );
    }
}
