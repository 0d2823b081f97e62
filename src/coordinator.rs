//! The coordinator: drives a plan over a fabric, block by block, and records each trial as it ends.
//!
//! It emits [`Event`]s and appends to the run folder; it prints nothing.

mod closed;
mod idle;
mod link;
mod pairs;
mod reach;
mod search;
mod trial;

pub use link::{JobHandle, Link, LinkError};

use crate::{
    analysis,
    evidence::{EvidenceState, RawEvidence, Verdict},
    fabric::{Fabric, FabricError},
    gate,
    run::{CongestionChoice, Event, Folder, FolderError, Manifest, Outcome, Trial},
    scenario::{Case, Place, Plan},
    worker::protocol::{Job, JobResult, chain},
};
use jiff::Timestamp;
use reach::Reached;
use std::{
    collections::{BTreeSet, HashMap, HashSet},
    net::IpAddr,
    time::{Duration, Instant},
};
use tokio::{sync::watch, task::JoinSet};

/// How long looking at a node, or a probe of congestion control, may take.
const GLANCE: Duration = Duration::from_secs(10);

/// Why a run ended before its plan was done. What was measured until then is in the run folder.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The fabric can't provide its places.
    #[error(transparent)]
    Fabric(#[from] FabricError),
    /// The run folder can't be written.
    #[error(transparent)]
    Folder(#[from] FolderError),
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Its plan is done.
    Done,
    /// It was interrupted.
    Interrupted,
}

/// Which (block, case) pairs a trial log has measured or failed: those are not run again on resume.
fn recorded(trials: &[Trial]) -> HashSet<(u32, String)> {
    trials
        .iter()
        .filter(|trial| trial.outcome != Outcome::Interrupted)
        .map(|trial| (trial.block, trial.case.clone()))
        .collect()
}

/// The congestion controls that a run without a wish of its own asks for, the first best: cubic is what clusters run.
pub fn wanted_congestion() -> Vec<String> {
    ["cubic", "reno"].map(str::to_owned).to_vec()
}

/// Everything that a run needs.
pub struct Coordinator<'a, F> {
    /// Where the places are.
    pub fabric: &'a mut F,
    /// What is run.
    pub plan: &'a Plan,
    /// Where it is recorded.
    pub folder: &'a mut Folder,
    /// What was recorded before, on resume, and what is recorded now.
    pub trials: Vec<Trial>,
    /// The congestion control chosen; found out in the first block where it is not known yet.
    pub congestion: Option<CongestionChoice>,
    /// Becomes true when the user interrupts.
    pub interrupt: watch::Receiver<bool>,
    /// Told what happens.
    pub on_event: &'a mut (dyn FnMut(Event) + Send),
}

