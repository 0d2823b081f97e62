//! What a tunnel's process is told: one JSON object on its standard input.

use crate::units::Cidr4;
use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;

/// What the process says on its standard output, as a line, once packets can pass.
pub const READY: &str = "ready";

/// A tunnel of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct TunnelSpec {
    /// Its TUN device, which is there already.
    pub device: String,
    /// The node's address on the underlay.
    pub local: Ipv4Addr,
    /// The UDP port of all ends; `None`: packets go in IP itself (protocol 4), as IP in IP has no port.
    pub port: Option<u16>,
    /// The other ends.
    pub peers: Vec<PeerSpec>,
}

/// Another end of a tunnel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct PeerSpec {
    /// Its address on the underlay.
    pub address: Ipv4Addr,
    /// The inner addresses behind it: packets to these go to it, and only packets from these are taken from it.
    pub inner: Vec<Cidr4>,
    /// How packets are wrapped.
    pub kind: PeerKind,
}

/// How packets to and from a peer are wrapped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PeerKind {
    /// ESP in tunnel mode.
    Esp(EspKeys),
    /// WireGuard.
    Wireguard(WireguardKeys),
    /// IP in IP (RFC 2003).
    Ipip,
}

/// The two security associations with a peer. Keys are AES-256's with RFC 4106's salt of four bytes behind them, in
/// hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct EspKeys {
    /// Names what we send: not 0, and above 255 (RFC 4303, section 2.1).
    pub spi_out: u32,
    /// Its key and salt.
    pub key_out: String,
    /// Names what we receive.
    pub spi_in: u32,
    /// Its key and salt.
    pub key_in: String,
}

/// Keys of Curve25519, in hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct WireguardKeys {
    /// Ours.
    pub private: String,
    /// The peer's.
    pub public: String,
    /// How often something is sent, in seconds, so that the way stays open.
    pub keepalive: u16,
}

/// The public key to a private one.
pub fn public_key(private: [u8; 32]) -> [u8; 32] {
    let secret = boringtun::x25519::StaticSecret::from(private);
    boringtun::x25519::PublicKey::from(&secret).to_bytes()
}

/// Hexadecimal digits of bytes.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string can't fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Bytes of hexadecimal digits; `None` where these are not exactly `N` bytes.
pub(super) fn bytes<const N: usize>(text: &str) -> Option<[u8; N]> {
    if text.len() != 2 * N || !text.is_ascii() {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, at) in bytes.iter_mut().zip((0..).step_by(2)) {
        *byte = u8::from_str_radix(text.get(at..at + 2)?, 16).ok()?;
    }
    Some(bytes)
}
