//! Who looks on while a load runs: the progress bar for people, and the HdrHistogram log for programs.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::time::{Duration, SystemTime};

use hdrhistogram::Histogram;
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, IntervalLogWriterError};
use indicatif::{ProgressBar, ProgressStyle};

use crate::load::Audience;
use crate::report::milliseconds;
use crate::shared::Load;
use crate::tally::{SLICE, Slice, histogram};

/// Slices that the shown numbers are of: the last second, which is also the interval of the log.
const SHOWN: usize = 5;
/// Lines for people; what follows is in the counts.
const COMPLAINTS_MAX: u32 = 10;

/// See the module.
pub(crate) struct Watch {
    bar: ProgressBar,
    /// A run without a number of messages shows its time.
    duration: Option<Duration>,
    recent: VecDeque<(u64, Histogram<u64>)>,
    complaints: u32,
    log: Option<Log>,
}

/// The log: an interval is written when it is whole.
struct Log {
    file: BufWriter<File>,
    serializer: V2DeflateSerializer,
    interval: Histogram<u64>,
    begins_at: Duration,
    ends_at: Duration,
}

impl Watch {
    pub(crate) fn new(load: &Load, log: Option<&Path>) -> io::Result<Self> {
        let duration = (load.messages == u64::MAX).then_some(load.duration);
        let length =
            duration.map_or(load.messages, |duration| duration.as_millis().try_into().unwrap_or(u64::MAX));
        let template =
            if duration.is_some() { "{bar:40} {elapsed} {msg}" } else { "{bar:40} {pos}/{len} {msg} {eta}" };
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        let log = log.map(Log::create).transpose()?;
        let bar = ProgressBar::new(length).with_style(style);
        Ok(Self { bar, duration, recent: VecDeque::new(), complaints: 0, log })
    }

    /// Takes the bar away, and ends the log.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        self.bar.finish_and_clear();
        self.log.as_mut().map_or(Ok(()), |log| {
            log.write()?;
            log.file.flush()
        })
    }
}

impl Audience for Watch {
    fn slice(&mut self, slice: &Slice) -> io::Result<()> {
        self.recent.push_back((slice.acknowledged, slice.latency.clone()));
        if self.recent.len() > SHOWN {
            self.recent.pop_front();
        }
        let mut latency = histogram();
        let mut acknowledged = 0;
        for (count, histogram) in &self.recent {
            acknowledged += count;
            latency.add(histogram).expect("the histogram grows as it needs");
        }
        let shown = SLICE.as_secs_f64() * f64::from(u32::try_from(self.recent.len()).unwrap_or(1));
        let rate = f64::from(u32::try_from(acknowledged).unwrap_or(u32::MAX)) / shown;
        let percentile = |percentile| milliseconds(latency.value_at_percentile(percentile));
        self.bar.set_message(format!("{rate:.0}/s p50 {} p99 {}", percentile(50.0), percentile(99.0)));
        self.log.as_mut().map_or(Ok(()), |log| log.slice(slice))
    }

    fn progress(&mut self, done: u64, now: Duration) {
        let elapsed = || u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        self.bar.set_position(if self.duration.is_some() { elapsed() } else { done });
    }

    fn complaint(&mut self, line: &str) {
        self.complaints += 1;
        if self.complaints <= COMPLAINTS_MAX {
            self.bar.suspend(|| eprintln!("{line}"));
        }
        if self.complaints == COMPLAINTS_MAX {
            self.bar.suspend(|| eprintln!("and so on: the report counts them"));
        }
    }
}

impl Log {
    fn create(path: &Path) -> io::Result<Self> {
        let mut file = BufWriter::new(File::create(path)?);
        let now = SystemTime::now();
        IntervalLogWriterBuilder::new()
            .add_comment("[Histogram log format version 1.3]")
            .add_comment("values are microseconds; timestamps are seconds from BaseTime")
            .with_start_time(now)
            .with_base_time(now)
            .begin_log_with(&mut file, &mut V2DeflateSerializer::new())?
            .write_comment(
                "\"StartTimestamp\",\"Interval_Length\",\"Interval_Max\",\"Interval_Compressed_Histogram\"",
            )?;
        let (interval, begins_at, ends_at) = (histogram(), Duration::ZERO, Duration::ZERO);
        Ok(Self { file, serializer: V2DeflateSerializer::new(), interval, begins_at, ends_at })
    }

    fn slice(&mut self, slice: &Slice) -> io::Result<()> {
        self.interval.add(&slice.latency).expect("the histogram grows as it needs");
        let slices = u32::try_from(slice.index + 1).unwrap_or(u32::MAX);
        self.ends_at = SLICE.saturating_mul(slices);
        if (slice.index + 1).is_multiple_of(SHOWN as u64) { self.write() } else { Ok(()) }
    }

    fn write(&mut self) -> io::Result<()> {
        let length = self.ends_at.saturating_sub(self.begins_at);
        if length.is_zero() {
            return Ok(());
        }
        let written = IntervalLogWriterBuilder::new()
            .begin_log_with(&mut self.file, &mut self.serializer)?
            .write_histogram(&self.interval, self.begins_at, length, None);
        written.map_err(|error| match error {
            IntervalLogWriterError::IoError(error) => error,
            IntervalLogWriterError::SerializeError(error) => io::Error::other(error),
        })?;
        self.interval.reset();
        self.begins_at = self.ends_at;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hdrhistogram::serialization::Deserializer;
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

    #[test]
    fn the_log_has_every_value_of_every_interval() {
        let path = std::env::temp_dir().join(format!("stratamx-hdr-{}", std::process::id()));
        let mut log = Log::create(&path).unwrap();
        for index in 0..12 {
            let mut slice = Slice::new(index, false);
            (0..=index).for_each(|_| slice.record(Duration::from_millis(index + 1), Duration::ZERO));
            log.slice(&slice).unwrap();
        }
        log.write().unwrap();
        log.file.flush().unwrap();
        let text = std::fs::read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let mut intervals = Vec::new();
        for entry in IntervalLogIterator::new(&text) {
            if let LogEntry::Interval(interval) = entry.unwrap() {
                let octets = base64_of(interval.encoded_histogram());
                let values: Histogram<u64> = Deserializer::new().deserialize(&mut &octets[..]).unwrap();
                intervals.push((interval.start_timestamp(), interval.duration(), values.len()));
            }
        }
        let second = Duration::from_secs(1);
        assert_eq!(
            intervals,
            [
                (Duration::ZERO, second, 15),
                (second, second, 40),
                (second * 2, Duration::from_millis(400), 23)
            ]
        );
    }

    /// Decodes base64 (RFC 4648 4) as the log has it.
    fn base64_of(text: &str) -> Vec<u8> {
        let digit = |octet: u8| {
            let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
            alphabet.iter().position(|other| *other == octet).map(|at| u32::try_from(at).unwrap())
        };
        let mut octets = Vec::new();
        for group in text.as_bytes().chunks(4) {
            let digits: Vec<u32> = group.iter().filter_map(|octet| digit(*octet)).collect();
            let bits = digits.iter().fold(0, |bits, digit| bits << 6 | digit) << (6 * (4 - digits.len()));
            octets.extend_from_slice(&bits.to_be_bytes()[1..digits.len()]);
        }
        octets
    }
}
