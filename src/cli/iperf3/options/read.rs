//! How a command line becomes [`Options`]: the names of iperf3 3.21, and the checks that it makes.

use super::{End, Form, Mistake, Options, Request};
use crate::{
    cli::iperf3::{
        getopt::{self, Spec, Takes},
        quantity::{any_base, atof, atoi, dscp, rate, size},
    },
    iperf3::{
        output::{number::RateUnit, view::Side},
        wire::{
            ErrorCode, Transport,
            parameters::{LENGTH_LIMIT, MANY_STREAMS_LIMIT, STREAMS_LIMIT},
        },
    },
    scenario::{Technique, TechniqueSet},
    traffic::disk_file::DiskFile,
};
use std::time::Duration;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum For {
    Both,
    Server,
    Client,
    /// The server, and only ours: iperf3 has no such option.
    OurServer,
}

macro_rules! options {
    ($($id:ident $long:literal $short:tt $takes:ident $side:ident;)*) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        enum Id { $($id,)* }
        const SPECS: &[(Spec<Id>, For)] = &[
            $((
                Spec {
                    id: Id::$id,
                    long: $long,
                    short: short!($short),
                    takes: Takes::$takes,
                    // So that what is unique in iperf3 stays so.
                    whole: matches!(For::$side, For::OurServer),
                },
                For::$side,
            ),)*
        ];
    };
}

macro_rules! short {
    (_) => {
        None
    };
    ($letter:literal) => {
        Some($letter)
    };
}

options! {
    Port "port" 'p' Value Both;
    Format "format" 'f' Value Both;
    Interval "interval" 'i' Value Both;
    Daemon "daemon" 'D' Nothing Server;
    OneOff "one-off" '1' Nothing Server;
    OneTest "one-test-at-a-time" _ Nothing OurServer;
    MaxTests "max-tests" _ Value OurServer;
    Verbose "verbose" 'V' Nothing Both;
    Json "json" 'J' Nothing Both;
    JsonStream "json-stream" _ Nothing Both;
    FullOutput "json-stream-full-output" _ Nothing Both;
    Version "version" 'v' Nothing Both;
    Server "server" 's' Nothing Both;
    Client "client" 'c' Value Both;
    Udp "udp" 'u' Nothing Client;
    Bitrate "bitrate" 'b' Value Client;
    Bandwidth "bandwidth" _ Value Client;
    BitrateLimit "server-bitrate-limit" _ Value Server;
    MaxDuration "server-max-duration" _ Value Server;
    Time "time" 't' Value Client;
    Bytes "bytes" 'n' Value Client;
    Blocks "blockcount" 'k' Value Client;
    Length "length" 'l' Value Client;
    Parallel "parallel" 'P' Value Client;
    Reverse "reverse" 'R' Nothing Client;
    Bidir "bidir" _ Nothing Client;
    Window "window" 'w' Value Client;
    Bind "bind" 'B' Value Both;
    BindDevice "bind-dev" _ Value Both;
    ClientPort "cport" _ Value Client;
    Mss "set-mss" 'M' Value Client;
    NoDelay "no-delay" 'N' Nothing Client;
    V4 "version4" '4' Nothing Both;
    V6 "version6" '6' Nothing Both;
    Tos "tos" 'S' Value Client;
    Dscp "dscp" _ Value Client;
    ExtraData "extra-data" _ Value Client;
    FlowLabel "flowlabel" 'L' Value Client;
    Zerocopy "zerocopy" 'Z' Nothing Client;
    SkipRxCopy "skip-rx-copy" _ Nothing Client;
    Omit "omit" 'O' Value Client;
    File "file" 'F' Value Both;
    RepeatingPayload "repeating-payload" _ Nothing Client;
    Timestamps "timestamps" _ MayTake Both;
    Affinity "affinity" 'A' Value Both;
    Title "title" 'T' Value Client;
    Congestion "congestion" 'C' Value Client;
    LinuxCongestion "linux-congestion" _ Value Client;
    Sctp "sctp" _ Nothing Client;
    Nstreams "nstreams" _ Value Client;
    Xbind "xbind" 'X' Value Both;
    Pidfile "pidfile" 'I' Value Both;
    Logfile "logfile" _ Value Both;
    Forceflush "forceflush" _ Nothing Both;
    GetServerOutput "get-server-output" _ Nothing Client;
    Udp64 "udp-counters-64bit" _ Nothing Client;
    NoFqPacing "no-fq-socket-pacing" _ Nothing Client;
    FqRate "fq-rate" _ Value Client;
    PacingTimer "pacing-timer" _ Value Client;
    ConnectTimeout "connect-timeout" _ Value Client;
    IdleTimeout "idle-timeout" _ Value Server;
    ReceiveTimeout "rcv-timeout" _ Value Both;
    SendTimeout "snd-timeout" _ Value Both;
    Keepalive "cntl-ka" _ MayTake Both;
    Mptcp "mptcp" 'm' Nothing Both;
    DontFragment "dont-fragment" _ Nothing Client;
    Gsro "gsro" _ Nothing Client;
    Fast "fast" _ Nothing Client;
    With "with" _ Value Client;
    Without "without" _ Value Client;
    Username "username" _ Value Client;
    PublicKey "rsa-public-key-path" _ Value Client;
    PrivateKey "rsa-private-key-path" _ Value Server;
    Users "authorized-users-path" _ Value Server;
    Skew "time-skew-threshold" _ Value Server;
    Pkcs1 "use-pkcs1-padding" _ Nothing Both;
    Debug "debug" 'd' MayTake Both;
    Help "help" 'h' Nothing Both;
}

