//! UDP datagrams: how a stream is opened, the header of each datagram, and what its receiver makes of it.

/// The first datagram of a stream, client to server (3.12 and later; "9876").
pub const CONNECT: [u8; 4] = *b"9876";
/// The server's answer to it ("6789").
pub const REPLY: [u8; 4] = *b"6789";
/// The same of 3.11 and before, on little-endian hosts.
pub const LEGACY_CONNECT: [u8; 4] = 123_456_789_u32.to_le_bytes();
/// The same of 3.11 and before, on little-endian hosts.
pub const LEGACY_REPLY: [u8; 4] = 987_654_321_u32.to_le_bytes();

/// Whether a datagram is one of those, in either byte order: before 3.17 they went in the host's.
fn is_one_of(datagram: &[u8], magics: [[u8; 4]; 2]) -> bool {
    datagram.first_chunk::<4>().is_some_and(|first| {
        let mut swapped = *first;
        swapped.reverse();
        magics.contains(first) || magics.contains(&swapped)
    })
}

/// Whether a datagram opens a stream.
pub fn is_connect(datagram: &[u8]) -> bool {
    datagram.len() == 4 && is_one_of(datagram, [CONNECT, LEGACY_CONNECT])
}

/// Whether a datagram says that a stream is open.
pub fn is_reply(datagram: &[u8]) -> bool {
    is_one_of(datagram, [REPLY, LEGACY_REPLY])
}

/// How wide sequence numbers are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Width {
    /// 32 bits.
    #[default]
    Narrow,
    /// 64 bits (`udp_counters_64bit`).
    Wide,
}

/// The shortest datagram of a test, in bytes: a header of either width fits.
pub const SHORTEST: usize = 16;
/// The longest, in bytes: what IPv4 carries.
pub const LONGEST: usize = 65_507;

/// What a datagram begins with: when it was sent, by the sender's monotonic clock, and which it is, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// When it was sent: microseconds.
    pub micros: u64,
    /// Its number in its stream, from 1.
    pub sequence: u64,
}

impl Header {
    /// Writes it to the beginning of a datagram, which must be at least [`SHORTEST`] long.
    pub fn write(self, width: Width, datagram: &mut [u8]) {
        let seconds = (self.micros / 1_000_000) as u32;
        let micros = (self.micros % 1_000_000) as u32;
        let Some(room) = datagram.first_chunk_mut::<SHORTEST>() else {
            return;
        };
        room[..4].copy_from_slice(&seconds.to_be_bytes());
        room[4..8].copy_from_slice(&micros.to_be_bytes());
        match width {
            Width::Narrow => room[8..12].copy_from_slice(&(self.sequence as u32).to_be_bytes()),
            Width::Wide => room[8..16].copy_from_slice(&self.sequence.to_be_bytes()),
        }
    }

    /// Reads it; `None` where the datagram is too short, or its number is none that a sender can have come to.
    pub fn read(width: Width, datagram: &[u8]) -> Option<Self> {
        let int = |at: usize| {
            let bytes = datagram.get(at..)?.first_chunk::<4>()?;
            Some(u64::from(u32::from_be_bytes(*bytes)))
        };
        let sequence = match width {
            Width::Narrow => int(8)?,
            Width::Wide => int(8)? << 32 | int(12)?,
        };
        (i64::try_from(sequence).is_ok()).then_some(Self {
            micros: int(0)? * 1_000_000 + int(4)?,
            sequence,
        })
    }
}

/// What a receiver counts of a stream's datagrams, exactly as iperf3 does, with its oddities: a duplicate counts as
/// out of order and takes back a loss, and what is lost at the very end is never noticed.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Tally {
    /// The highest number seen.
    pub packets: u64,
    /// Numbers skipped and not seen since.
    pub lost: u64,
    /// Datagrams that came after one with a higher number, or again.
    pub out_of_order: u64,
    /// Smoothed variation of the transit time in seconds (RFC 1889 A.8).
    pub jitter: f64,
    transit: Option<i64>,
}

impl Tally {
    /// What has been counted elsewhere.
    pub fn counted(packets: u64, lost: u64, out_of_order: u64, jitter: f64) -> Self {
        Self {
            packets,
            lost,
            out_of_order,
            jitter,
            transit: None,
        }
    }

    /// Counts a datagram that arrived at `now`, nanoseconds of the receiver's monotonic clock.
    pub fn count(&mut self, header: Header, now: u64) {
        if header.sequence > self.packets {
            self.lost = self.lost.saturating_add(header.sequence - 1 - self.packets);
            self.packets = header.sequence;
        } else {
            self.out_of_order += 1;
            self.lost = self.lost.saturating_sub(1);
        }
        // 32 bits of seconds in nanoseconds fit; so does any monotonic clock.
        let sent = header.micros.saturating_mul(1000);
        let transit = i64::try_from(now.abs_diff(sent)).unwrap_or(i64::MAX);
        let variation = transit.abs_diff(self.transit.unwrap_or(transit)) as f64 / 1e9;
        self.transit = Some(transit);
        self.jitter += (variation - self.jitter) / 16.0;
    }

