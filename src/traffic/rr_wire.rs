//! The small protocol of latency tests, without sockets.
//!
//! Over TCP the client sends a hello and the server an answer, both of fixed length and big-endian:
//!
//! | bytes | hello | | bytes | answer |
//! | --- | --- | --- | --- | --- |
//! | 8 | magic `encaplat` | | 8 | magic `encaplat` |
//! | 2 | version, 1 | | 2 | version, 1 |
//! | 1 | kind | | 1 | 0 accepted, else why not |
//! | 1 | 0 | | 1 | address family, 4 or 6 |
//! | 4 | bytes of a request | | 2 | the port that the server saw |
//! | 4 | bytes of a response | | 2 | 0 |
//! | 16 | token | | 16 | the address that the server saw; IPv4 in the first 4 bytes |
//! | | | | 8 | session, for datagrams |
//!
//! - `tcp-rr`: after the answer, requests and responses of the agreed sizes follow, in order, with nothing between.
//! - `tcp-crr`: one connection with kind [`Kind::Crr`] agrees and is closed. Then each transaction is a connection of
//!   its own: hello of kind [`Kind::CrrTransaction`] and request in one segment, only the response back. That hello is
//!   36 bytes more than the request asked for; it lets strangers be refused and the server keep no state.
//! - `udp-rr`: a TCP connection with kind [`Kind::UdpRr`] agrees, and stays open as long as the test lasts. Then
//!   datagrams go to the same port number: session, sequence number (8 bytes each), padding to the agreed size.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    str::FromStr,
};

/// The first bytes of either side.
const MAGIC: [u8; 8] = *b"encaplat";
/// The one version there is.
const VERSION: u16 = 1;
/// Bytes of a hello.
pub const HELLO_LENGTH: usize = 36;
/// Bytes of an answer.
pub const ANSWER_LENGTH: usize = 40;
/// Bytes that a datagram begins with: session and sequence number.
pub const DATAGRAM_HEADER: usize = 16;
/// The largest request or response, in bytes.
pub const LARGEST: u32 = 65536;
/// The largest datagram's payload over IPv4, in bytes: 65535 less 20 of IP and 8 of UDP.
pub const LARGEST_DATAGRAM: u32 = 65507;

/// What both ends were told beforehand, so that strangers are refused. It guards a benchmark against mix-ups and
/// port scanners; it is no password, since it crosses the network in the clear. Text: 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Token([u8; 16]);

impl Token {
    /// A token of these bytes.
    pub const fn new(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub const fn bytes(&self) -> [u8; 16] {
        self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl FromStr for Token {
    type Err = WireError;

    fn from_str(text: &str) -> Result<Self, WireError> {
        if text.len() != 32 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(WireError::TokenText);
        }
        u128::from_str_radix(text, 16)
            .map(|number| Self(number.to_be_bytes()))
            .map_err(|_| WireError::TokenText)
    }
}

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Requests and responses on this connection.
    Rr,
    /// Agrees on a `tcp-crr` test.
    Crr,
    /// One transaction of a `tcp-crr` test.
    CrrTransaction,
    /// Agrees on a `udp-rr` test, which lasts as long as this connection.
    UdpRr,
}

impl Kind {
    const fn code(self) -> u8 {
        match self {
            Self::Rr => 1,
            Self::Crr => 2,
            Self::CrrTransaction => 3,
            Self::UdpRr => 4,
        }
    }

    const fn of(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Rr),
            2 => Some(Self::Crr),
            3 => Some(Self::CrrTransaction),
            4 => Some(Self::UdpRr),
            _ => None,
        }
    }
}

/// What a client asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hello {
    /// What the connection is for.
    pub kind: Kind,
    /// Bytes of a request, 1 to [`LARGEST`].
    pub request: u32,
    /// Bytes of a response, 1 to [`LARGEST`].
    pub response: u32,
    /// What both ends were told.
    pub token: Token,
}

