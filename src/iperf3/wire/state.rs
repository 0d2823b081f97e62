//! The state bytes of the control connection.

use std::fmt;

/// A state: one signed byte on the control connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(i8)]
pub enum State {
    /// Server: all streams are there; start counters and timers.
    TestStart = 1,
    /// Server: data may flow.
    TestRunning = 2,
    /// Client: the test is over.
    TestEnd = 4,
    /// Server: send the parameters.
    ParamExchange = 9,
    /// Server: parameters accepted, connect the streams.
    CreateStreams = 10,
    /// Server: it was interrupted.
    ServerTerminate = 11,
    /// Client: it was interrupted.
    ClientTerminate = 12,
    /// Server: send your results, mine follow.
    ExchangeResults = 13,
    /// Server: results are complete.
    DisplayResults = 14,
    /// Client: finished.
    IperfDone = 16,
    /// Server: busy, or a wrong cookie.
    AccessDenied = -1,
    /// Server: an error; two ints follow (one before 3.19 for failed authentication).
    ServerError = -2,
}

impl State {
    /// The state of a byte, `None` for reserved and unknown ones.
    pub const fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte.cast_signed() {
            1 => Self::TestStart,
            2 => Self::TestRunning,
            4 => Self::TestEnd,
            9 => Self::ParamExchange,
            10 => Self::CreateStreams,
            11 => Self::ServerTerminate,
            12 => Self::ClientTerminate,
            13 => Self::ExchangeResults,
            14 => Self::DisplayResults,
            16 => Self::IperfDone,
            -1 => Self::AccessDenied,
            -2 => Self::ServerError,
            _ => return None,
        })
    }

    /// The byte on the wire.
    pub const fn byte(self) -> u8 {
        (self as i8).cast_unsigned()
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TestStart => "TEST_START",
            Self::TestRunning => "TEST_RUNNING",
            Self::TestEnd => "TEST_END",
            Self::ParamExchange => "PARAM_EXCHANGE",
            Self::CreateStreams => "CREATE_STREAMS",
            Self::ServerTerminate => "SERVER_TERMINATE",
            Self::ClientTerminate => "CLIENT_TERMINATE",
            Self::ExchangeResults => "EXCHANGE_RESULTS",
            Self::DisplayResults => "DISPLAY_RESULTS",
            Self::IperfDone => "IPERF_DONE",
            Self::AccessDenied => "ACCESS_DENIED",
            Self::ServerError => "SERVER_ERROR",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_one_state_or_none() {
        let known: Vec<u8> = (0..=255)
            .filter(|byte| State::from_byte(*byte).is_some())
            .collect();
        assert_eq!(known, [1, 2, 4, 9, 10, 11, 12, 13, 14, 16, 0xfe, 0xff]);
        for byte in known {
            assert_eq!(State::from_byte(byte).unwrap().byte(), byte);
        }
    }
}
