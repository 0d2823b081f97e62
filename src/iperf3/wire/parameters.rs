//! The parameter document, client to server.

use super::{
    code::ErrorCode,
    frame::PARAMETERS_LIMIT,
    json::{Json, ObjectBuilder},
};
use crate::scenario::{Technique, TechniqueSet};
use std::time::Duration;

/// The transport of a test.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Transport {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Transport {
    /// The techniques that it has.
    pub const fn techniques(self) -> TechniqueSet {
        match self {
            Self::Tcp => TechniqueSet::TCP,
            Self::Udp => TechniqueSet::UDP,
            Self::Sctp => TechniqueSet::SCTP,
        }
    }

    /// The bytes of a block where nobody says.
    pub const fn block(self) -> usize {
        match self {
            Self::Tcp => 131_072,
            Self::Udp => 1460,
            Self::Sctp => 65_536,
        }
    }
}

/// UDP segmentation and receive offload keys (3.21).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentationOffload {
    /// Whether the sender segments by UDP_SEGMENT.
    pub gso: i64,
    /// Bytes of a segment.
    pub gso_dg_size: i64,
    /// Bytes of one send.
    pub gso_bf_size: i64,
    /// Whether the receiver coalesces by UDP_GRO.
    pub gro: i64,
    /// Bytes of one receive.
    pub gro_bf_size: i64,
}

/// The parameters of a test as they go over the wire: `None` is an absent key, for which the server takes its
/// default. Flags are sent only when set, since peers test them for presence.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Parameters {
    /// The transport.
    pub transport: Transport,
    /// Seconds of warm-up that count for nothing.
    pub omit: Option<i64>,
    /// The CPU the server pins itself to.
    pub server_affinity: Option<i64>,
    /// Seconds measured after `omit`; 0 is no limit.
    pub time: Option<i64>,
    /// Bytes after which the test ends; 0 is no limit.
    pub num: Option<i64>,
    /// Blocks after which the test ends; 0 is no limit.
    pub blockcount: Option<i64>,
    /// TCP_MAXSEG.
    pub mss: Option<i64>,
    /// TCP_NODELAY.
    pub nodelay: bool,
    /// Streams per direction.
    pub parallel: Option<i64>,
    /// The server sends.
    pub reverse: bool,
    /// Both send.
    pub bidirectional: bool,
    /// Multipath TCP.
    pub mptcp: bool,
    /// SO_SNDBUF and SO_RCVBUF in bytes.
    pub window: Option<i64>,
    /// Bytes of a write and a read.
    pub len: Option<i64>,
    /// Bits a second of each stream; 0 or absent is unlimited.
    pub bandwidth: Option<i64>,
    /// SO_MAX_PACING_RATE in bits a second.
    pub fqrate: Option<i64>,
    /// Microseconds between looks at the rate, for servers before 3.18.
    pub pacing_timer: Option<i64>,
    /// Blocks written between looks at the rate.
    pub burst: Option<i64>,
    /// UDP offloads.
    pub segmentation: Option<SegmentationOffload>,
    /// IP TOS byte.
    pub tos: Option<i64>,
    /// IPv6 flow label.
    pub flowlabel: Option<i64>,
    /// A title for the server's JSON.
    pub title: Option<String>,
    /// A string for the server's JSON.
    pub extra_data: Option<String>,
    /// The wanted congestion control.
    pub congestion: Option<String>,
    /// Whether the server's output comes with its results.
    pub get_server_output: bool,
    /// 64-bit sequence numbers in UDP datagrams.
    pub udp_counters_64bit: bool,
    /// Digits as payload instead of random bytes.
    pub repeating_payload: bool,
    /// The server sends by sendfile.
    pub zerocopy: Option<i64>,
    /// Don't-fragment on UDP over IPv4.
    pub dont_fragment: Option<i64>,
    /// Encrypted credentials, base64.
    pub authtoken: Option<String>,
    /// The server receives by MSG_TRUNC.
    pub skip_rx_copy: Option<i64>,
    /// The client's version, informational.
    pub client_version: Option<String>,
    /// Microseconds of warm-up, where `omit` is no whole number of seconds: a key of our own, which stock servers
    /// ignore (they take `omit`, rounded up).
    pub omit_micros: Option<i64>,
    /// Streams per direction above what stock allows: a key of our own, for servers of ours. `parallel` is then 1, so
    /// that a stock server begins a test of one stream, which the client notices and ends.
    pub many_streams: Option<i64>,
    /// Techniques of both ends, where the keys of stock don't say all, by their names in scenarios with commas between: a
    /// key of our own.
    pub techniques: Option<String>,
}

