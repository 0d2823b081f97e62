//! ESP in tunnel mode (RFC 4303) with AES-GCM and a 16-byte integrity check value (RFC 4106), without extended sequence
//! numbers. Pure: packets in, packets out. In UDP it stands as it is (RFC 3948).
//!
//! ```text
//! SPI (4) | sequence number (4) | IV (8) | { packet | padding | its length (1) | next header (1) } | ICV (16)
//!                                          `------------------- encrypted --------------------'
//! ```

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

/// SPI and sequence number, the part that is authenticated only.
const HEADER: usize = 8;
/// The initialization vector: explicit, eight bytes (RFC 4106, section 3.1).
const IV: usize = 8;
/// The integrity check value.
const ICV: usize = 16;
/// Padding's length and the next header.
const TRAILER: usize = 2;
/// What is encrypted ends at a multiple of this (RFC 4303, section 2.4).
const ALIGNMENT: usize = 4;
/// The next header of an IPv4 packet in tunnel mode.
const IPV4: u8 = 4;
/// The next header of a dummy packet, to be dropped in silence (RFC 4303, section 2.6).
const DUMMY: u8 = 59;

/// The most bytes that a packet grows by.
pub const OVERHEAD: usize = HEADER + IV + (ALIGNMENT - 1) + TRAILER + ICV;

/// Why a packet could not be wrapped or unwrapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EspError {
    /// The key is no key of AES-128 or AES-256 with a salt.
    #[error("the key has {0} bytes, not 20 or 36: AES's with a salt of 4")]
    Key(usize),
    /// All sequence numbers are used up: another key is needed.
    #[error("all sequence numbers of the security association are used up")]
    Exhausted,
    /// Too short for what every packet has.
    #[error("the packet is too short")]
    Short,
    /// Of another security association.
    #[error("the packet's SPI {0:#x} is none of ours")]
    Spi(u32),
    /// Seen before, or too old to tell.
    #[error("the packet's sequence number {0} was seen before or is too old")]
    Replayed(u32),
    /// Tampered with, or encrypted with another key.
    #[error("the packet is not authentic")]
    Authentic,
    /// Authentic, but its trailer makes no sense.
    #[error("the packet's padding is malformed")]
    Padding,
    /// Authentic, but not an IPv4 packet.
    #[error("the packet's next header is {0}, not 4")]
    NextHeader(u8),
}

/// A key with its salt.
struct Key {
    key: LessSafeKey,
    salt: [u8; 4],
}

impl Key {
    /// AES's key, then the salt (RFC 4106, section 8.1).
    fn new(material: &[u8]) -> Result<Self, EspError> {
        let wrong = EspError::Key(material.len());
        let (key, salt) = material.split_last_chunk::<4>().ok_or(wrong)?;
        let algorithm = match key.len() {
            16 => &AES_128_GCM,
            32 => &AES_256_GCM,
            _ => return Err(wrong),
        };
        let key = UnboundKey::new(algorithm, key).map_err(|_| wrong)?;
        Ok(Self {
            key: LessSafeKey::new(key),
            salt: *salt,
        })
    }

    /// Salt, then IV (RFC 4106, section 4).
    fn nonce(&self, iv: [u8; IV]) -> Nonce {
        let mut nonce = [0; 12];
        nonce[..4].copy_from_slice(&self.salt);
        nonce[4..].copy_from_slice(&iv);
        Nonce::assume_unique_for_key(nonce)
    }
}

/// The association of what we send.
pub struct Outbound {
    key: Key,
    spi: u32,
    sequence: u32,
}

impl Outbound {
    /// `material` is AES's key of 16 or 32 bytes with 4 of salt behind it.
    ///
    /// # Errors
    /// Where it is not.
    pub fn new(spi: u32, material: &[u8]) -> Result<Self, EspError> {
        Ok(Self {
            key: Key::new(material)?,
            spi,
            sequence: 0,
        })
    }

    /// Wraps the IPv4 packet `inner` into `out`, which is emptied before.
    ///
    /// # Errors
    /// Where the sequence numbers are used up: they never cycle (RFC 4303, section 3.3.3).
    pub fn seal(&mut self, inner: &[u8], out: &mut Vec<u8>) -> Result<(), EspError> {
        let sequence = self.sequence.checked_add(1).ok_or(EspError::Exhausted)?;
        // The sequence number never repeats under one key, and neither may the IV.
        self.seal_as(sequence, u64::from(sequence).to_be_bytes(), IPV4, inner, out)?;
        self.sequence = sequence;
        Ok(())
    }

