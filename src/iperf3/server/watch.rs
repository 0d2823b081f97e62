//! Limits on a running test: how much it may move, and how long it may be silent.

use crate::iperf3::{session::Session, wire::ErrorCode};
use std::{collections::VecDeque, time::Duration};

/// How often we look.
const LOOK: Duration = Duration::from_millis(100);

/// What was seen so far.
#[derive(Debug)]
pub(super) struct Watch {
    rate_limit: Option<(u64, Duration)>,
    patience: Option<Duration>,
    /// Bytes moved, at times of at most the limit's averaging time ago, and one before.
    seen: VecDeque<(Duration, u64)>,
    /// When bytes last came, and how many there were then.
    last: Option<(Duration, u64)>,
}

impl Watch {
    pub(super) const fn new(rate_limit: Option<(u64, Duration)>, patience: Option<Duration>) -> Self {
        Self {
            rate_limit,
            patience,
            seen: VecDeque::new(),
            last: None,
        }
    }

    /// How long until the next look.
    pub(super) fn due_in(&self) -> Option<Duration> {
        (self.rate_limit.is_some() || self.patience.is_some()).then_some(LOOK)
    }

    pub(super) fn look(&mut self, session: &Session, now: Duration) -> Result<(), ErrorCode> {
        // Stock looks at tests in which it receives; a client that reads nothing would hold us for ever without this.
        self.judge(session.moved(), now, self.patience)
    }

    fn judge(&mut self, moved: u64, now: Duration, patience: Option<Duration>) -> Result<(), ErrorCode> {
        if let Some((limit, over)) = self.rate_limit {
            self.seen.push_back((now, moved));
            while self
                .seen
                .get(1)
                .is_some_and(|(time, _)| now.saturating_sub(*time) >= over)
            {
                self.seen.pop_front();
            }
            if let Some((time, before)) = self.seen.front() {
                let span = now.saturating_sub(*time);
                let bits = moved.saturating_sub(*before) as f64 * 8.0;
                if span >= over && bits / span.as_secs_f64() > limit as f64 {
                    return Err(ErrorCode::new(ErrorCode::TOTAL_RATE));
                }
            }
        }
        match (patience, self.last) {
            (Some(patience), Some((since, bytes))) if bytes == moved => {
                if now.saturating_sub(since) >= patience {
                    return Err(ErrorCode::new(ErrorCode::NO_DATA));
                }
            }
            _ => self.last = Some((now, moved)),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(time: u64) -> Duration {
        Duration::from_millis(time)
    }

    #[test]
    fn a_rate_counts_over_its_whole_time() {
        let mut watch = Watch::new(Some((8000, millis(1000))), None);
        // 1000 bytes a second is just allowed, whatever a single look sees.
        for tick in 0..30 {
            let moved = if tick < 10 { 0 } else { tick * 100 };
            let verdict = watch.judge(moved, millis(tick * 100), None);
            // From tick 10 on, 1000 bytes came at once: over one second that is still 1000.
            assert_eq!(
                verdict.is_err(),
                (11..20).contains(&tick) && moved > 1000,
                "{tick}"
            );
            if verdict.is_err() {
                return;
            }
        }
    }

    #[test]
    fn silence_is_measured_from_the_last_byte() {
        let mut watch = Watch::new(None, Some(millis(500)));
        let patience = Some(millis(500));
        for (time, moved, good) in [
            (0, 0, true),
            (400, 0, true),
            (450, 1, true),
            (900, 1, true),
            (960, 1, false),
        ] {
            assert_eq!(watch.judge(moved, millis(time), patience).is_ok(), good, "{time}");
        }
        assert!(
            watch.judge(1, millis(5000), None).is_ok(),
            "who only sends waits for nothing"
        );
    }
}
