//! From figures to places on the page, and the ticks between.

/// An axis from `low` to `high`, laid from `start` to `end` of the page; logarithmic or not.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scale {
    low: f64,
    high: f64,
    start: f64,
    end: f64,
    log: bool,
}

impl Scale {
    pub(super) fn linear((low, high): (f64, f64), (start, end): (f64, f64)) -> Self {
        Self {
            low,
            high: if high > low { high } else { low + 1.0 },
            start,
            end,
            log: false,
        }
    }

    /// Both ends must be above 0; they are moved there if not.
    pub(super) fn log((low, high): (f64, f64), (start, end): (f64, f64)) -> Self {
        let low = low.max(1e-9);
        Self {
            low: low.log10(),
            high: if high > low {
                high.log10()
            } else {
                low.log10() + 1.0
            },
            start,
            end,
            log: true,
        }
    }

    /// Where a figure is on the page; what is outside is put to the end.
    pub(super) fn at(&self, value: f64) -> f64 {
        let value = if self.log { value.max(1e-12).log10() } else { value };
        let part = ((value - self.low) / (self.high - self.low)).clamp(0.0, 1.0);
        self.start + part * (self.end - self.start)
    }

    /// About `count` round figures along the axis.
    pub(super) fn ticks(&self, count: usize) -> Vec<f64> {
        if self.log {
            self.log_ticks(count)
        } else {
            self.linear_ticks(count)
        }
    }

    fn linear_ticks(&self, count: usize) -> Vec<f64> {
        let step = step((self.high - self.low) / count.max(1) as f64);
        let first = (self.low / step).ceil() as i64;
        let last = (self.high / step + 1e-9).floor() as i64;
        (first..=last).map(|n| n as f64 * step).collect()
    }

    fn log_ticks(&self, count: usize) -> Vec<f64> {
        let (first, last) = (self.low.floor() as i32, self.high.ceil() as i32);
        let of = |parts: &[f64]| -> Vec<f64> {
            (first..=last)
                .flat_map(|decade| parts.iter().map(move |part| part * 10_f64.powi(decade)))
                .filter(|value| {
                    let at = value.log10();
                    at >= self.low - 1e-9 && at <= self.high + 1e-9
                })
                .collect()
        };
        let fine = of(&[1.0, 2.0, 5.0]);
        if fine.len() <= count * 2 { fine } else { of(&[1.0]) }
    }
}

/// The round step (1, 2 or 5 times a power of ten) that is not below `rough`.
fn step(rough: f64) -> f64 {
    let power = 10_f64.powi(rough.max(1e-12).log10().floor() as i32);
    let part = rough / power;
    power
        * [1.0, 2.0, 5.0, 10.0]
            .into_iter()
            .find(|step| part <= step + 1e-9)
            .unwrap_or(10.0)
}

/// A tick's figure, without decimals it does not need.
pub(super) fn tick(value: f64) -> String {
    let text = format!("{value:.3}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" {
        "0".to_owned()
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_inside() {
        let scale = Scale::linear((0.0, 1050.0), (0.0, 100.0));
        assert_eq!(scale.ticks(6), [0.0, 200.0, 400.0, 600.0, 800.0, 1000.0]);
        let scale = Scale::log((20.0, 7000.0), (0.0, 100.0));
        assert_eq!(
            scale.ticks(6),
            [20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0]
        );
        assert_eq!(tick(0.5), "0.5");
        assert_eq!(tick(1000.0), "1000");
    }

    #[test]
    fn what_is_outside_is_put_to_the_end() {
        let scale = Scale::log((1.0, 100.0), (0.0, 200.0));
        assert!((scale.at(10.0) - 100.0).abs() < 1e-9);
        assert!((scale.at(1e9) - 200.0).abs() < 1e-9);
        assert!(scale.at(0.0).abs() < 1e-9);
    }
}
