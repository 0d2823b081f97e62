//! A block of IPv4 addresses.

use super::text::{UnitError, text_unit};
use core::net::Ipv4Addr;
use std::{fmt, str::FromStr};

/// A block of IPv4 addresses in CIDR notation (RFC 4632), its host bits all zero: `10.1.0.0/24`, `/0` to `/32`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cidr4 {
    network: u32,
    prefix: u8,
}

impl Cidr4 {
    /// 169.254.0.0/16 (RFC 3927), of which Calico gives every pod 169.254.1.1 as its gateway.
    pub const LINK_LOCAL: Self = Self {
        network: 0xa9fe_0000,
        prefix: 16,
    };

    /// The block, or `None` where `prefix` is above 32 or a host bit of `network` is set.
    pub const fn new(network: Ipv4Addr, prefix: u8) -> Option<Self> {
        if prefix > 32 {
            return None;
        }
        let block = Self::containing(network.to_bits(), prefix);
        if block.network == network.to_bits() {
            Some(block)
        } else {
            None
        }
    }

    const fn containing(address: u32, prefix: u8) -> Self {
        Self {
            network: address & mask(prefix),
            prefix,
        }
    }

    /// The first address.
    pub const fn network(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.network)
    }

    /// The last address, which is the broadcast address of a subnet.
    pub const fn last(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.network | !mask(self.prefix))
    }

    /// The prefix length, 0 to 32.
    pub const fn prefix(self) -> u8 {
        self.prefix
    }

    /// How many addresses it has, first and last included: 1 to 2^32.
    pub const fn addresses(self) -> u64 {
        1 << (32 - self.prefix)
    }

    /// The address at `index`, 0 being the first; `None` past the end.
    pub fn address(self, index: u64) -> Option<Ipv4Addr> {
        (index < self.addresses())
            .then(|| u32::try_from(u64::from(self.network) + index).ok())
            .flatten()
            .map(Ipv4Addr::from_bits)
    }

    /// How many blocks of `prefix` it can be cut into; 0 where `prefix` is shorter than its own or above 32.
    pub const fn blocks(self, prefix: u8) -> u64 {
        if prefix < self.prefix || prefix > 32 {
            0
        } else {
            1 << (prefix - self.prefix)
        }
    }

    /// The block at `index` of those of `prefix`; `None` past the end.
    pub fn block(self, prefix: u8, index: u64) -> Option<Self> {
        if index >= self.blocks(prefix) {
            return None;
        }
        let network = u64::from(self.network) + (index << (32 - prefix));
        Some(Self {
            network: u32::try_from(network).ok()?,
            prefix,
        })
    }

    /// Whether `address` is one of its addresses.
    pub const fn contains(self, address: Ipv4Addr) -> bool {
        Self::containing(address.to_bits(), self.prefix).network == self.network
    }

    /// Whether the two have an address in common.
    pub const fn overlaps(self, other: Self) -> bool {
        let prefix = if self.prefix < other.prefix {
            self.prefix
        } else {
            other.prefix
        };
        Self::containing(self.network, prefix).network == Self::containing(other.network, prefix).network
    }
}

const fn mask(prefix: u8) -> u32 {
    if prefix == 0 { 0 } else { u32::MAX << (32 - prefix) }
}

const EXPECTED: &str = "a block such as 10.1.0.0/24";

impl FromStr for Cidr4 {
    type Err = UnitError;
    fn from_str(text: &str) -> Result<Self, UnitError> {
        let error = |expected: String| UnitError::new(text, "block of IPv4 addresses", expected);
        let (network, prefix) = text
            .trim()
            .split_once('/')
            .filter(|(_, prefix)| prefix.bytes().all(|b| b.is_ascii_digit()))
            .and_then(|(network, prefix)| {
                Some((network.parse::<Ipv4Addr>().ok()?, prefix.parse::<u8>().ok()?))
            })
            .filter(|(_, prefix)| *prefix <= 32)
            .ok_or_else(|| error(EXPECTED.to_owned()))?;
        Self::new(network, prefix).ok_or_else(|| {
            let meant = Self::containing(network.to_bits(), prefix);
            error(format!("no address bits beyond the /{prefix}: {meant}"))
        })
    }
}

impl fmt::Display for Cidr4 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network(), self.prefix)
    }
}

text_unit!(
    Cidr4,
    "block of IPv4 addresses",
    "a block such as 10.1.0.0/24",
    pattern = r"^\s*([0-9]{1,3}\.){3}[0-9]{1,3}/[0-9]{1,2}\s*$"
);

#[cfg(test)]
mod tests {
    use super::Cidr4;

    fn cidr(text: &str) -> Cidr4 {
        text.parse().unwrap()
    }

    #[test]
    fn edges_of_a_block() {
        let block = cidr("10.1.2.64/26");
        assert_eq!(block.network().to_string(), "10.1.2.64");
        assert_eq!(block.last().to_string(), "10.1.2.127");
        assert_eq!(block.addresses(), 64);
        assert_eq!(block.address(63), Some(block.last()));
        assert_eq!(block.address(64), None);
        assert!(block.contains(block.last()));
        assert!(!block.contains("10.1.2.128".parse().unwrap()));
    }

    #[test]
    fn the_whole_internet_and_one_address() {
        let all = cidr("0.0.0.0/0");
        assert_eq!(all.addresses(), 1 << 32);
        assert_eq!(all.last().to_string(), "255.255.255.255");
        assert_eq!(
            all.block(32, u64::from(u32::MAX)),
            Some(cidr("255.255.255.255/32"))
        );
        assert_eq!(all.block(32, 1 << 32), None);
        let one = cidr("10.0.0.1/32");
        assert_eq!((one.addresses(), one.last()), (1, one.network()));
    }

    #[test]
    fn blocks_are_cut_in_order() {
        let pool = cidr("10.244.0.0/16");
        assert_eq!(pool.blocks(26), 1024);
        assert_eq!(pool.block(26, 1), Some(cidr("10.244.0.64/26")));
        assert_eq!(pool.block(26, 1023), Some(cidr("10.244.255.192/26")));
        assert_eq!(pool.block(26, 1024), None);
        assert_eq!(pool.blocks(15), 0);
        assert_eq!(pool.blocks(33), 0);
    }

    #[test]
    fn overlap_is_containment_either_way() {
        assert!(cidr("10.0.0.0/8").overlaps(cidr("10.3.0.0/16")));
        assert!(cidr("10.3.0.0/16").overlaps(cidr("10.0.0.0/8")));
        assert!(cidr("0.0.0.0/0").overlaps(Cidr4::LINK_LOCAL));
        assert!(!cidr("10.0.0.0/24").overlaps(cidr("10.0.1.0/24")));
    }

    #[test]
    fn host_bits_are_refused_with_the_block_that_was_meant() {
        let error = "10.1.0.7/24".parse::<Cidr4>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "\"10.1.0.7/24\" is no block of IPv4 addresses: expected no address bits beyond the /24: 10.1.0.0/24"
        );
    }
}
