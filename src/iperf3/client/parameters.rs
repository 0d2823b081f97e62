//! What a test is, and the parameter document that says it over the wire.

use super::ClientError;
use crate::{
    iperf3::wire::{
        Parameters, Transport,
        datagram::{LONGEST, SHORTEST},
        parameters::{LENGTH_LIMIT, MANY_STREAMS_LIMIT, STREAMS_LIMIT, SegmentationOffload},
    },
    scenario::{Technique, TechniqueSet},
    units::{BitRate, Bytes},
};
use std::time::Duration;

/// Bytes of a block with `fast` where neither they nor a rate are asked for: what measured best of 128 KiB to 1 MiB.
const FAST_LENGTH: i64 = 512 << 10;

/// Which ends send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Flow {
    /// The client.
    #[default]
    Forward,
    /// The server.
    Reverse,
    /// Both.
    Bidirectional,
}

/// What ends a test. All but the first take effect after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// Only the stop token.
    Never,
    /// Time.
    After(Duration),
    /// Bytes over all streams of a direction.
    Bytes(Bytes),
    /// Blocks of `length` over all streams of a direction.
    Blocks(u64),
}

/// What a test does.
#[derive(Debug, Clone, PartialEq)]
pub struct TestParameters {
    /// TCP, UDP, or SCTP where both kernels have it.
    pub transport: Transport,
    /// Streams per direction, 1 to 16384; of UDP and SCTP 1 to 128. Above 128 the server must be ours.
    pub streams: u32,
    /// Which ends send.
    pub flow: Flow,
    /// What ends it.
    pub finish: Finish,
    /// Warm-up before it, up to 600 s.
    pub omit: Duration,
    /// Bytes of a write and a read, 1 to 1 MiB; iperf3's 128 KiB if `None` (of SCTP 64 KiB), or what measures best with
    /// `fast`. Of UDP the bytes of each datagram, 16 to 65507; the MSS of the control connection if `None`, as iperf3.
    pub length: Option<Bytes>,
    /// Socket buffers at both ends, up to 512 MiB; the kernel's tuning if `None`.
    pub window: Option<Bytes>,
    /// TCP_MAXSEG, up to 32767; of SCTP SCTP_MAXSEG, which nothing below 512 changes.
    pub mss: Option<u16>,
    /// TCP_NODELAY or SCTP_NODELAY.
    pub no_delay: bool,
    /// The congestion control of both ends; the system's if `None`. A client whose kernel refuses it fails; a server
    /// goes on with its own.
    pub congestion: Option<String>,
    /// The rate of each stream; unlimited if `None`.
    pub bitrate: Option<BitRate>,
    /// Blocks written at once where there is a rate, 1 to 1000.
    pub burst: Option<u16>,
    /// The IP TOS byte.
    pub tos: u8,
    /// Use what measures best at both ends, where the server can ([`TechniqueSet::FAST`]).
    pub fast: bool,
    /// Techniques to use besides.
    pub with: TechniqueSet,
    /// Techniques to do without.
    pub without: TechniqueSet,
    /// Repeating digits as payload.
    pub repeating_payload: bool,
    /// UDP sequence numbers of 64 bits, for more than 4 thousand million datagrams a stream.
    pub counters_64bit: bool,
    /// Forbid IP fragments, of UDP over IPv4.
    pub dont_fragment: bool,
}

impl Default for TestParameters {
    fn default() -> Self {
        Self {
            transport: Transport::Tcp,
            streams: 1,
            flow: Flow::Forward,
            finish: Finish::After(Duration::from_secs(10)),
            omit: Duration::ZERO,
            length: None,
            window: None,
            mss: None,
            no_delay: false,
            congestion: None,
            bitrate: None,
            burst: None,
            tos: 0,
            fast: false,
            with: TechniqueSet::NONE,
            without: TechniqueSet::NONE,
            repeating_payload: false,
            counters_64bit: false,
            dont_fragment: false,
        }
    }
}

impl TestParameters {
    /// What is to be used, as far as the transport has it.
    pub const fn techniques(&self) -> TechniqueSet {
        let base = if self.fast {
            TechniqueSet::FAST
        } else {
            TechniqueSet::BASE
        };
        base.union(self.with)
            .minus(self.without)
            .and(self.transport.techniques())
    }

