//! Taking messages off a byte stream that TCP may split and join anywhere.

use super::state::State;

/// The largest parameter document a server takes (as stock since 3.18).
pub const PARAMETERS_LIMIT: usize = 8192;

/// The largest results document a client takes. Stock has no limit; with the server's whole output inside it is
/// some hundred KiB.
pub const RESULTS_LIMIT: usize = 16 << 20;

/// Bytes received and not yet understood.
#[derive(Debug, Default)]
pub struct Inbox {
    bytes: Vec<u8>,
    read: usize,
}

/// The length word in front of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    /// This many bytes follow.
    Bytes(usize),
    /// It is no length but the start of a SERVER_ERROR frame (state byte `fe` in the length's place).
    ErrorFrame,
    /// Zero, or above the limit.
    OutOfRange(u32),
}

impl Inbox {
    /// Adds what was received.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.read == self.bytes.len() {
            self.bytes.clear();
            self.read = 0;
        } else if self.read > 4096 {
            self.bytes.drain(..self.read);
            self.read = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// Bytes not yet taken.
    pub const fn len(&self) -> usize {
        self.bytes.len() - self.read
    }

    /// Whether nothing is left.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.read = 0;
    }

    fn peek(&self) -> &[u8] {
        self.bytes.get(self.read..).unwrap_or_default()
    }

    /// The next byte.
    pub fn byte(&mut self) -> Option<u8> {
        let byte = self.peek().first().copied()?;
        self.read += 1;
        Some(byte)
    }

    /// The next `N` bytes, if all are there.
    pub fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let array = self.peek().first_chunk::<N>().copied()?;
        self.read += N;
        Some(array)
    }

    /// The next big-endian int.
    pub fn int(&mut self) -> Option<i32> {
        self.array().map(i32::from_be_bytes)
    }

    /// A document's length, taken only where it is in range: nothing is allocated for one above `limit`.
    pub fn length(&mut self, limit: usize) -> Option<Length> {
        let word = u32::from_be_bytes(self.peek().first_chunk::<4>().copied()?);
        let length = usize::try_from(word).unwrap_or(usize::MAX);
        if (1..=limit).contains(&length) {
            self.read += 4;
            Some(Length::Bytes(length))
        } else if word.to_be_bytes()[0] == State::ServerError.byte() {
            Some(Length::ErrorFrame)
        } else {
            Some(Length::OutOfRange(word))
        }
    }

    /// The next `length` bytes, if all are there.
    pub fn document(&mut self, length: usize) -> Option<Vec<u8>> {
        let document = self.peek().get(..length)?.to_vec();
        self.read += length;
        Some(document)
    }
}

/// A document with its length in front.
pub fn frame(json: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(4 + json.len());
    // Our own documents are far below 4 GiB.
    out.extend_from_slice(&(json.len() as u32).to_be_bytes());
    out.extend_from_slice(json.as_bytes());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_capped_before_anything_is_allocated() {
        let mut inbox = Inbox::default();
        inbox.push(&[0xff; 4]);
        assert_eq!(inbox.length(RESULTS_LIMIT), Some(Length::OutOfRange(u32::MAX)));
        inbox.clear();
        inbox.push(&[0xfe, 0, 0, 0]);
        assert_eq!(inbox.length(RESULTS_LIMIT), Some(Length::ErrorFrame));
        inbox.clear();
        inbox.push(&[0, 0, 0x20]);
        assert_eq!(inbox.length(PARAMETERS_LIMIT), None);
        inbox.push(&[0]);
        assert_eq!(inbox.length(PARAMETERS_LIMIT), Some(Length::Bytes(8192)));
        inbox.push(&[0, 0, 0, 0]);
        assert_eq!(inbox.length(PARAMETERS_LIMIT), Some(Length::OutOfRange(0)));
    }
}