impl<F: Fabric> Coordinator<'_, F> {
    /// Runs all blocks that are not recorded yet. `manifest` is completed with what is known only once workers run,
    /// and written before the first trial.
    ///
    /// # Errors
    /// Where the fabric can't be prepared or the run folder can't be written. A trial that fails is no error: it is
    /// recorded as failed and the rest goes on.
    pub async fn run(&mut self, manifest: &mut Manifest) -> Result<Ended, RunError> {
        let recorded = recorded(&self.trials);
        let (least, most) = (self.plan.blocks.at_least, self.plan.blocks.most());
        let todo = |block: u32| -> Vec<(u32, &Case)> {
            (1_u32..)
                .zip(self.plan.order(block))
                .filter_map(|(position, index)| Some((position, self.plan.cases.get(index)?)))
                .filter(|(_, case)| !recorded.contains(&(block, case.slug.clone())))
                .collect()
        };
        let certain: Vec<_> = (1..=least).map(todo).filter(|order| !order.is_empty()).collect();
        let estimate = certain
            .iter()
            .map(|order| {
                Plan::BLOCK_OVERHEAD
                    + order
                        .iter()
                        .map(|(_, case)| Plan::trial_time(case))
                        .sum::<Duration>()
            })
            .sum();
        let trials: usize = certain.iter().map(Vec::len).sum();
        (self.on_event)(Event::RunStarted {
            trials: u32::try_from(trials).unwrap_or(u32::MAX),
            blocks: least,
            at_most: most,
            estimate,
        });
        let mut ended = Ended::Done;
        for block in 1..=most {
            if block > least && !self.undecided(manifest) {
                break;
            }
            let order = todo(block);
            if order.is_empty() {
                continue;
            }
            if self.interrupted() {
                ended = Ended::Interrupted;
                break;
            }
            (self.on_event)(Event::BlockStarted {
                block,
                trials: u32::try_from(order.len()).unwrap_or(u32::MAX),
                estimate: order.iter().map(|(_, case)| Plan::trial_time(case)).sum(),
            });
            let result = self.block(block, &order, manifest).await;
            // Whatever happened, the block's places are taken down before anything else is said.
            self.fabric.release().await;
            if result? == Ended::Interrupted {
                ended = Ended::Interrupted;
                break;
            }
        }
        (self.on_event)(Event::RunFinished {
            interrupted: ended == Ended::Interrupted,
        });
        Ok(ended)
    }

    /// Names of gates that further blocks may decide; says so to the user.
    fn undecided(&mut self, manifest: &Manifest) -> bool {
        let summary = analysis::summarise(manifest, &self.trials);
        let open = gate::open_gates(manifest, &summary);
        if !open.is_empty() {
            (self.on_event)(Event::Undecided {
                gates: open.iter().map(|gate| (*gate).to_owned()).collect(),
            });
        }
        !open.is_empty()
    }

    fn interrupted(&self) -> bool {
        *self.interrupt.borrow()
    }

    async fn block(
        &mut self,
        block: u32,
        order: &[(u32, &Case)],
        manifest: &mut Manifest,
    ) -> Result<Ended, RunError> {
        let begun = Instant::now();
        let mut interrupt = self.interrupt.clone();
        tokio::select! {
            prepared = self.fabric.prepare() => prepared?,
            () = interrupted(&mut interrupt) => return Ok(Ended::Interrupted),
        }
        (self.on_event)(Event::FabricReady {
            block,
            took: begun.elapsed(),
        });
        let mut workers = Workers::default();
        let mut reached = Reached::new();
        if self.congestion.is_none() {
            let choice = self.choose_congestion(&mut workers).await;
            if choice.used.as_ref() != choice.wanted.first() {
                let used = choice
                    .used
                    .as_deref()
                    .unwrap_or("whatever each kernel defaults to");
                (self.on_event)(Event::Warning(format!(
                    "not every worker can use {}: all trials use {used}",
                    choice
                        .wanted
                        .first()
                        .map_or("the wanted congestion control", String::as_str)
                )));
            }
            manifest.congestion = choice.clone();
            manifest.fabric = self.fabric.describe();
            for case in &mut manifest.cases {
                case.path.user_space = self.fabric.user_space(&case.path);
            }
            let mut text = serde_json::to_string_pretty(manifest).unwrap_or_default();
            text.push('\n');
            self.folder.write(crate::run::MANIFEST, text.as_bytes())?;
            self.congestion = Some(choice);
        }
        for (position, case) in order {
            if self.interrupted() {
                return Ok(Ended::Interrupted);
            }
            (self.on_event)(Event::TrialStarted {
                block,
                position: *position,
                path: case.path.name.clone(),
                workload: case.workload.name.clone(),
                estimate: Plan::trial_time(case),
            });
            let trial = self
                .trial(block, *position, case, &mut workers, &mut reached)
                .await;
            self.folder.append(&trial)?;
            let interrupted = trial.outcome == Outcome::Interrupted;
            if matches!(trial.outcome, Outcome::Failed { .. }) {
                // The next trial must not inherit a worker that may be half through this one.
                workers.0.clear();
            }
            self.trials.push(trial.clone());
            (self.on_event)(Event::TrialFinished(Box::new(trial)));
            if interrupted {
                return Ok(Ended::Interrupted);
            }
        }
        Ok(Ended::Done)
    }

    /// Runs one trial to its end, whatever that is.
    async fn trial(
        &mut self,
        block: u32,
        position: u32,
        case: &Case,
        workers: &mut Workers,
        reached: &mut Reached,
    ) -> Trial {
        let started = Timestamp::now();
        let begun = Instant::now();
        let mut trial = Trial {
            block,
            position,
            case: case.slug.clone(),
            started,
            seconds: 0.0,
            outcome: Outcome::Measured,
            throughput: None,
            sender: None,
            search: Vec::new(),
            latency: None,
            load: None,
            pairs: Vec::new(),
            probe: None,
            cpu: Vec::new(),
            hops: Vec::new(),
            evidence: RawEvidence::default(),
            verdict: Verdict {
                state: EvidenceState::Unknown,
                tunnel_share: None,
                underlay_share: None,
                reasons: vec!["the trial did not end".to_owned()],
            },
        };
        let congestion = self.congestion.as_ref().and_then(|choice| choice.used.clone());
        let mut interrupt = self.interrupt.clone();
        let measure = async {
            if !case.path.expect.is_reachable() {
                trial.probe = Some(closed::probe(self.fabric, workers, &case.path).await?);
                return Ok(());
            }
            reach::check(self.fabric, workers, &case.path, reached).await?;
            trial::measure(self.fabric, workers, case, congestion.as_deref(), &mut trial).await
        };
        let measured = tokio::select! {
            measured = measure => Some(measured),
            () = interrupted(&mut interrupt) => None,
        };
        match measured {
            None => trial.outcome = Outcome::Interrupted,
            Some(Err(error)) => trial.outcome = Outcome::Failed { error: chain(&error) },
            Some(Ok(())) if let Some(seen) = &trial.probe => {
                trial.verdict = crate::evidence::judge_closed(seen);
                if trial.verdict.state == EvidenceState::Confirmed {
                    trial.outcome = Outcome::Unreachable;
                }
            }
            Some(Ok(())) => {
                trial.verdict = crate::evidence::judge_path(&case.path, &trial.evidence);
            }
        }
        trial.seconds = begun.elapsed().as_secs_f64();
        trial
    }

    /// The first wanted congestion control that every place of the plan can set.
    async fn choose_congestion(&mut self, workers: &mut Workers) -> CongestionChoice {
        let wanted = wanted_congestion();
        let mut usable = wanted.clone();
        let places: BTreeSet<&Place> = self
            .plan
            .cases
            .iter()
            .flat_map(|case| case.path.places())
            .collect();
        // One that can't be started shows in its trials.
        let _ = workers.start_all(self.fabric, &places).await;
        let asked: Vec<_> = places
            .iter()
            .filter_map(|place| workers.running(place).ok())
            .map(|link| {
                link.start(Job::ProbeCongestion {
                    wanted: wanted.clone(),
                })
            })
            .collect();
        for answer in asked {
            if let Ok(JobResult::Congestion(able)) = answer.done(GLANCE).await {
                usable.retain(|name| able.contains(name));
            }
        }
        CongestionChoice {
            used: usable.into_iter().next(),
            wanted,
        }
    }
}

