//! One running test at one end: its load, its recording, and the results made of them.

use super::wire::{
    Cookie, Parameters, Results, StreamReport, Transport,
    datagram::{Tally, Width},
    parameters::STREAMS_LIMIT,
    stream_id,
};
use crate::{
    measure::{BurstLength, Direction, Sample, StreamResult, ThroughputResult, UdpResult},
    sys::{
        event::Event,
        usage::{CpuTime, cpu_time},
    },
    traffic::{
        disk_file::DiskFile,
        stream::{Datagrams, End, Load, Recording, Role, Schedule, Settings},
    },
};
use socket2::Socket;
use std::{
    io,
    net::{IpAddr, SocketAddr},
    os::fd::AsRawFd as _,
    sync::Arc,
    time::{Duration, Instant},
};

/// How long datagrams may be waited for that have arrived when the test ends.
const SETTLING: Duration = Duration::from_millis(50);

/// How long nothing may have come until the rest of a test that ends by bytes is no longer waited for.
const QUIET: Duration = Duration::from_millis(200);

/// The same of SCTP, whose last small chunk waits for an acknowledgement that may take 200 ms, and whose lost one is sent
/// again after a second (RFC 9260, 6.2 and 16).
const QUIET_SCTP: Duration = Duration::from_millis(1500);

/// One stream's interval, as it is told while the test runs.
#[derive(Debug, Clone, PartialEq)]
pub struct IntervalSample {
    /// iperf3's stream id.
    pub id: u32,
    /// Which way its data flows.
    pub direction: Direction,
    /// The interval.
    pub sample: Sample,
}

/// A data connection as it was when data began to flow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamEnds {
    /// This end.
    pub local: SocketAddr,
    /// The other end.
    pub peer: SocketAddr,
    /// The descriptor at this end.
    pub descriptor: i32,
    /// Largest segment in bytes; where it is not TCP, the control connection's; 0 where unknown.
    pub mss: u32,
    /// Bytes of a block; of UDP of a datagram, which is decided only when the control connection is there.
    pub length: usize,
    /// Bytes of the send and the receive buffer; 0 where unknown.
    pub buffers: (u64, u64),
}

/// What happens in a test, at either end.
#[derive(Debug, Clone, PartialEq)]
pub enum TestEvent {
    /// Data flows from now on (TEST_RUNNING).
    Running(Vec<StreamEnds>),
    /// The warm-up is over: from now on bytes count.
    OmitEnded,
    /// An interval of each stream.
    Interval(Vec<IntervalSample>),
    /// Data is no longer sent; results are exchanged.
    Ended,
}

/// A test at one end, after it.
#[derive(Debug, Clone, PartialEq)]
pub struct TestOutcome {
    /// The test's name between its ends.
    pub cookie: Cookie,
    /// Its parameters as they went over the wire.
    pub parameters: Parameters,
    /// What was measured. Without the peer's results, what only the peer knows is 0.
    pub result: ThroughputResult,
    /// Our results as we sent them, or would have.
    pub own: Results,
    /// The peer's results; `None` where the test ended before they came.
    pub peer: Option<Results>,
    /// The control connection's ends: local, peer.
    pub control: (SocketAddr, SocketAddr),
    /// Whether the test was ended early by our own [`Stop`](crate::sys::stop::Stop).
    pub interrupted: bool,
}

/// A data connection with its place in the test.
#[derive(Debug)]
pub(super) struct DataStream {
    pub(super) role: Role,
    pub(super) direction: Direction,
    pub(super) socket: Arc<Socket>,
    pub(super) local: SocketAddr,
    pub(super) peer: SocketAddr,
}

impl DataStream {
    pub(super) fn new(socket: impl Into<Arc<Socket>>, role: Role, direction: Direction) -> io::Result<Self> {
        let socket = socket.into();
        let address = |address: socket2::SockAddr| {
            address
                .as_socket()
                .map(canonical)
                .ok_or_else(|| io::Error::other("a data connection without an address"))
        };
        Ok(Self {
            role,
            direction,
            local: address(socket.local_addr()?)?,
            peer: address(socket.peer_addr()?)?,
            socket,
        })
    }
}

/// An address as people write it: IPv4 mapped into IPv6 as IPv4.
pub(super) fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        IpAddr::V4(ip) => SocketAddr::new(ip.into(), address.port()),
        // With its scope, without which a link-local one is no address.
        IpAddr::V6(_) => address,
    }
}

/// What one end knows of a test beside its parameters.
#[derive(Debug, Clone)]
pub(super) struct Local {
    /// Between samples.
    pub(super) interval: Duration,
    /// The MSS of the control connection, for data connections that have none; 0 where unknown.
    pub(super) mss: u32,
    /// Whether it is the server's.
    pub(super) serves: bool,
    /// What is sent, or where to write what is received.
    pub(super) file: Option<DiskFile>,
}

