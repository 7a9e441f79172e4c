//! A command line into a command; beside it by words in strings of their own.

use criterion::{Criterion, Throughput};
use std::collections::HashMap;
use std::hint::black_box;
use stratamx::smtp::command::{Body, Command};

const LINES: [(&str, &[u8]); 4] = [
    ("mail", b"MAIL FROM:<sender@example.org> SIZE=10240 BODY=8BITMIME"),
    ("mail_dsn", b"MAIL FROM:<sender@example.org> SIZE=10240 BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=QQ314159"),
    ("rcpt", b"RCPT TO:<user@example.test>"),
    ("rcpt_dsn", b"rcpt to:<user@example.test> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;user@example.test"),
];

pub(crate) fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("smtp_command");
    group.throughput(Throughput::Elements(1));
    for (name, line) in LINES {
        assert_eq!(said_by_machine(line), said_by_strings(line), "both understand {name}");
        group.bench_function(format!("line={name}"), |bencher| {
            bencher.iter(|| Command::parse(black_box(line)).expect("a good line"));
        });
        group.bench_function(format!("baseline=strings/line={name}"), |bencher| {
            bencher.iter(|| by_strings(black_box(line)));
        });
    }
    group.finish();
}

/// What both must agree on.
#[derive(Debug, PartialEq)]
struct Said {
    path: String,
    size: Option<u64>,
    is_8bit: bool,
    smtputf8: bool,
    envid_or_orcpt: Option<String>,
}

fn said_by_machine(line: &[u8]) -> Said {
    match Command::parse(line).expect("a good line") {
        Command::Mail(mail) => Said {
            path: mail.reverse_path.as_str().to_owned(),
            size: mail.declared_size,
            is_8bit: mail.body == Body::EightBitMime,
            smtputf8: mail.smtputf8,
            envid_or_orcpt: Some(mail.dsn.envid.to_owned()).filter(|envid| !envid.is_empty()),
        },
        Command::Rcpt(rcpt) => Said {
            path: rcpt.forward_path.as_str().to_owned(),
            size: None,
            is_8bit: false,
            smtputf8: false,
            envid_or_orcpt: Some(rcpt.dsn.orcpt.to_owned()).filter(|orcpt| !orcpt.is_empty()),
        },
        other => unreachable!("MAIL or RCPT: {other:?}"),
    }
}

fn said_by_strings(line: &[u8]) -> Said {
    let (path, parameters) = by_strings(line);
    let value = |keyword: &str| parameters.get(keyword).filter(|value| !value.is_empty()).cloned();
    Said {
        path,
        size: value("SIZE").map(|size| size.parse().expect("a number")),
        is_8bit: value("BODY").is_some_and(|body| body == "8BITMIME"),
        smtputf8: parameters.contains_key("SMTPUTF8"),
        envid_or_orcpt: value("ENVID").or_else(|| value("ORCPT")),
    }
}

/// The path and the parameters by keyword, unchecked: less than the machine finds out.
fn by_strings(line: &[u8]) -> (String, HashMap<String, String>) {
    let line = String::from_utf8_lossy(line).into_owned();
    let upper = line.to_uppercase();
    assert!(upper.starts_with("MAIL FROM:") || upper.starts_with("RCPT TO:"));
    let mut words = line[line.find(':').expect("a colon") + 1..].split_whitespace();
    let path = words.next().expect("a path").trim_matches(['<', '>']).to_owned();
    let parameters = words.map(|word| match word.split_once('=') {
        Some((keyword, value)) => (keyword.to_uppercase(), value.to_owned()),
        None => (word.to_uppercase(), String::new()),
    });
    (path, parameters.collect())
}
