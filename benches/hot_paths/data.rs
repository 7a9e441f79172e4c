//! The scan of mail data for its end and all that a message may not hold; beside it line by line.

use criterion::{Criterion, Throughput};
use std::hint::black_box;
use stratamx::smtp::data::{DATA_END, DataScan, DataScanner};

const OCTETS: usize = 10 << 10;

pub(crate) fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("mail_data");
    for line_octets in [76, 998] {
        let data = data_of(line_octets);
        assert_eq!(by_scanner(&data), by_lines(&data), "both find the same");
        group.throughput(Throughput::Bytes(data.len() as u64));
        group.bench_function(format!("lines={line_octets}/size=10KiB"), |bencher| {
            bencher.iter(|| by_scanner(black_box(&data)));
        });
        group.bench_function(format!("baseline=by_lines/lines={line_octets}/size=10KiB"), |bencher| {
            bencher.iter(|| by_lines(black_box(&data)));
        });
    }
    group.finish();
}

/// Lines of so many octets, of which each tenth is stuffed, and the end of data.
pub(crate) fn data_of(line_octets: usize) -> Vec<u8> {
    let line = |number: usize| {
        let head: &[u8] = if number.is_multiple_of(10) { b".." } else { b"xx" };
        [head, &vec![b'x'; line_octets - 2], b"\r\n"].concat()
    };
    let mut data: Vec<u8> = (0..OCTETS / (line_octets + 2)).flat_map(line).collect();
    data.extend_from_slice(b".\r\n");
    data
}

/// Octets in front of the end of data, and lines that were stuffed.
fn by_scanner(data: &[u8]) -> (u64, u64) {
    let mut scanner = DataScanner::new(u64::MAX);
    let mut at = 0;
    loop {
        match scanner.scan(&data[at..]) {
            DataScan::End => break,
            DataScan::Span(octets) if octets > 0 => at += octets,
            other => unreachable!("a good message, whole: {other:?} at {at}"),
        }
    }
    assert_eq!(at + DATA_END, data.len());
    let summary = scanner.verdict().expect("a good message");
    (summary.stored_octets, summary.stuffed_lines)
}

fn by_lines(data: &[u8]) -> (u64, u64) {
    let (mut octets, mut stuffed) = (0, 0);
    for line in data.split_inclusive(|octet| *octet == b'\n') {
        assert!(line.ends_with(b"\r\n") && !line[..line.len() - 2].contains(&b'\r'), "a good line");
        if line == b".\r\n" {
            break;
        }
        stuffed += u64::from(line.starts_with(b"."));
        assert!(!line.starts_with(b".\0"));
        octets += line.len() as u64;
    }
    (octets, stuffed)
}