/// How a test's parameters drive its streams.
fn settings(parameters: &Parameters, local: &Local) -> Settings {
    let udp = parameters.transport == Transport::Udp;
    let positive = |value: Option<i64>| value.filter(|value| *value > 0).map(i64::unsigned_abs);
    Settings {
        length: parameters.block(),
        rate: positive(parameters.bandwidth),
        burst: positive(parameters.burst)
            .and_then(|burst| u32::try_from(burst).ok())
            .unwrap_or(1),
        techniques: parameters.technique_set(),
        window: parameters.window.is_some_and(|window| window > 0),
        repeating: parameters.repeating_payload,
        limit: parameters.byte_limit(),
        warm_up: !parameters.warm_up().is_zero(),
        datagrams: udp.then_some(Datagrams {
            width: if parameters.udp_counters_64bit {
                Width::Wide
            } else {
                Width::Narrow
            },
            answers: local.serves,
        }),
        file: local.file.clone().filter(|_| !udp),
    }
}

/// The interval between samples: longer than asked for where so many streams are looked at that looking would be what is
/// measured, 1 s at 10,000.
fn sample_interval(asked: Duration, streams: usize) -> Duration {
    let least = Duration::from_micros(100).saturating_mul(u32::try_from(streams).unwrap_or(u32::MAX));
    if streams <= STREAMS_LIMIT as usize || asked.is_zero() {
        asked
    } else {
        asked.max(least)
    }
}

/// A running test.
pub(super) struct Session {
    streams: Vec<DataStream>,
    length: usize,
    mss: u32,
    transport: Transport,
    /// Whether it is a test without loss that is about all its bytes: it ends by them, or they are a file's.
    whole: bool,
    load: Option<Load>,
    recording: Recording,
    began: Instant,
    cpu: CpuTime,
    /// CPU time and wall time from begin to finish.
    used: Option<(CpuTime, Duration)>,
    /// When data last came, where the rest of it was waited for.
    ended: Option<Duration>,
    techniques: crate::measure::Techniques,
    /// How evenly each stream's datagrams came.
    bursts: Vec<Option<BurstLength>>,
}

impl Session {
    /// Starts data and timers.
    pub(super) fn begin(
        streams: Vec<DataStream>,
        parameters: &Parameters,
        local: &Local,
        wake: &Arc<Event>,
    ) -> io::Result<Self> {
        let cpu = cpu_time()?;
        let schedule = Schedule {
            interval: sample_interval(local.interval, streams.len()),
            omit: parameters.warm_up(),
        };
        let sockets: Vec<_> = streams
            .iter()
            .map(|stream| (Arc::clone(&stream.socket), stream.role))
            .collect();
        let recording = Recording::new(schedule, streams.len());
        let began = Instant::now();
        let load = Load::start(&sockets, &settings(parameters, local), Arc::clone(wake))?;
        Ok(Self {
            techniques: load.techniques(),
            streams,
            length: parameters.block(),
            mss: local.mss,
            transport: parameters.transport,
            whole: parameters.transport != Transport::Udp
                && (parameters.byte_limit().is_some() || local.file.is_some()),
            load: Some(load),
            recording,
            began,
            cpu,
            used: None,
            ended: None,
            bursts: Vec::new(),
        })
    }

    pub(super) fn running_event(&self) -> TestEvent {
        TestEvent::Running(
            self.streams
                .iter()
                .map(|stream| StreamEnds {
                    local: stream.local,
                    peer: stream.peer,
                    descriptor: stream.socket.as_raw_fd(),
                    length: self.length,
                    mss: stream.socket.tcp_mss().unwrap_or(self.mss),
                    buffers: (
                        stream.socket.send_buffer_size().map_or(0, |size| size as u64),
                        stream.socket.recv_buffer_size().map_or(0, |size| size as u64),
                    ),
                })
                .collect(),
        )
    }

    /// How long until the next sample is due.
    pub(super) fn due_in(&self) -> Duration {
        self.recording.due().saturating_sub(self.began.elapsed())
    }

    /// How long until `duration` of measured time is over; `None` in the warm-up.
    pub(super) fn ends_in(&self, duration: Duration) -> Option<Duration> {
        let base = self.recording.base()?;
        Some((base + duration).saturating_sub(self.began.elapsed()))
    }

    /// Takes a sample if one is due and tells of it.
    pub(super) fn sample_if_due(&mut self, tell: &mut dyn FnMut(TestEvent)) {
        let Some(load) = &self.load else { return };
        let now = self.began.elapsed();
        if now < self.recording.due() {
            return;
        }
        let ends_omit = self.recording.sample(now, load);
        if ends_omit {
            load.begin_counting();
        }
        self.tell_interval(tell);
        if ends_omit {
            tell(TestEvent::OmitEnded);
        }
    }

