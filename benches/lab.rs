//! How long a lab takes to come up and to go: the usual one of 3 nodes and 6 pods, and one of 50 nodes and 100 pods.
//! `cargo bench --bench lab`; builds namespaces, so as an ordinary user it needs user namespaces.

#![expect(clippy::print_stderr, reason = "a bench that can't run says so")]

use criterion::{Criterion, criterion_group};
use encapbench::fabric::lab::{self, RunningLab, pods_everywhere};
use encapbench::scenario::{Calico, Cluster, Lab, NicProfile, RpFilter, Subnet};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

fn lab(subnets: &[usize]) -> Lab {
    let subnet = |(index, nodes): (usize, &usize)| Subnet {
        nodes: (0..*nodes).map(|node| format!("east-{index}-{node}")).collect(),
        cidr: None,
    };
    Lab {
        nic: NicProfile::default(),
        submariner: None,
        faults: Vec::new(),
        clusters: vec![Cluster {
            name: "east".to_owned(),
            subnets: subnets.iter().enumerate().map(subnet).collect(),
            gateway: None,
            rp_filter: RpFilter::default(),
            rp_filter_of: BTreeMap::new(),
            calico: Calico::default(),
            firewall: None,
        }],
    }
}

fn build(lab: &Lab) -> Option<RunningLab> {
    RunningLab::build("bench", lab, &pods_everywhere(lab))
        .map_err(|error| eprintln!("SKIPPED: no lab can be built here: {error}"))
        .ok()
}

fn set_up(criterion: &mut Criterion) {
    for (name, subnets) in [
        ("3 nodes, 6 pods", vec![2, 1]),
        ("50 nodes, 100 pods", vec![25, 25]),
    ] {
        let lab = lab(&subnets);
        if build(&lab).is_none() {
            return;
        }
        let mut group = criterion.benchmark_group(name);
        group.sample_size(10).measurement_time(Duration::from_secs(10));
        group.bench_function("set up", |bencher| {
            bencher.iter_custom(|rounds| (0..rounds).map(|_| timed(|| build(&lab)).1).sum());
        });
        group.bench_function("take down", |bencher| {
            bencher.iter_custom(|rounds| {
                (0..rounds)
                    .map(|_| {
                        let built = build(&lab);
                        timed(|| drop(built)).1
                    })
                    .sum()
            });
        });
    }
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let begun = Instant::now();
    let result = work();
    (result, begun.elapsed())
}

criterion_group!(benches, set_up);

fn main() {
    // Before criterion starts threads: the kernel refuses a user namespace to a process with two.
    if let Err(error) = lab::enter_user_namespace() {
        eprintln!("SKIPPED: no lab can be built here: {error}");
        return;
    }
    benches();
    Criterion::default().configure_from_args().final_summary();
}
