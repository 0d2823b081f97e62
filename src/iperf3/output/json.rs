//! The `-J` document and the events of `--json-stream`.

mod end;

pub use end::end;

use super::{
    pretty,
    view::{IntervalView, Side, StartView, StreamInterval, VERSION},
};
use crate::{
    iperf3::wire::{
        Transport,
        json::{Json, ObjectBuilder},
    },
    measure::Direction,
};

/// What goes beside `start`, `intervals` and `end`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Extras {
    /// `-T`.
    pub title: Option<String>,
    /// `--extra-data`.
    pub extra_data: Option<String>,
    /// What the server said as JSON.
    pub server_output_json: Option<Json>,
    /// What the server said as text.
    pub server_output_text: Option<String>,
    /// What went wrong.
    pub error: Option<String>,
}

/// The whole document. Each part may be missing where a test failed early.
pub fn document(start: Json, intervals: Vec<Json>, end: Option<Json>, extras: &Extras) -> Json {
    let mut object = ObjectBuilder::default();
    object.put("start", start);
    object.put("intervals", Json::Array(intervals));
    object.put("end", end.unwrap_or_else(|| Json::Object(Vec::new())));
    object.string("title", extras.title.as_deref());
    object.string("extra_data", extras.extra_data.as_deref());
    if let Some(output) = &extras.server_output_json {
        object.put("server_output_json", output.clone());
    }
    object.string("server_output_text", extras.server_output_text.as_deref());
    object.string("error", extras.error.as_deref());
    object.build()
}

/// One line of `--json-stream`, without its newline. `test` is told beside stock's keys by a server that serves several
/// tests at once.
pub fn event(name: &str, data: Json, test: Option<&str>) -> String {
    let mut object = ObjectBuilder::default();
    object.string("event", Some(name));
    object.put("data", data);
    object.string("test", test);
    pretty::compact(&object.build())
}

/// `start` where a test failed before it began.
pub fn early_start(system_info: &str) -> Json {
    let mut object = ObjectBuilder::default();
    object.put("connected", Json::Array(Vec::new()));
    object.string("version", Some(VERSION));
    object.string("system_info", Some(system_info));
    object.build()
}

fn host_port(host: &str, port: u16) -> Json {
    let mut object = ObjectBuilder::default();
    object.string("host", Some(host));
    object.integer("port", Some(port.into()));
    object.build()
}

/// The `start` object.
pub fn start(view: &StartView) -> Json {
    let parameters = &view.parameters;
    let rate = parameters.bandwidth.unwrap_or(0);
    let connected = view.connected.iter().map(|stream| {
        let mut object = ObjectBuilder::default();
        object.integer("socket", Some(stream.socket));
        object.string("local_host", Some(&stream.local.ip().to_string()));
        object.integer("local_port", Some(stream.local.port().into()));
        object.string("remote_host", Some(&stream.remote.ip().to_string()));
        object.integer("remote_port", Some(stream.remote.port().into()));
        object.build()
    });
    let put_buffers = |object: &mut ObjectBuilder| {
        // As stock, which looks at the buffers of TCP and UDP alone.
        if parameters.transport == Transport::Sctp {
            return;
        }
        object.integer("sock_bufsize", Some(parameters.window.unwrap_or(0)));
        object.integer("sndbuf_actual", Some(view.buffers.0));
        object.integer("rcvbuf_actual", Some(view.buffers.1));
    };
    let mut object = ObjectBuilder::default();
    object.put("connected", Json::Array(connected.collect()));
    object.string("version", Some(VERSION));
    object.string("system_info", Some(&view.system_info));
    if view.side == Side::Server {
        object.integer("target_bitrate", Some(rate));
        put_buffers(&mut object);
    }
    let mut stamp = ObjectBuilder::default();
    let seconds = (view.time_millis / 1000) as i64;
    stamp.string("time", Some(&http_date(seconds)));
    stamp.integer("timesecs", Some(seconds));
    stamp.integer("timemillisecs", Some(view.time_millis as i64));
    object.put("timestamp", stamp.build());
    let peer = host_port(&view.peer.0, view.peer.1);
    object.put(
        match view.side {
            Side::Client => "connecting_to",
            Side::Server => "accepted_connection",
        },
        peer,
    );
    object.string("cookie", Some(&view.cookie));
    if parameters.transport == Transport::Tcp {
        match parameters.mss.filter(|mss| *mss > 0) {
            Some(mss) => object.integer("tcp_mss", Some(mss)),
            None => object.integer("tcp_mss_default", Some(view.mss)),
        }
    }
    if view.side == Side::Client {
        object.integer("target_bitrate", Some(rate));
    }
    object.integer("fq_rate", Some(parameters.fqrate.unwrap_or(0)));
    if view.side == Side::Client {
        put_buffers(&mut object);
    }
    object.put("test_start", test_start(view));
    object.build()
}