    fn tell_interval(&self, tell: &mut dyn FnMut(TestEvent)) {
        let samples = self.streams.iter().enumerate().filter_map(|(index, stream)| {
            Some(IntervalSample {
                id: stream_id(index) as u32,
                direction: stream.direction,
                sample: self.recording.last_sample(index)?.clone(),
            })
        });
        tell(TestEvent::Interval(samples.collect()));
    }

    /// Bytes that all streams have moved so far, either way, warm-up included.
    pub(super) fn moved(&self) -> u64 {
        let load = self.load.as_ref();
        (0..self.streams.len())
            .map(|index| load.map_or(0, |load| load.bytes(index)))
            .sum()
    }

    /// Bytes that have come so far, warm-up included.
    pub(super) fn received(&self) -> u64 {
        let Some(load) = &self.load else { return 0 };
        let streams = self.streams.iter().enumerate();
        streams
            .filter(|(_, stream)| stream.role == Role::Receive)
            .map(|(index, _)| load.bytes(index))
            .sum()
    }

    /// Whether any stream receives at this end.
    pub(super) fn receives(&self) -> bool {
        self.streams.iter().any(|stream| stream.role == Role::Receive)
    }

    /// Whether the byte limit was reached.
    pub(super) fn limit_reached(&self) -> bool {
        self.recording.is_measuring() && self.load.as_ref().is_some_and(Load::limit_reached)
    }

    /// Whether our senders have no more to send, since they sent the whole file.
    pub(super) fn all_sent(&self) -> bool {
        self.load.as_ref().is_some_and(Load::all_sent)
    }

    /// The id of the first stream that broke, and how.
    pub(super) fn broken(&self) -> Option<(u32, End)> {
        let (index, end) = self.load.as_ref()?.broken()?;
        Some((stream_id(index) as u32, end))
    }

    /// Stops senders and takes the final statistics; receivers go on unheeded, so that the peer is not blocked.
    pub(super) fn finish(&mut self, tell: &mut dyn FnMut(TestEvent)) {
        let (Some(load), None) = (&mut self.load, self.used) else {
            return;
        };
        load.stop_sending();
        let now = self.ended.unwrap_or_else(|| self.began.elapsed());
        let cpu = cpu_time().unwrap_or(self.cpu);
        let used = CpuTime {
            user: cpu.user.saturating_sub(self.cpu.user),
            system: cpu.system.saturating_sub(self.cpu.system),
        };
        self.used = Some((used, now));
        self.techniques = load.techniques();
        for (index, stream) in self.streams.iter().enumerate() {
            if let (Some(burst), Some(heard)) = (load.burst_length(index), load.datagrams(index)) {
                tracing::info!(
                    stream = stream_id(index),
                    peer = %stream.peer,
                    jitter_us = heard.jitter * 1e6,
                    mean_burst = burst.mean,
                    longest_burst = burst.longest,
                    "datagrams were heard"
                );
            }
        }
        self.bursts = (0..self.streams.len())
            .map(|index| load.burst_length(index))
            .collect();
        if self.recording.finish(now, load) {
            self.tell_interval(tell);
        }
        tell(TestEvent::Ended);
    }

    /// Waits for what is on its way, where the peer has stopped sending: a little for datagrams that arrived and are
    /// not counted yet; in a test that ends by bytes or writes a file for all of them, since that test is about these bytes. The wait
    /// itself counts as time only as far as bytes came in it.
    pub(super) fn settle(&mut self) {
        let (Some(load), None) = (&mut self.load, self.used) else {
            return;
        };
        load.settle(SETTLING);
        if self.whole {
            load.stop_sending();
            let quiet = if self.transport == Transport::Sctp {
                QUIET_SCTP
            } else {
                QUIET
            };
            let silent = load.drain(quiet);
            self.ended = Some(self.began.elapsed().saturating_sub(silent));
        }
    }

    /// Closes the data connections.
    pub(super) fn close(&mut self) {
        self.load = None;
    }

