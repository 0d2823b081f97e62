//! The text for people: one element for each thing printed, without the newline at its end, so that a title or a
//! time can be put before each.

use super::{
    json::{http_date, percent},
    number::{RateUnit, amount, general, rate},
    view::{
        EndView, IntervalView, Side, StartView, StreamEnd, StreamInterval, TcpInterval, UdpInterval, VERSION,
    },
};
use crate::{iperf3::wire::Transport, measure::Direction};

const DASHES: &str = "-----------------------------------------------------------";
const SEPARATOR: &str = "- - - - - - - - - - - - - - - - - - - - - - - - -";

/// How it is to be printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Style {
    /// `-f`.
    pub unit: RateUnit,
    /// `-V`.
    pub verbose: bool,
}

/// What a server says while it waits. `test` counts from 1.
pub fn banner(port: u16, test: u64) -> Vec<String> {
    vec![
        DASHES.to_owned(),
        format!("Server listening on {port} (test #{test})"),
        DASHES.to_owned(),
    ]
}

/// What `-V` begins with.
pub fn version(system_info: &str) -> Vec<String> {
    vec![VERSION.to_owned(), system_info.to_owned()]
}

/// The test's head: who is connected to whom, and with `-V` what is about to run.
pub fn start(view: &StartView, style: Style) -> Vec<String> {
    let parameters = &view.parameters;
    let mut lines = Vec::new();
    if style.verbose {
        if view.side == Side::Client && view.mss > 0 {
            lines.push(format!("Control connection MSS {}", view.mss));
        }
        lines.push(format!("Time: {}", http_date((view.time_millis / 1000) as i64)));
    }
    lines.extend(greeting(view.side, &view.peer.0, view.peer.1, parameters.reverse));
    if style.verbose {
        lines.push(format!("      Cookie: {}", view.cookie));
        if parameters.transport == Transport::Tcp {
            lines.push(match parameters.mss.filter(|mss| *mss > 0) {
                Some(mss) => format!("      TCP MSS: {mss}"),
                None => format!("      TCP MSS: {} (default)", view.mss),
            });
        }
        if let Some(rate) = parameters.bandwidth.filter(|rate| *rate > 0) {
            lines.push(format!("      Target Bitrate: {rate}"));
        }
    }
    for stream in &view.connected {
        lines.push(format!(
            "[{:3}] local {} port {} connected to {} port {}",
            stream.socket,
            stream.local.ip(),
            stream.local.port(),
            stream.remote.ip(),
            stream.remote.port()
        ));
    }
    if style.verbose {
        let number = |value: Option<i64>| value.unwrap_or(0);
        let span = if number(parameters.num) > 0 {
            format!("{} bytes to send", number(parameters.num))
        } else if number(parameters.blockcount) > 0 {
            format!("{} blocks to send", number(parameters.blockcount))
        } else {
            format!("{} second test", number(parameters.time))
        };
        lines.push(format!(
            "Starting Test: protocol: {}, {} streams, {} byte blocks, omitting {} seconds, {span}, tos {}",
            view.protocol(),
            parameters.streams(),
            parameters.block(),
            number(parameters.omit),
            number(parameters.tos)
        ));
    }
    lines
}

/// Who talks to whom: what there is to say even where nothing runs.
pub fn greeting(side: Side, host: &str, port: u16, reverse: bool) -> Vec<String> {
    match side {
        Side::Client => {
            let mut lines = vec![format!("Connecting to host {host}, port {port}")];
            if reverse {
                lines.push(format!("Reverse mode, remote host {host} is sending"));
            }
            lines
        }
        Side::Server => vec![format!("Accepted connection from {host}, port {port}")],
    }
}

/// What a line begins with.
struct Row<'a> {
    id: String,
    role: &'a str,
    span: (f64, f64),
    bytes: u64,
    seconds: f64,
}

impl Row<'_> {
    fn head(&self, unit: RateUnit) -> String {
        let per_second = if self.seconds > 0.0 {
            self.bytes as f64 / self.seconds
        } else {
            0.0
        };
        format!(
            "[{}]{} {:6.2}-{:<6.2} sec  {}s  {}s/sec",
            self.id,
            self.role,
            self.span.0,
            self.span.1,
            amount(self.bytes as f64),
            rate(per_second, unit)
        )
    }
}

fn id(socket: i64) -> String {
    format!("{socket:3}")
}

fn sum_id() -> String {
    "SUM".to_owned()
}

fn role(start: &StartView, direction: Direction) -> &'static str {
    if !start.bidirectional() {
        return "";
    }
    match (start.side, start.side.sends(direction)) {
        (Side::Client, true) => "[TX-C]",
        (Side::Client, false) => "[RX-C]",
        (Side::Server, true) => "[TX-S]",
        (Side::Server, false) => "[RX-S]",
    }
}

fn head(start: &StartView, columns: &str) -> String {
    let role = if start.bidirectional() { "[Role]" } else { "" };
    format!("[ ID]{role} Interval           Transfer     Bitrate{columns}")
}

