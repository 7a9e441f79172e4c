//! Histograms with fixed buckets: plain integers, no allocation, no floating point where something is observed.

use core::cell::Cell;
use core::fmt;
use core::marker::PhantomData;
use core::time::Duration;

/// Bounds that a scale may have at most.
const BOUNDS_MAX: usize = 20;

/// What is observed: the upper bounds of the buckets, in units of which `A_UNIT` are one of the metric's.
pub trait Scale {
    /// Upper bounds, rising; what is above the last is counted beyond.
    const BOUNDS: &'static [u64];
    /// How many of what is observed are one of what is shown.
    const A_UNIT: u32;
}

/// How long something took, in microseconds; shown in seconds.
#[derive(Clone, Copy, Debug)]
pub struct Latency;

/// How long something waited, in seconds.
#[derive(Clone, Copy, Debug)]
pub struct Lag;

/// Octets.
#[derive(Clone, Copy, Debug)]
pub struct Octets;

/// Things.
#[derive(Clone, Copy, Debug)]
pub struct Pieces;

impl Scale for Latency {
    const BOUNDS: &'static [u64] = &[
        100,
        250,
        500,
        1_000,
        2_500,
        5_000,
        10_000,
        25_000,
        50_000,
        100_000,
        250_000,
        500_000,
        1_000_000,
        2_500_000,
        5_000_000,
        10_000_000,
        30_000_000,
        60_000_000,
        300_000_000,
    ];
    const A_UNIT: u32 = 1_000_000;
}

impl Scale for Lag {
    const BOUNDS: &'static [u64] = &[
        1, 5, 15, 60, 300, 900, 3_600, 14_400, 43_200, 86_400, 172_800, 345_600, 604_800, 1_209_600,
        2_592_000,
    ];
    const A_UNIT: u32 = 1;
}

impl Scale for Octets {
    const BOUNDS: &'static [u64] =
        &[4_096, 8_192, 16_384, 32_768, 65_536, 131_072, 262_144, 524_288, 1_048_576];
    const A_UNIT: u32 = 1;
}

impl Scale for Pieces {
    const BOUNDS: &'static [u64] = &[1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_024];
    const A_UNIT: u32 = 1;
}

/// See the module.
pub struct Histogram<S> {
    /// What is not above the bound of the same place, and above the one before; behind the last bound, all else.
    counts: [Cell<u64>; BOUNDS_MAX + 1],
    sum: Cell<u64>,
    scale: PhantomData<fn() -> S>,
}

impl<S> Default for Histogram<S> {
    fn default() -> Self {
        Self { counts: core::array::from_fn(|_| Cell::default()), sum: Cell::default(), scale: PhantomData }
    }
}

impl<S> Clone for Histogram<S> {
    fn clone(&self) -> Self {
        Self { counts: self.counts.clone(), sum: self.sum.clone(), scale: PhantomData }
    }
}

impl<S: Scale> fmt::Debug for Histogram<S> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Histogram({} observed, sum {})", self.count(), self.sum.get())
    }
}

impl<S: Scale> Histogram<S> {
    const FITS: () = assert!(S::BOUNDS.len() <= BOUNDS_MAX);

    /// One more, of so much.
    pub fn observe(&self, value: u64) {
        let () = Self::FITS;
        let count = &self.counts[S::BOUNDS.partition_point(|bound| *bound < value)];
        count.set(count.get() + 1);
        self.sum.set(self.sum.get().saturating_add(value));
    }

    /// How many there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().map(Cell::get).sum()
    }

    /// What they come to, in the metric's unit.
    #[must_use]
    pub fn sum(&self) -> f64 {
        in_units::<S>(self.sum.get())
    }

    /// Each upper bound in the metric's unit, and how many were not above it.
    pub fn buckets(&self) -> impl Iterator<Item = (f64, u64)> {
        let mut below = 0;
        S::BOUNDS.iter().zip(&self.counts).map(move |(bound, count)| {
            below += count.get();
            (in_units::<S>(*bound), below)
        })
    }

    /// Adds what another shard observed.
    pub fn merge(&self, other: &Self) {
        for (own, other) in self.counts.iter().zip(&other.counts) {
            own.set(own.get() + other.get());
        }
        self.sum.set(self.sum.get().saturating_add(other.sum.get()));
    }
}

impl Histogram<Latency> {
    /// One more, that took so long.
    pub fn took(&self, duration: Duration) {
        self.observe(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX));
    }
}

#[expect(clippy::cast_precision_loss, reason = "a sum of more than 2^53 loses its last digits")]
fn in_units<S: Scale>(value: u64) -> f64 {
    value as f64 / f64::from(S::A_UNIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_observed_is_at_or_below_its_bound() {
        let latency = Histogram::<Latency>::default();
        for micros in [0, 100, 101, 1_000_000, 300_000_000, 300_000_001] {
            latency.took(Duration::from_micros(micros));
        }
        let buckets: Vec<_> = latency.buckets().collect();
        assert_eq!(buckets[..2], [(0.0001, 2), (0.000_25, 3)]);
        assert_eq!(buckets.iter().find(|bucket| bucket.0.to_bits() == 1_f64.to_bits()), Some(&(1.0, 4)));
        assert_eq!(buckets.last(), Some(&(300.0, 5)), "the sixth is beyond");
        assert_eq!(latency.count(), 6);
        assert!((latency.sum() - 601.000_202).abs() < 1e-9, "{}", latency.sum());
    }

    #[test]
    fn merged_histograms_have_what_both_had() {
        let (one, two) = (Histogram::<Pieces>::default(), Histogram::<Pieces>::default());
        one.observe(1);
        two.observe(1);
        two.observe(2_000);
        one.merge(&two);
        assert_eq!(
            (one.count(), one.buckets().next(), one.buckets().last()),
            (3, Some((1.0, 2)), Some((1024.0, 2)))
        );
        assert!((one.sum() - 2_002.0).abs() < f64::EPSILON);
    }

    #[test]
    fn bounds_rise() {
        for bounds in [Latency::BOUNDS, Lag::BOUNDS, Octets::BOUNDS, Pieces::BOUNDS] {
            assert!(bounds.is_sorted_by(|a, b| a < b));
        }
    }
}
