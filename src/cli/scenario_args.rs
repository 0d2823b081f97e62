//! What commands that read a scenario share: the file, and what the command line changes of it.

use super::{Failure, text};
use crate::{
    scenario::{self, Blocks, Overrides, Plan, Scenario},
    units::Span,
};
use clap::Args;
use std::{path::PathBuf, time::Duration};

/// The scenario and its overrides.
#[derive(Debug, Clone, Args)]
pub struct ScenarioArgs {
    /// The scenario file; `scenarios/` has one a question
    #[arg(value_name = "SCENARIO")]
    pub scenario: Option<PathBuf>,
    /// Run N blocks, neither less nor more
    #[arg(long, value_name = "N")]
    pub blocks: Option<u32>,
    /// Add blocks until every gate is decided, as many as fit into about T, such as 10m; no fewer than `at-least`
    #[arg(long, value_name = "T", conflicts_with = "blocks")]
    pub budget: Option<Span>,
    /// Measure each workload for T, such as 500ms or 10s
    #[arg(long, value_name = "T")]
    pub duration: Option<Span>,
    /// Only these cases: a glob on path/workload, or the whole name of a path or workload; may be given again
    #[arg(long, value_name = "PATTERN")]
    pub only: Vec<String>,
    /// Draw the order of trials from this seed; a random one if left out
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
}

/// How many blocks of `plan` fit into `budget`, by the time that a block is estimated to take.
fn fitting(plan: &Plan, budget: Span) -> Result<u32, Failure> {
    let least = plan.blocks.at_least;
    if budget.get() < plan.least_time() {
        return Err(Failure::Usage(format!(
            "--budget {budget} is too short: the least number of blocks, {least}, takes about {}",
            Span(Duration::from_secs(plan.least_time().as_secs() + 1))
        )));
    }
    let block = plan.block_time().as_nanos().max(1);
    let blocks = u32::try_from(budget.get().as_nanos() / block).unwrap_or(u32::MAX);
    Ok(blocks.clamp(least, Blocks::MOST))
}

impl ScenarioArgs {
    /// Reads the scenario file.
    ///
    /// # Errors
    /// Where none is named, it can't be read, or it is no valid scenario.
    pub fn scenario(&self) -> Result<Scenario, Failure> {
        let Some(file) = &self.scenario else {
            return Err(Failure::Usage(
                "name a scenario file, such as scenarios/calico-vxlan.yaml".to_owned(),
            ));
        };
        let text = text::read("scenario", file)?;
        scenario::parse(&text, &file.display().to_string())
            .map_err(|error| Failure::BadFile(error.to_string()))
    }

    /// The plan of the scenario with its overrides.
    ///
    /// # Errors
    /// As [`Self::scenario`], and where an override does not fit.
    pub fn plan(&self) -> Result<Plan, Failure> {
        self.plan_of(self.scenario()?)
    }

    /// The plan of any scenario with the overrides.
    ///
    /// # Errors
    /// Where an override does not fit.
    pub fn plan_of(&self, mut scenario: Scenario) -> Result<Plan, Failure> {
        let overrides = Overrides {
            blocks: self.blocks,
            duration: self.duration,
            only: self.only.clone(),
        };
        let seed = self.seed.unwrap_or_else(rand::random);
        let plan = |scenario: &Scenario| {
            Plan::new(scenario, &overrides, seed).map_err(|error| Failure::Usage(error.to_string()))
        };
        let planned = plan(&scenario)?;
        let Some(budget) = self.budget else {
            return Ok(planned);
        };
        scenario.blocks.at_most = Some(fitting(&planned, budget)?);
        plan(&scenario)
    }
}