/// Waits until the user interrupts.
async fn interrupted(interrupt: &mut watch::Receiver<bool>) {
    // A sender that is gone can't interrupt any more.
    if interrupt.wait_for(|stopped| *stopped).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// The workers of a block: one a place, started when first needed.
#[derive(Default)]
pub(crate) struct Workers(HashMap<Place, Link>, HashMap<String, IpAddr>);

impl Workers {
    /// Notes which address a worker found for a name.
    fn note(&mut self, name: String, address: IpAddr) {
        self.1.insert(name, address);
    }

    /// What was noted of a name.
    fn address_of(&self, name: &str) -> Option<IpAddr> {
        self.1.get(name).copied()
    }

    /// Makes sure that a place has a worker that lives.
    async fn start<F: Fabric>(&mut self, fabric: &mut F, place: &Place) -> Result<(), trial::TrialError> {
        if self.0.get(place).is_some_and(Link::is_alive) {
            return Ok(());
        }
        let transport = fabric.launch(place).await?;
        let link = Link::greet(&place.to_string(), transport).await?;
        self.0.insert(place.clone(), link);
        Ok(())
    }

    /// The same of many places: they are launched one after the other, and greeted together. All are tried, whatever
    /// becomes of the others; the first error is returned.
    async fn start_all<F: Fabric>(
        &mut self,
        fabric: &mut F,
        places: &BTreeSet<&Place>,
    ) -> Result<(), trial::TrialError> {
        let mut greetings = JoinSet::new();
        let mut first = Ok(());
        for place in places {
            if self.0.get(*place).is_some_and(Link::is_alive) {
                continue;
            }
            match fabric.launch(place).await {
                Ok(transport) => {
                    let place = Place::clone(place);
                    greetings.spawn(async move {
                        let link = Link::greet(&place.to_string(), transport).await;
                        (place, link)
                    });
                }
                Err(error) => first = first.and(Err(error.into())),
            }
        }
        while let Some(greeted) = greetings.join_next().await {
            match greeted {
                Ok((place, Ok(link))) => {
                    self.0.insert(place, link);
                }
                Ok((_, Err(error))) => first = first.and(Err(error.into())),
                // A task of ours that panicked; its place has no worker, which the trial finds.
                Err(error) => tracing::warn!("a greeting broke off: {error}"),
            }
        }
        first
    }

    /// A worker that was started.
    fn running(&self, place: &Place) -> Result<&Link, trial::TrialError> {
        self.0
            .get(place)
            .ok_or_else(|| trial::TrialError::NotStarted(place.to_string()))
    }
}
