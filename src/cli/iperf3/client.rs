//! The client: one test, told as it goes.

use super::{
    Stopped, errors,
    options::{End, Form, Options},
    printer::Printer,
    signals,
    story::{Story, start_view, system_info},
};
use crate::{
    iperf3::{
        SocketOptions, TestEvent, TestOutcome,
        auth::{AuthError, Credentials, Padding},
        client::{self, ClientError, ClientOptions, Finish, Flow, TestParameters},
        output::{text, view::Side},
        wire::{Cookie, ErrorCode, Parameters, Transport, client::Failure},
    },
    report::plain,
    scenario::{Technique, TechniqueSet},
    sys::stop::Stop,
    traffic::{disk_file::DiskFile, stream::Role},
    units::{BitRate, Bytes},
};
use rand::{TryRng as _, rngs::SysRng};
use std::{
    io::{self, BufRead as _, Write},
    net::{IpAddr, SocketAddr, ToSocketAddrs as _},
    time::Duration,
};

/// How long a server may take for an answer. Stock waits for ever.
const PATIENCE: Duration = Duration::from_mins(1);

/// How long data may stay away, unless told otherwise: as iperf3.
const DATA_PATIENCE: Duration = Duration::from_mins(2);

/// About what the system's own connect takes before it gives up.
const CONNECT: Duration = Duration::from_secs(130);

pub(super) fn run(options: &Options, out: &mut dyn Write, err: &mut dyn Write) -> Result<(), Stopped> {
    let credentials = credentials(options, err)?;
    let mut printer = Printer::new(options, out, err);
    printer.page().extras.title.clone_from(&options.title);
    printer.page().extras.extra_data.clone_from(&options.extra_data);
    if options.verbose {
        printer.lines(&text::version(&system_info()));
    }
    match test(options, credentials.as_ref(), &mut printer) {
        Ok(()) => {
            printer.finish();
            Ok(())
        }
        Err(lines) => {
            let mut failed = false;
            for line in lines {
                failed |= !line.starts_with("interrupt");
                printer.error(&line);
            }
            printer.finish();
            // Ended by the user is no failure, since 3.19.
            if failed { Err(Stopped::Said) } else { Ok(()) }
        }
    }
}

/// Runs the test; errors are the lines to print.
fn test(
    options: &Options,
    credentials: Option<&Credentials>,
    printer: &mut Printer<'_>,
) -> Result<(), Vec<String>> {
    let one = |text: String| vec![format!("error - {text}")];
    let address = resolve(&options.host, options.port, options)
        .map_err(|text| one(format!("{}: {text}", code(103))))?;
    let bind = match &options.bind {
        Some(host) => Some(
            resolve(host, 0, options)
                .map_err(|text| one(format!("{}: {text}", code(103))))?
                .ip(),
        ),
        None => None,
    };
    let system = |error: io::Error| one(format!("failed to set up: {error}"));
    let stop = Stop::new().map_err(system)?;
    let caught = signals::listen(&stop).map_err(system)?;
    let mut random = [0; 36];
    SysRng
        .try_fill_bytes(&mut random)
        .map_err(|error| system(io::Error::other(error)))?;
    let cookie = Cookie::from_random(random);
    if let Some(file) = options.file.as_ref().filter(|_| !options.reverse) {
        // Better told before the server is troubled. What would be written is not touched yet.
        file.open(Role::Send)
            .map_err(|error| one(ErrorCode::with_source(ErrorCode::FILE, &error).to_string()))?;
    }
    let (test, document) = parameters(options, credentials).map_err(one)?;
    let engine = ClientOptions {
        bind,
        sockets: SocketOptions {
            device: options.bind_device.clone(),
            port: options.client_port,
            user_timeout: options.send_timeout.filter(|timeout| !timeout.is_zero()),
            keepalive: options.keepalive.as_deref().map(keepalive),
            mptcp: options.mptcp,
            flow_label: options.flow_label.and_then(|label| u32::try_from(label).ok()),
            sctp_addresses: sctp_addresses(options).map_err(one)?,
            sctp_streams: options.nstreams,
        },
        test,
        document: Some(Box::new(document.clone())),
        sample_interval: Duration::from_secs_f64(options.interval),
        connect_timeout: options.connect_timeout.unwrap_or(CONNECT),
        patience: PATIENCE,
        data_patience: Some(options.receive_timeout.unwrap_or(DATA_PATIENCE)),
        cookie: Some(cookie),
        file: options.file.clone(),
        ..ClientOptions::new(address)
    };
    let mut story: Option<Story> = None;
    let ended = client::run(&engine, &stop, &mut |event| match event {
        TestEvent::Running(streams) => {
            let peer = (options.host.clone(), options.port);
            let mut parameters = document.clone();
            // The length of datagrams may have been decided only now.
            parameters.len = streams
                .first()
                .map(|stream| stream.length as i64)
                .or(parameters.len);
            let start = start_view(
                Side::Client,
                peer,
                &cookie,
                &parameters,
                options.interval,
                &streams,
            );
            printer.start(&start);
            story = Some(Story::new(start, options.file.clone()));
        }
        TestEvent::Interval(samples) => {
            if let Some(view) = story.as_mut().and_then(|story| story.interval(&samples)) {
                printer.interval(&view);
            }
        }
        TestEvent::OmitEnded | TestEvent::Ended => {}
    });
    if !printer.has_started() && !matches!(ended, Err(ClientError::Connect(_))) {
        // The server was reached, and then it failed.
        printer.lines(&text::greeting(
            Side::Client,
            &options.host,
            options.port,
            options.reverse,
        ));
    }
    let interrupt = || vec![format!("interrupt - the client has terminated{}", caught.text())];
    match ended {
        Ok(outcome) => {
            finish(printer, story.as_ref(), &outcome);
            if outcome.interrupted {
                return Err(interrupt());
            }
            done(printer, &outcome);
            Ok(())
        }
        Err(error) => {
            if let (Some(outcome), Some(story)) = (error.measured(), &story) {
                finish(printer, Some(story), outcome);
            }
            if caught.any()
                || matches!(
                    error,
                    ClientError::Protocol {
                        source: Failure::Interrupted,
                        ..
                    }
                )
            {
                return Err(interrupt());
            }
            Err(errors::of_client(&error))
        }
    }
}

