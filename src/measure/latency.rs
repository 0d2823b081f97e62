//! Latency histograms and the result of a latency test.

mod packed;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hdrhistogram::{
    Histogram,
    serialization::{Deserializer, Serializer as _, V2Serializer},
};
use packed::Packed;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

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
///
/// While times are recorded it is HdrHistogram's own, which has a place for every value (200 KiB). Read from a trial
/// log it holds only what was counted, some KiB, so that a run of 10,000 trials fits into memory.
#[derive(Debug, Clone)]
pub struct LatencyHistogram {
    inner: Inner,
}

#[derive(Debug, Clone)]
enum Inner {
    Whole(Histogram<u64>),
    Packed(Packed),
}

impl PartialEq for LatencyHistogram {
    fn eq(&self, other: &Self) -> bool {
        self.counts() == other.counts()
    }
}

impl LatencyHistogram {
    /// An empty one.
    ///
    /// # Errors
    /// Where memory for its 200 KiB can't be laid out.
    pub fn new() -> Result<Self, HistogramError> {
        Ok(Self {
            inner: Inner::Whole(Histogram::new_with_bounds(LOWEST, HIGHEST, DIGITS)?),
        })
    }

    /// Counts one time in nanoseconds; returns whether it was above 60 s and was counted as that.
    pub fn record(&mut self, nanos: u64) -> bool {
        if let Inner::Packed(packed) = &self.inner
            && let Ok(whole) = packed.unpack()
        {
            self.inner = Inner::Whole(whole);
        }
        if let Inner::Whole(whole) = &mut self.inner {
            whole.saturating_record(nanos.max(LOWEST));
        }
        nanos > HIGHEST
    }

    /// Adds all of another's counts, without loss.
    ///
    /// # Errors
    /// Where the other has values that this can't hold, which can't be for two made here.
    pub fn add(&mut self, other: &Self) -> Result<(), HistogramError> {
        if let Inner::Packed(packed) = &self.inner {
            self.inner = Inner::Whole(packed.unpack()?);
        }
        let Inner::Whole(whole) = &mut self.inner else {
            return Ok(());
        };
        match &other.inner {
            Inner::Whole(other) => whole
                .add(other)
                .map_err(|error| HistogramError::Add(format!("{error:?}"))),
            Inner::Packed(other) => other.add_to(whole),
        }
    }

    /// The same counts in as little memory as they need: for what is kept and not recorded into.
    #[must_use]
    pub fn packed(self) -> Self {
        match self.inner {
            Inner::Whole(_) => Self {
                inner: Inner::Packed(Packed::new(self.counts())),
            },
            Inner::Packed(_) => self,
        }
    }

    /// How many times were counted.
    pub fn count(&self) -> u64 {
        match &self.inner {
            Inner::Whole(whole) => whole.len(),
            Inner::Packed(packed) => packed.total(),
        }
    }

    /// The time in nanoseconds at or below which a share `quantile` (0 to 1) of all lie; `None` when empty.
    pub fn quantile(&self, quantile: f64) -> Option<u64> {
        match &self.inner {
            Inner::Whole(whole) => (!whole.is_empty()).then(|| whole.value_at_quantile(quantile)),
            Inner::Packed(packed) => packed.quantile(quantile),
        }
    }

    /// The shortest time in nanoseconds; `None` when empty.
    pub fn min(&self) -> Option<u64> {
        match &self.inner {
            Inner::Whole(whole) => (!whole.is_empty()).then(|| whole.min()),
            Inner::Packed(packed) => packed.quantile(0.0),
        }
    }

    /// The longest time in nanoseconds; `None` when empty.
    pub fn max(&self) -> Option<u64> {
        match &self.inner {
            Inner::Whole(whole) => (!whole.is_empty()).then(|| whole.max()),
            Inner::Packed(packed) => packed.quantile(1.0),
        }
    }

    /// The mean in nanoseconds; `None` when empty.
    pub fn mean(&self) -> Option<f64> {
        match &self.inner {
            Inner::Whole(whole) => (!whole.is_empty()).then(|| whole.mean()),
            Inner::Packed(packed) => packed
                .unpack()
                .ok()
                .filter(|whole| !whole.is_empty())
                .map(|whole| whole.mean()),
        }
    }

    /// HdrHistogram's own histogram, for its writers.
    ///
    /// # Errors
    /// Where memory for its 200 KiB can't be laid out.
    pub fn whole(&self) -> Result<Cow<'_, Histogram<u64>>, HistogramError> {
        Ok(match &self.inner {
            Inner::Whole(whole) => Cow::Borrowed(whole),
            Inner::Packed(packed) => Cow::Owned(packed.unpack()?),
        })
    }

    /// Every value that was counted, with how often; a value is the highest of those that are told as one.
    fn counts(&self) -> Vec<(u64, u64)> {
        match &self.inner {
            Inner::Whole(whole) => whole
                .iter_recorded()
                .map(|step| (step.value_iterated_to(), step.count_since_last_iteration()))
                .collect(),
            Inner::Packed(packed) => packed.counts().collect(),
        }
    }

    /// HdrHistogram V2, base64.
    ///
    /// # Errors
    /// Where the library can't encode it.
    pub fn encode(&self) -> Result<String, HistogramError> {
        let mut bytes = Vec::new();
        V2Serializer::new()
            .serialize(self.whole()?.as_ref(), &mut bytes)
            .map_err(|error| HistogramError::Encode(format!("{error:?}")))?;
        Ok(STANDARD.encode(bytes))
    }

    /// Reads what [`Self::encode`] wrote, or what other HdrHistogram libraries write in V2, DEFLATE or not.
    ///
    /// # Errors
    /// Where the text is not base64 or not an HdrHistogram, or has values above 60 s.
    pub fn decode(text: &str) -> Result<Self, HistogramError> {
        let bytes = STANDARD.decode(text)?;
        if let Some(packed) = Packed::decode(&bytes) {
            return Ok(Self {
                inner: Inner::Packed(packed),
            });
        }
        let read: Histogram<u64> = Deserializer::new()
            .deserialize(&mut bytes.as_slice())
            .map_err(|error| HistogramError::Decode(format!("{error:?}")))?;
        // Of other bounds or digits: put into ours.
        let mut whole = Histogram::new_with_bounds(LOWEST, HIGHEST, DIGITS)?;
        whole
            .add(&read)
            .map_err(|error| HistogramError::Add(format!("{error:?}")))?;
        let packed = whole
            .iter_recorded()
            .map(|step| (step.value_iterated_to(), step.count_since_last_iteration()));
        Ok(Self {
            inner: Inner::Packed(Packed::new(packed.collect())),
        })
    }
}

impl JsonSchema for LatencyHistogram {
    fn schema_name() -> Cow<'static, str> {
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
        let text = Cow::<'_, str>::deserialize(deserializer)?;
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
