//! One test as it unfolds: the engine's events made into what iperf3 says about them.

use crate::{
    iperf3::{
        IntervalSample, StreamEnds, TestOutcome,
        output::view::{
            Connected, Cpu, EndView, FileTotal, IntervalView, Side, StartView, StreamEnd, StreamInterval,
            TcpInterval, TcpTotal, UdpInterval, UdpTotal,
        },
        wire::{Cookie, Parameters, Results, Transport},
    },
    measure::{Direction, StreamResult, UdpResult},
    traffic::disk_file::DiskFile,
};
use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970.
pub(super) fn now_millis() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as u64)
}

/// What `uname -a` says.
pub(super) fn system_info() -> String {
    let name = rustix::system::uname();
    [
        name.sysname(),
        name.nodename(),
        name.release(),
        name.version(),
        name.machine(),
    ]
    .map(|part| part.to_string_lossy().into_owned())
    .join(" ")
}

/// A test's head from what its end knows when data begins to flow.
pub(super) fn start_view(
    side: Side,
    peer: (String, u16),
    cookie: &Cookie,
    parameters: &Parameters,
    interval: f64,
    streams: &[StreamEnds],
) -> StartView {
    let first = streams.first();
    StartView {
        side,
        system_info: system_info(),
        time_millis: now_millis(),
        peer,
        cookie: cookie.to_string(),
        connected: streams
            .iter()
            .map(|stream| Connected {
                socket: stream.descriptor.into(),
                local: stream.local,
                remote: stream.peer,
            })
            .collect(),
        parameters: parameters.clone(),
        interval,
        // As stock: a server doesn't look.
        mss: if side == Side::Client {
            first.map_or(0, |stream| stream.mss.into())
        } else {
            0
        },
        buffers: first.map_or((0, 0), |stream| {
            (stream.buffers.0 as i64, stream.buffers.1 as i64)
        }),
    }
}

/// What is remembered from one interval to the next.
#[derive(Debug, Clone)]
pub(super) struct Story {
    pub(super) start: StartView,
    /// When the warm-up ended, in seconds since the test began.
    base: f64,
    /// Segments sent again until the last interval, by stream.
    retransmits: Vec<u64>,
    /// The file that is sent, or written to.
    file: Option<DiskFile>,
}

impl Story {
    pub(super) fn new(start: StartView, file: Option<DiskFile>) -> Self {
        Self {
            file,
            retransmits: vec![0; start.connected.len()],
            base: 0.0,
            start,
        }
    }

    fn socket(&self, index: usize) -> i64 {
        self.start.connected.get(index).map_or(0, |stream| stream.socket)
    }

    /// The next interval; `None` for a scrap at the end that iperf3 doesn't print either.
    pub(super) fn interval(&mut self, samples: &[IntervalSample]) -> Option<IntervalView> {
        let first = &samples.first()?.sample;
        if first.omitted {
            self.base = first.end;
        }
        let end = if first.omitted {
            first.end
        } else {
            first.end - self.base
        };
        let (seconds, omitted) = (first.seconds, first.omitted);
        let mut streams = Vec::with_capacity(samples.len());
        for (index, sample) in samples.iter().enumerate() {
            let sends = self.start.side.sends(sample.direction);
            let tcp = sample.sample.tcp.filter(|_| sends).map(|tcp| {
                let before = self
                    .retransmits
                    .get_mut(index)
                    .map_or(0, |known| std::mem::replace(known, tcp.retransmits));
                TcpInterval {
                    retransmits: tcp.retransmits.saturating_sub(before),
                    snd_cwnd: tcp.cwnd_bytes,
                    snd_wnd: tcp.send_window_bytes,
                    rtt: tcp.rtt_us,
                    rttvar: tcp.rttvar_us,
                    pmtu: tcp.path_mtu,
                    reorder: tcp.reordering,
                }
            });
            streams.push(StreamInterval {
                socket: self.socket(index),
                direction: sample.direction,
                bytes: sample.sample.bytes,
                tcp,
                udp: sample.sample.udp.map(|udp| UdpInterval {
                    packets: udp.packets.cast_signed(),
                    lost: udp.lost,
                    jitter: udp.jitter,
                }),
            });
        }
        if seconds < self.start.interval * 0.1 && streams.iter().all(|stream| stream.bytes == 0) {
            return None;
        }
        Some(IntervalView {
            start: (end - seconds).max(0.0),
            end,
            seconds,
            omitted,
            streams,
        })
    }

