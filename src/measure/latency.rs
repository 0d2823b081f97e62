//! Latency histograms and the result of a latency test.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hdrhistogram::{
    Histogram,
    serialization::{Deserializer, Serializer as _, V2Serializer},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The lowest value that is told from others, in nanoseconds.
const LOWEST: u64 = 1;
/// The highest value, 60 s in nanoseconds; what is above counts as this and is counted as saturated.
const HIGHEST: u64 = 60_000_000_000;
/// Significant decimal digits.
const DIGITS: u8 = 3;

/// Why a histogram could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum HistogramError {
    /// The library refused the bounds.
    #[error("failed to make a histogram: {0}")]
    Create(#[from] hdrhistogram::CreationError),
    /// Not base64.
    #[error("the histogram is not base64: {0}")]
    Base64(#[from] base64::DecodeError),
    /// Not an HdrHistogram.
    #[error("the histogram is not in HdrHistogram's V2 format: {0}")]
    Decode(String),
    /// Could not be encoded.
    #[error("failed to encode the histogram: {0}")]
    Encode(String),
    /// Could not be added.
    #[error("failed to add a histogram to another: {0}")]
    Add(String),
}

/// A histogram of times in nanoseconds: three significant digits from 1 ns to 60 s (HdrHistogram). Longer times
/// count as 60 s and are counted apart. Serialised as HdrHistogram V2, base64.
#[derive(Debug, Clone, PartialEq)]
pub struct LatencyHistogram {
    inner: Histogram<u64>,
}

impl LatencyHistogram {
    /// An empty one.
    ///
    /// # Errors
    /// Where memory for its 200 KiB can't be laid out.
    pub fn new() -> Result<Self, HistogramError> {
        Ok(Self {
            inner: Histogram::new_with_bounds(LOWEST, HIGHEST, DIGITS)?,
        })
    }

    /// Counts one time in nanoseconds; returns whether it was above 60 s and was counted as that.
    pub fn record(&mut self, nanos: u64) -> bool {
        self.inner.saturating_record(nanos.max(LOWEST));
        nanos > HIGHEST
    }

    /// Adds all of another's counts, without loss.
    ///
    /// # Errors
    /// Where the other has values that this can't hold, which can't be for two made here.
    pub fn add(&mut self, other: &Self) -> Result<(), HistogramError> {
        self.inner
            .add(&other.inner)
            .map_err(|error| HistogramError::Add(format!("{error:?}")))
    }

    /// How many times were counted.
    pub fn count(&self) -> u64 {
        self.inner.len()
    }

    /// The time in nanoseconds at or below which a share `quantile` (0 to 1) of all lie; `None` when empty.
    pub fn quantile(&self, quantile: f64) -> Option<u64> {
        (!self.inner.is_empty()).then(|| self.inner.value_at_quantile(quantile))
    }

    /// The shortest time in nanoseconds; `None` when empty.
    pub fn min(&self) -> Option<u64> {
        (!self.inner.is_empty()).then(|| self.inner.min())
    }

    /// The longest time in nanoseconds; `None` when empty.
    pub fn max(&self) -> Option<u64> {
        (!self.inner.is_empty()).then(|| self.inner.max())
    }

    /// The mean in nanoseconds; `None` when empty.
    pub fn mean(&self) -> Option<f64> {
        (!self.inner.is_empty()).then(|| self.inner.mean())
    }

    /// The histogram beneath, for HdrHistogram's own writers.
    pub const fn inner(&self) -> &Histogram<u64> {
        &self.inner
    }

    /// HdrHistogram V2, base64.
    ///
    /// # Errors
    /// Where the library can't encode it.
    pub fn encode(&self) -> Result<String, HistogramError> {
        let mut bytes = Vec::new();
        V2Serializer::new()
            .serialize(&self.inner, &mut bytes)
            .map_err(|error| HistogramError::Encode(format!("{error:?}")))?;
        Ok(STANDARD.encode(bytes))
    }

    /// Reads what [`Self::encode`] wrote.
    ///
    /// # Errors
    /// Where the text is not base64 or not an HdrHistogram.
    pub fn decode(text: &str) -> Result<Self, HistogramError> {
        let bytes = STANDARD.decode(text)?;
        let read: Histogram<u64> = Deserializer::new()
            .deserialize(&mut bytes.as_slice())
            .map_err(|error| HistogramError::Decode(format!("{error:?}")))?;
        let mut histogram = Self::new()?;
        histogram
            .inner
            .add(&read)
            .map_err(|error| HistogramError::Add(format!("{error:?}")))?;
        Ok(histogram)
    }
}

impl JsonSchema for LatencyHistogram {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "LatencyHistogram".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "contentEncoding": "base64",
            "pattern": "^[A-Za-z0-9+/]+=*$",
            "description": "An HdrHistogram of nanoseconds from 1 to 60000000000, encoded as HdrHistogram V2 and then as base64. The V2 encoding compressed with DEFLATE, which the libraries' encode() functions write, is read too."
        })
    }
}

impl Serialize for LatencyHistogram {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.encode().map_err(serde::ser::Error::custom)?)
    }
}

impl<'de> Deserialize<'de> for LatencyHistogram {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'_, str>::deserialize(deserializer)?;
        Self::decode(&text).map_err(serde::de::Error::custom)
    }
}

/// The result of a latency test.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LatencyResult {
    /// Transactions that were completed in the measured time.
    pub transactions: u64,
    /// Seconds measured, warm-up excluded.
    pub seconds: f64,
    /// Round trip times: from the intended send time where a rate was asked for, else from the send; for
    /// connect/request/response/close, from connect to the response.
    pub latency: LatencyHistogram,
    /// How late requests were sent against the schedule; only where a rate was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub send_lag: Option<LatencyHistogram>,
    /// Times above 60 s, counted as 60 s.
    #[serde(default)]
    pub saturated: u64,
    /// Requests that were due in the measured time and had no answer by its end (and a grace of a second).
    #[serde(default)]
    pub unanswered: u64,
    /// Bytes carried both ways, warm-up included.
    #[serde(default)]
    pub total_bytes: u64,
    /// The address that the answering end saw the requests come from.
    #[serde(default = "super::throughput::unspecified")]
    pub peer_address: std::net::IpAddr,
    /// Path MTU of the last connection in bytes, where the kernel tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_mtu: Option<u32>,
    /// Largest segment of the last connection in bytes, where the kernel tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mss: Option<u32>,
    /// CPU time of this end's process during the test, in seconds: user.
    #[serde(default)]
    pub process_user_seconds: f64,
    /// System part of it.
    #[serde(default)]
    pub process_system_seconds: f64,
}
