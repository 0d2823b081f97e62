//! With workers that answer what they are told to.

use super::*;
use crate::{
    evidence::ObservationRequest,
    fabric::{FabricError, Transport},
    measure::{LatencyHistogram, LatencyResult},
    scenario::{Encapsulation, Place, VxlanMode},
    worker::protocol::{Message, Request, VERSION},
};
use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Arc, Mutex},
};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

/// What becomes of each probe and each look-up, one after the other; the last one for good. An error is its text.
#[derive(Default)]
struct Script {
    probes: Vec<Result<(), &'static str>>,
    names: Vec<Result<&'static str, &'static str>>,
    /// Where the probes went, and which port the server was to have.
    asked: Vec<(IpAddr, u16)>,
}

fn next<T: Clone>(answers: &mut Vec<T>) -> T {
    if answers.len() > 1 {
        answers.remove(0)
    } else {
        answers[0].clone()
    }
}

/// Two places whose workers follow a script.
struct StandIn {
    script: Arc<Mutex<Script>>,
    crosses: bool,
    service: Option<Service>,
}

impl StandIn {
    fn new(crosses: bool, probes: &[Result<(), &'static str>]) -> Self {
        Self {
            script: Arc::new(Mutex::new(Script {
                probes: probes.to_vec(),
                ..Script::default()
            })),
            crosses,
            service: None,
        }
    }

    fn by(mut self, target: Target, names: &[Result<&'static str, &'static str>]) -> Self {
        self.service = Some(Service {
            target,
            ports: (5201, 5202),
        });
        self.script.lock().unwrap().names = names.to_vec();
        self
    }
}

fn answer(script: &Mutex<Script>, id: u64, job: Job) -> Vec<Message> {
    let mut script = script.lock().unwrap();
    let done = |result| Message::Done {
        id,
        result: Box::new(result),
    };
    let failed = |error: &str| Message::Failed {
        id,
        error: error.to_owned(),
    };
    match job {
        Job::ServeLatency { port, .. } => {
            let port = if port == 0 { 4000 } else { port };
            vec![Message::Listening { id, port }]
        }
        Job::RunLatency { address, port, .. } => {
            script.asked.push((address, port));
            vec![match next(&mut script.probes) {
                Ok(()) => done(JobResult::Latency(LatencyResult {
                    transactions: 1,
                    seconds: 0.05,
                    latency: LatencyHistogram::new().unwrap(),
                    send_lag: None,
                    saturated: 0,
                    unanswered: 0,
                    total_bytes: 2,
                    peer_address: address,
                    path_mtu: None,
                    mss: None,
                    process_user_seconds: 0.0,
                    process_system_seconds: 0.0,
                })),
                Err(error) => failed(error),
            }]
        }
        Job::Resolve { name } => {
            assert_eq!(name, "p.ns.svc.clusterset.local");
            vec![match next(&mut script.names) {
                Ok(address) => done(JobResult::Address(address.parse().unwrap())),
                Err(error) => failed(error),
            }]
        }
        other => panic!("{other:?}"),
    }
}

impl Fabric for StandIn {
    async fn prepare(&mut self) -> Result<(), FabricError> {
        Ok(())
    }

    async fn launch(&mut self, _: &Place) -> Result<Transport, FabricError> {
        let (input, requests) = tokio::io::duplex(1 << 16);
        let (mut answers, output) = tokio::io::duplex(1 << 16);
        let script = self.script.clone();
        tokio::spawn(async move {
            let mut lines = BufReader::new(requests).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                let messages = match serde_json::from_str(&line).unwrap() {
                    Request::Hello { .. } => vec![Message::Hello {
                        version: VERSION,
                        encapbench: String::new(),
                        machine: String::new(),
                        kernel: String::new(),
                    }],
                    Request::Start { id, job } => answer(&script, id, *job),
                    // The server of a probe, where the probe went well.
                    Request::Stop { id } => vec![Message::Done {
                        id,
                        result: Box::new(JobResult::Nothing),
                    }],
                    Request::Heartbeat => Vec::new(),
                    Request::Quit => return,
                };
                for message in messages {
                    let mut line = serde_json::to_vec(&message).unwrap();
                    line.push(b'\n');
                    if answers.write_all(&line).await.is_err() {
                        return;
                    }
                }
            }
        });
        Ok(Transport {
            input: Box::new(input),
            output: Box::new(output),
            errors: Box::new(tokio::io::empty()),
            kill: Box::new(|| {}),
        })
    }

    fn address(&self, _: &Path, place: &Place) -> Result<IpAddr, FabricError> {
        let last = if place.node() == "a" { 1 } else { 2 };
        Ok(IpAddr::from([10, 1, 0, last]))
    }

    fn service(&self, _: &Path) -> Result<Option<Service>, FabricError> {
        Ok(self.service.clone())
    }

    fn observe(&self, _: &Path) -> Result<Vec<(Place, ObservationRequest)>, FabricError> {
        Ok(Vec::new())
    }

