//! The results document, both ways.

use super::json::{Json, ObjectBuilder};

/// The id of the `index`th stream (from 0) in results: 1, 3, 4, 5, … (2 is skipped, as iperf3 does for
/// compatibility's sake).
pub const fn stream_id(index: usize) -> i64 {
    if index == 0 { 1 } else { index as i64 + 2 }
}

/// One side's results.
#[derive(Debug, Clone, PartialEq)]
pub struct Results {
    /// CPU time of that side's process, all modes, in percent of wall time.
    pub cpu_total: f64,
    /// The user part of it.
    pub cpu_user: f64,
    /// The system part of it.
    pub cpu_system: f64,
    /// 1 if that side sends and knows its retransmits, 0 if it doesn't know, -1 if it only receives.
    pub sender_has_retransmits: i64,
    /// The congestion control in use, read back.
    pub congestion_used: Option<String>,
    /// The server's report as text.
    pub server_output_text: Option<String>,
    /// The server's report as JSON.
    pub server_output_json: Option<Json>,
    /// One for each stream.
    pub streams: Vec<StreamReport>,
}

/// One stream in one side's results.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StreamReport {
    /// The stream's id: see [`stream_id`].
    pub id: i64,
    /// Bytes sent or received, without omit.
    pub bytes: i64,
    /// Retransmitted segments, without omit; -1 if unknown.
    pub retransmits: i64,
    /// Jitter in seconds; 0 for TCP.
    pub jitter: f64,
    /// Lost datagrams, with omit.
    pub errors: i64,
    /// Of them, in omit (3.14).
    pub omitted_errors: Option<i64>,
    /// Datagrams, with omit; 0 for TCP.
    pub packets: i64,
    /// Of them, in omit (3.14).
    pub omitted_packets: Option<i64>,
    /// Always 0 (3.2).
    pub start_time: Option<f64>,
    /// Seconds measured (3.2).
    pub end_time: Option<f64>,
}

