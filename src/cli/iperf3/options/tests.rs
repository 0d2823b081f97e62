//! What command lines mean.

use super::*;
use crate::iperf3::output::number::RateUnit;

fn read(line: &str) -> Result<Request, Mistake> {
    Options::read(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
}

fn options(line: &str) -> Options {
    match read(line) {
        Ok(Request::Run(options)) => *options,
        other => panic!("{line}: {other:?}"),
    }
}

fn code(line: &str) -> i32 {
    match read(line) {
        Err(Mistake::Parameter(error)) => error.code,
        other => panic!("{line}: {other:?}"),
    }
}

/// 73 long options, as in 3.21 with the names of old, and five of ours.
#[test]
fn every_option_is_known_once() {
    let mut names: Vec<_> = SPECS.iter().map(|(spec, _)| spec.long).collect();
    assert_eq!(names.len(), 78);
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), 78);
    let mut letters: Vec<_> = SPECS.iter().filter_map(|(spec, _)| spec.short).collect();
    let count = letters.len();
    letters.sort_unstable();
    letters.dedup();
    assert_eq!(letters.len(), count);
}

#[test]
fn what_kubernetes_tools_say_is_understood() {
    let o = options("-c H -V -N -i 30 -t 10 -f m -w 512M -Z -J -P 4 -M 1400");
    assert_eq!(
        (o.host.as_str(), o.window, o.mss, o.parallel),
        ("H", Some(512 << 20), Some(1400), 4)
    );
    assert_eq!(
        (o.end, o.unit, o.form),
        (Some(End::Time(10)), RateUnit::Bits(2), Form::Json)
    );
    assert!(o.verbose && o.no_delay && o.zerocopy);
    let o = options("-V -J --time 600.000000 --bandwidth 1G -w 410K -P 1 -u -c H");
    assert_eq!(
        (o.end, o.bitrate, o.window),
        (Some(End::Time(600)), Some(1_000_000_000), Some(410 << 10))
    );
    let o = options("-u -b 0 -c T -O 1 -w 64K -f m -t 5");
    assert_eq!((o.bitrate, o.omit, o.transport), (Some(0), 1, Transport::Udp));
    let o = options("-J -P 2 -c IP -t 5 -l 1024 -p 5300 --logfile=f");
    assert_eq!(
        (o.port, o.length, o.logfile.as_deref()),
        (5300, Some(1024), Some("f"))
    );
    let o = options("-s -p 5300 --one-off --server-bitrate-limit 10M/2");
    assert_eq!(
        (o.side, o.one_off, o.bitrate_limit),
        (Side::Server, true, Some(10_000_000))
    );
    let o = options("-c h%eth0 -A 0,1 -b10M/5 --timestamps=%s");
    assert_eq!((o.host.as_str(), o.bind_device.as_deref()), ("h", Some("eth0")));
    assert_eq!(
        (o.affinity, o.server_affinity, o.burst),
        (Some(0), Some(1), Some(5))
    );
    assert_eq!(o.timestamps.as_deref(), Some("%s"));
}

/// Each of these was tried with a stock binary (3.12; later codes as 3.21 has them).
#[test]
fn mistakes_have_iperf3s_codes() {
    for (line, expected) in [
        ("", 2),
        ("-s -c x", 1),
        ("-s -R", 4),
        ("-c x -D", 3),
        ("-c x -p 0", 26),
        ("-c x -p abc", 26),
        ("-c x --cport 0", 26),
        ("-c x -i 0.01", 9),
        ("-c x -t 1 -n 5", 16),
        ("-c x -b 1M/2000", 15),
        ("-c x -l 2M", 7),
        ("-c x -u -l 10", 20),
        ("-c x -w 1G", 8),
        ("-c x -M 99999", 10),
        ("-c x -S 300", 21),
        ("-c x --dscp foo", 40),
        ("-c x -f z", 24),
        ("-c x -R --bidir", 25),
        ("-c x -O 700", 12),
        ("-c x -P 20000", 6),
        ("-c x -u -P 200", 6),
        ("-c x --username u", 22),
        ("-c x -u -F /etc/passwd", 34),
        ("-c x -R --rcv-timeout 5", 31),
        ("-c x --rcv-timeout 5000", 32),
        ("-c x -A 99999", 132),
        ("-s --idle-timeout 0", 30),
        ("-s --rsa-private-key-path /nonexist", 23),
        ("-s --time-skew-threshold 0", 29),
        ("-c x -L 0", 127),
        ("-c x -t 90000", 5),
        ("-s --server-bitrate-limit 1M/90", 28),
        ("-c x -n 5x", 38),
        ("-c x --cntl-ka=5/2/3", 36),
    ] {
        assert_eq!(code(line), expected, "{line}");
    }
}

#[test]
fn our_own_options_take_no_beginning_from_iperf3s() {
    assert!(options("-s --one").one_off);
    let o = options("-s --one-test-at-a-time");
    assert!(o.one_test_at_a_time && !o.one_off);
    assert_eq!(options("-s --max-tests 7").max_tests, Some(7));
    assert_eq!(code("-s --max-tests 0"), 6);
    assert_eq!(code("-c x --one-test-at-a-time"), 3);
}

#[test]
fn help_and_version_come_first() {
    assert_eq!(read("-h"), Ok(Request::Help));
    assert_eq!(read("-c x --version"), Ok(Request::Version));
    assert_eq!(
        read("-c x --foo"),
        Err(Mistake::Usage("unrecognized option '--foo'".into()))
    );
}
