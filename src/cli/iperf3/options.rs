//! The options of iperf3 3.21: what can be asked for. How a command line says it is in `read`.

mod read;

use crate::iperf3::{
    output::{number::RateUnit, view::Side},
    wire::{ErrorCode, Transport},
};
use crate::{scenario::TechniqueSet, traffic::disk_file::DiskFile};
use std::time::Duration;

/// What the command line asks for.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Request {
    Help,
    Version,
    Run(Box<Options>),
}

/// A command line that can't be followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Mistake {
    /// What getopt says.
    Usage(String),
    /// One of iperf3's parameter errors.
    Parameter(ErrorCode),
}

/// When a client's test ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Time(i64),
    Bytes(i64),
    Blocks(i64),
}

/// How output is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Form {
    #[default]
    Text,
    Json,
    JsonStream,
}

/// All options, checked.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Options {
    pub(super) side: Side,
    /// The server's name, of a client.
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) unit: RateUnit,
    pub(super) interval: f64,
    pub(super) pidfile: Option<String>,
    /// Sent, or written to.
    pub(super) file: Option<DiskFile>,
    pub(super) affinity: Option<i64>,
    pub(super) server_affinity: Option<i64>,
    pub(super) bind: Option<String>,
    pub(super) bind_device: Option<String>,
    pub(super) verbose: bool,
    pub(super) form: Form,
    pub(super) full_output: bool,
    pub(super) logfile: Option<String>,
    pub(super) forceflush: bool,
    /// A strftime format.
    pub(super) timestamps: Option<String>,
    pub(super) receive_timeout: Option<Duration>,
    pub(super) send_timeout: Option<Duration>,
    pub(super) keepalive: Option<String>,
    pub(super) mptcp: bool,
    pub(super) only_v4: bool,
    pub(super) only_v6: bool,
    pub(super) daemon: bool,
    pub(super) one_off: bool,
    pub(super) one_test_at_a_time: bool,
    pub(super) max_tests: Option<usize>,
    pub(super) bitrate_limit: Option<i64>,
    pub(super) bitrate_limit_seconds: f64,
    pub(super) max_duration: Option<i64>,
    pub(super) idle_timeout: Option<Duration>,
    pub(super) private_key: Option<String>,
    pub(super) users: Option<String>,
    pub(super) skew: u64,
    pub(super) pkcs1: bool,
    pub(super) transport: Transport,
    /// Names or addresses of this host, for SCTP.
    pub(super) xbind: Vec<String>,
    /// Outgoing SCTP streams.
    pub(super) nstreams: Option<u16>,
    pub(super) connect_timeout: Option<Duration>,
    pub(super) bitrate: Option<i64>,
    pub(super) burst: Option<i64>,
    pub(super) pacing_timer: i64,
    pub(super) fq_rate: Option<i64>,
    pub(super) end: Option<End>,
    pub(super) length: Option<i64>,
    pub(super) client_port: Option<u16>,
    pub(super) parallel: i64,
    pub(super) reverse: bool,
    pub(super) bidirectional: bool,
    pub(super) window: Option<i64>,
    pub(super) congestion: Option<String>,
    pub(super) mss: Option<i64>,
    pub(super) no_delay: bool,
    pub(super) tos: i64,
    pub(super) flow_label: Option<i64>,
    pub(super) zerocopy: bool,
    pub(super) skip_rx_copy: bool,
    pub(super) omit: i64,
    pub(super) title: Option<String>,
    pub(super) extra_data: Option<String>,
    pub(super) get_server_output: bool,
    pub(super) udp_counters_64bit: bool,
    pub(super) repeating_payload: bool,
    pub(super) dont_fragment: bool,
    pub(super) gsro: bool,
    pub(super) fast: bool,
    pub(super) with: TechniqueSet,
    pub(super) without: TechniqueSet,
    pub(super) username: Option<String>,
    pub(super) public_key: Option<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            side: Side::Client,
            host: String::new(),
            port: crate::iperf3::wire::DEFAULT_PORT,
            unit: RateUnit::Adaptive,
            interval: 1.0,
            pidfile: None,
            file: None,
            affinity: None,
            server_affinity: None,
            bind: None,
            bind_device: None,
            verbose: false,
            form: Form::Text,
            full_output: false,
            logfile: None,
            forceflush: false,
            timestamps: None,
            receive_timeout: None,
            send_timeout: None,
            keepalive: None,
            mptcp: false,
            only_v4: false,
            only_v6: false,
            daemon: false,
            one_off: false,
            one_test_at_a_time: false,
            max_tests: None,
            bitrate_limit: None,
            bitrate_limit_seconds: 5.0,
            max_duration: None,
            idle_timeout: None,
            private_key: None,
            users: None,
            skew: crate::iperf3::auth::SKEW_THRESHOLD,
            pkcs1: false,
            transport: Transport::Tcp,
            xbind: Vec::new(),
            nstreams: None,
            connect_timeout: None,
            bitrate: None,
            burst: None,
            pacing_timer: 1000,
            fq_rate: None,
            end: None,
            length: None,
            client_port: None,
            parallel: 1,
            reverse: false,
            bidirectional: false,
            window: None,
            congestion: None,
            mss: None,
            no_delay: false,
            tos: 0,
            flow_label: None,
            zerocopy: false,
            skip_rx_copy: false,
            omit: 0,
            title: None,
            extra_data: None,
            get_server_output: false,
            udp_counters_64bit: false,
            repeating_payload: false,
            dont_fragment: false,
            gsro: false,
            fast: false,
            with: TechniqueSet::NONE,
            without: TechniqueSet::NONE,
            username: None,
            public_key: None,
        }
    }
}