const LOSS: &str = "         Jitter    Lost/Total Datagrams";

fn interval_head(start: &StartView) -> String {
    let sends = start
        .directions()
        .iter()
        .any(|direction| start.side.sends(*direction));
    let columns = match (start.parameters.transport, start.bidirectional(), sends) {
        (Transport::Udp, false, true) => "         Total Datagrams",
        (Transport::Udp, ..) => LOSS,
        (Transport::Tcp, _, true) => "         Retr  Cwnd",
        _ => "",
    };
    head(start, columns)
}

/// An interval. `first` is the first of the test, which has the head of the columns.
pub fn interval(start: &StartView, view: &IntervalView, first: bool, style: Style) -> Vec<String> {
    let mut lines = Vec::new();
    let many = start.parameters.streams() > 1;
    if first {
        lines.push(interval_head(start));
    } else if many {
        lines.push(SEPARATOR.to_owned());
    }
    let omitted = if view.omitted { "(omitted)" } else { "" };
    let retransmits = start.tells_retransmits();
    for direction in start.directions() {
        let sends = start.side.sends(direction);
        let streams: Vec<&StreamInterval> =
            view.streams.iter().filter(|s| s.direction == direction).collect();
        let row = |id: String, bytes: u64| Row {
            id,
            role: role(start, direction),
            span: (view.start, view.end),
            bytes,
            seconds: view.seconds,
        };
        for stream in &streams {
            let head = row(id(stream.socket), stream.bytes).head(style.unit);
            lines.push(if let Some(udp) = stream.udp {
                udp_interval(&head, udp, sends, start.bidirectional(), omitted)
            } else if let Some(tcp) = stream.tcp.filter(|_| sends && retransmits) {
                tcp_interval(&head, tcp, omitted)
            } else {
                format!("{head}                  {omitted}")
            });
        }
        if many {
            let head = row(
                sum_id(),
                streams
                    .iter()
                    .map(|stream| stream.bytes)
                    .fold(0, u64::saturating_add),
            )
            .head(style.unit);
            let udp: Vec<_> = streams.iter().filter_map(|stream| stream.udp).collect();
            lines.push(if !udp.is_empty() {
                let sum = UdpInterval {
                    packets: udp.iter().map(|udp| udp.packets).fold(0, i64::saturating_add),
                    lost: udp.iter().map(|udp| udp.lost).fold(0, i64::saturating_add),
                    jitter: udp.iter().map(|udp| udp.jitter).sum::<f64>() / udp.len() as f64,
                };
                udp_interval(&head, sum, sends, start.bidirectional(), omitted)
            } else if sends && retransmits && streams.iter().any(|stream| stream.tcp.is_some()) {
                let retransmits: u64 = streams
                    .iter()
                    .filter_map(|s| s.tcp)
                    .map(|tcp| tcp.retransmits)
                    .fold(0, u64::saturating_add);
                format!("{head}  {retransmits:3}             {omitted}")
            } else {
                format!("{head}                  {omitted}")
            });
        }
    }
    lines
}

fn tcp_interval(head: &str, tcp: TcpInterval, omitted: &str) -> String {
    format!(
        "{head}  {:3}   {}s       {omitted}",
        tcp.retransmits,
        amount(tcp.snd_cwnd as f64)
    )
}

fn udp_interval(head: &str, udp: UdpInterval, sends: bool, bidirectional: bool, omitted: &str) -> String {
    if sends {
        let blank = if bidirectional { "          " } else { "" };
        format!("{head} {blank} {}  {omitted}", udp.packets)
    } else {
        loss(head, udp.jitter, udp.lost, udp.packets, omitted)
    }
}

fn loss(head: &str, jitter: f64, lost: i64, packets: i64, tail: &str) -> String {
    format!(
        "{head}  {:5.3} ms  {lost}/{packets} ({}%)  {tail}",
        jitter * 1000.0,
        general(percent(lost, packets), 2)
    )
}

/// The summary after a test.
pub fn summary(start: &StartView, view: &EndView, style: Style) -> Vec<String> {
    let mut lines = vec![SEPARATOR.to_owned()];
    if style.verbose {
        lines.push("Test Complete. Summary Results:".to_owned());
    }
    let retransmits = view.streams.iter().any(|stream| stream.tcp.is_some());
    lines.push(match start.parameters.transport {
        Transport::Udp => head(start, LOSS),
        Transport::Tcp if retransmits => head(start, "         Retr"),
        _ => head(start, ""),
    });
    for direction in start.directions() {
        let streams: Vec<&StreamEnd> = view.streams.iter().filter(|s| s.direction == direction).collect();
        for stream in &streams {
            push_ends(&mut lines, start, &id(stream.socket), stream, style, false);
        }
        if start.parameters.streams() > 1 {
            push_ends(
                &mut lines,
                start,
                &sum_id(),
                &total(&streams, direction),
                style,
                true,
            );
        }
        if style.verbose {
            push_verbose(&mut lines, start, view, start.side.sends(direction), direction);
        }
    }
    lines
}