    /// What goes over the wire. Where UDP datagrams have no length given, [`run`] puts in the MSS of the control
    /// connection.
    ///
    /// # Errors
    /// Names what is out of range.
    pub fn encode(&self) -> Result<Parameters, ClientError> {
        let seconds = |time: Duration| i64::try_from(time.as_secs() + u64::from(time.subsec_nanos() > 0));
        let big = |_| ClientError::OutOfRange("duration", "0 to 86400 s");
        let integer = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        let (time, num, blockcount) = match self.finish {
            Finish::Never => (0, 0, 0),
            Finish::After(time) => (seconds(time).map_err(big)?, 0, 0),
            Finish::Bytes(bytes) => (0, integer(bytes.0), 0),
            Finish::Blocks(blocks) => (0, 0, integer(blocks)),
        };
        let udp = self.transport == Transport::Udp;
        let default = match self.transport {
            // Where a rate is held, a block is its grain.
            Transport::Tcp if self.fast && self.bitrate.is_none() => FAST_LENGTH,
            other => other.block() as i64,
        };
        let len = self.length.map_or(default, |length| integer(length.0));
        let techniques = self.techniques();
        let many = i64::from(self.streams) > STREAMS_LIMIT;
        let mut parameters = Parameters {
            transport: self.transport,
            omit: Some(seconds(self.omit).map_err(big)?),
            omit_micros: (self.omit.subsec_nanos() > 0).then(|| integer(self.omit.as_micros() as u64)),
            time: Some(time),
            num: Some(num),
            blockcount: Some(blockcount),
            mss: self.mss.map(i64::from),
            nodelay: self.no_delay,
            parallel: Some(if many { 1 } else { self.streams.into() }),
            many_streams: many.then(|| self.streams.into()),
            reverse: self.flow == Flow::Reverse,
            bidirectional: self.flow == Flow::Bidirectional,
            window: self.window.map(|window| integer(window.0)),
            len: Some(len),
            bandwidth: self.bitrate.map(|rate| integer(rate.0)),
            pacing_timer: Some(1000),
            burst: self.burst.map(i64::from),
            tos: (self.tos != 0).then(|| self.tos.into()),
            congestion: self.congestion.clone(),
            repeating_payload: self.repeating_payload,
            segmentation: udp.then(|| offload(len, techniques)),
            udp_counters_64bit: udp && self.counters_64bit,
            dont_fragment: (udp && self.dont_fragment).then_some(1),
            zerocopy: techniques.has(Technique::Sendfile).then_some(1),
            // Of TCP only: stock servers since 3.19.1 miscount UDP with it.
            skip_rx_copy: techniques.has(Technique::Trunc).then_some(1),
            client_version: Some(env!("CARGO_PKG_VERSION").to_owned()),
            ..Parameters::default()
        };
        parameters.set_techniques(techniques);
        let within = |value: i64, range: std::ops::RangeInclusive<i64>| range.contains(&value);
        if self.transport != Transport::Tcp && !within(self.streams.into(), 1..=STREAMS_LIMIT) {
            return Err(ClientError::OutOfRange("streams", "1 to 128 of UDP or SCTP"));
        }
        if !within(self.streams.into(), 1..=MANY_STREAMS_LIMIT) {
            return Err(ClientError::OutOfRange(
                "streams",
                "1 to 16384, and above 128 between ends of encapbench",
            ));
        }
        if udp && !within(len, SHORTEST as i64..=LONGEST as i64) {
            return Err(ClientError::OutOfRange("length", "16 to 65507 B"));
        }
        if !udp && !within(len, 1..=LENGTH_LIMIT) {
            return Err(ClientError::OutOfRange("length", "1 B to 1 MiB"));
        }
        if self.omit > Duration::from_mins(10) {
            return Err(ClientError::OutOfRange("omit", "0 to 600 s"));
        }
        if let Finish::After(time) = self.finish
            && (time.is_zero() || time > Duration::from_hours(24))
        {
            return Err(ClientError::OutOfRange("duration", "above 0 to 86400 s"));
        }
        if matches!(self.finish, Finish::Bytes(Bytes(0)) | Finish::Blocks(0)) {
            return Err(ClientError::OutOfRange("bytes and blocks", "at least 1"));
        }
        parameters.check().map_err(ClientError::Parameters)?;
        if !parameters.fits() {
            return Err(ClientError::OutOfRange(
                "the parameter document",
                "at most 8192 bytes",
            ));
        }
        Ok(parameters)
    }
}

/// Puts in the length of UDP datagrams that the MSS of the control connection tells.
pub(super) fn set_length(parameters: &mut Parameters, mss: Option<u32>, techniques: TechniqueSet) {
    if let Some(mss) = mss
        .map(i64::from)
        .filter(|mss| (SHORTEST as i64..=LONGEST as i64).contains(mss))
    {
        parameters.len = Some(mss);
        parameters.segmentation = Some(offload(mss, techniques));
    }
}

/// The keys of `--gsro`, as 3.21 sends them, for what is to be used.
fn offload(length: i64, techniques: TechniqueSet) -> SegmentationOffload {
    let longest = LONGEST as i64;
    let fits = (1..=longest).contains(&length);
    let mut keys = SegmentationOffload {
        gso: 0,
        gso_dg_size: 0,
        gso_bf_size: longest,
        gro: 0,
        gro_bf_size: longest,
    };
    if fits && techniques.has(Technique::Gso) {
        keys.gso = 1;
        keys.gso_dg_size = length;
        keys.gso_bf_size = longest / length * length;
    }
    if fits && techniques.has(Technique::Gro) {
        keys.gro = 1;
    }
    keys
}
