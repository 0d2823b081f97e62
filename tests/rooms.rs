//! Rooms stand in one order, and each may import only those before it (see `src/lib.rs`).

#![expect(clippy::unwrap_used, reason = "a test may fail where it stands")]

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The rooms in their order. `iperf3::wire` stands apart from the rest of `iperf3`.
const ORDER: [&str; 18] = [
    "units",
    "scenario",
    "evidence",
    "iperf3::wire",
    "sys",
    "measure",
    "traffic",
    "iperf3",
    "run",
    "analysis",
    "gate",
    "report",
    "worker",
    "tunnel",
    "fabric",
    "coordinator",
    "doctor",
    "cli",
];

/// Rooms that take data and return data.
const PURE: [&str; 7] = [
    "units",
    "scenario",
    "evidence",
    "iperf3::wire",
    "analysis",
    "gate",
    "report",
];

/// What a pure room may not name, outside its tests.
const IMPURE: [&str; 11] = [
    "tokio",
    "std::net::Tcp",
    "std::net::Udp",
    "TcpStream",
    "UdpSocket",
    "std::process",
    "std::env",
    "std::fs",
    "Instant::now",
    "SystemTime::now",
    "Timestamp::now",
];

fn sources(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

fn all_sources() -> Vec<PathBuf> {
    let mut files = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut files);
    files.sort();
    assert!(files.len() > 30, "the source folder was not found whole");
    files
}

/// The room that a file or an import `a::b::c` belongs to.
fn room(path: &[&str]) -> Option<&'static str> {
    let (first, second) = (path.first()?, path.get(1));
    if *first == "iperf3" && second.is_some_and(|second| *second == "wire") {
        return Some("iperf3::wire");
    }
    ORDER.iter().find(|room| *room == first).copied()
}

fn room_of_file(file: &Path) -> Option<&'static str> {
    let inside = file
        .strip_prefix(Path::new(env!("CARGO_MANIFEST_DIR")).join("src"))
        .unwrap();
    let inside = inside.with_extension("");
    room(
        &inside
            .iter()
            .map(|part| part.to_str().unwrap())
            .collect::<Vec<_>>(),
    )
}

/// The part of a file before its tests.
fn without_tests(text: &str) -> &str {
    text.split("#[cfg(test)]\nmod ").next().unwrap()
}

/// All paths below `crate::` that a file names; of `use crate::{...}` the first two steps of each item.
fn imports(text: &str) -> Vec<Vec<String>> {
    let steps = |item: &str| item.split("::").map(|part| part.trim().to_owned()).collect();
    let mut found = Vec::new();
    for (at, _) in text.match_indices("crate::") {
        let rest = &text[at + "crate::".len()..];
        if rest.starts_with('{') {
            let (mut depth, mut item) = (0, String::new());
            for c in rest.chars() {
                match c {
                    '{' => {
                        depth += 1;
                        if depth == 1 {
                            continue;
                        }
                    }
                    '}' => depth -= 1,
                    _ => {}
                }
                if depth == 0 {
                    break;
                }
                if depth == 1 && c == ',' {
                    found.push(steps(&item));
                    item.clear();
                } else {
                    item.push(c);
                }
            }
            if !item.trim().is_empty() {
                found.push(steps(&item));
            }
        } else {
            let end = rest
                .find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':'))
                .unwrap_or(rest.len());
            found.push(steps(&rest[..end]));
        }
    }
    found
}

#[test]
fn every_room_imports_only_rooms_before_it() {
    let place = |room: &str| ORDER.iter().position(|known| *known == room).unwrap();
    let mut offences = Vec::new();
    let mut seen = 0;
    for file in all_sources() {
        let Some(own) = room_of_file(&file) else { continue };
        let text = fs::read_to_string(&file).unwrap();
        for import in imports(without_tests(&text)) {
            let parts: Vec<&str> = import.iter().map(String::as_str).collect();
            let Some(other) = room(&parts) else { continue };
            seen += 1;
            if other != own && place(other) > place(own) {
                offences.push(format!("{}: {own} imports {other}", file.display()));
            }
        }
    }
    assert!(seen > 10, "the imports were not found");
    assert!(offences.is_empty(), "{}", offences.join("\n"));
}

#[test]
fn pure_rooms_touch_no_socket_clock_process_or_runtime() {
    let mut offences = Vec::new();
    for file in all_sources() {
        if !room_of_file(&file).is_some_and(|room| PURE.contains(&room)) {
            continue;
        }
        let text = fs::read_to_string(&file).unwrap();
        for (number, line) in (1..).zip(without_tests(&text).lines()) {
            let code = line.split("//").next().unwrap();
            for word in IMPURE {
                if code.contains(word) {
                    offences.push(format!("{}:{number}: {word}", file.display()));
                }
            }
        }
    }
    assert!(offences.is_empty(), "{}", offences.join("\n"));
}

#[test]
fn unsafe_is_only_in_sys() {
    for file in all_sources() {
        let text = fs::read_to_string(&file).unwrap();
        let has = text
            .lines()
            .any(|line| line.split("//").next().unwrap().contains("unsafe {"));
        assert!(
            !has || room_of_file(&file) == Some("sys"),
            "{} has unsafe code",
            file.display()
        );
    }
}