    /// What we tell the peer. `peer` are its results, of which a sending server repeats some.
    pub(super) fn own_results(&self, peer: Option<&Results>) -> Results {
        let (used, wall) = self.used.unwrap_or_default();
        let percent = |time: Duration| {
            if wall.is_zero() {
                0.0
            } else {
                time.as_secs_f64() / wall.as_secs_f64() * 100.0
            }
        };
        let sends = self.streams.iter().any(|stream| stream.role == Role::Send);
        let reports = self.streams.iter().enumerate().map(|(index, stream)| {
            let id = stream_id(index);
            let retransmits = match stream.role {
                Role::Send => self.recording.retransmits(index).map_or(-1, |count| count as i64),
                Role::Receive => -1,
            };
            let mut report = StreamReport::tcp(
                id,
                self.recording.bytes(index) as i64,
                retransmits,
                self.recording.seconds(),
            );
            if let Some((seen, base)) = self.recording.datagrams(index) {
                report.packets = seen.packets as i64;
                report.omitted_packets = Some(base.packets as i64);
                report.errors = seen.lost as i64;
                report.omitted_errors = Some(base.lost as i64);
                report.jitter = seen.jitter;
            }
            if let (Role::Send, Some(told)) = (stream.role, peer.and_then(|peer| peer.stream(id))) {
                report.jitter = told.jitter;
                report.errors = told.errors;
            }
            report
        });
        Results {
            cpu_total: percent(used.user + used.system),
            cpu_user: percent(used.user),
            cpu_system: percent(used.system),
            sender_has_retransmits: match self.transport {
                _ if !sends => -1,
                Transport::Tcp => 1,
                Transport::Udp | Transport::Sctp => 0,
            },
            congestion_used: self.techniques.congestion.clone(),
            server_output_text: None,
            server_output_json: None,
            streams: reports.collect(),
        }
    }

    /// Whether the peer's results name only our streams.
    pub(super) fn knows_all(&self, peer: &Results) -> bool {
        let known = |id| (0..self.streams.len()).any(|index| stream_id(index) == id);
        peer.streams.iter().all(|stream| known(stream.id))
    }

    /// What was measured, with what the peer told.
    pub(super) fn result(&self, peer: Option<&Results>) -> ThroughputResult {
        let (used, _) = self.used.unwrap_or_default();
        let seconds = self.recording.seconds();
        let recording = &self.recording;
        let streams = self.streams.iter().enumerate().map(|(index, stream)| {
            let id = stream_id(index);
            let told = peer.and_then(|peer| peer.stream(id));
            let told_bytes = told.map_or(0, |told| told.bytes.max(0).unsigned_abs());
            let told_seconds = told.and_then(|told| Some(told.end_time? - told.start_time.unwrap_or(0.0)));
            let own = recording.bytes(index);
            let sends = stream.role == Role::Send;
            StreamResult {
                id: id as u32,
                direction: stream.direction,
                sent_bytes: if sends { own } else { told_bytes },
                received_bytes: if sends { told_bytes } else { own },
                seconds: told_seconds
                    .filter(|told| sends && *told > 0.0)
                    .unwrap_or(seconds),
                total_bytes: recording.total_bytes(index),
                retransmits: if sends {
                    recording.retransmits(index)
                } else {
                    told.and_then(|told| u64::try_from(told.retransmits).ok())
                },
                udp: recording.datagrams(index).map(|(seen, base)| UdpResult {
                    burst: self.bursts.get(index).copied().flatten(),
                    ..udp_result(sends, seen, base, told)
                }),
                local_address: ip(stream.local),
                peer_address: ip(stream.peer),
                samples: recording.samples(index).to_vec(),
            }
        });
        ThroughputResult {
            streams: streams.collect(),
            seconds,
            techniques: self.techniques.clone(),
            process_user_seconds: used.user.as_secs_f64(),
            process_system_seconds: used.system.as_secs_f64(),
        }
    }
}

/// The datagrams of a stream, from what we counted and what the peer told. Peers before 3.14 don't tell what of theirs
/// was in the warm-up: then as many are taken as on our side, and of its losses none.
fn udp_result(sends: bool, seen: Tally, base: Tally, told: Option<&StreamReport>) -> UdpResult {
    let own = seen.packets.saturating_sub(base.packets);
    let told_packets = told.map(|told| {
        let omitted = told.omitted_packets.unwrap_or(base.packets as i64);
        told.packets.saturating_sub(omitted).max(0).unsigned_abs()
    });
    if sends {
        let lost = told.map_or(0, |told| {
            told.errors.saturating_sub(told.omitted_errors.unwrap_or(0))
        });
        UdpResult {
            packets: own,
            lost: lost.max(0).unsigned_abs(),
            out_of_order: None,
            jitter: told.map_or(0.0, |told| told.jitter),
            burst: None,
        }
    } else {
        UdpResult {
            packets: told_packets.filter(|packets| *packets > 0).unwrap_or(own),
            lost: seen.lost.saturating_sub(base.lost),
            out_of_order: Some(seen.out_of_order.saturating_sub(base.out_of_order)),
            jitter: seen.jitter,
            burst: None,
        }
    }
}

fn ip(address: SocketAddr) -> IpAddr {
    address.ip()
}
