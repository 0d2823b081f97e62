//! Newtypes of every quantity, each with parse, `Display` and serde; what `Display` prints parses back to the
//! same value. A scenario file writes them as people do: `8.5gbit`, `256KiB`, `500ms`, `1000MB/s`, `1000/s`.

mod bit_rate;
mod byte_rate;
mod bytes;
mod cidr4;
mod event_rate;
mod mtu;
mod percent;
mod span;
mod text;

pub use bit_rate::BitRate;
pub use byte_rate::ByteRate;
pub use bytes::Bytes;
pub use cidr4::Cidr4;
pub use event_rate::EventRate;
pub use mtu::Mtu;
pub use percent::Percent;
pub use span::Span;
pub use text::UnitError;

#[cfg(test)]
mod tests;