/// Streams per direction that iperf3 allows.
pub const STREAMS_LIMIT: i64 = 128;
/// Streams per direction that ends of ours allow: a port has some 28,000 peers at one address, and a process seldom more
/// than 20,000 descriptors.
pub const MANY_STREAMS_LIMIT: i64 = 16_384;
/// Bytes of a TCP block that iperf3 allows.
pub const LENGTH_LIMIT: i64 = 1 << 20;

/// Our own key for a warm-up of less than a second.
const OMIT_MICROS: &str = "encapbench_omit_micros";
/// Our own key for more streams than stock allows.
const MANY_STREAMS: &str = "encapbench_streams";
/// Our own key for techniques.
const TECHNIQUES: &str = "encapbench_techniques";

impl Parameters {
    /// The document, keys in stock's order, booleans and numbers in stock's forms.
    pub fn encode(&self) -> String {
        let mut object = ObjectBuilder::default();
        let protocol = match self.transport {
            Transport::Tcp => "tcp",
            Transport::Udp => "udp",
            Transport::Sctp => "sctp",
        };
        let yes = || Json::Bool(true);
        let one = || Json::Integer(1);
        object.put(protocol, yes());
        object.integer("omit", self.omit);
        object.integer("server_affinity", self.server_affinity);
        object.integer("time", self.time);
        object.integer("num", self.num);
        object.integer("blockcount", self.blockcount);
        object.integer("MSS", self.mss);
        object.flag("nodelay", self.nodelay, yes());
        object.integer("parallel", self.parallel);
        object.flag("reverse", self.reverse, yes());
        object.flag("bidirectional", self.bidirectional, yes());
        object.flag("mptcp", self.mptcp, yes());
        object.integer("window", self.window);
        object.integer("len", self.len);
        object.integer("bandwidth", self.bandwidth);
        object.integer("fqrate", self.fqrate);
        object.integer("pacing_timer", self.pacing_timer);
        object.integer("burst", self.burst);
        if let Some(offload) = self.segmentation {
            object.integer("gso", Some(offload.gso));
            object.integer("gso_dg_size", Some(offload.gso_dg_size));
            object.integer("gso_bf_size", Some(offload.gso_bf_size));
            object.integer("gro", Some(offload.gro));
            object.integer("gro_bf_size", Some(offload.gro_bf_size));
        }
        object.integer("TOS", self.tos);
        object.integer("flowlabel", self.flowlabel);
        object.string("title", self.title.as_deref());
        object.string("extra_data", self.extra_data.as_deref());
        object.string("congestion", self.congestion.as_deref());
        object.flag("get_server_output", self.get_server_output, one());
        object.flag("udp_counters_64bit", self.udp_counters_64bit, one());
        object.flag("repeating_payload", self.repeating_payload, one());
        object.integer("zerocopy", self.zerocopy);
        object.integer("dont_fragment", self.dont_fragment);
        object.string("authtoken", self.authtoken.as_deref());
        object.integer("skip_rx_copy", self.skip_rx_copy);
        object.string("client_version", self.client_version.as_deref());
        object.integer(OMIT_MICROS, self.omit_micros);
        object.integer(MANY_STREAMS, self.many_streams);
        object.string(TECHNIQUES, self.techniques.as_deref());
        let mut out = String::new();
        object.build().write(&mut out);
        out
    }

    /// Reads a document. Unknown keys are ignored, and known ones of the wrong type are as if absent.
    ///
    /// # Errors
    /// When it is no JSON.
    pub fn decode(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        let json = Json::parse(bytes)?;
        let integer = |key| json.get(key).and_then(Json::integer);
        let string = |key| json.get(key).and_then(Json::string).map(str::to_owned);
        // Stock looks whether the key is there, not at its value: `"reverse":false` is reverse.
        let flag = |key| json.get(key).is_some_and(|value| *value != Json::Null);
        let mut transport = Transport::Tcp;
        // Where several are named, the last in this order wins.
        for (key, named) in [("udp", Transport::Udp), ("sctp", Transport::Sctp)] {
            if flag(key) {
                transport = named;
            }
        }
        let offload = SegmentationOffload {
            gso: integer("gso").unwrap_or(0),
            gso_dg_size: integer("gso_dg_size").unwrap_or(0),
            gso_bf_size: integer("gso_bf_size").unwrap_or(65507),
            gro: integer("gro").unwrap_or(0),
            gro_bf_size: integer("gro_bf_size").unwrap_or(65507),
        };
        Ok(Self {
            transport,
            omit: integer("omit"),
            server_affinity: integer("server_affinity"),
            time: integer("time"),
            num: integer("num"),
            blockcount: integer("blockcount"),
            mss: integer("MSS"),
            nodelay: flag("nodelay"),
            parallel: integer("parallel"),
            reverse: flag("reverse"),
            bidirectional: flag("bidirectional"),
            mptcp: flag("mptcp"),
            window: integer("window"),
            len: integer("len"),
            bandwidth: integer("bandwidth"),
            fqrate: integer("fqrate"),
            pacing_timer: integer("pacing_timer"),
            burst: integer("burst"),
            segmentation: json.get("gso").or_else(|| json.get("gro")).map(|_| offload),
            tos: integer("TOS"),
            flowlabel: integer("flowlabel"),
            title: string("title"),
            extra_data: string("extra_data"),
            congestion: string("congestion"),
            get_server_output: flag("get_server_output"),
            udp_counters_64bit: flag("udp_counters_64bit"),
            repeating_payload: flag("repeating_payload"),
            zerocopy: integer("zerocopy"),
            dont_fragment: integer("dont_fragment"),
            authtoken: string("authtoken"),
            skip_rx_copy: integer("skip_rx_copy"),
            client_version: string("client_version"),
            omit_micros: integer(OMIT_MICROS),
            many_streams: integer(MANY_STREAMS),
            techniques: string(TECHNIQUES),
        })
    }

