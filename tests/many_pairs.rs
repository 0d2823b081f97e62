//! Many pairs at once: in a real lab, and with a thousand workers that only speak the protocol, so that what is measured
//! is the coordinator itself.

#![expect(clippy::unwrap_used, reason = "a test may fail where it stands")]

#[path = "support/program.rs"]
mod program;
#[path = "../src/skip.rs"]
mod skip;

use encapbench::{
    coordinator::{Coordinator, Ended},
    evidence::{Observation, ObservationRequest},
    fabric::{Fabric, FabricError, Transport},
    measure::{CpuReading, Direction, StreamResult, ThroughputResult, machine},
    run::{CongestionChoice, Event, Folder, Manifest, Outcome},
    scenario::{Overrides, Path, Place, Plan, parse},
    worker::protocol::{HEARTBEAT, Job, JobResult, Message, Request, Snapshot, VERSION},
};
use program::{code, encapbench, finish, said, trials};
use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write as _,
    net::{IpAddr, Ipv4Addr},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, DuplexStream},
    sync::{mpsc, watch},
};

const LIMIT: Duration = Duration::from_mins(2);

/// How long each test of the stand-ins takes.
const TEST: Duration = Duration::from_millis(500);

/// Servers that wait, by the name of their test: told when their client is done.
type Waiting = Arc<Mutex<HashMap<String, mpsc::UnboundedSender<()>>>>;

/// Places whose workers speak the protocol and measure nothing.
#[derive(Default)]
struct StandIn {
    waiting: Waiting,
    launched: usize,
}

fn result(bytes: u64) -> ThroughputResult {
    ThroughputResult {
        streams: vec![StreamResult {
            id: 1,
            direction: Direction::Forward,
            sent_bytes: bytes,
            received_bytes: bytes,
            seconds: TEST.as_secs_f64(),
            total_bytes: bytes,
            retransmits: Some(0),
            udp: None,
            local_address: Ipv4Addr::LOCALHOST.into(),
            peer_address: Ipv4Addr::LOCALHOST.into(),
            samples: Vec::new(),
        }],
        seconds: TEST.as_secs_f64(),
        ..ThroughputResult::default()
    }
}

/// A worker of a stand-in.
async fn worker(input: DuplexStream, mut output: DuplexStream, waiting: Waiting) {
    let (sender, mut outgoing) = mpsc::unbounded_channel::<Message>();
    tokio::spawn(async move {
        // Never before the hello.
        let mut beat = tokio::time::interval_at(tokio::time::Instant::now() + HEARTBEAT, HEARTBEAT);
        loop {
            let message = tokio::select! {
                message = outgoing.recv() => match message { Some(message) => message, None => return },
                _ = beat.tick() => Message::Heartbeat,
            };
            let mut line = serde_json::to_vec(&message).unwrap();
            line.push(b'\n');
            if output.write_all(&line).await.is_err() {
                return;
            }
        }
    });
    let mut lines = BufReader::new(input).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let request: Request = serde_json::from_str(&line).unwrap();
        let done = |id, result| Message::Done {
            id,
            result: Box::new(result),
        };
        match request {
            Request::Hello { .. } => {
                let _ = sender.send(Message::Hello {
                    version: VERSION,
                    encapbench: String::new(),
                    machine: "stand-in".to_owned(),
                    kernel: String::new(),
                });
            }
            Request::Start { id, job } => match *job {
                Job::ServeThroughput { name, .. } => {
                    let (told, mut client_done) = mpsc::unbounded_channel();
                    waiting.lock().unwrap().insert(name, told);
                    let sender = sender.clone();
                    tokio::spawn(async move {
                        let _ = sender.send(Message::Listening { id, port: 1 });
                        client_done.recv().await;
                        let _ = sender.send(done(id, JobResult::Throughput(result(1_000_000))));
                    });
                }
                Job::RunThroughput { name, .. } => {
                    let (sender, waiting) = (sender.clone(), Arc::clone(&waiting));
                    tokio::spawn(async move {
                        let _ = sender.send(Message::Running { id });
                        tokio::time::sleep(TEST).await;
                        let _ = sender.send(done(id, JobResult::Throughput(result(1_000_000))));
                        let server = waiting.lock().unwrap().remove(&name);
                        let _ = server.unwrap().send(());
                    });
                }
                Job::Observe { .. } => {
                    let snapshot = Snapshot {
                        seen: Observation {
                            node: String::new(),
                            devices: Vec::new(),
                            routes: Vec::new(),
                        },
                        cpu: CpuReading {
                            cpu: encapbench::measure::CpuSeconds::default(),
                            per_core: Vec::new(),
                            clock_ns: 1,
                        },
                    };
                    let _ = sender.send(done(id, JobResult::Observation(snapshot)));
                }
                Job::ProbeCongestion { wanted } => {
                    let _ = sender.send(done(id, JobResult::Congestion(wanted)));
                }
                other => unreachable!("{other:?}"),
            },
            Request::Heartbeat | Request::Stop { .. } => {}
            Request::Quit => return,
        }
    }
}

