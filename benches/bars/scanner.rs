//! The scanner of mail data, which judges every CR, LF and NUL, beside a search for the end of data that judges nothing: the same
//! mebibyte, in cache, in turns.
#![allow(clippy::disallowed_methods, reason = "a bench watches the clock of the machine")]

use crate::common::sized;
use crate::{Bar, Bound, median};
use memchr::memmem::Finder;
use std::hint::black_box;
use std::time::Instant;
use stratamx::smtp::data::{DATA_END, DataScan, DataScanner};

const MIB: usize = 1 << 20;
const END: &[u8] = b"\r\n.\r\n";

pub(crate) fn bars() -> Vec<Bar> {
    let long = beside_search(998, Bound::AtLeast(0.8));
    let common = beside_search(76, Bound::AtLeast(0.5));
    let data = short_lines();
    let octets_a_second = data.len() as f64 / median(&turns(|| scan(&data)));
    println!("scanner lines=0..2 {:.2} GB/s", octets_a_second / 1e9);
    let short = Bar::new("scanner/lines=0..2", octets_a_second / 1e9, "GB/s", Bound::AtLeast(1.0));
    vec![long, common, short]
}

fn beside_search(octets: usize, bound: Bound) -> Bar {
    let data = lines(octets, MIB);
    let finder = Finder::new(END);
    let (mut searched, mut scanned) = (Vec::new(), Vec::new());
    for _ in 0..sized(40, 1) {
        searched.extend(turns(|| assert_eq!(finder.find(black_box(&data)), Some(data.len() - END.len()))));
        scanned.extend(turns(|| scan(&data)));
    }
    let (searched, scanned) = (median(&searched), median(&scanned));
    let gigabytes = |seconds: f64| data.len() as f64 / seconds / 1e9;
    println!("scanner lines={octets} {:.2} GB/s search {:.2} GB/s", gigabytes(scanned), gigabytes(searched));
    Bar::new(format!("scanner/lines={octets}/search=1"), searched / scanned, "x", bound)
}

/// Seconds of each of some turns.
fn turns(mut work: impl FnMut()) -> Vec<f64> {
    let turn = |_| {
        let start = Instant::now();
        work();
        start.elapsed().as_secs_f64()
    };
    (0..sized(50, 1)).map(turn).collect()
}

/// Seconds of the scan of a whole message, in cache: many at a time, since one is shorter than a clock can tell.
pub(crate) fn seconds_a_scan(data: &[u8]) -> f64 {
    let scans = sized(1_000, 1);
    median(&turns(|| (0..scans).for_each(|_| scan(data)))) / scans as f64
}

/// Scans a whole message and checks what came out.
fn scan(data: &[u8]) {
    let mut scanner = DataScanner::new(u64::MAX);
    let mut at = 0;
    loop {
        match scanner.scan(black_box(&data[at..])) {
            DataScan::End => break,
            DataScan::Span(octets) if octets > 0 => at += octets,
            other => unreachable!("a good message, whole: {other:?} at {at}"),
        }
    }
    let summary = scanner.verdict().expect("a good message");
    assert_eq!(summary.stored_octets, (data.len() - DATA_END) as u64);
}

/// Lines of so many octets each, and the end of data.
fn lines(octets: usize, total: usize) -> Vec<u8> {
    let line = [&vec![b'x'; octets][..], b"\r\n"].concat();
    let mut data = line.repeat((total - END.len()) / line.len());
    data.extend_from_slice(b".\r\n");
    data
}

/// Lines of 0, 1 and 2 octets in turn.
fn short_lines() -> Vec<u8> {
    let mut data = b"\r\nx\r\nxx\r\n".repeat(MIB / 9);
    data.extend_from_slice(b".\r\n");
    data
}
