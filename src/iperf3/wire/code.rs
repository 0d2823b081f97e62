//! iperf3's error numbers (`i_errno`), which a server sends in SERVER_ERROR frames, and their texts.

use std::{fmt, io};

/// An iperf3 error number with the system's error number beside it (0: none).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ErrorCode {
    /// iperf3's number, as in its `iperf_api.h`.
    pub code: i32,
    /// The `errno` of the host where it happened, 0 if none.
    pub errno: i32,
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $number:literal;)*) => {
        impl ErrorCode {
            $($(#[$doc])* pub const $name: i32 = $number;)*
        }
    };
}

codes! {
    /// Test duration out of range.
    DURATION = 5;
    /// Too many streams.
    STREAMS = 6;
    /// Block size out of range.
    BLOCK_SIZE = 7;
    /// Socket buffer size out of range.
    BUFFER_SIZE = 8;
    /// MSS out of range.
    MSS = 10;
    /// Omit out of range.
    OMIT = 12;
    /// Not implemented by this peer.
    UNIMPLEMENTED = 13;
    /// The file of `-F` could not be opened.
    FILE = 14;
    /// Burst out of range.
    BURST = 15;
    /// The kernel has no SCTP.
    NO_SCTP = 18;
    /// UDP block size out of range.
    UDP_BLOCK_SIZE = 20;
    /// TOS out of range.
    TOS = 21;
    /// Asked-for rate is above the server's limit.
    TOTAL_RATE = 27;
    /// A file can't go by UDP.
    UDP_FILE = 34;
    /// Longer than the server allows.
    MAX_DURATION = 37;
    /// Cookie not received.
    RECEIVE_COOKIE = 106;
    /// Control connection closed.
    CONTROL_CLOSED = 109;
    /// Unknown state byte.
    MESSAGE = 110;
    /// Parameters not received.
    RECEIVE_PARAMETERS = 114;
    /// Results not received.
    RECEIVE_RESULTS = 117;
    /// The client was interrupted.
    CLIENT_TERMINATED = 119;
    /// The server was interrupted.
    SERVER_TERMINATED = 120;
    /// The server is busy.
    ACCESS_DENIED = 121;
    /// NODELAY could not be set.
    SET_NODELAY = 122;
    /// MSS could not be set.
    SET_MSS = 123;
    /// TOS could not be set.
    TOS_NOT_SET = 125;
    /// Protocol not available.
    PROTOCOL = 131;
    /// CPU affinity could not be set.
    AFFINITY = 132;
    /// Congestion control could not be set.
    CONGESTION = 134;
    /// The number of SCTP streams could not be set.
    SCTP_STREAMS = 138;
    /// An address of a multihomed SCTP socket could not be had.
    SCTP_ADDRESSES = 139;
    /// The kernel did not give the asked-for socket buffer.
    BUFFER_NOT_GIVEN = 141;
    /// Authentication failed.
    AUTHENTICATION = 142;
    /// No data for the receive timeout.
    NO_DATA = 144;
    /// The test overstayed.
    DURATION_EXPIRED = 160;
    /// A stream could not be made.
    CREATE_STREAM = 200;
    /// A stream could not be set up.
    INIT_STREAM = 201;
    /// A stream's listener could not be made.
    STREAM_LISTEN = 202;
    /// A stream could not be accepted.
    STREAM_ACCEPT = 204;
    /// Writing to a stream failed.
    STREAM_WRITE = 205;
    /// Reading from a stream failed.
    STREAM_READ = 206;
    /// Results name an unknown stream.
    STREAM_ID = 208;
}

impl ErrorCode {
    /// A code without an `errno`.
    pub const fn new(code: i32) -> Self {
        Self { code, errno: 0 }
    }

    /// A code with the `errno` of what the system said.
    pub fn with_source(code: i32, error: &io::Error) -> Self {
        Self {
            code,
            errno: error.raw_os_error().unwrap_or(0),
        }
    }

    /// The text as iperf3 prints it, and whether the system's error text follows a colon.
    pub const fn text(self) -> (&'static str, bool) {
        match self.code {
            0 => ("no error", false),
            1 => ("cannot be both server and client", false),
            2 => ("must either be a client (-c) or server (-s)", false),
            3 => ("some option you are trying to set is server only", false),
            4 => ("some option you are trying to set is client only", false),
            5 => ("test duration valid values are 0 to 86400 seconds", false),
            6 => ("number of parallel streams too large (maximum = 128)", false),
            7 => (
                "block size invalid (minimum = 1 bytes, maximum = 1048576 bytes)",
                false,
            ),
            8 => ("socket buffer size too large (maximum = 536870912 bytes)", false),
            9 => ("invalid report interval (min = 0.1, max = 60.0 seconds)", false),
            10 => ("TCP MSS too large (maximum = 32767 bytes)", false),
            11 => ("this OS does not support sendfile", false),
            12 => ("bogus value for --omit", false),
            13 => ("an option you are trying to set is not implemented yet", false),
            14 => ("unable to open -F file", true),
            15 => ("invalid burst count (maximum = 1000)", false),
            16 => ("only one test end condition (-t, -n, -k) may be specified", false),
            17 => ("unable to open log file", true),
            18 => ("no SCTP support available", false),
            20 => (
                "block size invalid (minimum = 16 bytes, maximum = 65507 bytes)",
                false,
            ),
            21 => ("bad TOS value (must be between 0 and 255 inclusive)", false),
            22 => (
                "you must specify a username, password, and path to a valid RSA public key",
                false,
            ),
            23 => (
                "you must specify a path to a valid RSA private key and a user credential file",
                false,
            ),
            24 => (
                "bad format specifier (valid formats are in the set [kmgtKMGT])",
                false,
            ),
            25 => ("cannot be both reverse and bidirectional", false),
            26 => ("port number must be between 1 and 65535 inclusive", false),
            27 => ("total required bandwidth is larger than server limit", false),
            28 => (
                "bitrate limit interval must be a number of seconds between 0.1 and 60 inclusive",
                false,
            ),
            29 => ("skew threshold must be a positive number", false),
            30 => (
                "idle timeout parameter is not positive or larger than allowed limit",
                false,
            ),
            31 => ("receive timeout value is incorrect or not in range", true),
            32 => ("client receive timeout is valid only in receiving mode", true),
            33 => ("send timeout value is incorrect or not in range", true),
            34 => ("file transfer is not supported over UDP", false),
            35 => ("unable to read the authorized users file", false),
            36 => (
                "control connection keepalive period should be larger than the full retry period (interval * count)",
                true,
            ),
            37 => (
                "client's requested duration exceeds the server's maximum permitted limit",
                false,
            ),
            38 => ("invalid unit value or suffix", false),
            39 => ("skip-rx-copy is not supported", false),
            40 => ("bad DSCP value", false),
            100 => ("unable to create a new test", true),
            101 => ("test initialization failed", true),
            102 => ("unable to start listener for connections", true),
            103 => (
                "unable to connect to server - server may have stopped running or use a different port, firewall issue, etc.",
                true,
            ),
            104 => ("unable to accept connection from client", true),
            105 => ("unable to send cookie to server", true),
            106 => ("unable to receive cookie at server", true),
            107 => ("unable to write to the control socket", true),
            108 => ("unable to read from the control socket", true),
            109 => ("control socket has closed unexpectedly", false),
            110 => (
                "received an unknown control message (ensure other side is iperf3 and not iperf)",
                false,
            ),
            111 => (
                "unable to send control message - port may not be available, the other side may have stopped running, etc.",
                true,
            ),
            112 => (
                "unable to receive control message - port may not be available, the other side may have stopped running, etc.",
                true,
            ),
            113 => ("unable to send parameters to server", true),
            114 => ("unable to receive parameters from client", true),
            115 => ("unable to package results", true),
            116 => ("unable to send results", true),
            117 => ("unable to receive results", true),
            118 => ("select failed", true),
            119 => ("the client has terminated", false),
            120 => ("the server has terminated", false),
            121 => ("the server is busy running a test. try again later", false),
            122 => ("unable to set TCP/SCTP NODELAY", true),
            123 => ("unable to set TCP/SCTP MSS", true),
            124 => ("unable to set socket buffer size", true),
            125 => ("unable to set IP TOS", true),
            126 => ("unable to set IPv6 traffic class", true),
            127 => ("unable to set IPv6 flow label", false),
            128 => ("unable to reuse address on socket", true),
            129 => ("unable to set socket to non-blocking", true),
            130 => ("unable to set socket window size", true),
            131 => ("protocol does not exist", false),
            132 => ("unable to set CPU affinity", true),
            133 => ("unable to become a daemon", true),
            134 => (
                "unable to set TCP_CONGESTION: Supplied congestion control algorithm not supported on this host",
                false,
            ),
            135 => ("unable to write PID file", true),
            136 => ("unable to set/reset IPV6_V6ONLY", true),
            137 => ("unable to set SCTP_DISABLE_FRAGMENTS", true),
            138 => ("unable to set SCTP_INIT num of SCTP streams", true),
            139 => ("unable to process sctp_bindx() parameters", false),
            140 => ("unable to set socket pacing", true),
            141 => ("socket buffer size not set correctly", false),
            142 => ("test authorization failed", false),
            143 => ("unable to bind to the device", true),
            144 => ("idle timeout for receiving data", false),
            145 => ("unable to set IP Do-Not-Fragment flag", false),
            147 => (
                "%<dev> is not supported as system does not support bind to device",
                false,
            ),
            148 => ("unable to set TCP USER_TIMEOUT", true),
            150 => ("unable to create thread", true),
            151 => ("unable to cancel thread", true),
            152 => ("unable to join thread", true),
            153 => ("unable to initialize thread attributes", true),
            154 => ("unable to destroy thread attributes", true),
            155..=158 => (
                "unable to set the keepalive options of the control connection",
                true,
            ),
            159 => ("unable to set the signal mask", true),
            160 => ("server test duration expired", false),
            200 => ("unable to create a new stream", true),
            201 => ("unable to initialize stream", true),
            202 => ("unable to start stream listener", true),
            203 => ("unable to connect stream", true),
            204 => ("unable to accept stream connection", true),
            205 => ("unable to write to stream socket", true),
            206 => ("unable to read from stream socket", true),
            207 => ("stream socket has closed unexpectedly", false),
            208 => ("stream has an invalid id", false),
            300 => ("unable to create new timer", true),
            301 => ("unable to update timer", true),
            _ => ("unknown error", false),
        }
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (text, system) = self.text();
        f.write_str(text)?;
        if system && self.errno != 0 {
            let full = io::Error::from_raw_os_error(self.errno).to_string();
            let reason = full.split(" (os error").next().unwrap_or(&full);
            write!(f, ": {reason}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_iperf3s() {
        assert_eq!(
            ErrorCode::new(27).to_string(),
            "total required bandwidth is larger than server limit"
        );
        assert_eq!(
            ErrorCode {
                code: 117,
                errno: 104
            }
            .to_string(),
            "unable to receive results: Connection reset by peer"
        );
        assert_eq!(
            ErrorCode {
                code: 142,
                errno: 104
            }
            .to_string(),
            "test authorization failed"
        );
        assert_eq!(ErrorCode::new(-7).to_string(), "unknown error");
    }
}
