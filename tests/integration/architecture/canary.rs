//! A checker that cannot fail is a defect: each planted source breaks one rule and must be found, and what only
//! looks like a breach must not.

use super::rules::{Rule, Sources, Violation, check};

/// The bans that the planted sources break.
const CLIPPY: &str = r#"disallowed-methods = [
    { path = "std::time::Instant::now", reason = "" },
    { path = "std::fs::read", reason = "" },
    { path = "std::thread::sleep", reason = "" },
]"#;

/// A small tree that keeps every rule, with everything in it that could be mistaken for a breach.
const SOUND: [(&str, &str); 14] = [
    (
        "src/lib.rs",
        "//! tokio\npub mod smtp; pub mod config; pub mod shard; pub mod command; extern crate alloc;",
    ),
    ("src/main.rs", "use stratamx::command::run; fn main() { run() }"),
    ("src/limits.rs", "pub const BOUND: usize = 1;"),
    (
        "src/smtp/mod.rs",
        "pub mod reply; mod server; pub use reply::Reply; pub use server::Session; // std::net\nconst A: &str = \"tokio::spawn\";",
    ),
    (
        "src/smtp/reply.rs",
        "use core::fmt; use crate::limits::BOUND; pub struct Reply; const B: usize = u64::MAX as usize;",
    ),
    (
        "src/smtp/server.rs",
        "use crate::smtp::Reply; pub struct Session(Reply); #[cfg(test)] mod tests { use std::net::TcpStream; }",
    ),
    ("src/config.rs", "use std::fs; #[expect(clippy::disallowed_methods)] fn a() { fs::read(b) }"),
    (
        "src/shard/mod.rs",
        "use storage::log::Log; pub mod executor; pub struct Shard(executor::Core); #[cfg(test)] mod tests;",
    ),
    (
        "src/shard/executor.rs",
        "use glommio::LocalExecutor; use super::Shard; use crate::smtp; fn a() { smtp::Session }",
    ),
    ("src/shard/tests.rs", "use std::time::Instant; use tokio::spawn; fn a() { Instant::now() }"),
    ("src/command/mod.rs", "use crate::shard; pub fn run() {}"),
    ("storage/src/format/frame.rs", "use crate::position::Stamp; use super::wire::Writer;"),
    ("storage/src/log.rs", "pub struct Log; fn read() { let instant = std::time::Duration::from_secs(1); }"),
    (
        "tools/src/bin/sink/main.rs",
        "mod rule; use stratamx::smtp::Session; fn a() { std::thread::sleep(b); rule::c() }",
    ),
];

fn sources(planted: &[(&str, &str)]) -> Sources {
    let files =
        SOUND.iter().chain(planted).map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
    Sources { files, top_level: vec!["src".to_owned(), "Cargo.toml".to_owned()], clippy: CLIPPY.to_owned() }
}

fn shown(violations: &[Violation]) -> String {
    violations.iter().map(|violation| format!("{violation}\n")).collect()
}

#[test]
fn a_sound_house_has_no_violations() {
    let found = check(&sources(&[]));
    assert!(found.is_empty(), "{}", shown(&found));
}

/// One rule broken in one file, planted beside or instead of the sound ones.
const PLANTED: [(Rule, &str, &str); 33] = [
    (Rule::Wall, "src/smtp/a.rs", "use std::net::TcpStream;"),
    (Rule::Wall, "src/smtp/a.rs", "fn a() { let _ = std::net::TcpStream::connect(b); }"),
    (Rule::Wall, "src/smtp/a.rs", "use tokio::{net::{self, TcpStream}, time};"),
    (Rule::Wall, "src/smtp/a.rs", "fn a() { ::tokio::spawn(b); }"),
    (Rule::Wall, "src/smtp/a.rs", "fn a() { tokio::select! {} }"),
    (Rule::Wall, "src/smtp/a.rs", "use crate::shard::ingest::Ingest;"),
    (Rule::Wall, "src/smtp/server/state.rs", "use super::super::super::config::Config;"),
    (Rule::Wall, "src/smtp/a.rs", "mod inner { use super::super::super::config::Config; }"),
    (Rule::Wall, "src/smtp/a.rs", "use storage as s; fn a() { s::log::open(); }"),
    (Rule::Wall, "src/smtp/a.rs", "#[cfg(not(test))] use std::net::TcpStream;"),
    (Rule::Wall, "src/message/a.rs", "use std::time::SystemTime;"),
    (Rule::Wall, "src/shard/a.rs", "use crate::control::lookup;"),
    (Rule::Wall, "src/shard/a.rs", "use hickory_resolver::TokioResolver;"),
    (Rule::Wall, "src/control/a.rs", "use storage::log::Log;"),
    (Rule::Wall, "src/control/a.rs", "use crate::shard::Shard;"),
    (Rule::Wall, "src/auth/a.rs", "use crate::smtp::Reply;"),
    (Rule::Wall, "storage/src/a.rs", "use stratamx::limits::BOUND;"),
    (Rule::Wall, "storage/src/format/a.rs", "use crate::log::Log;"),
    (Rule::Wall, "storage/src/sim/a.rs", "use crate::segment::Segment;"),
    (Rule::Wall, "tools/src/bin/sink/a.rs", "use stratamx::shard::Shard;"),
    (Rule::Wall, "tools/src/bin/segment/a.rs", "use storage::log::Log;"),
    (Rule::Home, "storage/src/log/a.rs", "use glommio::io::DmaFile;"),
    (Rule::Home, "src/shard/connection.rs", "use glommio as g;"),
    (Rule::Home, "src/shard/a.rs", "use storage::sim::SimDisk;"),
    (Rule::Home, "src/bridge.rs", "fn a() { crate::command::run() }"),
    (Rule::Home, "src/shard/a.rs", "#[allow(clippy::disallowed_methods)] fn a() {}"),
    (Rule::BannedCall, "src/shard/a.rs", "use std::time::Instant; fn a() { Instant::now(); }"),
    (Rule::BannedCall, "src/shard/a.rs", "use std::{fs as files}; fn a() { files::read(b); }"),
    (Rule::BannedCall, "src/shard/a.rs", "use std::thread; fn a() { thread::sleep(b); }"),
    (Rule::BannedCall, "src/shard/a.rs", "use std::fs::read; fn a() { read(b); }"),
    (Rule::Unsafe, "src/shard/a.rs", "fn a() { unsafe { b() } }"),
    (Rule::Cycle, "src/smtp/reply.rs", "use crate::smtp::Session; pub struct Reply;"),
    (
        Rule::Cycle,
        "src/limits.rs",
        "use crate::smtp::reply; pub const BOUND: usize = 1; fn a() { reply::b() }",
    ),
];