/// Names of techniques between commas.
fn techniques(text: &str) -> Result<TechniqueSet, Mistake> {
    let known = Technique::ALL.map(Technique::name).join(", ");
    text.split(',')
        .map(|name| {
            name.trim()
                .parse::<Technique>()
                .map_err(|error| Mistake::Usage(format!("{error}; there are {known}")))
        })
        .collect()
}

fn refuse<T>(code: i32) -> Result<T, Mistake> {
    Err(Mistake::Parameter(ErrorCode::new(code)))
}

fn within(value: i64, range: std::ops::RangeInclusive<i64>, code: i32) -> Result<i64, Mistake> {
    if range.contains(&value) {
        Ok(value)
    } else {
        refuse(code)
    }
}

/// The text before a slash, and what is after it.
fn split_slash(text: &str) -> (&str, Option<&str>) {
    match text.split_once('/') {
        Some((before, after)) => (before, Some(after)),
        None => (text, None),
    }
}

const UNIT: i32 = 38;

fn number(value: Option<i64>) -> Result<i64, Mistake> {
    value.map_or_else(|| refuse(UNIT), Ok)
}

impl Options {
    /// Reads a command line without the program's name.
    pub(in crate::cli::iperf3) fn read(arguments: &[String]) -> Result<Request, Mistake> {
        let specs: Vec<_> = SPECS.iter().map(|(spec, _)| *spec).collect();
        let found = getopt::read(&specs, arguments).map_err(Mistake::Usage)?;
        let mut options = Self::default();
        let mut role = None;
        for (id, value) in &found {
            match id {
                Id::Help => return Ok(Request::Help),
                Id::Version => return Ok(Request::Version),
                Id::Server | Id::Client => {
                    let side = if *id == Id::Server {
                        Side::Server
                    } else {
                        Side::Client
                    };
                    if role.is_some_and(|role| role != side) {
                        return refuse(1);
                    }
                    role = Some(side);
                    options.side = side;
                    if side == Side::Client {
                        options.host = value.clone().unwrap_or_default();
                    }
                }
                id => options.take(*id, value.as_deref().unwrap_or_default())?,
            }
        }
        let Some(role) = role else { return refuse(2) };
        let used = |side: For| {
            found.iter().any(|(id, _)| {
                SPECS
                    .iter()
                    .any(|(spec, wanted)| spec.id == *id && *wanted == side)
            })
        };
        if role == Side::Client && (used(For::Server) || used(For::OurServer)) {
            return refuse(3);
        }
        if role == Side::Server && used(For::Client) {
            return refuse(4);
        }
        options.check(&found)?;
        Ok(Request::Run(Box::new(options)))
    }

