//! The cookie that names a test and joins its streams to its control connection.

use std::{
    fmt,
    hash::{Hash, Hasher},
};

/// Bytes of a cookie on the wire, the closing NUL included.
pub const COOKIE_LENGTH: usize = 37;

/// A cookie: 36 characters and a NUL. Compared as iperf3 does, up to the first NUL.
#[derive(Clone, Copy)]
pub struct Cookie([u8; COOKIE_LENGTH]);

impl Cookie {
    /// A cookie as iperf3 3.2 and later make it: 36 characters of base32, from 36 random bytes.
    pub fn from_random(random: [u8; COOKIE_LENGTH - 1]) -> Self {
        const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
        let mut bytes = [0; COOKIE_LENGTH];
        for (byte, random) in bytes.iter_mut().zip(random) {
            // 256 is a multiple of 32, so every character is as likely.
            *byte = ALPHABET[usize::from(random % 32)];
        }
        Self(bytes)
    }

    /// The cookie that a peer sent; opaque.
    pub const fn from_bytes(bytes: [u8; COOKIE_LENGTH]) -> Self {
        Self(bytes)
    }

    /// The bytes on the wire.
    pub const fn as_bytes(&self) -> &[u8; COOKIE_LENGTH] {
        &self.0
    }

    fn text(&self) -> &[u8] {
        let end = self.0.iter().position(|byte| *byte == 0).unwrap_or(COOKIE_LENGTH);
        &self.0[..end]
    }
}

impl PartialEq for Cookie {
    fn eq(&self, other: &Self) -> bool {
        self.text() == other.text()
    }
}

impl Eq for Cookie {}

impl Hash for Cookie {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text().hash(state);
    }
}

impl fmt::Display for Cookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.text().escape_ascii())
    }
}

impl fmt::Debug for Cookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cookie({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_is_base32_and_ends_in_nul() {
        let mut random = [0; 36];
        for (index, byte) in random.iter_mut().enumerate() {
            *byte = (index * 37) as u8;
        }
        let cookie = Cookie::from_random(random);
        assert_eq!(cookie.as_bytes()[36], 0);
        assert!(
            cookie.as_bytes()[..36]
                .iter()
                .all(|byte| byte.is_ascii_lowercase() || (b'2'..=b'7').contains(byte))
        );
    }

    #[test]
    fn comparison_stops_at_the_first_nul() {
        let mut left = [b'a'; COOKIE_LENGTH];
        let mut right = left;
        left[5] = 0;
        right[5] = 0;
        right[9] = b'z';
        assert_eq!(Cookie::from_bytes(left), Cookie::from_bytes(right));
        right[4] = b'z';
        assert_ne!(Cookie::from_bytes(left), Cookie::from_bytes(right));
    }
}