    /// Checks the ranges that servers after 3.21 check.
    ///
    /// # Errors
    /// The code a server answers with.
    pub fn check(&self) -> Result<(), ErrorCode> {
        let within = |value: Option<i64>, range: std::ops::RangeInclusive<i64>, code| match value {
            Some(value) if !range.contains(&value) => Err(ErrorCode::new(code)),
            _ => Ok(()),
        };
        within(self.omit, 0..=600, ErrorCode::OMIT)?;
        within(self.omit_micros, 0..=600_000_000, ErrorCode::OMIT)?;
        within(self.time, 0..=86_400, ErrorCode::DURATION)?;
        within(self.num, 0..=i64::MAX, ErrorCode::RECEIVE_PARAMETERS)?;
        within(self.blockcount, 0..=i64::MAX, ErrorCode::RECEIVE_PARAMETERS)?;
        within(self.bandwidth, 0..=i64::MAX, ErrorCode::RECEIVE_PARAMETERS)?;
        within(self.fqrate, 0..=i64::MAX, ErrorCode::RECEIVE_PARAMETERS)?;
        within(self.pacing_timer, 0..=i64::MAX, ErrorCode::RECEIVE_PARAMETERS)?;
        within(self.parallel, 1..=STREAMS_LIMIT, ErrorCode::STREAMS)?;
        // Streams of datagrams are opened one by one, by one test at a time.
        let many = match self.transport {
            Transport::Tcp => MANY_STREAMS_LIMIT,
            Transport::Udp | Transport::Sctp => STREAMS_LIMIT,
        };
        within(self.many_streams, 1..=many, ErrorCode::STREAMS)?;
        within(self.mss, 0..=32_767, ErrorCode::MSS)?;
        within(self.window, 0..=536_870_912, ErrorCode::BUFFER_SIZE)?;
        within(self.burst, 0..=1000, ErrorCode::BURST)?;
        within(self.tos, 0..=255, ErrorCode::TOS)?;
        within(self.server_affinity, 0..=1024, ErrorCode::AFFINITY)?;
        match self.transport {
            Transport::Udp => within(self.len, 16..=65_507, ErrorCode::UDP_BLOCK_SIZE),
            Transport::Tcp | Transport::Sctp => within(self.len, 1..=LENGTH_LIMIT, ErrorCode::BLOCK_SIZE),
        }
    }

    /// Whether the document stays within what servers read.
    pub fn fits(&self) -> bool {
        self.encode().len() <= PARAMETERS_LIMIT
    }

    /// How the streams of this test are driven: by our own key, else by those of stock.
    pub fn technique_set(&self) -> TechniqueSet {
        self.techniques
            .as_deref()
            .map_or_else(|| self.stock_techniques(), TechniqueSet::read)
            .and(self.transport.techniques())
    }

    /// What the keys of stock say.
    fn stock_techniques(&self) -> TechniqueSet {
        let set = |value: Option<i64>| value.is_some_and(|value| value != 0);
        let offload = self.segmentation;
        [
            (Technique::Sendfile, set(self.zerocopy)),
            (Technique::Trunc, set(self.skip_rx_copy)),
            (Technique::Gso, set(offload.map(|offload| offload.gso))),
            (Technique::Gro, set(offload.map(|offload| offload.gro))),
        ]
        .into_iter()
        .filter_map(|(technique, set)| set.then_some(technique))
        .collect::<TechniqueSet>()
        .union(TechniqueSet::BASE)
    }

