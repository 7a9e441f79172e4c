//! The open loop's schedule: when each message is meant to be sent, whatever became of those before it.
//!
//! The k-th arrival of a constant rate is at k / rate; those of a Poisson process have exponential times between them. While
//! the rate comes up over a ramp of R it is rate * t / R, so the arrival that unit time u stands for is at sqrt(2 u R / rate).
//! Each of several workers has its own part: every n-th arrival of a constant rate, an independent process of a Poisson one.

use std::time::Duration;

use stratamx_tools::draw::Random;

/// How arrivals are spread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Spread {
    /// As far apart from each other.
    Constant,
    /// As independent senders are.
    Poisson,
}

/// One worker's arrivals.
#[derive(Debug)]
pub(crate) struct Arrivals {
    rate: f64,
    ramp: f64,
    workers: f64,
    /// Arrivals of all workers that were meant to be before the next.
    units: f64,
    random: Option<Random>,
}

impl Arrivals {
    /// Those of a worker, from 0 of `workers`.
    #[allow(clippy::cast_precision_loss, reason = "workers are few")]
    pub(crate) fn new(
        (rate, spread): (f64, Spread),
        ramp: Duration,
        (worker, workers): (usize, usize),
        seed: u64,
    ) -> Self {
        let random = (spread == Spread::Poisson).then(|| Random::new(!seed, worker as u64));
        Self { rate, ramp: ramp.as_secs_f64(), workers: workers as f64, units: worker as f64, random }
    }

    /// When the next is meant to be sent, from the start of the run.
    pub(crate) fn next(&mut self) -> Duration {
        let units = match &mut self.random {
            None => {
                let units = self.units;
                self.units += self.workers;
                units
            }
            Some(random) => {
                self.units += self.workers * random.exponential();
                self.units
            }
        };
        Duration::try_from_secs_f64(self.time(units)).unwrap_or(Duration::MAX)
    }

    fn time(&self, units: f64) -> f64 {
        let in_ramp = self.rate * self.ramp / 2.0;
        if units < in_ramp {
            (2.0 * units * self.ramp / self.rate).sqrt()
        } else {
            self.ramp + (units - in_ramp) / self.rate
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(spread: Spread, ramp: u64, (worker, workers): (usize, usize), count: usize) -> Vec<f64> {
        let mut arrivals = Arrivals::new((100.0, spread), Duration::from_secs(ramp), (worker, workers), 1);
        (0..count).map(|_| arrivals.next().as_secs_f64()).collect()
    }

    #[test]
    fn a_constant_rate_is_kept_by_all_workers_together() {
        let both = [times(Spread::Constant, 0, (0, 2), 3), times(Spread::Constant, 0, (1, 2), 3)];
        let expected = [[0.0, 0.02, 0.04], [0.01, 0.03, 0.05]];
        for (seen, expected) in both.iter().flatten().zip(expected.iter().flatten()) {
            assert!((seen - expected).abs() < 1e-6, "{both:?}");
        }
    }

    #[test]
    fn a_poisson_process_has_its_mean_and_its_spread() {
        let count = 20_000;
        let times = times(Spread::Poisson, 0, (1, 2), count);
        let gaps: Vec<f64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let samples = f64::from(u32::try_from(gaps.len()).unwrap());
        let mean = gaps.iter().sum::<f64>() / samples;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / samples;
        assert!((mean - 0.02).abs() < 0.001, "one of two workers has half of the rate: {mean}");
        assert!((variance.sqrt() / mean - 1.0).abs() < 0.05, "exponential: {variance}");
    }

    #[test]
    fn a_ramp_brings_the_rate_up() {
        let times = times(Spread::Constant, 10, (0, 1), 1501);
        let within = |from: f64, to: f64| times.iter().filter(|time| (from..to).contains(*time)).count();
        assert!((45..=55).contains(&within(0.0, 3.16)), "{}", within(0.0, 3.16));
        assert!((440..=460).contains(&(within(0.0, 10.0) - within(0.0, 3.16))));
        assert!((99..=101).contains(&within(12.0, 13.0)));
    }
}
