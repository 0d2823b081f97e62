//! Gates that look at the run after each block, and stop it once they know.
//!
//! An ordinary interval that is looked at again and again errs far more often than it says: after each of blocks 5 to
//! 20, one run in ten passes a gate at whose limit it stands. Here every look is planned. Each trial's figure lies on
//! the good or on the bad side of the limit; at the limit itself both are equally probable whatever the distribution
//! (the sign test), so the number of good ones is a symmetric random walk. A gate passes at the first look where so
//! many are good that the walk gets there, at this or an earlier look, with a probability of at most what may have
//! been spent until then; it fails in the mirror image. (Jennison & Turnbull, *Group Sequential Methods*, chapters 7
//! and 12; spending: Lan & DeMets, Biometrika 70, 1983.) The walk's probabilities are computed exactly, not
//! approximated.
//!
//! At the limit a false pass has a probability of at most 2.5 %, and so has a false fail: 5 % together, however many
//! looks. The printed interval describes what was seen; this test alone decides.

/// The probability of a false pass at the limit, and of a false fail: 2.5 % each.
pub const ERROR: f64 = 0.025;
/// What part of it the first look may spend. The 6 of 6 that decide clear cases have 1/64, five eighths of 2.5 %; the
/// rest is spent evenly over the other looks.
const FIRST_LOOK: f64 = 0.625;

/// What a look says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// The median keeps the limits.
    Pass,
    /// The median breaks one.
    Fail,
    /// More blocks are needed.
    Continue,
}

/// A plan of looks: after `at_least` trials and after each further one up to `at_most`.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    first: usize,
    /// How many trials on one side decide, for each look; `None` where no number does.
    needed: Vec<Option<usize>>,
    error: f64,
}

/// The limits that a median should keep; inclusive, as a gate's are.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Limits {
    /// The least that is good enough.
    pub at_least: Option<f64>,
    /// The most that is good enough.
    pub at_most: Option<f64>,
}

impl Plan {
    /// A plan for a run of `at_least` to `at_most` blocks; `None` where these leave nothing to decide on the way.
    pub fn new(at_least: u32, at_most: u32) -> Option<Self> {
        (at_most > at_least && at_least > 0).then(|| Self::of(at_least as usize, at_most as usize))
    }

    fn of(first: usize, last: usize) -> Self {
        // probabilities[k]: k good ones so far, and no look has decided.
        let mut probabilities = vec![0.0; last + 2];
        if let Some(start) = probabilities.first_mut() {
            *start = 1.0;
        }
        let mut error = 0.0;
        let mut needed = Vec::with_capacity(last + 1 - first);
        for count in 1..=last {
            let mut before = 0.0;
            for slot in probabilities.iter_mut().take(count + 1) {
                let here = *slot;
                *slot = f64::midpoint(before, here);
                before = here;
            }
            if count < first {
                continue;
            }
            let share = (count - first) as f64 / (last - first) as f64;
            let allowed = ERROR * (FIRST_LOOK + (1.0 - FIRST_LOOK) * share);
            let mut at_look = None;
            for (good, slot) in probabilities.iter_mut().enumerate().take(count + 1).rev() {
                if error + *slot > allowed {
                    break;
                }
                error += *slot;
                *slot = 0.0;
                at_look = Some(good);
            }
            needed.push(at_look);
        }
        Self { first, needed, error }
    }

    /// The first look, in trials.
    pub fn first(&self) -> usize {
        self.first
    }

    /// The last look, in trials.
    pub fn last(&self) -> usize {
        self.first + self.needed.len() - 1
    }

    /// The exact probability of a false pass at the limit when every look is taken, which is that of a false fail.
    pub fn error(&self) -> f64 {
        self.error
    }

    /// How many of `count` trials must be on one side of a limit to decide; `None` where no look is planned there or
    /// no number is enough.
    pub fn needed(&self, count: usize) -> Option<usize> {
        count
            .checked_sub(self.first)
            .and_then(|look| self.needed.get(look).copied().flatten())
    }

    /// What the looks say over the figures so far, in the order of blocks, and at how many trials they said it. A
    /// decision stands whatever comes after it; what is beyond the last look is not looked at.
    ///
    /// Of a gate with both limits each is decided by itself: it passes once both have passed and fails once either
    /// has failed.
    pub fn decide(&self, figures: &[f64], limits: Limits) -> (Decision, usize) {
        let sides: Vec<(Decision, usize)> = [
            // The limit itself is good: a median beyond it leaves at most half of all figures at it or better.
            limits
                .at_least
                .map(|limit| self.decide_side(figures, |figure| figure >= limit)),
            limits
                .at_most
                .map(|limit| self.decide_side(figures, |figure| figure <= limit)),
        ]
        .into_iter()
        .flatten()
        .collect();
        let failed = sides.iter().filter(|(decision, _)| *decision == Decision::Fail);
        if let Some(at) = failed.map(|(_, at)| *at).min() {
            return (Decision::Fail, at);
        }
        let looked_at = figures.len().min(self.last());
        if sides.iter().any(|(decision, _)| *decision == Decision::Continue) {
            return (Decision::Continue, looked_at);
        }
        let last = sides.iter().map(|(_, at)| *at).max();
        (Decision::Pass, last.unwrap_or(looked_at))
    }

    fn decide_side(&self, figures: &[f64], good: impl Fn(f64) -> bool) -> (Decision, usize) {
        let mut good_ones = 0;
        for (index, figure) in figures.iter().take(self.last()).enumerate() {
            good_ones += usize::from(good(*figure));
            let count = index + 1;
            let Some(needed) = self.needed(count) else {
                continue;
            };
            if good_ones >= needed {
                return (Decision::Pass, count);
            }
            if count - good_ones >= needed {
                return (Decision::Fail, count);
            }
        }
        (Decision::Continue, figures.len().min(self.last()))
    }
}

#[cfg(test)]
mod tests;
