//! The options of iperf3 3.21: their names, what they mean, which side they are for, which values they take.

use super::{
    getopt::{self, Spec, Takes},
    quantity::{any_base, atof, atoi, dscp, rate, size},
};
use crate::iperf3::{
    output::{number::RateUnit, view::Side},
    wire::{
        ErrorCode, Transport,
        parameters::{LENGTH_LIMIT, STREAMS_LIMIT},
    },
};
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
    pub(super) file: Option<String>,
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
    pub(super) bitrate_limit: Option<i64>,
    pub(super) bitrate_limit_seconds: f64,
    pub(super) max_duration: Option<i64>,
    pub(super) idle_timeout: Option<Duration>,
    pub(super) private_key: Option<String>,
    pub(super) users: Option<String>,
    pub(super) skew: u64,
    pub(super) pkcs1: bool,
    pub(super) transport: Transport,
    pub(super) xbind: bool,
    pub(super) nstreams: bool,
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
            bitrate_limit: None,
            bitrate_limit_seconds: 5.0,
            max_duration: None,
            idle_timeout: None,
            private_key: None,
            users: None,
            skew: crate::iperf3::auth::SKEW_THRESHOLD,
            pkcs1: false,
            transport: Transport::Tcp,
            xbind: false,
            nstreams: false,
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
            username: None,
            public_key: None,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum For {
    Both,
    Server,
    Client,
}

macro_rules! options {
    ($($id:ident $long:literal $short:tt $takes:ident $side:ident;)*) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        enum Id { $($id,)* }
        const SPECS: &[(Spec<Id>, For)] = &[
            $((Spec { id: Id::$id, long: $long, short: short!($short), takes: Takes::$takes }, For::$side),)*
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
    Username "username" _ Value Client;
    PublicKey "rsa-public-key-path" _ Value Client;
    PrivateKey "rsa-private-key-path" _ Value Server;
    Users "authorized-users-path" _ Value Server;
    Skew "time-skew-threshold" _ Value Server;
    Pkcs1 "use-pkcs1-padding" _ Nothing Both;
    Debug "debug" 'd' MayTake Both;
    Help "help" 'h' Nothing Both;
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
    pub(super) fn read(arguments: &[String]) -> Result<Request, Mistake> {
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
        if role == Side::Client && used(For::Server) {
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
            Id::Bytes => self.end_by(End::Bytes(number(size(value))?))?,
            Id::Blocks => self.end_by(End::Blocks(number(size(value))?))?,
            Id::Length => self.length = Some(number(size(value))?),
            Id::Parallel => self.parallel = within(atoi(value), 1..=STREAMS_LIMIT, 6)?,
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
            Id::File => self.file = text(),
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
            Id::Nstreams => self.nstreams = true,
            Id::Xbind => self.xbind = true,
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
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Request, Mistake> {
        Options::read(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    fn options(line: &str) -> Options {
        match read(line) {
            Ok(Request::Run(options)) => *options,
            other => panic!("{line}: {other:?}"),
        }
    }

    fn code(line: &str) -> i32 {
        match read(line) {
            Err(Mistake::Parameter(error)) => error.code,
            other => panic!("{line}: {other:?}"),
        }
    }

    /// 73 long options, as in 3.21, and the names of old.
    #[test]
    fn every_option_is_known_once() {
        let mut names: Vec<_> = SPECS.iter().map(|(spec, _)| spec.long).collect();
        assert_eq!(names.len(), 73);
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), 73);
        let mut letters: Vec<_> = SPECS.iter().filter_map(|(spec, _)| spec.short).collect();
        let count = letters.len();
        letters.sort_unstable();
        letters.dedup();
        assert_eq!(letters.len(), count);
    }

    #[test]
    fn what_kubernetes_tools_say_is_understood() {
        let o = options("-c H -V -N -i 30 -t 10 -f m -w 512M -Z -J -P 4 -M 1400");
        assert_eq!(
            (o.host.as_str(), o.window, o.mss, o.parallel),
            ("H", Some(512 << 20), Some(1400), 4)
        );
        assert_eq!(
            (o.end, o.unit, o.form),
            (Some(End::Time(10)), RateUnit::Bits(2), Form::Json)
        );
        assert!(o.verbose && o.no_delay && o.zerocopy);
        let o = options("-V -J --time 600.000000 --bandwidth 1G -w 410K -P 1 -u -c H");
        assert_eq!(
            (o.end, o.bitrate, o.window),
            (Some(End::Time(600)), Some(1_000_000_000), Some(410 << 10))
        );
        let o = options("-u -b 0 -c T -O 1 -w 64K -f m -t 5");
        assert_eq!((o.bitrate, o.omit, o.transport), (Some(0), 1, Transport::Udp));
        let o = options("-J -P 2 -c IP -t 5 -l 1024 -p 5300 --logfile=f");
        assert_eq!(
            (o.port, o.length, o.logfile.as_deref()),
            (5300, Some(1024), Some("f"))
        );
        let o = options("-s -p 5300 --one-off --server-bitrate-limit 10M/2");
        assert_eq!(
            (o.side, o.one_off, o.bitrate_limit),
            (Side::Server, true, Some(10_000_000))
        );
        let o = options("-c h%eth0 -A 0,1 -b10M/5 --timestamps=%s");
        assert_eq!((o.host.as_str(), o.bind_device.as_deref()), ("h", Some("eth0")));
        assert_eq!(
            (o.affinity, o.server_affinity, o.burst),
            (Some(0), Some(1), Some(5))
        );
        assert_eq!(o.timestamps.as_deref(), Some("%s"));
    }

    /// Each of these was tried with a stock binary (3.12; later codes as 3.21 has them).
    #[test]
    fn mistakes_have_iperf3s_codes() {
        for (line, expected) in [
            ("", 2),
            ("-s -c x", 1),
            ("-s -R", 4),
            ("-c x -D", 3),
            ("-c x -p 0", 26),
            ("-c x -p abc", 26),
            ("-c x --cport 0", 26),
            ("-c x -i 0.01", 9),
            ("-c x -t 1 -n 5", 16),
            ("-c x -b 1M/2000", 15),
            ("-c x -l 2M", 7),
            ("-c x -u -l 10", 20),
            ("-c x -w 1G", 8),
            ("-c x -M 99999", 10),
            ("-c x -S 300", 21),
            ("-c x --dscp foo", 40),
            ("-c x -f z", 24),
            ("-c x -R --bidir", 25),
            ("-c x -O 700", 12),
            ("-c x -P 200", 6),
            ("-c x --username u", 22),
            ("-c x -u -F /etc/passwd", 34),
            ("-c x -R --rcv-timeout 5", 31),
            ("-c x --rcv-timeout 5000", 32),
            ("-c x -A 99999", 132),
            ("-s --idle-timeout 0", 30),
            ("-s --rsa-private-key-path /nonexist", 23),
            ("-s --time-skew-threshold 0", 29),
            ("-c x -L 0", 127),
            ("-c x -t 90000", 5),
            ("-s --server-bitrate-limit 1M/90", 28),
            ("-c x -n 5x", 38),
            ("-c x --cntl-ka=5/2/3", 36),
        ] {
            assert_eq!(code(line), expected, "{line}");
        }
    }

    #[test]
    fn help_and_version_come_first() {
        assert_eq!(read("-h"), Ok(Request::Help));
        assert_eq!(read("-c x --version"), Ok(Request::Version));
        assert_eq!(
            read("-c x --foo"),
            Err(Mistake::Usage("unrecognized option '--foo'".into()))
        );
    }
}