    /// The warm-up is over: jitter begins anew, all else goes on.
    pub const fn end_warm_up(&mut self) {
        self.jitter = 0.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tally(sequences: &[u64]) -> (u64, u64, u64) {
        let mut tally = Tally::default();
        for sequence in sequences {
            let header = Header {
                micros: 5,
                sequence: *sequence,
            };
            tally.count(header, 7000);
        }
        (tally.lost, tally.packets, tally.out_of_order)
    }

    #[test]
    fn losses_are_counted_as_stock_counts_them() {
        assert_eq!(tally(&[1, 2, 5, 6]), (2, 6, 0));
        assert_eq!(tally(&[1, 3, 2, 4]), (0, 4, 1));
        // A duplicate takes back a real loss.
        assert_eq!(tally(&[1, 4, 4, 5]), (1, 5, 1));
        assert_eq!(tally(&[2, 2, 2, 2]), (0, 2, 3));
        assert_eq!(tally(&[]), (0, 0, 0));
        // A hostile number is at worst a big loss.
        assert_eq!(
            tally(&[i64::MAX as u64, 1, 2]),
            (i64::MAX as u64 - 3, i64::MAX as u64, 2)
        );
    }

    #[test]
    fn headers_are_those_of_the_captures() {
        // The first datagrams of 05-udp.3.12 and, with 64 bits, made by hand.
        let narrow = [
            0, 0, 0x10, 0x65, 0, 2, 0x45, 0x5f, 0, 0, 0, 1, 0x94, 0xa9, 0x9c, 0xaa,
        ];
        let header = Header::read(Width::Narrow, &narrow).unwrap();
        assert_eq!((header.micros, header.sequence), (4_197_148_831, 1));
        let mut again = narrow;
        again[..12].fill(0xff);
        header.write(Width::Narrow, &mut again);
        assert_eq!(again, narrow);
        let mut wide = [0; 16];
        let header = Header {
            micros: 1_000_001,
            sequence: 5_000_000_000,
        };
        header.write(Width::Wide, &mut wide);
        assert_eq!(wide, [0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0x2a, 0x05, 0xf2, 0]);
        assert_eq!(Header::read(Width::Wide, &[0xff; 16]), None);
        assert_eq!(Header::read(Width::Wide, &wide[..15]), None);
        assert_eq!(Header::read(Width::Narrow, &wide[..11]), None);
    }

    #[test]
    fn a_stream_is_opened_by_either_magic_in_either_order() {
        for magic in [
            [0x39, 0x38, 0x37, 0x36],
            [0x15, 0xcd, 0x5b, 0x07],
            [0x07, 0x5b, 0xcd, 0x15],
        ] {
            assert!(is_connect(&magic));
        }
        for magic in [
            [0x36, 0x37, 0x38, 0x39],
            [0xb1, 0x68, 0xde, 0x3a],
            [0x3a, 0xde, 0x68, 0xb1],
        ] {
            assert!(is_reply(&magic));
        }
        assert!(!is_connect(b"987") && !is_connect(b"98765") && !is_connect(b"hello"));
        assert!(!is_reply(&[0; 16]) && !is_reply(&LEGACY_CONNECT) && !is_connect(&LEGACY_REPLY));
    }

    proptest! {
        #[test]
        fn headers_survive(micros in 0..u64::from(u32::MAX) * 1_000_000, sequence in 0..=u64::from(u32::MAX), wide: bool) {
            let width = if wide { Width::Wide } else { Width::Narrow };
            let header = Header { micros, sequence };
            let mut datagram = [0; 20];
            header.write(width, &mut datagram);
            prop_assert_eq!(Header::read(width, &datagram), Some(header));
        }

        /// Against the specification's own words, in floating point seconds.
        #[test]
        fn loss_and_jitter_are_as_specified(
            steps in proptest::collection::vec((1_u64..40, 0_u64..5_000, 0_u64..9_000_000), 0..200),
        ) {
            let mut tally = Tally::default();
            let (mut max, mut errors, mut late) = (0_i64, 0_i64, 0_i64);
            let (mut previous, mut jitter) = (None, 0.0_f64);
            let (mut sent, mut arrived) = (77_000_000_u64, 5_000_000_000_u64);
            for (sequence, gap, delay) in steps {
                sent += gap;
                arrived += delay;
                tally.count(Header { micros: sent, sequence }, arrived);
                let seq = sequence as i64;
                if seq > max {
                    if seq > max + 1 {
                        errors += seq - 1 - max;
                    }
                    max = seq;
                } else {
                    late += 1;
                    if errors > 0 {
                        errors -= 1;
                    }
                }
                let transit = (arrived as f64 / 1e9 - sent as f64 / 1e6).abs();
                let d = (transit - previous.unwrap_or(transit)).abs();
                previous = Some(transit);
                jitter += (d - jitter) / 16.0;
            }
            prop_assert_eq!(
                (tally.packets as i64, tally.lost as i64, tally.out_of_order as i64), (max, errors, late)
            );
            prop_assert!((tally.jitter - jitter).abs() < 1e-9);
        }
    }
}
