//! The largest packet a device carries.

use super::text::{UnitError, text_unit};
use std::{fmt, str::FromStr};

/// A device's maximum transmission unit in bytes, IP header included: 576 (RFC 791's every-host minimum) to 65535.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mtu(u16);

impl Mtu {
    /// Ethernet's own, 1500 bytes (IEEE 802.3).
    pub const ETHERNET: Self = Self(1500);

    /// What VXLAN over IPv4 adds to a packet: outer IP 20, UDP 8, VXLAN 8, inner Ethernet 14 (RFC 7348).
    pub const VXLAN_OVERHEAD: u16 = 50;

    /// The MTU, or `None` outside 576 to 65535.
    pub const fn new(bytes: u16) -> Option<Self> {
        if bytes < 576 { None } else { Some(Self(bytes)) }
    }

    /// Bytes.
    pub const fn get(self) -> u16 {
        self.0
    }

    /// What is left inside a VXLAN tunnel over this MTU.
    pub const fn inside_vxlan(self) -> u16 {
        self.0.saturating_sub(Self::VXLAN_OVERHEAD)
    }
}

impl FromStr for Mtu {
    type Err = UnitError;
    fn from_str(text: &str) -> Result<Self, UnitError> {
        Some(text.trim())
            // `parse` would take a sign.
            .filter(|digits| digits.starts_with(|c: char| c.is_ascii_digit()))
            .and_then(|digits| digits.parse().ok())
            .and_then(Self::new)
            .ok_or_else(|| UnitError::new(text, "MTU", "a number of bytes from 576 to 65535"))
    }
}

impl fmt::Display for Mtu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

text_unit!(
    Mtu,
    "MTU",
    "a number of bytes from 576 to 65535",
    pattern = r"^\s*[0-9]+\s*$",
    number = |value| u16::try_from(value).ok().and_then(Mtu::new)
);