fn test_start(view: &StartView) -> Json {
    let parameters = &view.parameters;
    let number = |value: Option<i64>| Some(value.unwrap_or(0));
    let mut object = ObjectBuilder::default();
    object.string("protocol", Some(view.protocol()));
    object.integer("num_streams", Some(parameters.streams() as i64));
    object.integer("blksize", Some(parameters.block() as i64));
    object.integer("omit", number(parameters.omit));
    object.integer("duration", number(parameters.time));
    object.integer("bytes", number(parameters.num));
    object.integer("blocks", number(parameters.blockcount));
    object.integer("reverse", Some(parameters.reverse.into()));
    object.integer("tos", number(parameters.tos));
    object.integer("target_bitrate", number(parameters.bandwidth));
    object.integer("bidir", Some(parameters.bidirectional.into()));
    object.integer("fqrate", number(parameters.fqrate));
    object.put("interval", Json::Float(view.interval));
    object.integer(
        "gso",
        Some(parameters.segmentation.map_or(0, |offload| offload.gso)),
    );
    object.integer(
        "gro",
        Some(parameters.segmentation.map_or(0, |offload| offload.gro)),
    );
    object.build()
}

/// `Sun, 22 Nov 2026 23:09:50 GMT`.
pub fn http_date(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds)
        .unwrap_or_default()
        .strftime("%a, %d %b %Y %H:%M:%S GMT")
        .to_string()
}

/// Bytes over seconds in bits a second; 0 where no time passed.
pub fn bits_per_second(bytes: u64, seconds: f64) -> f64 {
    if seconds > 0.0 {
        bytes as f64 * 8.0 / seconds
    } else {
        0.0
    }
}

/// Part of whole in percent; 0 of nothing.
pub fn percent(part: i64, whole: i64) -> f64 {
    if whole > 0 {
        100.0 * part as f64 / whole as f64
    } else {
        0.0
    }
}

struct Span {
    start: f64,
    end: f64,
    seconds: f64,
}

fn put_span(object: &mut ObjectBuilder, span: &Span, bytes: u64, bits: f64) {
    object.put("start", Json::Float(span.start));
    object.put("end", Json::Float(span.end));
    object.put("seconds", Json::Float(span.seconds));
    object.integer("bytes", Some(i64::try_from(bytes).unwrap_or(i64::MAX)));
    object.put("bits_per_second", Json::Float(bits));
}

/// One element of `intervals`.
pub fn interval(start: &StartView, view: &IntervalView) -> Json {
    let span = Span {
        start: view.start,
        end: view.end,
        seconds: view.seconds,
    };
    let streams = view.streams.iter().map(|stream| {
        let sends = start.side.sends(stream.direction);
        let mut object = ObjectBuilder::default();
        object.integer("socket", Some(stream.socket));
        put_span(
            &mut object,
            &span,
            stream.bytes,
            bits_per_second(stream.bytes, span.seconds),
        );
        if let Some(tcp) = stream.tcp.filter(|_| sends) {
            object.integer("retransmits", Some(tcp.retransmits as i64));
            object.integer("snd_cwnd", Some(tcp.snd_cwnd as i64));
            object.integer("snd_wnd", Some(tcp.snd_wnd as i64));
            object.integer("rtt", Some(tcp.rtt.into()));
            object.integer("rttvar", Some(tcp.rttvar.into()));
            object.integer("pmtu", Some(tcp.pmtu.into()));
            object.integer("reorder", Some(tcp.reorder.into()));
        }
        put_datagrams(&mut object, std::slice::from_ref(stream), sends);
        object.put("omitted", Json::Bool(view.omitted));
        object.put("sender", Json::Bool(sends));
        object.build()
    });
    let mut object = ObjectBuilder::default();
    object.put("streams", Json::Array(streams.collect()));
    for direction in start.directions() {
        let sends = start.side.sends(direction);
        let streams: Vec<StreamInterval> = view
            .streams
            .iter()
            .filter(|s| s.direction == direction)
            .cloned()
            .collect();
        let bytes = streams
            .iter()
            .map(|stream| stream.bytes)
            .fold(0, u64::saturating_add);
        let mut sum = ObjectBuilder::default();
        put_span(&mut sum, &span, bytes, bits_per_second(bytes, span.seconds));
        if sends && start.tells_retransmits() && streams.iter().any(|stream| stream.tcp.is_some()) {
            let retransmits: u64 = streams
                .iter()
                .filter_map(|stream| stream.tcp)
                .map(|tcp| tcp.retransmits)
                .fold(0, u64::saturating_add);
            sum.integer(
                "retransmits",
                Some(i64::try_from(retransmits).unwrap_or(i64::MAX)),
            );
        }
        put_datagrams(&mut sum, &streams, sends);
        sum.put("omitted", Json::Bool(view.omitted));
        sum.put("sender", Json::Bool(sends));
        let reverse = start.bidirectional() && direction == Direction::Reverse;
        object.put(if reverse { "sum_bidir_reverse" } else { "sum" }, sum.build());
    }
    object.build()
}

fn put_datagrams(object: &mut ObjectBuilder, streams: &[StreamInterval], sends: bool) {
    let udp: Vec<_> = streams.iter().filter_map(|stream| stream.udp).collect();
    if udp.is_empty() {
        return;
    }
    let packets = udp.iter().map(|udp| udp.packets).fold(0, i64::saturating_add);
    let lost = udp.iter().map(|udp| udp.lost).fold(0, i64::saturating_add);
    if !sends {
        let jitter = udp.iter().map(|udp| udp.jitter).sum::<f64>() / udp.len() as f64;
        object.put("jitter_ms", Json::Float(jitter * 1000.0));
        object.integer("lost_packets", Some(lost));
    }
    object.integer("packets", Some(packets));
    if !sends {
        object.put("lost_percent", Json::Float(percent(lost, packets)));
    }
}
