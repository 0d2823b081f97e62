//! Turning counters into intervals: a sample of every stream at each tick, a baseline where the warm-up ends.

use super::Load;
use crate::{
    iperf3::wire::datagram::Tally,
    measure::{Sample, TcpSample, UdpSample},
};
use std::time::Duration;

/// When samples are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    /// Between samples; zero for one sample at the end of the warm-up and one at the end.
    pub interval: Duration,
    /// The warm-up.
    pub omit: Duration,
}

#[derive(Debug, Default)]
struct Track {
    seen_bytes: u64,
    base_bytes: u64,
    base_retransmits: u64,
    last: Option<TcpSample>,
    seen: Option<Tally>,
    base: Option<Tally>,
    samples: Vec<Sample>,
}

/// The samples of all streams of a load at one end. Times are durations since the test began to run.
#[derive(Debug)]
pub struct Recording {
    schedule: Schedule,
    tracks: Vec<Track>,
    ticks: u32,
    last: Duration,
    /// When the warm-up really ended; `None` while in it.
    base: Option<Duration>,
}

impl Recording {
    /// A recording of `streams` streams that begin now.
    pub fn new(schedule: Schedule, streams: usize) -> Self {
        Self {
            schedule,
            tracks: (0..streams).map(|_| Track::default()).collect(),
            ticks: 0,
            last: Duration::ZERO,
            base: schedule.omit.is_zero().then_some(Duration::ZERO),
        }
    }

    /// When [`Self::sample`] is due next.
    pub fn due(&self) -> Duration {
        let tick = if self.schedule.interval.is_zero() {
            Duration::MAX
        } else {
            self.schedule.interval.saturating_mul(self.ticks + 1)
        };
        if self.base.is_none() {
            tick.min(self.schedule.omit)
        } else {
            tick
        }
    }

    /// Whether the warm-up is over.
    pub const fn is_measuring(&self) -> bool {
        self.base.is_some()
    }

    /// Takes a sample of every stream; the first one at or after the warm-up's end ends it. Returns whether it did.
    pub fn sample(&mut self, now: Duration, load: &Load) -> bool {
        let omitted = self.base.is_none();
        let seconds = now.saturating_sub(self.last).as_secs_f64();
        let ends_omit = omitted && now >= self.schedule.omit;
        for (index, track) in self.tracks.iter_mut().enumerate() {
            let bytes = load.bytes(index);
            track.last = load.tcp_sample(index).or(track.last);
            let tally = load.datagrams(index);
            let udp = tally.map(|tally| {
                let before = track.seen.unwrap_or_default();
                UdpSample {
                    packets: tally.packets.saturating_sub(before.packets),
                    lost: tally.lost.cast_signed().saturating_sub(before.lost.cast_signed()),
                    out_of_order: tally.out_of_order.saturating_sub(before.out_of_order),
                    jitter: tally.jitter,
                }
            });
            track.seen = tally;
            track.samples.push(Sample {
                end: now.as_secs_f64(),
                seconds,
                bytes: bytes - track.seen_bytes,
                omitted,
                tcp: track.last,
                udp,
            });
            track.seen_bytes = bytes;
            if ends_omit {
                track.base_bytes = bytes;
                track.base = tally;
                track.base_retransmits = track.last.map_or(0, |tcp| tcp.retransmits);
            }
        }
        self.last = now;
        if ends_omit {
            self.base = Some(now);
        }
        if !self.schedule.interval.is_zero() {
            // A late sample swallows the ticks it missed.
            let passed = now.as_nanos() / self.schedule.interval.as_nanos();
            self.ticks = u32::try_from(passed).unwrap_or(u32::MAX - 1);
        }
        ends_omit
    }

    /// Takes the last sample; returns whether it stands for itself. A rest shorter than a tenth of the interval is
    /// added to the sample before it.
    pub fn finish(&mut self, now: Duration, load: &Load) -> bool {
        if now <= self.last {
            return false;
        }
        let rest = now.saturating_sub(self.last);
        self.sample(now, load);
        if rest >= self.schedule.interval / 10 {
            return true;
        }
        let mut alone = false;
        for track in &mut self.tracks {
            let Some(last) = track.samples.pop() else { continue };
            if let Some(before) = track
                .samples
                .last_mut()
                .filter(|before| before.omitted == last.omitted)
            {
                before.end = last.end;
                before.seconds += last.seconds;
                before.bytes += last.bytes;
                before.tcp = last.tcp;
                before.udp = before.udp.zip(last.udp).map(|(before, last)| UdpSample {
                    packets: before.packets + last.packets,
                    lost: before.lost.saturating_add(last.lost),
                    out_of_order: before.out_of_order + last.out_of_order,
                    jitter: last.jitter,
                });
            } else {
                track.samples.push(last);
                alone = true;
            }
        }
        alone
    }

    /// When the warm-up really ended; `None` while in it.
    pub const fn base(&self) -> Option<Duration> {
        self.base
    }

    /// Seconds measured so far, up to the last sample.
    pub fn seconds(&self) -> f64 {
        self.base
            .map_or(0.0, |base| self.last.saturating_sub(base).as_secs_f64())
    }

    /// Bytes of a stream in the measured time, up to the last sample; 0 in the warm-up.
    pub fn bytes(&self, index: usize) -> u64 {
        match (self.base, self.tracks.get(index)) {
            (Some(_), Some(track)) => track.seen_bytes - track.base_bytes,
            _ => 0,
        }
    }

    /// Bytes of a stream with the warm-up.
    pub fn total_bytes(&self, index: usize) -> u64 {
        self.tracks.get(index).map_or(0, |track| track.seen_bytes)
    }

    /// Segments that a stream sent again in the measured time; `None` where the kernel doesn't tell.
    pub fn retransmits(&self, index: usize) -> Option<u64> {
        let track = self.tracks.get(index)?;
        self.base?;
        Some(track.last?.retransmits.saturating_sub(track.base_retransmits))
    }

    /// What a UDP stream has counted, warm-up included, and what of it before the warm-up ended (so far, in it).
    pub fn datagrams(&self, index: usize) -> Option<(Tally, Tally)> {
        let track = self.tracks.get(index)?;
        let seen = track.seen?;
        let base = if self.base.is_some() {
            track.base.unwrap_or_default()
        } else {
            seen
        };
        Some((seen, base))
    }

    /// A stream's last sample.
    pub fn last_sample(&self, index: usize) -> Option<&Sample> {
        self.tracks.get(index)?.samples.last()
    }

    /// A stream's samples so far.
    pub fn samples(&self, index: usize) -> &[Sample] {
        self.tracks
            .get(index)
            .map(|track| track.samples.as_slice())
            .unwrap_or_default()
    }
}
