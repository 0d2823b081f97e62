//! A connection that the first thread looks after: what it said so far, and what it gets.

use crate::traffic::rr_wire::{Answer, HELLO_LENGTH, Hello, Kind, Refusal, Token, WireError, may_begin};
use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Instant,
};

/// A connection that the first thread still looks after.
pub(super) struct Guest {
    pub(super) stream: TcpStream,
    pub(super) peer: SocketAddr,
    pub(super) since: Instant,
    pub(super) stage: GuestStage,
}

pub(super) enum GuestStage {
    /// It has not yet said what it is for.
    Hello { bytes: [u8; HELLO_LENGTH], have: usize },
    /// So many bytes of a `tcp-crr` request are yet to come; then so many go back.
    Request { left: usize, response: usize },
    /// So many bytes of the response are yet to go.
    Response { left: usize },
}

/// What became of a guest.
pub(super) enum Outcome {
    /// More must come first.
    Read,
    /// There must be room first.
    Write,
    /// It wants a `tcp-rr` or `udp-rr` test.
    Test(Hello),
    /// Its `tcp-crr` request was answered.
    Answered,
    /// It agreed, and that was all.
    Agreed,
    /// It went away.
    Gone,
    /// It is none of ours.
    Stranger(&'static str),
}
impl Guest {
    /// One read or write; `None` where another may follow at once.
    pub(super) fn step(
        &mut self,
        scratch: &mut [u8],
        responses: &[u8],
        token: &Token,
    ) -> io::Result<Option<Outcome>> {
        if let GuestStage::Response { left } = &mut self.stage {
            let count = self.stream.write(&responses[..*left])?;
            *left -= count;
            return Ok((*left == 0).then_some(Outcome::Answered));
        }
        let count = self.stream.read(scratch)?;
        if count == 0 {
            return Ok(Some(Outcome::Gone));
        }
        self.hear(&scratch[..count], token)
    }

    fn hear(&mut self, mut heard: &[u8], token: &Token) -> io::Result<Option<Outcome>> {
        if let GuestStage::Hello { bytes, have } = &mut self.stage {
            let count = heard.len().min(HELLO_LENGTH - *have);
            bytes[*have..*have + count].copy_from_slice(&heard[..count]);
            *have += count;
            heard = &heard[count..];
            if !may_begin(&bytes[..*have]) {
                return Ok(Some(Outcome::Stranger("it doesn't speak the latency protocol")));
            }
            if *have < HELLO_LENGTH {
                return Ok(None);
            }
            let bytes = *bytes;
            if let Some(outcome) = self.greet(&bytes, token)? {
                return Ok(Some(outcome));
            }
        }
        if let GuestStage::Request { left, response } = &mut self.stage {
            if heard.len() > *left {
                return Ok(Some(Outcome::Stranger("it sent more than its request")));
            }
            *left -= heard.len();
            if *left == 0 {
                self.stage = GuestStage::Response { left: *response };
            }
        }
        Ok(None)
    }

    /// Answers a whole hello; `None` where a `tcp-crr` request follows it.
    fn greet(&mut self, bytes: &[u8; HELLO_LENGTH], token: &Token) -> io::Result<Option<Outcome>> {
        let (refusal, why) = match Hello::decode(bytes) {
            Ok(hello) if hello.token != *token => (Refusal::Token, "its token is another"),
            Ok(hello) => match hello.kind {
                Kind::Rr | Kind::UdpRr => return Ok(Some(Outcome::Test(hello))),
                Kind::Crr => {
                    let seen = SocketAddr::new(self.peer.ip().to_canonical(), self.peer.port());
                    self.stream
                        .write_all(&Answer::Accepted { seen, session: 0 }.encode())?;
                    return Ok(Some(Outcome::Agreed));
                }
                Kind::CrrTransaction => {
                    self.stage = GuestStage::Request {
                        left: hello.request as usize,
                        response: hello.response as usize,
                    };
                    return Ok(None);
                }
            },
            Err(WireError::Version(_)) => (Refusal::Version, "its protocol has another version"),
            Err(_) => (Refusal::Request, "it asked for what there isn't"),
        };
        // A few bytes always fit into the buffer of a new connection.
        self.stream.write_all(&Answer::Refused(refusal).encode())?;
        Ok(Some(Outcome::Stranger(why)))
    }
}
