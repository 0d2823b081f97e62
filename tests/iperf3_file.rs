//! `-F`: files over TCP, ours and a stock iperf3's, either side, either way.

#![expect(clippy::unwrap_used, reason = "a test may fail where it stands")]

#[path = "support/iperf3_program.rs"]
mod program;
#[path = "../src/skip.rs"]
mod skip;

use program::{Server, Who, client, json, stock, text};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// A folder of this test's own with a file of some odd size in it.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("encapbench-file-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).unwrap();
        let bytes: Vec<u8> = (0..3_000_001_u32)
            .map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8)
            .collect();
        fs::write(path.join("source"), bytes).unwrap();
        Self(path)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }

    fn is_copied(&self, name: &str) -> bool {
        fs::read(self.0.join(name)).unwrap() == fs::read(self.0.join("source")).unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn pairs() -> Vec<(Who, Who)> {
    let mut pairs = vec![(Who::Ours, Who::Ours)];
    if stock() {
        pairs.extend([(Who::Ours, Who::Stock), (Who::Stock, Who::Ours)]);
    }
    pairs
}

#[test]
fn a_file_arrives_as_it_was_and_ends_the_test() {
    let folder = Folder::new("forward");
    for (near, far) in pairs() {
        for extra in [&[][..], &["-t", "5"], &["-l", "7777"], &["-Z"]] {
            let server = Server::start(far, &["-1", "-F", &folder.path("copy")]);
            let output = client(
                near,
                server.port,
                &[&["-J", "-F", &folder.path("source")][..], extra].concat(),
            );
            let said = server.output();
            let document = json(&output);
            assert!(output.status.success(), "{near:?} {far:?} {document}");
            // A stock server leaves unread what has not been read when the client says that it is done, and a stock
            // client with -Z sends its own payload in place of the file.
            let faithful = far == Who::Ours && (near == Who::Ours || extra != ["-Z"]);
            assert!(
                !faithful || folder.is_copied("copy"),
                "{near:?} to {far:?} {extra:?}"
            );
            let stream = &document["end"]["streams"][0];
            assert_eq!(stream["sender"]["bytes"], 3_000_001);
            assert!(
                stream["sender"]["seconds"].as_f64() < Some(3.0),
                "the file's end ends it"
            );
            if near == Who::Ours {
                assert_eq!(stream["diskfile"]["sent"], 3_000_001);
                assert_eq!(stream["diskfile"]["size"], 3_000_001);
                assert_eq!(stream["diskfile"]["percent_sent"], 100);
                assert_eq!(
                    stream["diskfile"]["filename"].as_str(),
                    Some(&*folder.path("source"))
                );
            }
            if far == Who::Ours {
                let line = format!("Sent 2.86 MByte / 2.86 MByte (100%) of {}", folder.path("copy"));
                assert!(text(&said.stdout).contains(&line), "{}", text(&said.stdout));
            }
        }
    }
}

#[test]
fn a_server_hands_out_its_file() {
    let folder = Folder::new("reverse");
    for (near, far) in pairs() {
        let server = Server::start(far, &["-1", "-F", &folder.path("source")]);
        let output = client(near, server.port, &["-R", "-t", "1", "-F", &folder.path("copy")]);
        let said = text(&output.stdout);
        assert!(output.status.success(), "{near:?} {far:?} {said}");
        // A stock client may leave unread what came last, and 3.22 takes what it wrote for the whole file.
        let line = match near {
            Who::Stock => "MByte (",
            _ => "Sent 2.86 MByte / 2.86 MByte (100%) of",
        };
        assert!(said.contains(line), "{near:?} {far:?} {said}");
        assert!(
            near == Who::Stock || folder.is_copied("copy"),
            "{near:?} from {far:?}"
        );
    }
}

#[test]
fn each_stream_sends_all_of_it() {
    let folder = Folder::new("parallel");
    let server = Server::start(Who::Ours, &["-1"]);
    let output = client(
        Who::Ours,
        server.port,
        &["-J", "-P", "3", "-t", "5", "-F", &folder.path("source")],
    );
    let document = json(&output);
    assert_eq!(document["end"]["sum_sent"]["bytes"], 9_000_003, "{document}");
}

#[test]
fn files_that_can_not_be_had_are_told() {
    let folder = Folder::new("errors");
    let missing = folder.path("missing");
    let said = client(Who::Ours, program::free_port(), &["-F", &missing]);
    let said = text(&said.stderr);
    assert!(
        said.contains("unable to open -F file: No such file or directory"),
        "{said}"
    );

    // The server's own: told to the client, and the server serves on.
    let server = Server::start(Who::Ours, &["-F", &missing]);
    let output = client(Who::Ours, server.port, &["-R", "-t", "1"]);
    let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
    assert!(
        !output.status.success() && said.contains("unable to open -F file"),
        "{said}"
    );
    let both = client(Who::Ours, server.port, &["--bidir", "-t", "1"]);
    assert!(!both.status.success());
    assert!(!Path::new(&missing).exists(), "a refused test makes no file");
    assert!(client(Who::Ours, server.port, &["-n", "1M"]).status.success());
    assert_eq!(fs::metadata(&missing).unwrap().len(), 1 << 20);

    for refused in [&["--bidir"][..], &["-u"]] {
        let source = folder.path("source");
        let output = client(Who::Ours, server.port, &[&["-F", &source][..], refused].concat());
        assert!(!output.status.success(), "{refused:?}");
        assert!(folder.is_copied("source"), "{refused:?} leaves the file alone");
    }
}

#[test]
fn a_full_disk_ends_the_test_with_its_reason() {
    let folder = Folder::new("full");
    let server = Server::start(Who::Ours, &["-1"]);
    let output = client(Who::Ours, server.port, &["-R", "-t", "5", "-F", "/dev/full"]);
    let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
    assert!(!output.status.success(), "{said}");
    assert!(said.contains("No space left on device"), "{said}");
    drop(folder);
}