/// Why a server refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Its protocol has another version.
    Version,
    /// The token is another.
    Token,
    /// Kind or sizes are not known or not allowed.
    Request,
    /// It serves as many as it can.
    Busy,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Version => {
                "it speaks another version of the protocol; run the same encapbench at both ends"
            }
            Self::Token => "it expects another token; both ends must be told the same",
            Self::Request => "it doesn't know what was asked for; run the same encapbench at both ends",
            Self::Busy => "it serves as many tests as it can; wait until one has ended",
        })
    }
}

/// What a server answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// The test may begin.
    Accepted {
        /// Where the server saw the connection come from.
        seen: SocketAddr,
        /// What datagrams of this test begin with; 0 for tests over TCP.
        session: u64,
    },
    /// The connection is closed.
    Refused(Refusal),
}

/// Why bytes are not a hello or an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// Something else sent them.
    #[error("the peer doesn't speak encapbench's latency protocol")]
    Magic,
    /// Another version.
    #[error("the peer speaks version {0} of the latency protocol and this is version {VERSION}")]
    Version(u16),
    /// A kind, status or family that there isn't.
    #[error("the peer's message has a field of unknown value {0}")]
    Field(u8),
    /// A size outside its range.
    #[error("the size of {0} bytes is outside 1 to {LARGEST}")]
    Size(u32),
    /// A token that isn't one.
    #[error("a token is 32 hexadecimal digits")]
    TokenText,
}

impl Hello {
    /// As bytes to send.
    pub fn encode(&self) -> [u8; HELLO_LENGTH] {
        let mut bytes = [0; HELLO_LENGTH];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..10].copy_from_slice(&VERSION.to_be_bytes());
        bytes[10] = self.kind.code();
        bytes[12..16].copy_from_slice(&self.request.to_be_bytes());
        bytes[16..20].copy_from_slice(&self.response.to_be_bytes());
        bytes[20..].copy_from_slice(&self.token.0);
        bytes
    }

    /// Reads what [`Self::encode`] wrote.
    ///
    /// # Errors
    /// Where it is something else; the version is looked at before all that it may have changed.
    pub fn decode(bytes: &[u8; HELLO_LENGTH]) -> Result<Self, WireError> {
        check_magic(bytes)?;
        if bytes[11] != 0 {
            return Err(WireError::Field(bytes[11]));
        }
        Ok(Self {
            kind: Kind::of(bytes[10]).ok_or(WireError::Field(bytes[10]))?,
            request: size(number(bytes, 12))?,
            response: size(number(bytes, 16))?,
            token: Token(array(bytes, 20)),
        })
    }
}

/// Whether the first bytes that came can become a hello or an answer; a stranger is told by its first byte.
pub fn may_begin(bytes: &[u8]) -> bool {
    bytes.iter().zip(&MAGIC).all(|(a, b)| a == b)
}

