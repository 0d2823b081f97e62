//! The `end` object: each stream's totals, and sums over them.

use super::{Span, bits_per_second, percent, put_span};
use crate::{
    iperf3::{
        output::view::{Cpu, EndView, Side, StartView, StreamEnd},
        wire::{
            Transport,
            json::{Json, ObjectBuilder},
        },
    },
    measure::Direction,
};

/// The `end` object.
pub fn end(start: &StartView, view: &EndView) -> Json {
    let udp = start.parameters.transport == Transport::Udp;
    let mut object = ObjectBuilder::default();
    let streams = view.streams.iter().map(|stream| {
        if udp {
            udp_stream(start.side, stream)
        } else {
            tcp_stream(start.side, stream)
        }
    });
    object.put("streams", Json::Array(streams.collect()));
    for direction in start.directions() {
        let suffix = if start.bidirectional() && direction == Direction::Reverse {
            "_bidir_reverse"
        } else {
            ""
        };
        let streams: Vec<&StreamEnd> = view.streams.iter().filter(|s| s.direction == direction).collect();
        if udp {
            put_udp_sums(&mut object, start.side.sends(direction), suffix, &streams);
        } else {
            put_tcp_sums(&mut object, start, direction, suffix, &streams);
        }
    }
    let mut cpu = ObjectBuilder::default();
    let mut put = |prefix: &str, used: Cpu| {
        cpu.put(&format!("{prefix}_total"), Json::Float(used.total));
        cpu.put(&format!("{prefix}_user"), Json::Float(used.user));
        cpu.put(&format!("{prefix}_system"), Json::Float(used.system));
    };
    put("host", view.local_cpu);
    put("remote", view.remote_cpu);
    object.put("cpu_utilization_percent", cpu.build());
    if start.parameters.transport == Transport::Tcp {
        object.string("sender_tcp_congestion", view.sender_congestion.as_deref());
        // A stock server that does both names the sender's alone.
        let receiver = view
            .receiver_congestion
            .as_deref()
            .filter(|_| start.side == Side::Client || !start.bidirectional());
        object.string("receiver_tcp_congestion", receiver);
    }
    object.build()
}

fn tcp_stream(side: Side, stream: &StreamEnd) -> Json {
    let sends = side.sends(stream.direction);
    let local = if sends {
        stream.sent_seconds
    } else {
        stream.received_seconds
    };
    let mut sender = ObjectBuilder::default();
    sender.integer("socket", Some(stream.socket));
    let span = |end: f64, seconds: f64| Span {
        start: 0.0,
        end,
        seconds,
    };
    let bits = bits_per_second(stream.sent, stream.sent_seconds);
    put_span(
        &mut sender,
        &span(stream.sent_seconds, stream.sent_seconds),
        stream.sent,
        bits,
    );
    if let Some(tcp) = stream.tcp {
        sender.integer("retransmits", Some(tcp.retransmits as i64));
        sender.integer("reorder", Some(tcp.reorder.into()));
        sender.integer("max_snd_cwnd", Some(tcp.max_snd_cwnd as i64));
        sender.integer("max_snd_wnd", Some(tcp.max_snd_wnd as i64));
        sender.integer("max_rtt", Some(tcp.max_rtt.into()));
        sender.integer("min_rtt", Some(tcp.min_rtt.into()));
        sender.integer("mean_rtt", Some(tcp.mean_rtt.into()));
    }
    sender.put("sender", Json::Bool(sends));
    let mut receiver = ObjectBuilder::default();
    receiver.integer("socket", Some(stream.socket));
    let bits = bits_per_second(stream.received, stream.received_seconds);
    put_span(
        &mut receiver,
        &span(stream.received_seconds, local),
        stream.received,
        bits,
    );
    receiver.put("sender", Json::Bool(sends));
    let mut object = ObjectBuilder::default();
    object.put("sender", sender.build());
    if let Some(file) = &stream.file {
        let mut disk = ObjectBuilder::default();
        disk.integer("sent", Some(stream.sent as i64));
        disk.integer("received", Some(stream.received as i64));
        disk.integer("size", Some(file.size as i64));
        disk.integer(
            "percent_sent",
            Some(percent(stream.sent as i64, file.size as i64) as i64),
        );
        disk.integer(
            "percent_received",
            Some(percent(stream.received as i64, file.size as i64) as i64),
        );
        disk.string("filename", Some(&file.name));
        object.put("diskfile", disk.build());
    }
    object.put("receiver", receiver.build());
    object.build()
}

fn longest(streams: &[&StreamEnd], seconds: impl Fn(&StreamEnd) -> f64) -> f64 {
    streams.iter().map(|stream| seconds(stream)).fold(0.0, f64::max)
}