fn finish(printer: &mut Printer<'_>, story: Option<&Story>, outcome: &TestOutcome) {
    if let Some(story) = story {
        printer.end(&story.end(outcome, outcome.peer.as_ref()));
    }
}

/// What comes after the summary of a whole test.
fn done(printer: &mut Printer<'_>, outcome: &TestOutcome) {
    if let Some(peer) = &outcome.peer {
        if printer.form() == Form::Text {
            if let Some(output) = &peer.server_output_text {
                // Of a peer: a terminal shows it and does not obey it.
                let output: Vec<String> = output.split('\n').map(plain).collect();
                printer.lines(&[format!("\nServer output:\n{}", output.join("\n"))]);
            }
            if let Some(output) = &peer.server_output_json {
                let output = crate::iperf3::output::pretty::pretty(output);
                printer.lines(&[format!("\nServer JSON output:\n{output}")]);
            }
        } else {
            let extras = &mut printer.page().extras;
            extras.server_output_text.clone_from(&peer.server_output_text);
            extras.server_output_json.clone_from(&peer.server_output_json);
        }
    }
    printer.lines(&[String::new(), "iperf Done.".to_owned()]);
}

/// `IDLE/INTERVAL/COUNT`, each of which may be missing.
pub(super) fn keepalive(text: &str) -> (u32, u32, u32) {
    let mut parts = text
        .split('/')
        .map(|part| u32::try_from(super::quantity::atoi(part)).unwrap_or(0));
    let mut next = || parts.next().unwrap_or(0);
    (next(), next(), next())
}

fn code(number: i32) -> String {
    ErrorCode::new(number).to_string()
}

/// The address of a name, IPv4 or IPv6 as wanted.
pub(super) fn resolve(host: &str, port: u16, options: &Options) -> Result<SocketAddr, String> {
    let addresses = (host, port).to_socket_addrs().map_err(|error| {
        let text = error.to_string();
        text.rsplit("information: ").next().unwrap_or(&text).to_owned()
    })?;
    let wanted = |address: &SocketAddr| match address.ip() {
        IpAddr::V4(_) => !options.only_v6,
        IpAddr::V6(_) => !options.only_v4,
    };
    addresses
        .into_iter()
        .find(wanted)
        .ok_or_else(|| "Address family for hostname not supported".to_owned())
}

/// The local addresses of SCTP associations (`-X`); an error is what to print of it.
pub(super) fn sctp_addresses(options: &Options) -> Result<Vec<IpAddr>, String> {
    let refused = |text| format!("{}: {text}", code(ErrorCode::SCTP_ADDRESSES));
    options
        .xbind
        .iter()
        .map(|host| Ok(resolve(host, 0, options).map_err(refused)?.ip()))
        .collect()
}