impl Answer {
    /// As bytes to send.
    pub fn encode(&self) -> [u8; ANSWER_LENGTH] {
        let mut bytes = [0; ANSWER_LENGTH];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..10].copy_from_slice(&VERSION.to_be_bytes());
        match self {
            Self::Accepted { seen, session } => {
                match seen.ip() {
                    IpAddr::V4(address) => {
                        bytes[11] = 4;
                        bytes[16..20].copy_from_slice(&address.octets());
                    }
                    IpAddr::V6(address) => {
                        bytes[11] = 6;
                        bytes[16..32].copy_from_slice(&address.octets());
                    }
                }
                bytes[12..14].copy_from_slice(&seen.port().to_be_bytes());
                bytes[32..].copy_from_slice(&session.to_be_bytes());
            }
            Self::Refused(refusal) => {
                bytes[10] = match refusal {
                    Refusal::Version => 1,
                    Refusal::Token => 2,
                    Refusal::Request => 3,
                    Refusal::Busy => 4,
                };
            }
        }
        bytes
    }

    /// Reads what [`Self::encode`] wrote. A refusal for the version is read from any version.
    ///
    /// # Errors
    /// Where it is something else.
    pub fn decode(bytes: &[u8; ANSWER_LENGTH]) -> Result<Self, WireError> {
        match check_magic(bytes) {
            Err(WireError::Version(_)) if bytes[10] == 1 => return Ok(Self::Refused(Refusal::Version)),
            checked => checked?,
        }
        let refusal = match bytes[10] {
            0 => None,
            1 => Some(Refusal::Version),
            2 => Some(Refusal::Token),
            3 => Some(Refusal::Request),
            4 => Some(Refusal::Busy),
            other => return Err(WireError::Field(other)),
        };
        if let Some(refusal) = refusal {
            return Ok(Self::Refused(refusal));
        }
        let address = match bytes[11] {
            4 => IpAddr::V4(Ipv4Addr::from(array::<4>(bytes, 16))),
            6 => IpAddr::V6(Ipv6Addr::from(array::<16>(bytes, 16))),
            other => return Err(WireError::Field(other)),
        };
        Ok(Self::Accepted {
            seen: SocketAddr::new(address, u16::from_be_bytes(array(bytes, 12))),
            session: u64::from_be_bytes(array(bytes, 32)),
        })
    }
}

/// Writes what a datagram begins with; `datagram` is at least [`DATAGRAM_HEADER`] long.
pub fn write_datagram_header(datagram: &mut [u8], session: u64, sequence: u64) {
    if let Some(header) = datagram.first_chunk_mut::<DATAGRAM_HEADER>() {
        header[..8].copy_from_slice(&session.to_be_bytes());
        header[8..].copy_from_slice(&sequence.to_be_bytes());
    }
}

/// Session and sequence number of a datagram; `None` where it is too short.
pub fn read_datagram_header(datagram: &[u8]) -> Option<(u64, u64)> {
    let header = datagram.first_chunk::<DATAGRAM_HEADER>()?;
    Some((
        u64::from_be_bytes(array(header, 0)),
        u64::from_be_bytes(array(header, 8)),
    ))
}

fn check_magic(bytes: &[u8]) -> Result<(), WireError> {
    if bytes[..8] != MAGIC {
        return Err(WireError::Magic);
    }
    match u16::from_be_bytes(array(bytes, 8)) {
        VERSION => Ok(()),
        other => Err(WireError::Version(other)),
    }
}

const fn size(bytes: u32) -> Result<u32, WireError> {
    if bytes == 0 || bytes > LARGEST {
        return Err(WireError::Size(bytes));
    }
    Ok(bytes)
}

fn number(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(array(bytes, at))
}

