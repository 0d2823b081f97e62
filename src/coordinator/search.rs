//! The search for the highest rate whose loss stays under a limit, in the manner of RFC 2544's throughput test
//! (section 26.1): a rate is tried, and the next is lower after loss and higher without. Pure: the tests themselves
//! are run by the trial.
//!
//! RFC 2544 begins at the medium's theoretical rate; here nobody knows that, so the first test is unlimited, and what
//! then arrived is the first guess.

use crate::{measure::SearchStep, scenario::HighestRate};

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Next {
    /// Test this rate, in bits a second; `None`: unlimited.
    Try(Option<u64>),
    /// The search is over.
    Done,
}

/// A search that goes on.
#[derive(Debug, Clone)]
pub(super) struct RateSearch {
    /// The largest share of datagrams that may be lost.
    limit: f64,
    /// The search ends once the bounds are this near, as a share of the upper one.
    precision: f64,
    /// The highest rate known to keep the limit.
    passed: f64,
    /// The lowest rate known to break it.
    broke: Option<f64>,
    tests: u32,
}

impl RateSearch {
    /// A search that has tried nothing yet.
    pub(super) fn new(wanted: &HighestRate) -> Self {
        Self {
            limit: wanted.loss_at_most.share(),
            precision: wanted.within.share().max(1e-4),
            passed: 0.0,
            broke: None,
            tests: 0,
        }
    }

    /// Takes a test's result; whether it kept the limit.
    pub(super) fn record(&mut self, tried: SearchStep) -> bool {
        self.tests += 1;
        let kept = tried.loss <= self.limit;
        if kept {
            self.passed = self.passed.max(tried.sent);
        } else {
            let broke = self.broke.map_or(tried.sent, |known| known.min(tried.sent));
            self.broke = Some(broke);
            // A rate that passed by luck does not stand above one that broke.
            if self.passed >= broke {
                self.passed = 0.0;
            }
        }
        kept
    }

    /// What comes next after `last`.
    pub(super) fn next(&self, last: Option<SearchStep>) -> Next {
        let Some(last) = last else { return Next::Try(None) };
        // The unlimited test passed: nothing faster can be sent here.
        let Some(broke) = self.broke else {
            return Next::Done;
        };
        if self.tests >= HighestRate::MOST_TESTS || broke - self.passed <= self.precision * broke {
            return Next::Done;
        }
        let middle = f64::midpoint(self.passed, broke);
        // What arrived of too much is a better guess than the middle, while nothing has passed.
        let guess = if self.passed == 0.0 && last.arrived > 0.0 && last.arrived < broke {
            last.arrived * (1.0 - self.precision)
        } else {
            middle
        };
        let rate = guess.clamp(1.0, broke);
        Next::Try(Some(rate as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Percent;
    use proptest::prelude::*;

    fn wanted(limit: f64, precision: f64) -> HighestRate {
        let share = |share: f64| Percent::from_millionths((share * 1e6) as u32).unwrap();
        HighestRate {
            loss_at_most: share(limit),
            within: share(precision),
        }
    }

    /// A path that carries `capacity` bits a second, and a sender that can send `top`.
    fn search(capacity: f64, top: f64, limit: f64, precision: f64) -> (Option<f64>, u32) {
        let mut search = RateSearch::new(&wanted(limit, precision));
        let (mut last, mut best, mut tests) = (None, None::<f64>, 0);
        while let Next::Try(rate) = search.next(last) {
            let sent = rate.map_or(top, |rate| (rate as f64).min(top));
            let arrived = sent.min(capacity);
            let tried = SearchStep {
                asked: rate,
                sent,
                arrived,
                loss: 1.0 - arrived / sent,
            };
            if search.record(tried) {
                best = Some(best.map_or(sent, |best| best.max(sent)));
            }
            last = Some(tried);
            tests += 1;
            assert!(tests <= HighestRate::MOST_TESTS, "it ends");
        }
        (best, tests)
    }

    #[test]
    fn a_path_faster_than_the_sender_takes_one_test() {
        assert_eq!(search(10e9, 1e9, 0.001, 0.02), (Some(1e9), 1));
    }

    #[test]
    fn a_path_that_loses_whatever_is_sent_ends_without_a_rate() {
        let mut search = RateSearch::new(&wanted(0.001, 0.02));
        let mut last = None;
        let mut tests = 0;
        while let Next::Try(_) = search.next(last) {
            let tried = SearchStep {
                asked: None,
                sent: 1e9,
                arrived: 0.0,
                loss: 1.0,
            };
            assert!(!search.record(tried));
            last = Some(tried);
            tests += 1;
        }
        assert!(tests <= HighestRate::MOST_TESTS);
    }

    proptest! {
        /// For all capacities: what is found keeps the limit and lies within the precision below what the path carries.
        #[test]
        fn finds_what_the_path_carries(capacity in 1e6..1e10_f64, factor in 1.05..30.0_f64, limit in 0.0..0.02_f64) {
            let (best, _) = search(capacity, capacity * factor, limit, 0.02);
            let best = best.unwrap();
            prop_assert!(best <= capacity / (1.0 - limit) * 1.000_001, "{best} of {capacity}");
            prop_assert!(best >= capacity * 0.95, "{best} of {capacity}");
        }
    }
}