    fn take(&mut self, id: Id, value: &str) -> Result<(), Mistake> {
        let text = || Some(value.to_owned());
        let millis = |range, code| {
            within(atoi(value), range, code).map(|ms| Some(Duration::from_millis(ms.unsigned_abs())))
        };
        let port = || within(atoi(value), 1..=65_535, 26).map(|port| port as u16);
        match id {
            Id::Port => self.port = port()?,
            Id::Format => {
                let letter = value.chars().next().unwrap_or(' ');
                self.unit = RateUnit::from_letter(letter).map_or_else(|| refuse(24), Ok)?;
            }
            Id::Interval => {
                self.interval = atof(value);
                if self.interval != 0.0 && !(0.1..=60.0).contains(&self.interval) {
                    return refuse(9);
                }
            }
            Id::Daemon => self.daemon = true,
            Id::OneOff => self.one_off = true,
            Id::OneTest => self.one_test_at_a_time = true,
            // iperf3's words for a number of streams that is out of range fit a number of tests as well.
            Id::MaxTests => self.max_tests = Some(within(atoi(value), 1..=10_000, 6)? as usize),
            Id::Verbose => self.verbose = true,
            Id::Json => {
                if self.form == Form::Text {
                    self.form = Form::Json;
                }
            }
            Id::JsonStream => self.form = Form::JsonStream,
            Id::FullOutput => self.full_output = true,
            Id::Udp => self.transport = Transport::Udp,
            Id::Sctp => self.transport = Transport::Sctp,
            Id::Bitrate | Id::Bandwidth => {
                let (bits, burst) = split_slash(value);
                self.bitrate = Some(number(rate(bits))?);
                if let Some(burst) = burst {
                    self.burst = Some(within(atoi(burst), 1..=1000, 15)?);
                }
            }
            Id::BitrateLimit => {
                let (bits, seconds) = split_slash(value);
                self.bitrate_limit = Some(number(rate(bits))?);
                if let Some(seconds) = seconds {
                    self.bitrate_limit_seconds = atof(seconds);
                    if self.bitrate_limit_seconds != 0.0
                        && !(0.1..=60.0).contains(&self.bitrate_limit_seconds)
                    {
                        return refuse(28);
                    }
                }
            }
            Id::MaxDuration => self.max_duration = Some(within(atoi(value), 0..=86_400, 5)?),
            Id::Time => self.end_by(End::Time(within(atoi(value), 0..=86_400, 5)?))?,
            // 0 is as if it were not there.
            Id::Bytes => match number(size(value))? {
                0 => {}
                bytes => self.end_by(End::Bytes(bytes))?,
            },
            Id::Blocks => match number(size(value))? {
                0 => {}
                blocks => self.end_by(End::Blocks(blocks))?,
            },
            Id::Length => self.length = Some(number(size(value))?).filter(|length| *length != 0),
            Id::Parallel => self.parallel = within(atoi(value), 1..=MANY_STREAMS_LIMIT, 6)?,
            Id::Reverse | Id::Bidir => {
                self.reverse |= id == Id::Reverse;
                self.bidirectional |= id == Id::Bidir;
                if self.reverse && self.bidirectional {
                    return refuse(25);
                }
            }
            Id::Window => self.window = Some(within(number(size(value))?, 0..=536_870_912, 8)?),
            Id::Bind => {
                let (host, device) = split_device(value);
                self.bind = Some(host.to_owned());
                self.bind_device = device.or(self.bind_device.take());
            }
            Id::BindDevice => self.bind_device = text(),
            Id::ClientPort => self.client_port = Some(port()?),
            Id::Mss => self.mss = Some(within(atoi(value), 0..=32_767, 10)?),
            Id::NoDelay => self.no_delay = true,
            Id::V4 => self.only_v4 = true,
            Id::V6 => self.only_v6 = true,
            Id::Tos => {
                self.tos = any_base(value)
                    .filter(|tos| (0..=255).contains(tos))
                    .map_or_else(|| refuse(21), Ok)?;
            }
            Id::Dscp => self.tos = dscp(value).map_or_else(|| refuse(40), Ok)?,
            Id::ExtraData => self.extra_data = text(),
            Id::FlowLabel => {
                let label = any_base(value).filter(|label| (1..=0xf_ffff).contains(label));
                self.flow_label = Some(label.map_or_else(|| refuse(127), Ok)?);
            }
            Id::Zerocopy => self.zerocopy = true,
            Id::SkipRxCopy => self.skip_rx_copy = true,
            Id::Omit => self.omit = within(atoi(value), 0..=600, 12)?,
            Id::File => self.file = Some(DiskFile::new(value)),
            Id::RepeatingPayload => self.repeating_payload = true,
            Id::Timestamps => {
                self.timestamps = Some(if value.is_empty() {
                    "%c ".to_owned()
                } else {
                    value.to_owned()
                });
            }
            Id::Affinity => {
                let (own, other) = match value.split_once([',', '/']) {
                    Some((own, other)) => (own, Some(other)),
                    None => (value, None),
                };
                self.affinity = Some(within(atoi(own), 0..=1024, 132)?);
                if let Some(other) = other {
                    self.server_affinity = Some(within(atoi(other), 0..=1024, 132)?);
                }
            }
            Id::Title => self.title = text(),
            Id::Congestion | Id::LinuxCongestion => self.congestion = text(),
            Id::Nstreams => {
                let streams = within(number(size(value))?, 1..=65_535, ErrorCode::SCTP_STREAMS)?;
                self.nstreams = Some(streams as u16);
            }
            Id::Xbind => self.xbind.push(value.to_owned()),
            Id::Pidfile => self.pidfile = text(),
            Id::Logfile => self.logfile = text(),
            Id::Forceflush => self.forceflush = true,
            Id::GetServerOutput => self.get_server_output = true,
            Id::Udp64 => self.udp_counters_64bit = true,
            Id::FqRate => self.fq_rate = Some(number(rate(value))?),
            Id::PacingTimer => self.pacing_timer = number(rate(value))?,
            Id::ConnectTimeout => self.connect_timeout = millis(1..=86_400_000, UNIT)?,
            Id::IdleTimeout => {
                let seconds = within(atoi(value), 1..=86_400, 30)?;
                self.idle_timeout = Some(Duration::from_secs(seconds.unsigned_abs()));
            }
            Id::ReceiveTimeout => self.receive_timeout = millis(100..=86_400_000, 31)?,
            Id::SendTimeout => self.send_timeout = millis(0..=86_400_000, 33)?,
            Id::Keepalive => self.keepalive = text(),
            Id::Mptcp => self.mptcp = true,
            Id::DontFragment => self.dont_fragment = true,
            Id::Gsro => self.gsro = true,
            Id::Fast => self.fast = true,
            Id::With => self.with = techniques(value)?,
            Id::Without => self.without = techniques(value)?,
            Id::Username => self.username = text(),
            Id::PublicKey => self.public_key = text(),
            Id::PrivateKey => self.private_key = text(),
            Id::Users => self.users = text(),
            Id::Skew => self.skew = within(atoi(value), 1..=i64::MAX, 29)?.unsigned_abs(),
            Id::Pkcs1 => self.pkcs1 = true,
            // Debug messages are the log's business (RUST_LOG); deprecated pacing needs no thought.
            Id::Debug | Id::NoFqPacing | Id::Help | Id::Version | Id::Server | Id::Client => {}
        }
        Ok(())
    }