    fn seal_as(
        &self,
        sequence: u32,
        iv: [u8; IV],
        next: u8,
        inner: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), EspError> {
        let padding = (ALIGNMENT - (inner.len() + TRAILER) % ALIGNMENT) % ALIGNMENT;
        out.clear();
        out.extend_from_slice(&self.spi.to_be_bytes());
        out.extend_from_slice(&sequence.to_be_bytes());
        out.extend_from_slice(&iv);
        out.extend_from_slice(inner);
        // 1, 2, 3 and so on (RFC 4303, section 2.4).
        out.extend((1..=padding).map(|byte| byte as u8));
        out.extend_from_slice(&[padding as u8, next]);
        let (header, encrypted) = out.split_at_mut(HEADER + IV);
        let aad = Aad::from(&header[..HEADER]);
        let tag = self
            .key
            .key
            .seal_in_place_separate_tag(self.key.nonce(iv), aad, encrypted)
            .map_err(|_| EspError::Authentic)?;
        out.extend_from_slice(tag.as_ref());
        Ok(())
    }
}

/// The association of what we receive.
pub struct Inbound {
    key: Key,
    spi: u32,
    window: ReplayWindow,
}

impl Inbound {
    /// `material` is AES's key of 16 or 32 bytes with 4 of salt behind it.
    ///
    /// # Errors
    /// Where it is not.
    pub fn new(spi: u32, material: &[u8]) -> Result<Self, EspError> {
        Ok(Self {
            key: Key::new(material)?,
            spi,
            window: ReplayWindow::default(),
        })
    }

    /// Unwraps `packet` in its own bytes: the IPv4 packet inside; `None` for a dummy, which is to be dropped.
    ///
    /// # Errors
    /// Where it is not one of this association, not authentic, or seen before.
    pub fn open<'a>(&mut self, packet: &'a mut [u8]) -> Result<Option<&'a [u8]>, EspError> {
        if packet.len() < HEADER + IV + TRAILER + ICV {
            return Err(EspError::Short);
        }
        let (header, rest) = packet.split_at_mut(HEADER + IV);
        let word =
            |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let (spi, sequence) = (word(0), word(4));
        if spi != self.spi {
            return Err(EspError::Spi(spi));
        }
        // Before the costly part (RFC 4303, section 3.4.3); it counts as seen only once it is authentic.
        if !self.window.is_new(sequence) {
            return Err(EspError::Replayed(sequence));
        }
        let mut iv = [0; IV];
        iv.copy_from_slice(&header[HEADER..]);
        let aad = Aad::from(&header[..HEADER]);
        let plain = self
            .key
            .key
            .open_in_place(self.key.nonce(iv), aad, rest)
            .map_err(|_| EspError::Authentic)?;
        self.window.mark(sequence);
        let (body, trailer) = plain.split_last_chunk::<TRAILER>().ok_or(EspError::Padding)?;
        let [length, next] = *trailer;
        let (inner, padding) = body
            .split_at_checked(body.len().wrapping_sub(usize::from(length)))
            .ok_or(EspError::Padding)?;
        if next == DUMMY {
            return Ok(None);
        }
        if padding
            .iter()
            .zip(1_u8..)
            .any(|(byte, expected)| *byte != expected)
        {
            return Err(EspError::Padding);
        }
        if next != IPV4 {
            return Err(EspError::NextHeader(next));
        }
        Ok(Some(inner))
    }
}

/// Which of the last sequence numbers were seen (RFC 4303, section 3.4.3 and appendix A).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReplayWindow {
    /// The highest seen; 0: none yet.
    highest: u32,
    /// Bit `n`: whether `highest - n` was seen.
    seen: u128,
}

impl ReplayWindow {
    /// How many sequence numbers it remembers.
    pub const SIZE: u32 = u128::BITS;

    /// Whether a packet of that number may be taken: it was not seen, and is not too old to tell.
    pub const fn is_new(&self, sequence: u32) -> bool {
        if sequence == 0 {
            // The first is 1.
            return false;
        }
        if sequence > self.highest {
            return true;
        }
        let age = self.highest - sequence;
        age < Self::SIZE && self.seen & (1 << age) == 0
    }

    /// Remembers an authentic packet's number.
    pub const fn mark(&mut self, sequence: u32) {
        if sequence > self.highest {
            let step = sequence - self.highest;
            self.seen = if step < Self::SIZE { self.seen << step } else { 0 };
            self.seen |= 1;
            self.highest = sequence;
        } else if self.highest - sequence < Self::SIZE {
            self.seen |= 1 << (self.highest - sequence);
        }
    }
}

#[cfg(test)]
mod tests;