/// `N` bytes from `at`; the callers' messages are longer than that.
fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&bytes[at..at + N]);
    array
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hello() -> impl Strategy<Value = Hello> {
        (
            prop_oneof![
                Just(Kind::Rr),
                Just(Kind::Crr),
                Just(Kind::CrrTransaction),
                Just(Kind::UdpRr)
            ],
            1..=LARGEST,
            1..=LARGEST,
            any::<[u8; 16]>(),
        )
            .prop_map(|(kind, request, response, token)| Hello {
                kind,
                request,
                response,
                token: Token(token),
            })
    }

    fn answer() -> impl Strategy<Value = Answer> {
        prop_oneof![
            (any::<SocketAddr>(), any::<u64>()).prop_map(|(seen, session)| Answer::Accepted {
                // Scope and flow label of an IPv6 address mean nothing to the other machine and are not sent.
                seen: SocketAddr::new(seen.ip(), seen.port()),
                session
            }),
            prop_oneof![
                Just(Refusal::Version),
                Just(Refusal::Token),
                Just(Refusal::Request),
                Just(Refusal::Busy)
            ]
            .prop_map(Answer::Refused),
        ]
    }

    proptest! {
        #[test]
        fn a_hello_is_read_as_it_was_written(hello in hello()) {
            prop_assert_eq!(Hello::decode(&hello.encode()), Ok(hello));
            prop_assert!(may_begin(&hello.encode()));
        }

        #[test]
        fn an_answer_is_read_as_it_was_written(answer in answer()) {
            prop_assert_eq!(Answer::decode(&answer.encode()), Ok(answer));
        }

        #[test]
        fn a_token_is_read_as_it_was_written(bytes in any::<[u8; 16]>()) {
            let token = Token(bytes);
            prop_assert_eq!(token.to_string().parse(), Ok(token));
        }

        #[test]
        fn a_datagram_header_is_read_as_it_was_written(session: u64, sequence: u64, padding in 0..100_usize) {
            let mut datagram = vec![0; DATAGRAM_HEADER + padding];
            write_datagram_header(&mut datagram, session, sequence);
            prop_assert_eq!(read_datagram_header(&datagram), Some((session, sequence)));
            prop_assert_eq!(read_datagram_header(&datagram[..DATAGRAM_HEADER - 1]), None);
        }

        #[test]
        fn any_bytes_are_read_or_refused(hello: [u8; HELLO_LENGTH], answer in any::<[[u8; 8]; 5]>()) {
            let answer: [u8; ANSWER_LENGTH] = array(answer.as_flattened(), 0);
            prop_assert_eq!(Hello::decode(&hello), Err(WireError::Magic));
            prop_assert_eq!(Answer::decode(&answer), Err(WireError::Magic));
        }

        #[test]
        fn a_changed_byte_is_refused_or_read_back_as_it_is(hello in hello(), at in 0..HELLO_LENGTH, flip in 1..=255_u8) {
            let mut bytes = hello.encode();
            bytes[at] ^= flip;
            match Hello::decode(&bytes) {
                Ok(read) => prop_assert_eq!(read.encode(), bytes),
                Err(_) => prop_assert!(at < 20),
            }
        }
    }

    #[test]
    fn a_hello_has_these_bytes() {
        let hello = Hello {
            kind: Kind::Rr,
            request: 1,
            response: 0x0001_0000,
            token: Token(*b"0123456789abcdef"),
        };
        let expected = b"encaplat\0\x01\x01\0\0\0\0\x01\0\x01\0\x000123456789abcdef";
        assert_eq!(hello.encode(), *expected);
    }

    #[test]
    fn another_version_is_told_as_such() {
        let mut bytes = Answer::Refused(Refusal::Version).encode();
        bytes[9] = 2;
        assert_eq!(Answer::decode(&bytes), Ok(Answer::Refused(Refusal::Version)));
        let mut bytes = Answer::Refused(Refusal::Busy).encode();
        bytes[9] = 2;
        assert_eq!(Answer::decode(&bytes), Err(WireError::Version(2)));
    }

    #[test]
    fn a_size_outside_its_range_is_refused() {
        for (size, at) in [(0_u32, 12), (LARGEST + 1, 12), (0, 16), (u32::MAX, 16)] {
            let mut bytes = Hello {
                kind: Kind::Crr,
                request: 1,
                response: 1,
                token: Token([7; 16]),
            }
            .encode();
            bytes[at..at + 4].copy_from_slice(&size.to_be_bytes());
            assert_eq!(Hello::decode(&bytes), Err(WireError::Size(size)));
        }
    }

    #[test]
    fn a_stranger_is_told_by_its_first_byte() {
        assert!(may_begin(b""));
        assert!(may_begin(b"enca"));
        assert!(!may_begin(b"GET / HTTP/1.1\r\n"));
        assert!(!may_begin(b"\x16\x03\x01"));
    }

    #[test]
    fn a_token_is_not_printed_by_accident() {
        assert_eq!(format!("{:?}", Token([1; 16])), "Token(..)");
        assert_eq!("+1".parse::<Token>(), Err(WireError::TokenText));
    }
}