fn total(streams: &[&StreamEnd], direction: Direction) -> StreamEnd {
    let longest = |seconds: fn(&StreamEnd) -> f64| streams.iter().map(|s| seconds(s)).fold(0.0, f64::max);
    let mut total = StreamEnd {
        socket: 0,
        direction,
        sent: streams
            .iter()
            .map(|stream| stream.sent)
            .fold(0, u64::saturating_add),
        received: streams
            .iter()
            .map(|stream| stream.received)
            .fold(0, u64::saturating_add),
        sent_seconds: longest(|stream| stream.sent_seconds),
        received_seconds: longest(|stream| stream.received_seconds),
        tcp: None,
        udp: None,
        file: None,
    };
    for stream in streams {
        if let Some(tcp) = stream.tcp {
            let retransmits = &mut total.tcp.get_or_insert_default().retransmits;
            *retransmits = retransmits.saturating_add(tcp.retransmits);
        }
        if let Some(udp) = stream.udp {
            let sum = total.udp.get_or_insert_default();
            sum.sent = sum.sent.saturating_add(udp.sent);
            sum.received = sum.received.saturating_add(udp.received);
            sum.lost = sum.lost.saturating_add(udp.lost);
            sum.out_of_order = sum.out_of_order.saturating_add(udp.out_of_order);
            sum.jitter += udp.jitter / streams.len() as f64;
        }
    }
    total
}

fn push_ends(
    lines: &mut Vec<String>,
    start: &StartView,
    id: &str,
    stream: &StreamEnd,
    style: Style,
    sum: bool,
) {
    let sends = start.side.sends(stream.direction);
    // A server prints before it knows what the client did.
    let only = |own: bool| start.side == Side::Client || own;
    let row = |bytes: u64, seconds: f64| {
        Row {
            id: id.to_owned(),
            role: role(start, stream.direction),
            span: (0.0, seconds),
            bytes,
            seconds,
        }
        .head(style.unit)
    };
    if only(sends) {
        let head = row(stream.sent, stream.sent_seconds);
        lines.push(
            match (stream.udp, stream.tcp.filter(|_| start.tells_retransmits())) {
                (Some(udp), _) => loss(&head, 0.0, 0, udp.sent, "sender"),
                // Between 3.12 and 3.21 the blanks before a stream's `sender` shrank by one, the sum's did not.
                (None, Some(tcp)) if sum => format!("{head}  {:3}             sender", tcp.retransmits),
                (None, Some(tcp)) => format!("{head}  {:3}            sender", tcp.retransmits),
                (None, None) => format!("{head}                  sender"),
            },
        );
    } else if style.verbose {
        lines.push(format!("[{id}] (sender statistics not available)"));
    }
    if let Some(file) = &stream.file {
        // As iperf3, which says `Sent` of what a server received, too.
        let moved = if only(sends) { stream.sent } else { stream.received };
        let share = percent(moved as i64, file.size as i64);
        lines.push(format!(
            "        Sent {} / {} ({share:.0}%) of {}",
            amount(moved as f64),
            amount(file.size as f64),
            file.name
        ));
    }
    if only(!sends) {
        let head = row(stream.received, stream.received_seconds);
        lines.push(match stream.udp {
            Some(udp) => loss(&head, udp.jitter, udp.lost, udp.received, "receiver"),
            None => format!("{head}                  receiver"),
        });
        if let Some(late) = stream.udp.map(|udp| udp.out_of_order).filter(|late| *late > 0) {
            lines.push(format!(
                "[{id}]{} {:4.1}-{:4.1} sec  {late} datagrams received out-of-order",
                role(start, stream.direction),
                0.0,
                stream.received_seconds
            ));
        }
    } else if style.verbose {
        lines.push(format!("[{id}] (receiver statistics not available)"));
    }
}

fn push_verbose(
    lines: &mut Vec<String>,
    start: &StartView,
    view: &EndView,
    sends: bool,
    direction: Direction,
) {
    let cpu = |local: &str, remote: &str| {
        let (l, r) = (view.local_cpu, view.remote_cpu);
        format!(
            "CPU Utilization: local/{local} {:.1}% ({:.1}%u/{:.1}%s), remote/{remote} {:.1}% ({:.1}%u/{:.1}%s)",
            l.total, l.user, l.system, r.total, r.user, r.system
        )
    };
    if sends {
        lines.push(cpu("sender", "receiver"));
        if start.bidirectional() {
            lines.push(cpu("receiver", "sender"));
        }
    }
    if start.parameters.transport != Transport::Tcp {
        return;
    }
    // A server says what it knows: of a direction in which it sends, the sender's.
    let known = |own: bool| start.side == Side::Client || !start.bidirectional() || own;
    let sends = start.side.sends(direction);
    if let Some(name) = view.sender_congestion.as_ref().filter(|_| known(sends)) {
        lines.push(format!("snd_tcp_congestion {name}"));
    }
    if let Some(name) = view.receiver_congestion.as_ref().filter(|_| known(!sends)) {
        lines.push(format!("rcv_tcp_congestion {name}"));
    }
}