/// Why a results document was refused.
#[derive(Debug, thiserror::Error)]
pub enum ResultsError {
    /// It is no JSON.
    #[error("results are no JSON")]
    Syntax(#[source] serde_json::Error),
    /// A key that stock requires is absent or of the wrong type.
    #[error("results lack `{0}`")]
    Missing(&'static str),
    /// One of `omitted_errors` and `omitted_packets` is there without the other.
    #[error("results have only one of `omitted_errors` and `omitted_packets`")]
    OmittedAlone,
}

impl Results {
    /// The document, keys in stock's order.
    pub fn encode(&self) -> String {
        let mut object = ObjectBuilder::default();
        object.put("cpu_util_total", Json::Float(self.cpu_total));
        object.put("cpu_util_user", Json::Float(self.cpu_user));
        object.put("cpu_util_system", Json::Float(self.cpu_system));
        object.integer("sender_has_retransmits", Some(self.sender_has_retransmits));
        object.string("congestion_used", self.congestion_used.as_deref());
        object.string("server_output_text", self.server_output_text.as_deref());
        if let Some(output) = &self.server_output_json {
            object.put("server_output_json", output.clone());
        }
        object.put(
            "streams",
            Json::Array(self.streams.iter().map(|stream| stream.to_json()).collect()),
        );
        let mut out = String::new();
        object.build().write(&mut out);
        out
    }

    /// Reads a document.
    ///
    /// # Errors
    /// When it is no JSON or lacks what stock requires.
    pub fn decode(bytes: &[u8]) -> Result<Self, ResultsError> {
        let json = Json::parse(bytes).map_err(ResultsError::Syntax)?;
        let string = |key| json.get(key).and_then(Json::string).map(str::to_owned);
        let streams = json
            .get("streams")
            .and_then(Json::array)
            .ok_or(ResultsError::Missing("streams"))?;
        Ok(Self {
            cpu_total: float(&json, "cpu_util_total")?.clamp(0.0, CPU_LIMIT),
            cpu_user: float(&json, "cpu_util_user")?.clamp(0.0, CPU_LIMIT),
            cpu_system: float(&json, "cpu_util_system")?.clamp(0.0, CPU_LIMIT),
            sender_has_retransmits: integer(&json, "sender_has_retransmits")?,
            congestion_used: string("congestion_used"),
            server_output_text: string("server_output_text"),
            server_output_json: json.get("server_output_json").cloned(),
            streams: streams
                .iter()
                .map(StreamReport::from_json)
                .collect::<Result<_, _>>()?,
        })
    }

    /// The report of a stream.
    pub fn stream(&self, id: i64) -> Option<&StreamReport> {
        self.streams.iter().find(|stream| stream.id == id)
    }
}

/// What a peer can have used, in percent: beyond it is nonsense, which would only be carried into sums.
const CPU_LIMIT: f64 = 1e6;

/// What a time of a test can be, in seconds.
const TIME_LIMIT: f64 = 1e9;

fn integer(json: &Json, key: &'static str) -> Result<i64, ResultsError> {
    json.get(key)
        .and_then(Json::integer)
        .ok_or(ResultsError::Missing(key))
}

fn float(json: &Json, key: &'static str) -> Result<f64, ResultsError> {
    json.get(key)
        .and_then(Json::float)
        .ok_or(ResultsError::Missing(key))
}

impl StreamReport {
    /// A report of a TCP stream.
    pub const fn tcp(id: i64, bytes: i64, retransmits: i64, seconds: f64) -> Self {
        Self {
            id,
            bytes,
            retransmits,
            jitter: 0.0,
            errors: 0,
            omitted_errors: Some(0),
            packets: 0,
            omitted_packets: Some(0),
            start_time: Some(0.0),
            end_time: Some(seconds),
        }
    }

    fn to_json(self) -> Json {
        let mut object = ObjectBuilder::default();
        object.integer("id", Some(self.id));
        object.integer("bytes", Some(self.bytes));
        object.integer("retransmits", Some(self.retransmits));
        object.put("jitter", Json::Float(self.jitter));
        object.integer("errors", Some(self.errors));
        object.integer("omitted_errors", self.omitted_errors);
        object.integer("packets", Some(self.packets));
        object.integer("omitted_packets", self.omitted_packets);
        if let Some(start) = self.start_time {
            object.put("start_time", Json::Float(start));
        }
        if let Some(end) = self.end_time {
            object.put("end_time", Json::Float(end));
        }
        object.build()
    }

    fn from_json(json: &Json) -> Result<Self, ResultsError> {
        let optional = |key| json.get(key).and_then(Json::integer);
        let time = |key| {
            let time = json.get(key).and_then(Json::float)?;
            Some(time.clamp(-TIME_LIMIT, TIME_LIMIT))
        };
        let report = Self {
            id: integer(json, "id")?,
            bytes: integer(json, "bytes")?,
            retransmits: integer(json, "retransmits")?,
            jitter: float(json, "jitter")?.clamp(0.0, TIME_LIMIT),
            errors: integer(json, "errors")?,
            omitted_errors: optional("omitted_errors"),
            packets: integer(json, "packets")?,
            omitted_packets: optional("omitted_packets"),
            start_time: time("start_time"),
            end_time: time("end_time"),
        };
        if report.omitted_errors.is_some() == report.omitted_packets.is_some() {
            Ok(report)
        } else {
            Err(ResultsError::OmittedAlone)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ids_skip_two() {
        assert_eq!((0..5).map(stream_id).collect::<Vec<_>>(), [1, 3, 4, 5, 6]);
    }

    #[test]
    fn what_stock_requires_is_required() {
        let whole = Results {
            cpu_total: 1.5,
            cpu_user: 0.5,
            cpu_system: 1.0,
            sender_has_retransmits: 1,
            congestion_used: Some("cubic".into()),
            server_output_text: None,
            server_output_json: None,
            streams: vec![StreamReport::tcp(1, 4096, 2, 1.25)],
        };
        let text = whole.encode();
        assert_eq!(Results::decode(text.as_bytes()).unwrap(), whole);
        for key in [
            "cpu_util_total",
            "cpu_util_user",
            "sender_has_retransmits",
            "streams",
            "id",
            "bytes",
            "jitter",
            "packets",
        ] {
            let broken = text.replace(&format!("\"{key}\""), "\"other\"");
            assert!(Results::decode(broken.as_bytes()).is_err(), "{key}");
        }
        assert!(Results::decode(text.replace("\"omitted_errors\"", "\"other\"").as_bytes()).is_err());
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Results::decode(&bytes);
        }
    }
}