    /// Names the techniques, where the keys of stock don't.
    pub fn set_techniques(&mut self, wanted: TechniqueSet) {
        self.techniques = None;
        if self.technique_set() != wanted {
            self.techniques = Some(wanted.to_string());
        }
    }

    /// The warm-up, to a microsecond where the client is one of ours.
    pub fn warm_up(&self) -> Duration {
        match self.omit_micros {
            Some(micros) => Duration::from_micros(micros.unsigned_abs()),
            None => Duration::from_secs(self.omit.unwrap_or(0).max(0).unsigned_abs()),
        }
    }

    /// Bytes after which a direction ends, over all its streams: `num`, or `blockcount` blocks.
    pub fn byte_limit(&self) -> Option<u64> {
        let positive = |value: Option<i64>| value.filter(|value| *value > 0).map(i64::unsigned_abs);
        positive(self.num)
            .or_else(|| positive(self.blockcount).map(|blocks| blocks.saturating_mul(self.block() as u64)))
    }

    /// Streams per direction; 1 where absent.
    pub fn streams(&self) -> usize {
        usize::try_from(self.many_streams.or(self.parallel).unwrap_or(1)).unwrap_or(1)
    }

    /// Streams in all: both directions.
    pub fn total_streams(&self) -> usize {
        self.streams() * if self.bidirectional { 2 } else { 1 }
    }

    /// The bytes of a block; the transport's default where absent.
    pub fn block(&self) -> usize {
        self.len
            .and_then(|len| usize::try_from(len).ok())
            .filter(|len| *len > 0)
            .unwrap_or(self.transport.block())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn empty_documents_are_all_defaults() {
        for text in [
            "{}",
            "[]",
            "\"x\"",
            "{\"unknown\":[1,2]}",
            "{\"title\":5,\"omit\":\"x\",\"time\":null}",
        ] {
            assert_eq!(
                Parameters::decode(text.as_bytes()).unwrap(),
                Parameters::default(),
                "{text}"
            );
        }
        let defaults = Parameters::default();
        assert_eq!((defaults.streams(), defaults.block()), (1, 131_072));
        assert!(Parameters::decode(b"{nonsense").is_err());
    }

    #[test]
    fn flags_are_tested_for_presence() {
        let read =
            Parameters::decode(br#"{"reverse":false,"NODELAY":false,"get_server_output":0,"udp":false}"#)
                .unwrap();
        assert!(read.reverse && read.nodelay && read.get_server_output && !read.bidirectional);
        assert_eq!(read.transport, Transport::Udp);
    }

    #[test]
    fn numbers_of_old_versions_are_understood() {
        let read =
            Parameters::decode(br#"{"num":1e+15,"len":1.5e3,"Time":2.0,"parallel":18446744073709551615}"#)
                .unwrap();
        assert_eq!(
            (read.num, read.len, read.time, read.parallel),
            (Some(1_000_000_000_000_000), Some(1500), Some(2), Some(-1))
        );
    }

    #[test]
    fn ranges_are_those_of_stock() {
        let code = |text: &str| {
            Parameters::decode(text.as_bytes())
                .unwrap()
                .check()
                .err()
                .map(|error| error.code)
        };
        assert_eq!(code("{\"parallel\":0}"), Some(6));
        assert_eq!(code("{\"parallel\":129}"), Some(6));
        assert_eq!(code("{\"parallel\":128,\"len\":1048576}"), None);
        assert_eq!(code("{\"len\":0}"), Some(7));
        assert_eq!(code("{\"len\":1048577}"), Some(7));
        assert_eq!(code("{\"udp\":true,\"len\":15}"), Some(20));
        assert_eq!(code("{\"time\":-1}"), Some(5));
        assert_eq!(code("{\"window\":10000000000}"), Some(8));
        assert_eq!(code("{\"MSS\":100000}"), Some(10));
        assert_eq!(code("{\"burst\":5000}"), Some(15));
        assert_eq!(code("{\"TOS\":300}"), Some(21));
        assert_eq!(code("{\"server_affinity\":5000}"), Some(132));
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(
            parallel in proptest::option::of(1_i64..=128),
            len in proptest::option::of(1_i64..=LENGTH_LIMIT),
            num in proptest::option::of(0_i64..=i64::MAX),
            reverse: bool,
            nodelay: bool,
            title in proptest::option::of("\\PC{0,40}"),
        ) {
            let parameters = Parameters { num, nodelay, parallel, reverse, len, title, ..Parameters::default() };
            prop_assert_eq!(Parameters::decode(parameters.encode().as_bytes()).unwrap(), parameters);
        }

        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(parameters) = Parameters::decode(&bytes) {
                let _ = parameters.check();
                let _ = parameters.encode();
            }
        }
    }
}