#[test]
fn every_planted_breach_is_found() {
    for (rule, file, text) in PLANTED {
        let found = check(&sources(&[(file, text)]));
        // A cycle is reported at its first file in the order of the alphabet.
        let hit = found.iter().any(|one| one.rule == rule && (one.file == file || rule == Rule::Cycle));
        assert!(hit, "{file}: {text}\n{}", shown(&found));
    }
}

#[test]
fn a_cycle_is_found_through_a_facade_and_around_a_corner() {
    let planted = [
        ("src/shard/a.rs", "use super::b::B; pub struct A;"),
        ("src/shard/b.rs", "use crate::shard::c; pub struct B; fn b() { c::d() }"),
        ("src/shard/c/mod.rs", "mod d; pub use d::d;"),
        ("src/shard/c/d.rs", "use super::super::A; pub fn d() {}"),
        ("src/shard/mod.rs", "mod a; mod b; mod c; pub use a::A; #[cfg(test)] mod tests;"),
    ];
    let found = check(&sources(&planted));
    assert!(found.iter().any(|one| one.rule == Rule::Cycle), "{}", shown(&found));
    let found = check(&sources(&planted[1..]));
    assert!(found.is_empty(), "the file that closed the cycle is gone: {}", shown(&found));
}

#[test]
fn sizes_are_counted_in_code() {
    let lines = |count: usize, line: &str| format!("{line}\n").repeat(count);
    let function = |count: usize| format!("fn a() {{\n{}}}\n", lines(count, "b();"));
    let test_lines =
        |count: usize| format!("#[cfg(test)]\nmod tests {{\n{}}}\n", lines(count, "const B: u8 = 1;"));
    for (rule, name, text) in [
        (Rule::FileLength, "src/a.rs", lines(401, "const A: u8 = 1;")),
        (Rule::FileLength, "src/a.rs", lines(601, "// why")),
        (Rule::FileLength, "tests/a.rs", lines(601, "const A: u8 = 1;")),
        (Rule::FileLength, "src/a.rs", lines(300, "const A: u8 = 1;") + &test_lines(300)),
        (Rule::FunctionLength, "src/a.rs", function(71)),
        (Rule::FunctionLength, "tests/a.rs", function(71)),
        (Rule::FunctionLength, "src/a.rs", format!("#[cfg(test)]\nmod tests {{ {} }}", function(71))),
    ] {
        let found = check(&sources(&[(name, &text)]));
        assert!(
            found.iter().any(|one| one.rule == rule && one.file == name),
            "{rule:?} {name}: {}",
            shown(&found)
        );
    }
    for (name, text) in [
        ("src/a.rs", lines(400, "const A: u8 = 1;") + &lines(150, "// why")),
        ("src/a.rs", lines(390, "const A: u8 = 1;") + &test_lines(200)),
        ("tests/a.rs", lines(600, "const A: u8 = 1;")),
        ("src/a.rs", function(70).replace("b();", "b(); // why\n\n")),
    ] {
        let found = check(&sources(&[(name, &text)]));
        assert!(found.is_empty(), "{name}: {}", shown(&found));
    }
}

#[test]
fn what_does_not_belong_at_the_top_is_found() {
    let mut sources = sources(&[]);
    sources.top_level.push("docs".to_owned());
    let found = check(&sources);
    assert!(found.iter().any(|one| one.rule == Rule::TopLevel && one.file == "docs"), "{}", shown(&found));
}