impl Fabric for StandIn {
    async fn prepare(&mut self) -> Result<(), FabricError> {
        Ok(())
    }

    async fn launch(&mut self, _: &Place) -> Result<Transport, FabricError> {
        let (input, theirs) = tokio::io::duplex(1 << 16);
        let (output, ours) = tokio::io::duplex(1 << 16);
        tokio::spawn(worker(theirs, output, Arc::clone(&self.waiting)));
        self.launched += 1;
        Ok(Transport {
            input: Box::new(input),
            output: Box::new(ours),
            errors: Box::new(tokio::io::empty()),
            kill: Box::new(|| {}),
        })
    }

    fn address(&self, _: &Path, _: &Place) -> Result<IpAddr, FabricError> {
        Ok(Ipv4Addr::LOCALHOST.into())
    }

    fn observe(&self, path: &Path) -> Result<Vec<(Place, ObservationRequest)>, FabricError> {
        let looked_at = [&path.from, &path.to].map(|place| (place.clone(), ObservationRequest::default()));
        Ok(looked_at.to_vec())
    }

    fn describe(&self) -> BTreeMap<String, String> {
        BTreeMap::new()
    }

    async fn release(&mut self) {}
}

/// A thousand hosts in `pairs` pairs.
fn plan(pairs: usize) -> Plan {
    let mut text = "name: many\nfabric:\n  hosts:\n    nodes:\n".to_owned();
    for host in 0..2 * pairs {
        writeln!(text, "    - {{ name: h{host}, address: 127.0.0.1 }}").unwrap();
    }
    text.push_str("paths:\n- name: all\n  from: h0\n  to: h1\n  together-with:\n");
    for pair in 1..pairs {
        writeln!(text, "  - {{ from: h{}, to: h{} }}", 2 * pair, 2 * pair + 1).unwrap();
    }
    text.push_str("workloads: [ { name: tcp, throughput: { protocol: tcp, duration: 500ms, omit: 0s } } ]\nblocks: { at-least: 2 }\n");
    Plan::new(&parse(&text, "many").unwrap(), &Overrides::default(), 1).unwrap()
}

