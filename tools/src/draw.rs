//! Numbers drawn at random, the same ones everywhere for the same seed: uniform, by Zipf's law, log-normal, exponential.

use std::ops::RangeInclusive;

/// SplitMix64: small, and the same everywhere.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The numbers of `stream` under this seed.
    pub fn new(seed: u64, stream: u64) -> Self {
        let mut random = Self(seed);
        let start = random.draw() ^ stream;
        Self(start)
    }

    /// 64 bits.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Each of the range is as likely.
    pub fn within(&mut self, range: &RangeInclusive<u64>) -> u64 {
        range.start() + self.draw() % (range.end() - range.start() + 1)
    }

    /// Above 0, up to 1.
    #[allow(clippy::cast_precision_loss, reason = "53 bits are what a fraction has")]
    pub fn fraction(&mut self) -> f64 {
        ((self.draw() >> 11) + 1) as f64 / (1_u64 << 53) as f64
    }

    /// Exponential with mean 1: the time between two arrivals that know nothing of each other.
    pub fn exponential(&mut self) -> f64 {
        -self.fraction().ln()
    }

    /// Normal with mean 0 and deviation 1 (Box and Muller).
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * self.fraction().ln()).sqrt();
        radius * (core::f64::consts::TAU * self.fraction()).cos()
    }
}

/// Ranks from 0 by Zipf's law: rank k is drawn in proportion to 1 / (k + 1)^s; s = 0: each as likely.
///
/// By rejection-inversion (Hoermann and Derflinger 1996): no table, whatever the number of ranks.
#[derive(Clone, Debug)]
pub struct Zipf {
    ranks: u64,
    exponent: f64,
    low: f64,
    high: f64,
    shortcut: f64,
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "ranks are clamped to their range"
)]
impl Zipf {
    /// # Panics
    /// Without a rank, or with an exponent below 0.
    pub fn new(ranks: u64, exponent: f64) -> Self {
        assert!(ranks > 0 && exponent >= 0.0, "there is a rank, and lower ones are not likelier");
        let mut zipf = Self { ranks, exponent, low: 0.0, high: 0.0, shortcut: 0.0 };
        zipf.low = zipf.area(1.5) - 1.0;
        zipf.high = zipf.area(ranks as f64 + 0.5);
        zipf.shortcut = 2.0 - zipf.rank_at(zipf.area(2.5) - zipf.weight(2.0));
        zipf
    }

    /// A rank from 0.
    pub fn draw(&self, random: &mut Random) -> u64 {
        if self.exponent == 0.0 {
            return random.draw() % self.ranks;
        }
        loop {
            let at = self.high + random.fraction() * (self.low - self.high);
            let exact = self.rank_at(at);
            let rank = exact.round().clamp(1.0, self.ranks as f64);
            if rank - exact <= self.shortcut || at >= self.area(rank + 0.5) - self.weight(rank) {
                return rank as u64 - 1;
            }
        }
    }

    fn weight(&self, rank: f64) -> f64 {
        (-self.exponent * rank.ln()).exp()
    }

    /// The integral of the weight, up to a constant.
    fn area(&self, rank: f64) -> f64 {
        let slope = 1.0 - self.exponent;
        let log = rank.ln();
        if (slope * log).abs() < 1e-8 { log } else { (slope * log).exp_m1() / slope }
    }

    /// The inverse of `area`.
    fn rank_at(&self, area: f64) -> f64 {
        let slope = 1.0 - self.exponent;
        let scaled = (area * slope).max(-1.0);
        if scaled.abs() < 1e-8 { area.exp() } else { (scaled.ln_1p() / slope).exp() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "small numbers")]
    fn ranks_follow_the_law() {
        for exponent in [0.0, 0.7, 1.0, 1.4] {
            let (ranks, draws) = (50, 200_000);
            let zipf = Zipf::new(ranks, exponent);
            let mut counts = vec![0_u32; ranks as usize];
            let mut random = Random::new(7, 0);
            (0..draws).for_each(|_| counts[zipf.draw(&mut random) as usize] += 1);
            let weights: Vec<f64> = (1..=ranks).map(|rank| (rank as f64).powf(-exponent)).collect();
            let total: f64 = weights.iter().sum();
            for (rank, (count, weight)) in counts.iter().zip(&weights).enumerate() {
                let expected = weight / total * f64::from(draws);
                let slack = 6.0 * expected.sqrt();
                assert!(
                    (f64::from(*count) - expected).abs() < slack,
                    "s={exponent} rank {rank}: {count} {expected}"
                );
            }
        }
    }

    #[test]
    fn one_rank_is_always_drawn() {
        let mut random = Random::new(1, 1);
        for exponent in [0.0, 1.0, 2.0] {
            assert!((0..100).all(|_| Zipf::new(1, exponent).draw(&mut random) == 0));
        }
    }

    #[test]
    fn means_are_what_they_should_be() {
        let mut random = Random::new(3, 0);
        let draws = 100_000;
        let mean = |values: Vec<f64>| values.iter().sum::<f64>() / f64::from(draws);
        assert!((mean((0..draws).map(|_| random.exponential()).collect()) - 1.0).abs() < 0.02);
        let normal: Vec<f64> = (0..draws).map(|_| random.normal()).collect();
        let squares = mean(normal.iter().map(|value| value * value).collect());
        assert!((squares - 1.0).abs() < 0.02 && mean(normal).abs() < 0.02);
    }

    #[test]
    fn the_seed_and_the_stream_decide_everything() {
        let numbers = |seed, stream| {
            let mut random = Random::new(seed, stream);
            [random.draw(), random.draw()]
        };
        assert_eq!(numbers(1, 2), numbers(1, 2));
        assert_ne!(numbers(1, 2), numbers(1, 3));
        assert_ne!(numbers(1, 2), numbers(2, 2));
    }
}