    /// All intervals of a test that is over, as they were told one by one.
    pub(super) fn intervals(&mut self, outcome: &TestOutcome) -> Vec<IntervalView> {
        let streams = &outcome.result.streams;
        let count = streams
            .iter()
            .map(|stream| stream.samples.len())
            .min()
            .unwrap_or(0);
        (0..count)
            .filter_map(|tick| {
                let samples: Vec<_> = streams
                    .iter()
                    .filter_map(|stream| {
                        Some(IntervalSample {
                            id: stream.id,
                            direction: stream.direction,
                            sample: stream.samples.get(tick)?.clone(),
                        })
                    })
                    .collect();
                self.interval(&samples)
            })
            .collect()
    }

    /// The end. `peer` are the other side's results; a server makes its report without them.
    pub(super) fn end(&self, outcome: &TestOutcome, peer: Option<&Results>) -> EndView {
        let own = outcome.result.seconds;
        let side = self.start.side;
        let streams = outcome.result.streams.iter().enumerate().map(|(index, stream)| {
            let sends = side.sends(stream.direction);
            let told = peer.and_then(|peer| peer.stream(stream.id.into()));
            let other = told
                .and_then(|told| Some(told.end_time? - told.start_time.unwrap_or(0.0)))
                .filter(|seconds| *seconds > 0.0)
                .unwrap_or(own);
            StreamEnd {
                socket: self.socket(index),
                direction: stream.direction,
                sent: if sends || told.is_some() {
                    stream.sent_bytes
                } else {
                    0
                },
                received: if !sends || told.is_some() {
                    stream.received_bytes
                } else {
                    0
                },
                sent_seconds: if sends { own } else { other },
                received_seconds: if sends { other } else { own },
                tcp: match self.start.parameters.transport {
                    Transport::Tcp => sends || peer.is_some_and(|peer| peer.sender_has_retransmits == 1),
                    Transport::Sctp => true,
                    Transport::Udp => false,
                }
                .then(|| tcp_total(stream, sends)),
                udp: stream.udp.map(|udp| udp_total(udp, sends, told.is_some())),
                file: self.file.as_ref().map(|file| FileTotal {
                    size: file.size(),
                    name: file.path().display().to_string(),
                }),
            }
        });
        let cpu = |results: &Results| Cpu {
            total: results.cpu_total,
            user: results.cpu_user,
            system: results.cpu_system,
        };
        let (own_congestion, peer_congestion) = (
            outcome.own.congestion_used.clone(),
            peer.and_then(|peer| peer.congestion_used.clone()),
        );
        let directions = self.start.directions();
        let (mut sender, mut receiver) = (None, None);
        for direction in [Direction::Reverse, Direction::Forward] {
            if directions.contains(&direction) {
                if side.sends(direction) {
                    sender = own_congestion.clone().or(sender);
                    receiver = peer_congestion.clone().or(receiver);
                } else {
                    sender = peer_congestion.clone().or(sender);
                    receiver = own_congestion.clone().or(receiver);
                }
            }
        }
        EndView {
            streams: streams.collect(),
            local_cpu: cpu(&outcome.own),
            remote_cpu: peer.map(cpu).unwrap_or_default(),
            sender_congestion: sender,
            receiver_congestion: receiver,
        }
    }
}

/// Datagrams, as far as this end knows of both: without the peer's results, none of what happened there.
fn udp_total(udp: UdpResult, sends: bool, told: bool) -> UdpTotal {
    let packets = udp.packets.cast_signed();
    UdpTotal {
        sent: if sends || told { packets } else { 0 },
        received: if !sends || told { packets } else { 0 },
        lost: udp.lost.cast_signed(),
        out_of_order: udp.out_of_order.unwrap_or(0).cast_signed(),
        jitter: udp.jitter,
    }
}

/// What TCP_INFO said over the measured time; zeros where only the peer could see it.
fn tcp_total(stream: &StreamResult, sends: bool) -> TcpTotal {
    let mut total = TcpTotal {
        retransmits: stream.retransmits.unwrap_or(0),
        ..TcpTotal::default()
    };
    if !sends {
        return total;
    }
    let (mut count, mut sum) = (0_u64, 0_u64);
    for tcp in stream
        .samples
        .iter()
        .filter(|sample| !sample.omitted)
        .filter_map(|sample| sample.tcp)
    {
        total.reorder = total.reorder.max(tcp.reordering);
        total.max_snd_cwnd = total.max_snd_cwnd.max(tcp.cwnd_bytes);
        total.max_snd_wnd = total.max_snd_wnd.max(tcp.send_window_bytes);
        total.max_rtt = total.max_rtt.max(tcp.rtt_us);
        total.min_rtt = if count == 0 {
            tcp.rtt_us
        } else {
            total.min_rtt.min(tcp.rtt_us)
        };
        count += 1;
        sum += u64::from(tcp.rtt_us);
    }
    total.mean_rtt = sum.checked_div(count).map_or(0, |mean| mean as u32);
    total
}