/// The test in the engine's terms, and the document for the server.
fn parameters(
    options: &Options,
    credentials: Option<&Credentials>,
) -> Result<(TestParameters, Parameters), String> {
    let positive = |value: Option<i64>| {
        value
            .and_then(|value| u64::try_from(value).ok())
            .filter(|value| *value > 0)
    };
    let udp = options.transport == Transport::Udp;
    // Stock's: 1 Mibit/s, unless another rate or none (0) was asked for.
    let bitrate = options.bitrate.or(udp.then_some(1 << 20));
    // Where nothing else ends the test, a file that is sent does. One without a size, as a pipe, may be long.
    let file = options.file.as_ref().filter(|_| !options.reverse);
    let sent_size = file.map(DiskFile::size).filter(|size| *size > 0);
    let test = TestParameters {
        transport: options.transport,
        streams: options.parallel as u32,
        flow: match (options.reverse, options.bidirectional) {
            (_, true) => Flow::Bidirectional,
            (true, _) => Flow::Reverse,
            _ => Flow::Forward,
        },
        finish: match (options.end, sent_size) {
            (None, Some(size)) => Finish::Bytes(Bytes(size)),
            (None, None) => Finish::After(Duration::from_secs(10)),
            (Some(End::Time(0) | End::Bytes(0) | End::Blocks(0)), _) => Finish::Never,
            (Some(End::Time(seconds)), _) => Finish::After(Duration::from_secs(seconds.unsigned_abs())),
            (Some(End::Bytes(bytes)), _) => Finish::Bytes(Bytes(bytes.unsigned_abs())),
            (Some(End::Blocks(blocks)), _) => Finish::Blocks(blocks.unsigned_abs()),
        },
        omit: Duration::from_secs(options.omit.unsigned_abs()),
        length: positive(options.length).map(Bytes),
        window: positive(options.window).map(Bytes),
        mss: positive(options.mss).and_then(|mss| u16::try_from(mss).ok()),
        no_delay: options.no_delay,
        congestion: options.congestion.clone(),
        bitrate: positive(bitrate).map(BitRate),
        burst: positive(options.burst).and_then(|burst| u16::try_from(burst).ok()),
        tos: options.tos as u8,
        fast: options.fast,
        with: [
            (options.zerocopy, Technique::Sendfile),
            (options.skip_rx_copy, Technique::Trunc),
            (options.gsro, Technique::Gso),
            (options.gsro, Technique::Gro),
        ]
        .into_iter()
        .filter_map(|(asked, technique)| asked.then_some(technique))
        .collect::<TechniqueSet>()
        .union(options.with),
        without: options.without,
        counters_64bit: options.udp_counters_64bit,
        dont_fragment: options.dont_fragment,
        repeating_payload: options.repeating_payload,
    };
    let mut document = test.encode().map_err(|error| errors::chain(&error))?;
    document.client_version = Some("3.21".to_owned());
    document.pacing_timer = Some(options.pacing_timer);
    document.server_affinity = options.server_affinity;
    document.fqrate = positive(options.fq_rate).map(|rate| rate as i64);
    document.title.clone_from(&options.title);
    document.extra_data.clone_from(&options.extra_data);
    document.mptcp = options.mptcp;
    document.flowlabel = options.flow_label;
    document.get_server_output = options.get_server_output;
    if let Some(credentials) = credentials {
        let now = super::story::now_millis() / 1000;
        document.authtoken = Some(credentials.token(now).map_err(|error| errors::chain(&error))?);
    }
    Ok((test, document))
}

fn credentials(options: &Options, err: &mut dyn Write) -> Result<Option<Credentials>, Stopped> {
    let (Some(name), Some(path)) = (&options.username, &options.public_key) else {
        return Ok(None);
    };
    let key = std::fs::read_to_string(path).map_err(|_| Stopped::Parameter(ErrorCode::new(22)))?;
    let password = match std::env::var("IPERF3_PASSWORD") {
        Ok(password) => password,
        Err(_) => ask_password(err).map_err(|_| Stopped::Parameter(ErrorCode::new(22)))?,
    };
    let padding = if options.pkcs1 {
        Padding::Pkcs1
    } else {
        Padding::Oaep
    };
    match Credentials::new(name, &password, &key, padding) {
        Ok(credentials) => Ok(Some(credentials)),
        Err(AuthError::NoKey(_)) => Err(Stopped::Parameter(ErrorCode::new(22))),
        Err(error) => Err(Stopped::Error(errors::chain(&error))),
    }
}

/// Asks at the terminal, without echo; without a terminal it is an error, as in iperf3.
fn ask_password(err: &mut dyn Write) -> io::Result<String> {
    use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
    let input = io::stdin();
    let before = tcgetattr(&input)?;
    write!(err, "Password: ")?;
    err.flush()?;
    let mut quiet = before.clone();
    quiet.local_modes.remove(LocalModes::ECHO);
    tcsetattr(&input, OptionalActions::Flush, &quiet)?;
    let mut password = String::new();
    let read = input.lock().read_line(&mut password);
    tcsetattr(&input, OptionalActions::Flush, &before)?;
    writeln!(err)?;
    read?;
    Ok(password.trim_end_matches(['\r', '\n']).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The document of a capture with every TCP option, made from the same command line.
    #[test]
    fn every_option_reaches_the_server() {
        let line = "-c h -t 1 -O 0 -b 50M/10 -M 1400 -w 256K -N -S 0x20 -T mytitle --extra-data xtra -l 64K -Z \
                    --skip-rx-copy --repeating-payload --fq-rate 100M -C reno -A 0,1 --get-server-output";
        let arguments: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
        let Ok(super::super::Request::Run(options)) = Options::read(&arguments) else {
            panic!("{line}")
        };
        let (_, document) = parameters(&options, None).unwrap();
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/data/iperf3-captures/20-tcp-all-params.3.21.json"
        );
        let capture: serde_json::Value =
            serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let elements = capture["control"][0]["elements"].as_array().unwrap();
        let element = elements
            .iter()
            .find(|element| element["kind"] == "params-json")
            .unwrap();
        let hex = element["hex"].as_str().unwrap();
        let bytes: Vec<u8> = (0..hex.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
            .collect();
        assert_eq!(document.encode(), String::from_utf8(bytes).unwrap());
    }
}