    fn end_by(&mut self, end: End) -> Result<(), Mistake> {
        let same = |a: End, b: End| std::mem::discriminant(&a) == std::mem::discriminant(&b);
        if self.end.is_some_and(|known| !same(known, end)) {
            return refuse(16);
        }
        self.end = Some(end);
        Ok(())
    }

    /// What depends on more than one option.
    fn check(&mut self, found: &[(Id, Option<String>)]) -> Result<(), Mistake> {
        let client = self.side == Side::Client;
        if client {
            let (host, device) = split_device(&self.host);
            (self.host, self.bind_device) = (host.to_owned(), self.bind_device.take().or(device));
            match (self.transport, self.length) {
                (Transport::Udp, Some(length)) => within(length, 16..=65_507, 20),
                (_, Some(length)) => within(length, 1..=LENGTH_LIMIT, 7),
                (_, None) => Ok(0),
            }?;
            if self.transport != Transport::Tcp {
                within(self.parallel, 1..=STREAMS_LIMIT, 6)?;
            }
            if found.iter().any(|(id, _)| *id == Id::ReceiveTimeout) && !self.reverse && !self.bidirectional {
                return refuse(32);
            }
            if self.file.is_some() && self.transport == Transport::Udp {
                return refuse(34);
            }
            if self.username.is_some() != self.public_key.is_some() {
                return refuse(22);
            }
        } else if self.private_key.is_some() != self.users.is_some() {
            return refuse(23);
        }
        if let Some(keepalive) = self.keepalive.as_ref().filter(|text| !text.is_empty()) {
            let mut parts = keepalive.split('/').map(atoi);
            let (idle, interval, count) = (
                parts.next().unwrap_or(0),
                parts.next().unwrap_or(0),
                parts.next().unwrap_or(0),
            );
            if idle > 0 && idle <= interval.saturating_mul(count) {
                return refuse(36);
            }
        }
        Ok(())
    }
}

/// `host%device`; of an IPv6 link-local address the scope stays with the host.
fn split_device(text: &str) -> (&str, Option<String>) {
    match text.split_once('%') {
        Some((host, device)) if !host.contains(':') => (host, Some(device.to_owned())),
        _ => (text, None),
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
