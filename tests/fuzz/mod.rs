//! Fuzz targets: everything that reads octets of strangers, held against invariants and naive second opinions.
//!
//! An input begins as a file of `corpus/TARGET/`, is mutated, and is kept for further mutation when the target
//! shows a sign that no input before it showed (another reply behind the same command, another verdict, another
//! length). A target fails by an assertion: nothing is fuzzed for panics alone. No nightly compiler is needed.
//!
//! `make test` runs every file of the corpora and a bounded number of mutations; the seed is printed, and
//! `STRATAMX_SEED` repeats it. `make fuzz TARGET=session SECONDS=3600` goes on for longer and writes what it finds to
//! `target/fuzz/TARGET/`: inputs with new signs, and `failed-*`, which belongs into the corpus once it is mended.
//! The corpora are minimal: chosen by coverage of the code, one input for each edge that only it reaches.

#[path = "targets/bdat.rs"]
mod bdat;
#[path = "targets/command.rs"]
mod command;
#[path = "targets/data.rs"]
mod data;
mod engine;
#[path = "targets/host.rs"]
mod host;
#[path = "targets/path.rs"]
mod path;
#[path = "targets/proxy.rs"]
mod proxy;
#[path = "targets/reply.rs"]
mod reply;
#[path = "targets/session.rs"]
mod session;
#[path = "targets/wire.rs"]
mod wire;

use engine::{Signs, Target, fuzz, search};

#[test]
fn bdat() {
    fuzz(&Target { name: "bdat", run: bdat::run, words: wire::DATA_WORDS, runs: 15_000 });
}

#[test]
fn command() {
    fuzz(&Target { name: "command", run: command::run, words: command::WORDS, runs: 60_000 });
}

#[test]
fn data() {
    fuzz(&Target { name: "data", run: data::run, words: wire::DATA_WORDS, runs: 6_000 });
}

#[test]
fn path() {
    fuzz(&Target { name: "path", run: path::run, words: path::WORDS, runs: 60_000 });
}

#[test]
fn proxy() {
    fuzz(&Target { name: "proxy", run: proxy::run, words: proxy::WORDS, runs: 30_000 });
}

#[test]
fn reply() {
    fuzz(&Target { name: "reply", run: reply::run, words: reply::WORDS, runs: 8_000 });
}

#[test]
fn session() {
    fuzz(&Target { name: "session", run: session::run, words: session::WORDS, runs: 8_000 });
}

/// A search that finds nothing would pass everything: three steps, each of which shows only when the one before
/// it is done, are found by their signs, where chance alone would need 2^24 runs.
#[test]
fn the_search_finds_what_is_planted() {
    fn planted(input: &[u8]) -> Signs {
        let mut signs = Signs::default();
        let found =
            input.iter().zip(*b"\x91\x17\xee").take_while(|(octet, wanted)| **octet == *wanted).count();
        signs.note(found);
        assert!(found < 3, "planted");
        signs
    }
    let target = Target { name: "planted", run: planted, words: &[], runs: 400_000 };
    assert!(
        search(&target, vec![b"abc".to_vec()], 1).is_some_and(|found| found.starts_with(b"\x91\x17\xee"))
    );
}