    fn crosses(&self, _: &Path) -> bool {
        self.crosses
    }

    fn describe(&self) -> BTreeMap<String, String> {
        BTreeMap::new()
    }

    async fn release(&mut self) {}
}

fn path(by: By) -> Path {
    let place = |node: &str| Place::Pod {
        pod: "pod".to_owned(),
        node: node.to_owned(),
        mode: VxlanMode::CrossSubnet,
    };
    Path {
        name: "p".to_owned(),
        from: place("a"),
        to: place("b"),
        vxlan_mode: Some(VxlanMode::CrossSubnet),
        expected: Encapsulation::Unknown,
        same_node: false,
        same_subnet: false,
        by,
        crossing: None,
        expect: crate::scenario::Expect::default(),
        user_space: None,
        together_with: Vec::new(),
    }
}

async fn checked(fabric: &mut StandIn, by: By, reached: &mut Reached) -> Result<(), String> {
    let mut workers = Workers::default();
    let found = check(fabric, &mut workers, &path(by), reached).await;
    found.map_err(|error| error.to_string())
}

/// Within a cluster, by addresses, there is nothing to find out: a trial that fails says it all.
#[tokio::test]
async fn within_a_cluster_nothing_is_asked() {
    let mut fabric = StandIn::new(false, &[Err("refused")]);
    checked(&mut fabric, By::Address, &mut Reached::new())
        .await
        .unwrap();
    assert_eq!(fabric.script.lock().unwrap().asked, []);
}

#[tokio::test]
async fn another_cluster_is_asked_once_a_block() {
    for (answer, found) in [(Ok(()), true), (Err("no route to host"), false)] {
        let mut fabric = StandIn::new(true, &[answer]);
        let mut reached = Reached::new();
        for _ in 0..3 {
            assert_eq!(
                checked(&mut fabric, By::Address, &mut reached).await.is_ok(),
                found
            );
        }
        let asked = fabric.script.lock().unwrap().asked.clone();
        assert_eq!(
            asked,
            [("10.1.0.2".parse().unwrap(), 4000)],
            "the next block asks anew"
        );
    }
}

#[tokio::test]
async fn who_is_not_reached_is_told_with_what_to_look_at() {
    let mut fabric = StandIn::new(true, &[Err("no route to host")]);
    let told = checked(&mut fabric, By::Address, &mut Reached::new())
        .await
        .unwrap_err();
    for part in [
        "unreachable: pod@a/CrossSubnet does not reach pod@b/CrossSubnet (10.1.0.2) in the other cluster: ",
        "no route to host",
        "nothing joins the networks of the two clusters",
        "rp_filter",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
}

/// kube-proxy takes a moment until it knows a Service: it is asked for again.
#[tokio::test]
async fn a_new_service_is_given_time() {
    let service = Target::Address("172.16.0.9".parse().unwrap());
    let mut fabric = StandIn::new(false, &[Err("refused"), Err("refused"), Ok(())]).by(service, &[]);
    checked(&mut fabric, By::ClusterIp, &mut Reached::new())
        .await
        .unwrap();
    let asked = fabric.script.lock().unwrap().asked.clone();
    assert_eq!(asked, [("172.16.0.9".parse().unwrap(), 5202); 3]);
}

/// An exported name is asked of the resolver of the place that sends, until it has an address; that is what is asked then.
#[tokio::test]
async fn an_exported_name_is_looked_up_where_it_is_used() {
    let name = Target::Name("p.ns.svc.clusterset.local".to_owned());
    let mut fabric = StandIn::new(true, &[Ok(())]).by(name, &[Err("no such name"), Ok("10.9.0.7")]);
    checked(&mut fabric, By::ExportedService, &mut Reached::new())
        .await
        .unwrap();
    let asked = fabric.script.lock().unwrap().asked.clone();
    assert_eq!(asked, [("10.9.0.7".parse().unwrap(), 5202)]);
}

/// What is said of a Service that is never reached names the Service, and what each kind needs.
#[tokio::test]
async fn what_is_said_of_services_is_of_their_kind() {
    let kinds = [
        (
            By::ClusterIp,
            false,
            Target::Address("172.16.0.9".parse().unwrap()),
            " by the Service at 172.16.0.9: x. Look at kube-proxy",
        ),
        (
            By::ClusterIp,
            true,
            Target::Address("172.16.0.9".parse().unwrap()),
            "the addresses of services must be routed as those of pods are",
        ),
        (
            By::ExportedService,
            true,
            Target::Name("n".to_owned()),
            " by the Service n: x. Where the name has no address, nothing answers for clusterset.local",
        ),
    ];
    for (by, crosses, target, part) in kinds {
        let fabric = StandIn::new(crosses, &[Ok(())]).by(target, &[]);
        let told = advice(&fabric, &path(by), &TrialError::NoWorkload("w".to_owned())).unwrap();
        let told = told.replace("workload w measures nothing", "x");
        assert!(told.contains(part), "{part}: {told}");
    }
}
