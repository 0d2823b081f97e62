//! Ways to move bytes that cost less than iperf3's own, each of which can be left out.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// A technique of the data plane. What the kernel lacks is left out, and the trial's record says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[repr(u8)]
pub enum Technique {
    /// TCP is received without being copied to user space (MSG_TRUNC, tcp(7)). Part of `fast`.
    Trunc,
    /// TCP is queued in the kernel only shortly before it can be sent (TCP_NOTSENT_LOWAT), so that it is still in the
    /// processor's cache; what is in flight is not bounded by it. It measured slower than a long queue: only on request.
    ShortQueue,
    /// The kernel or the NIC cuts UDP datagrams from long messages (UDP_SEGMENT, udp(7)). Part of `fast`.
    Gso,
    /// The kernel puts UDP datagrams together into long messages (UDP_GRO, udp(7)). Part of `fast`.
    Gro,
    /// UDP is received into a buffer of 4 MiB where nobody chose one (SO_RCVBUF), so that a receiver may sleep while it
    /// fills. Part of `fast`.
    BigBuffer,
    /// The arrival of UDP datagrams at a rate is when the kernel got them (SO_TIMESTAMPNS), so that jitter is of the path
    /// and not of the receiver's sleep. Always on unless left out.
    Stamps,
    /// A TCP receiver is woken once some 256 KiB wait, not for each segment (SO_RCVLOWAT, socket(7)). Always on unless
    /// left out.
    LowWater,
    /// Many UDP datagrams go by one call (sendmmsg(2), recvmmsg(2)). Always on unless left out.
    Batch,
    /// A few threads drive many streams (epoll(7)), not a thread each. On above 64 streams unless left out.
    EventLoop,
    /// TCP is sent from a memory file (sendfile(2)): iperf3's `-Z`. Only on request.
    Sendfile,
    /// TCP is sent from user memory without a copy (MSG_ZEROCOPY): no gain where the peer is on the same machine. Only on
    /// request.
    Zerocopy,
    /// Receivers poll the NIC for 50 µs before they sleep (SO_BUSY_POLL, socket(7)): no gain on virtual NICs. Only on
    /// request.
    BusyPoll,
}

impl Technique {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Trunc,
        Self::ShortQueue,
        Self::Gso,
        Self::Gro,
        Self::BigBuffer,
        Self::Stamps,
        Self::LowWater,
        Self::Batch,
        Self::EventLoop,
        Self::Sendfile,
        Self::Zerocopy,
        Self::BusyPoll,
    ];

    /// Its name in scenarios, and after `--no-` on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Trunc => "trunc",
            Self::ShortQueue => "short-queue",
            Self::Gso => "gso",
            Self::Gro => "gro",
            Self::BigBuffer => "big-buffer",
            Self::Stamps => "stamps",
            Self::LowWater => "low-water",
            Self::Batch => "batch",
            Self::EventLoop => "event-loop",
            Self::Sendfile => "sendfile",
            Self::Zerocopy => "zerocopy",
            Self::BusyPoll => "busy-poll",
        }
    }
}

impl fmt::Display for Technique {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that is no technique's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no technique")]
pub struct UnknownTechnique(String);

impl FromStr for Technique {
    type Err = UnknownTechnique;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|technique| technique.name() == text)
            .ok_or_else(|| UnknownTechnique(text.to_owned()))
    }
}

/// A set of techniques.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct TechniqueSet(u16);

impl TechniqueSet {
    /// None.
    pub const NONE: Self = Self(0);
    /// What is always on unless left out: it changes what a test costs, not what it does.
    pub const BASE: Self = Self::NONE
        .with(Technique::LowWater)
        .with(Technique::Batch)
        .with(Technique::Stamps)
        .with(Technique::EventLoop);
    /// What `fast` adds.
    pub const FAST: Self = Self::BASE
        .with(Technique::Trunc)
        .with(Technique::Gso)
        .with(Technique::Gro)
        .with(Technique::BigBuffer);

    /// What TCP has.
    pub const TCP: Self = Self::NONE
        .with(Technique::Trunc)
        .with(Technique::ShortQueue)
        .with(Technique::LowWater)
        .with(Technique::EventLoop)
        .with(Technique::Sendfile)
        .with(Technique::Zerocopy)
        .with(Technique::BusyPoll);
    /// What UDP has.
    pub const UDP: Self = Self::NONE
        .with(Technique::Gso)
        .with(Technique::Gro)
        .with(Technique::BigBuffer)
        .with(Technique::Stamps)
        .with(Technique::Batch)
        .with(Technique::BusyPoll);

    /// What SCTP has.
    pub const SCTP: Self = Self::NONE.with(Technique::BusyPoll);

    /// The set with one more.
    #[must_use]
    pub const fn with(self, technique: Technique) -> Self {
        Self(self.0 | 1 << technique as u8)
    }

    /// All that are in either.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Those that are in both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Those that are not in `other`.
    #[must_use]
    pub const fn minus(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether one is in it.
    pub const fn has(self, technique: Technique) -> bool {
        self.0 & 1 << technique as u8 != 0
    }

    /// Whether none is.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Those in it.
    pub fn iter(self) -> impl Iterator<Item = Technique> {
        Technique::ALL
            .into_iter()
            .filter(move |technique| self.has(*technique))
    }

    /// Reads names between commas, as [`fmt::Display`] writes them; unknown ones, of releases to come, are left out.
    pub fn read(text: &str) -> Self {
        text.split(',').filter_map(|name| name.parse().ok()).collect()
    }
}

impl FromIterator<Technique> for TechniqueSet {
    fn from_iter<T: IntoIterator<Item = Technique>>(techniques: T) -> Self {
        techniques.into_iter().fold(Self::NONE, Self::with)
    }
}

impl fmt::Display for TechniqueSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, technique) in self.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            f.write_str(technique.name())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_written_and_read() {
        for set in [
            TechniqueSet::NONE,
            TechniqueSet::BASE,
            TechniqueSet::FAST,
            Technique::ALL.into_iter().collect(),
        ] {
            assert_eq!(TechniqueSet::read(&set.to_string()), set);
        }
        assert_eq!(TechniqueSet::read("gso,warp,,trunc").to_string(), "trunc,gso");
        assert!(TechniqueSet::FAST.minus(TechniqueSet::BASE).has(Technique::Gro));
        assert!("warp".parse::<Technique>().is_err());
    }

    #[test]
    fn names_are_those_of_scenarios() {
        for technique in Technique::ALL {
            assert_eq!(serde_json::to_value(technique).unwrap(), technique.name());
        }
    }
}
