//! The engine's errors in iperf3's words.

use crate::iperf3::{
    ConnectError, SCTP_ADVICE,
    client::ClientError,
    server::TestError,
    wire::{ErrorCode, client, server},
};
use crate::traffic::stream::End;
use std::{error::Error, io};

fn code(number: i32) -> String {
    ErrorCode::new(number).to_string()
}

fn with_source(number: i32, error: &io::Error) -> String {
    ErrorCode::with_source(number, error).to_string()
}

/// An error with its causes.
pub(super) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

fn connect(number: i32, error: &ConnectError) -> String {
    match error {
        ConnectError::Failed(_, source) => with_source(number, source),
        ConnectError::Timeout(..) => ErrorCode {
            code: number,
            errno: libc::ETIMEDOUT,
        }
        .to_string(),
        ConnectError::Window { .. } => format!("{}: {error}", code(ErrorCode::BUFFER_NOT_GIVEN)),
        ConnectError::NoTransport("SCTP", _) => format!("{}: {error}", code(ErrorCode::NO_SCTP)),
        // Of a flow label stock says no more either, also where the server has an IPv4 address.
        ConnectError::Option { code, .. } => code.to_string(),
        other => chain(other),
    }
}

/// What a client prints after `iperf3: `, line by line.
pub(super) fn of_client(error: &ClientError) -> Vec<String> {
    let text = match error {
        ClientError::Connect(source) => connect(103, source),
        ClientError::Stream { source, .. } => connect(203, source),
        ClientError::Protocol { source, .. } => match source {
            client::Failure::Busy => code(ErrorCode::ACCESS_DENIED),
            client::Failure::Server(code) => {
                return vec![format!("SERVER ERROR - {code}"), format!("error - {code}")];
            }
            client::Failure::ServerTerminated => code(ErrorCode::SERVER_TERMINATED),
            client::Failure::Closed(_) | client::Failure::ClosedAtOnce => code(ErrorCode::CONTROL_CLOSED),
            client::Failure::Unknown(..) | client::Failure::Unexpected(..) => code(ErrorCode::MESSAGE),
            client::Failure::ResultsLength(_) | client::Failure::Results(_) => {
                code(ErrorCode::RECEIVE_RESULTS)
            }
            client::Failure::Timeout(..) => ErrorCode {
                code: 112,
                errno: libc::ETIMEDOUT,
            }
            .to_string(),
            client::Failure::Interrupted => code(ErrorCode::CLIENT_TERMINATED),
        },
        ClientError::StreamBroken {
            end: End::Failed(errno),
            ..
        } => ErrorCode {
            code: ErrorCode::STREAM_READ,
            errno: *errno,
        }
        .to_string(),
        ClientError::StreamBroken { .. } => code(207),
        ClientError::NoData { .. } => code(ErrorCode::NO_DATA),
        other => chain(other),
    };
    vec![format!("error - {text}")]
}

/// What a server prints after `iperf3: `.
pub(super) fn of_server(error: &TestError) -> String {
    use server::{Failure, Phase};
    let text = match error {
        TestError::Protocol { source, .. } => match source {
            Failure::ClientTerminated => return code(ErrorCode::CLIENT_TERMINATED),
            Failure::Interrupted => code(ErrorCode::SERVER_TERMINATED),
            Failure::Closed(_) => "the client has unexpectedly closed the connection".to_owned(),
            Failure::Refused(code) if code.code == ErrorCode::NO_SCTP => {
                format!("{code}: this kernel has none: {SCTP_ADVICE}")
            }
            Failure::Refused(code) => code.to_string(),
            Failure::Unknown(..) => code(ErrorCode::MESSAGE),
            Failure::Length(_, phase) | Failure::Document(phase, _) | Failure::Timeout(phase) => {
                code(match phase {
                    Phase::Parameters | Phase::Preparing => ErrorCode::RECEIVE_PARAMETERS,
                    Phase::Accepting => ErrorCode::STREAM_ACCEPT,
                    Phase::Running => ErrorCode::DURATION_EXPIRED,
                    _ => ErrorCode::RECEIVE_RESULTS,
                })
            }
        },
        TestError::StreamBroken {
            end: End::Failed(errno),
            ..
        } => ErrorCode {
            code: ErrorCode::STREAM_READ,
            errno: *errno,
        }
        .to_string(),
        TestError::StreamBroken { .. } => code(207),
        other @ TestError::System(..) => chain(other),
    };
    format!("error - {text}")
}