fn put_tcp_sums(
    object: &mut ObjectBuilder,
    start: &StartView,
    direction: Direction,
    suffix: &str,
    streams: &[&StreamEnd],
) {
    let sends = start.side.sends(direction);
    let whole = |seconds: f64| Span {
        start: 0.0,
        end: seconds,
        seconds,
    };
    let sent = streams
        .iter()
        .map(|stream| stream.sent)
        .fold(0, u64::saturating_add);
    let seconds = longest(streams, |stream| stream.sent_seconds);
    let mut sum = ObjectBuilder::default();
    put_span(&mut sum, &whole(seconds), sent, bits_per_second(sent, seconds));
    if start.tells_retransmits() && streams.iter().any(|stream| stream.tcp.is_some()) {
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
    sum.put("sender", Json::Bool(sends));
    object.put(&format!("sum_sent{suffix}"), sum.build());
    let received = streams
        .iter()
        .map(|stream| stream.received)
        .fold(0, u64::saturating_add);
    let seconds = longest(streams, |stream| stream.received_seconds);
    let mut sum = ObjectBuilder::default();
    put_span(
        &mut sum,
        &whole(seconds),
        received,
        bits_per_second(received, seconds),
    );
    sum.put("sender", Json::Bool(sends));
    object.put(&format!("sum_received{suffix}"), sum.build());
}

fn put_loss(object: &mut ObjectBuilder, jitter: f64, lost: i64, packets: i64) {
    object.put("jitter_ms", Json::Float(jitter * 1000.0));
    object.integer("lost_packets", Some(lost));
    object.integer("packets", Some(packets));
    object.put("lost_percent", Json::Float(percent(lost, packets)));
}

fn udp_stream(side: Side, stream: &StreamEnd) -> Json {
    let udp = stream.udp.unwrap_or_default();
    let mut object = ObjectBuilder::default();
    object.integer("socket", Some(stream.socket));
    let span = Span {
        start: 0.0,
        end: stream.sent_seconds,
        seconds: stream.sent_seconds,
    };
    put_span(
        &mut object,
        &span,
        stream.sent,
        bits_per_second(stream.sent, stream.sent_seconds),
    );
    put_loss(
        &mut object,
        udp.jitter,
        udp.lost,
        if udp.sent > 0 { udp.sent } else { udp.received },
    );
    object.integer("out_of_order", Some(udp.out_of_order));
    object.put("sender", Json::Bool(side.sends(stream.direction)));
    let mut outer = ObjectBuilder::default();
    outer.put("udp", object.build());
    outer.build()
}

fn put_udp_sums(object: &mut ObjectBuilder, sends: bool, suffix: &str, streams: &[&StreamEnd]) {
    let udp: Vec<_> = streams.iter().filter_map(|stream| stream.udp).collect();
    let sent = streams
        .iter()
        .map(|stream| stream.sent)
        .fold(0, u64::saturating_add);
    let received = streams
        .iter()
        .map(|stream| stream.received)
        .fold(0, u64::saturating_add);
    let (packets_sent, packets_received): (i64, i64) = (
        udp.iter().map(|udp| udp.sent).fold(0, i64::saturating_add),
        udp.iter().map(|udp| udp.received).fold(0, i64::saturating_add),
    );
    let lost = udp.iter().map(|udp| udp.lost).fold(0, i64::saturating_add);
    let jitter = udp.iter().map(|udp| udp.jitter).sum::<f64>() / udp.len().max(1) as f64;
    let sent_seconds = longest(streams, |stream| stream.sent_seconds);
    let received_seconds = longest(streams, |stream| stream.received_seconds);
    let packets = if packets_sent > 0 {
        packets_sent
    } else {
        packets_received
    };
    let whole = |seconds: f64| Span {
        start: 0.0,
        end: seconds,
        seconds,
    };
    // The sender's bytes over the receiver's time: that is what stock does.
    let mut sum = ObjectBuilder::default();
    put_span(
        &mut sum,
        &whole(received_seconds),
        sent,
        bits_per_second(sent, sent_seconds),
    );
    put_loss(&mut sum, jitter, lost, packets);
    sum.put("sender", Json::Bool(sends));
    object.put(&format!("sum{suffix}"), sum.build());
    let mut sum = ObjectBuilder::default();
    put_span(
        &mut sum,
        &whole(sent_seconds),
        sent,
        bits_per_second(sent, sent_seconds),
    );
    put_loss(&mut sum, 0.0, 0, packets_sent);
    sum.put("sender", Json::Bool(true));
    object.put(&format!("sum_sent{suffix}"), sum.build());
    let mut sum = ObjectBuilder::default();
    put_span(
        &mut sum,
        &whole(received_seconds),
        received,
        bits_per_second(received, received_seconds),
    );
    put_loss(&mut sum, jitter, lost, packets_received);
    sum.put("sender", Json::Bool(false));
    object.put(&format!("sum_received{suffix}"), sum.build());
}