/// What the coordinator itself takes for a trial, and how far apart the pairs begin, with 1,000 workers.
#[test]
fn a_thousand_workers_are_no_burden() {
    let plan = plan(500);
    let folder = tempfile::tempdir().unwrap();
    let mut manifest = Manifest {
        format: Manifest::FORMAT,
        encapbench: String::new(),
        started: "2026-01-01T00:00:00Z".parse().unwrap(),
        command: Vec::new(),
        scenario: plan.scenario.clone(),
        seed: plan.seed,
        cases: plan.cases.clone(),
        skipped_gates: BTreeMap::new(),
        host: machine::host(),
        congestion: CongestionChoice {
            wanted: Vec::new(),
            used: None,
        },
        fabric: BTreeMap::new(),
    };
    let mut run = Folder::create(&folder.path().join("run"), &manifest).unwrap();
    let mut fabric = StandIn::default();
    let (_stop, interrupt) = watch::channel(false);
    let mut ended = Vec::new();
    let mut on_event = |event| {
        if let Event::TrialFinished(trial) = event {
            ended.push(*trial);
        }
    };
    // As many threads as `encapbench run` gives the coordinator, plus one for all the stand-ins.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let begun = Instant::now();
    let how = runtime.block_on(async {
        let mut coordinator = Coordinator {
            fabric: &mut fabric,
            plan: &plan,
            folder: &mut run,
            trials: Vec::new(),
            congestion: None,
            interrupt,
            on_event: &mut on_event,
        };
        coordinator.run(&mut manifest).await.unwrap()
    });
    assert_eq!(how, Ended::Done);
    assert_eq!(ended.len(), 2);
    for trial in &ended {
        assert_eq!(trial.outcome, Outcome::Measured);
        assert_eq!(trial.pairs.len(), 500);
        let own = trial.seconds - TEST.as_secs_f64();
        let apart = trial.pairs.iter().map(|pair| pair.began).fold(0.0, f64::max);
        eprintln!(
            "1000 workers, block {}: {own:.3} s of the coordinator's own in the trial, pairs began within {apart:.3} s",
            trial.block
        );
        // Some 0.1 s each on an idle machine; a wait that grows with each pair would take minutes.
        assert!(own < 20.0, "{own} s");
        assert!(apart < 5.0, "{apart} s");
        assert!((trial.throughput.as_ref().unwrap().bytes_per_second().unwrap() - 500.0 * 2e6).abs() < 1.0);
    }
    eprintln!(
        "1000 workers: {:.3} s for the whole run of two blocks",
        begun.elapsed().as_secs_f64()
    );
    assert_eq!(fabric.launched, 2 * 1000, "one worker a place and block");
}

#[cfg(feature = "lab")]
#[test]
fn pairs_of_a_lab_are_proved_and_shown_each() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pairs.yaml");
    std::fs::write(
        &file,
        "name: pairs\nfabric: { lab: { clusters: [ { name: east, subnets: [ { nodes: [e1, e2, e3] } ] } ] } }\npaths:\n  \
         - name: ring\n    from: pod@e1\n    to: pod@e2\n    vxlan-mode: Always\n    together-with:\n      - { from: pod@e2, \
         to: pod@e3 }\n      - { from: pod@e3, to: pod@e1 }\nworkloads:\n  - { name: tcp, throughput: { protocol: tcp, \
         duration: 300ms, omit: 100ms } }\n  - { name: rr, latency: { kind: tcp-rr, duration: 200ms } }\n  - { name: \
         loaded, latency: { kind: tcp-rr, duration: 200ms, during: tcp } }\nblocks: { at-least: 1 }\ngates:\n  - { name: \
         fair, path: ring, workload: tcp, metric: fairness, at-least: 0.1 }\n",
    )
    .unwrap();
    let run = folder.path().join("run");
    let output = finish(
        encapbench()
            .args(["run", "--quiet", "--out"])
            .arg(&run)
            .arg(&file),
        LIMIT,
    );
    if code(output.status) == 3 {
        skip::skip(format_args!("no lab here: {}", said(&output)));
        return;
    }
    // One block can't decide the gate.
    assert_eq!(code(output.status), 5, "{}", said(&output));
    let all = trials(&run);
    assert_eq!(all.len(), 3);
    for trial in &all {
        assert_eq!(trial["verdict"]["state"], "confirmed", "{trial}");
        let pairs = trial["pairs"].as_array().unwrap();
        assert_eq!(pairs.len(), 3);
        assert_eq!(pairs[1]["from"], "pod@e2/Always");
        let loaded = trial["case"] != "ring--rr";
        assert_eq!(
            pairs
                .iter()
                .all(|pair| pair["bytes_per_second"].as_f64().is_some_and(|rate| rate > 0.0)),
            loaded
        );
        let probed = trial["case"] != "ring--tcp";
        assert_eq!(pairs.iter().all(|pair| pair["latency_p50"].is_number()), probed);
        if !probed {
            let sum: f64 = pairs
                .iter()
                .map(|pair| pair["bytes_per_second"].as_f64().unwrap())
                .sum();
            let ids: Vec<u64> = trial["throughput"]["streams"]
                .as_array()
                .unwrap()
                .iter()
                .map(|stream| stream["id"].as_u64().unwrap())
                .collect();
            assert_eq!(ids, [1, 1001, 2001]);
            let summary = std::fs::read_to_string(run.join("summary.csv")).unwrap();
            let row = |metric: &str| -> Vec<String> {
                let row = summary
                    .lines()
                    .find(|line| line.starts_with(&format!("ring--tcp,ring,vxlan,tcp,{metric},")));
                row.unwrap().split(',').map(str::to_owned).collect()
            };
            let together: f64 = row("throughput")[7].parse().unwrap();
            assert!((together - sum / 1e6).abs() < 0.01, "{together} is not {sum}");
            let fairness: f64 = row("fairness")[7].parse().unwrap();
            assert!((1.0 / 3.0..=1.0).contains(&fairness), "{fairness}");
            assert!(row("slowest_pair")[7].parse::<f64>().unwrap() * 3.0 <= together);
        }
    }
    let shown = String::from_utf8_lossy(&output.stdout);
    assert!(shown.contains("3 pairs at once, tcp of ring"), "{shown}");
    let page = std::fs::read_to_string(run.join("report.html")).unwrap();
    assert!(
        page.contains("3 pairs at once: ring, tcp") && page.contains("id=\"pairs-ring-tcp\""),
        "no heat map"
    );
    #[cfg(feature = "plots")]
    assert!(run.join("pairs-ring-tcp.svg").exists());
}

/// What can't be proved or made sense of is refused at its line.
#[test]
fn pairs_that_do_not_fit_are_refused() {
    let scenario = |pairs: &str, workload: &str| {
        let text = format!(
            "name: pairs\nfabric: {{ lab: {{ clusters: [ {{ name: east, subnets: [ {{ nodes: [e1, e2] }}, {{ nodes: [e3] }} ] }} ] }} \
             }}\npaths:\n  - name: p\n    from: pod@e1\n    to: pod@e2\n    vxlan-mode: CrossSubnet\n    together-with:\n{pairs}\
             workloads: [ {{ name: w, throughput: {{ {workload} }} }} ]\n"
        );
        parse(&text, "pairs.yaml").unwrap_err().to_string()
    };
    let tcp = "protocol: tcp";
    let refused = [
        (
            scenario("      - { from: pod@e1, to: pod@e9 }\n", tcp),
            "pairs.yaml:9:29: no node is named `e9`",
        ),
        (
            scenario("      - { from: pod@e1, to: pod@e2 }\n", tcp),
            "is here for the second time",
        ),
        (
            scenario("      - { from: pod@e1, to: pod@e3 }\n", tcp),
            "packets of this pair are wrapped in vxlan, those of the path's first pair go plain",
        ),
        (
            scenario("      - { from: pod@e1, to: pod-2@e1 }\n", tcp),
            "packets of this pair stay on one node",
        ),
        (
            scenario("      - { from: pod@e2, to: pod@e2 }\n", tcp),
            "leads from `pod@e2` to itself",
        ),
        (
            scenario("      - { from: pod@e1, too: pod@e2 }\n", tcp),
            "unknown key `too`",
        ),
        (
            scenario(
                "      - { from: pod@e2, to: pod@e1 }\n",
                "protocol: udp, highest-rate: { loss-at-most: 0.1% }",
            ),
            "searches a rate",
        ),
    ];
    for (said, expected) in refused {
        assert!(said.contains(expected), "{expected} is missing:\n{said}");
    }
}
