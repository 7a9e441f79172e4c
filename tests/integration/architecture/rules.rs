//! The rules of the house as data, and the checks that hold a tree of sources against them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::paths::{Modules, Named, Path, Written, collect};
use super::source::{Placed, code_lines, functions, test_modules, tokens, without_tests};

/// A wall: what the code inside may name of ours, and what of others.
struct Wall {
    inside: &'static str,
    ours: &'static [&'static str],
    others: Others,
}

/// What is not ours: crates, or modules of them.
enum Others {
    Only(&'static [&'static str]),
    Never(&'static [&'static str]),
}

/// HOUSE: the never-arrows. A file is held by every wall that it is inside of.
const WALLS: [Wall; 18] = [
    Wall { inside: "stratamx::smtp", ours: &["stratamx::smtp", "stratamx::limits"], others: SANS_IO },
    Wall { inside: "stratamx::message", ours: &["stratamx::message", "stratamx::limits"], others: SANS_IO },
    Wall { inside: "stratamx::limits", ours: &["stratamx::limits"], others: SANS_IO },
    Wall {
        inside: "stratamx::config",
        ours: &["stratamx::config", "stratamx::limits"],
        others: Others::Never(&["glommio", "tokio"]),
    },
    Wall {
        inside: "stratamx::shard",
        ours: &[
            "stratamx::shard",
            "stratamx::smtp",
            "stratamx::message",
            "stratamx::auth",
            "stratamx::bridge",
            "stratamx::config",
            "stratamx::limits",
            "stratamx::metrics",
            "storage",
        ],
        others: Others::Never(&["axum", "hickory_resolver", "rusqlite", "tokio"]),
    },
    Wall {
        inside: "stratamx::auth",
        ours: &["stratamx::auth", "stratamx::message", "stratamx::bridge", "stratamx::limits"],
        others: Others::Never(&["glommio"]),
    },
    Wall {
        inside: "stratamx::control",
        ours: &[
            "stratamx::control",
            "stratamx::bridge",
            "stratamx::config",
            "stratamx::limits",
            "stratamx::metrics",
            "stratamx::message",
            "stratamx::auth",
            "stratamx::support",
            "stratamx::update",
        ],
        others: Others::Never(&["glommio"]),
    },
    Wall {
        inside: "stratamx::support",
        ours: &["stratamx::support", "stratamx::limits"],
        others: Others::Never(&["glommio", "tokio"]),
    },
    Wall {
        inside: "stratamx::init",
        ours: &["stratamx::init", "stratamx::config", "stratamx::limits", "stratamx::update"],
        others: Others::Never(&["glommio", "tokio"]),
    },
    Wall {
        inside: "stratamx::update",
        ours: &["stratamx::update", "stratamx::limits"],
        others: Others::Never(&["glommio", "tokio"]),
    },
    Wall { inside: "storage", ours: &["storage"], others: Others::Never(&["tokio"]) },
    Wall {
        inside: "storage::format",
        ours: &["storage::format", "storage::position"],
        others: Others::Never(&["glommio", "rustix"]),
    },
    Wall {
        inside: "storage::sim",
        ours: &["storage::sim", "storage::disk", "storage::clock", "storage::position", "storage::error"],
        others: Others::Never(&["glommio"]),
    },
    Wall { inside: "stratamx_tools", ours: TOOL, others: Others::Never(&["glommio"]) },
    Wall { inside: "stratamx-blaster", ours: TOOL, others: Others::Never(&["glommio"]) },
    Wall { inside: "stratamx-sink", ours: TOOL, others: Others::Never(&["glommio"]) },
    Wall { inside: "stratamx-segment", ours: TOOL, others: Others::Never(&["glommio"]) },
    Wall { inside: "stratamx-appliance", ours: &["stratamx-appliance"], others: Others::Never(&["glommio"]) },
];
/// Nothing that reaches out: of `std` only what `core` and `alloc` hold, and writing into memory.
const SANS_IO: Others = Others::Only(&[
    "core",
    "alloc",
    "memchr",
    "multiversion",
    "thiserror",
    "std::borrow",
    "std::collections",
    "std::fmt",
    "std::io::Write",
    "std::rc",
    "std::sync::Arc",
]);
const TOOL: &[&str] = &[
    "stratamx_tools",
    "stratamx-blaster",
    "stratamx-sink",
    "stratamx-segment",
    "stratamx::smtp",
    "stratamx::config",
    "storage::inspect",
    "storage::ledger",
    "storage::repair",
];

/// What only some may name: the thing, who may name it (module prefixes).
const HOMES: [(&str, &[&str]); 4] = [
    (
        "glommio",
        &[
            "stratamx::shard::executor",
            "stratamx::shard::accept",
            "stratamx::shard::dial",
            "stratamx::shard::socket",
            "stratamx::shard::link",
            "storage::disk::dma",
            "storage::clock",
        ],
    ),
    ("stratamx::command", &["stratamx::command", "stratamx-main"]),
    ("storage::sim", &["storage::sim"]),
    (
        "clippy::disallowed_methods",
        &[
            "stratamx::config",
            "stratamx::command::demo",
            "stratamx::init",
            "stratamx-appliance",
            "storage::clock",
            "storage::disk",
            TOOLS,
        ],
    ),
];

/// Banned calls of clippy.toml by their start, and who may make them.
const CALLS: [(&str, &[&str]); 3] = [
    (
        "std::time::",
        &["storage::clock", "stratamx::command::demo", "stratamx::init", "stratamx-appliance", TOOLS],
    ),
    (
        "std::fs::",
        &[
            "stratamx::config",
            "storage::disk",
            "stratamx::command::demo",
            "stratamx::init",
            "stratamx-appliance",
            TOOLS,
        ],
    ),
    ("std::thread::", &["stratamx::command::demo", "stratamx::init", "stratamx-appliance", TOOLS]),
];
/// Stands for the library and all programs of the package `stratamx-tools`.
const TOOLS: &str = "tools";

/// The one file with unsafe code.
const UNSAFE: &str = "stratamx::shard::socket";
/// Names at the top level of the repository.
const TOP_LEVEL: [&str; 17] = [
    ".ci",
    ".git",
    ".gitignore",
    "CHANGELOG.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "Makefile",
    "README.md",
    "appliance",
    "benches",
    "build.rs",
    "clippy.toml",
    "rustfmt.toml",
    "src",
    "storage",
    "tests",
];
const TOP_LEVEL_MORE: [&str; 3] = ["tools", "target", "stratamx-data"];

const FILE_CODE_LINES_MAX: usize = 400;
const FILE_LINES_MAX: usize = 600;
const FUNCTION_LINES_MAX: usize = 70;

/// Which rule is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rule {
    BannedCall,
    Cycle,
    FileLength,
    FunctionLength,
    Home,
    TopLevel,
    Unsafe,
    Wall,
}

/// One breach of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Violation {
    pub(super) rule: Rule,
    pub(super) file: String,
    line: usize,
    what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}: {:?}: {}", self.file, self.line, self.rule, self.what)
    }
}

/// A tree of sources: Rust files by path, names at the top, and the text of clippy.toml.
#[derive(Clone, Debug, Default)]
pub(super) struct Sources {
    pub(super) files: BTreeMap<String, String>,
    pub(super) top_level: Vec<String>,
    pub(super) clippy: String,
}

/// One file, read.
struct File<'a> {
    name: &'a str,
    /// Tokens outside of tests.
    code: Vec<Placed>,
    named: Vec<Named>,
}

/// Holds a tree against all rules.
pub(super) fn check(sources: &Sources) -> Vec<Violation> {
    let mut found = Vec::new();
    for (name, text) in &sources.files {
        check_sizes(name, text, &mut found);
    }
    let code = code_of(sources);
    let written: BTreeMap<Path, Written> =
        code.iter().map(|(path, (_, code))| (path.clone(), collect(code))).collect();
    let modules = Modules::new(&written);
    let banned = banned_calls(&sources.clippy);
    let mut files = BTreeMap::new();
    for (path, (name, code)) in code {
        let named = modules.named(&path, &written[&path]);
        files.insert(path, File { name, code, named });
    }
    for (path, file) in &files {
        check_walls(path, file, &mut found);
        check_homes(path, file, &mut found);
        check_calls(path, file, &banned, &mut found);
        check_unsafe(path, file, &mut found);
    }
    check_cycles(&files, &modules, &mut found);
    for name in &sources.top_level {
        if !TOP_LEVEL.contains(&name.as_str()) && !TOP_LEVEL_MORE.contains(&name.as_str()) {
            found.push(violation(Rule::TopLevel, name, 0, "does not belong at the top level"));
        }
    }
    found
}

/// Every file that is compiled into a program or library, without its tests.
fn code_of(sources: &Sources) -> BTreeMap<Path, (&str, Vec<Placed>)> {
    let mut code = BTreeMap::new();
    let mut tests: Vec<Path> = Vec::new();
    for (name, text) in &sources.files {
        let Some(path) = module_path(name) else { continue };
        let all = tokens(text);
        tests.extend(test_modules(&all).into_iter().map(|name| [path.as_slice(), &[name]].concat()));
        code.insert(path, (name.as_str(), without_tests(&all)));
    }
    code.retain(|path, _| !tests.iter().any(|test| path.starts_with(test)));
    code
}

/// The module that a file is: its crate and the path inside. Tests and benches are none.
pub(super) fn module_path(file: &str) -> Option<Path> {
    let (root, inside) = if let Some(inside) = file.strip_prefix("tools/src/bin/") {
        let (program, inside) = inside.split_once('/')?;
        (format!("stratamx-{program}"), inside)
    } else if let Some(inside) = file.strip_prefix("tools/src/") {
        ("stratamx_tools".to_owned(), inside)
    } else if let Some(inside) = file.strip_prefix("storage/src/") {
        ("storage".to_owned(), inside)
    } else if let Some(inside) = file.strip_prefix("appliance/src/") {
        ("stratamx-appliance".to_owned(), inside)
    } else if file == "src/main.rs" {
        ("stratamx-main".to_owned(), "main.rs")
    } else {
        ("stratamx".to_owned(), file.strip_prefix("src/")?)
    };
    let inside = inside.strip_suffix(".rs")?;
    let segments = inside.split('/').filter(|segment| !["mod", "lib", "main"].contains(segment));
    Some(core::iter::once(root).chain(segments.map(str::to_owned)).collect())
}

fn violation(rule: Rule, file: &str, line: usize, what: impl ToString) -> Violation {
    Violation { rule, file: file.to_owned(), line, what: what.to_string() }
}

/// Whether `path` is `prefix` or inside of it.
fn is_inside(path: &[String], prefix: &str) -> bool {
    if prefix == TOOLS {
        return ["stratamx_tools", "stratamx-blaster", "stratamx-sink", "stratamx-segment"]
            .contains(&path[0].as_str());
    }
    let prefix: Vec<&str> = prefix.split("::").collect();
    path.len() >= prefix.len() && path.iter().zip(&prefix).all(|(a, b)| a == b)
}

fn is_inside_any(path: &[String], prefixes: &[&str]) -> bool {
    prefixes.iter().any(|prefix| is_inside(path, prefix))
}

fn check_walls(path: &Path, file: &File, found: &mut Vec<Violation>) {
    for wall in WALLS.iter().filter(|wall| is_inside(path, wall.inside)) {
        for named in &file.named {
            let first = named.path[0].as_str();
            let ours = first == "storage" || first.starts_with("stratamx");
            let allowed = match &wall.others {
                // A tool's own crate root is always its own.
                _ if ours => is_inside_any(&named.path, wall.ours) || named.path.len() == 1,
                Others::Only(crates) => is_inside_any(&named.path, crates) || is_language(first),
                Others::Never(crates) => !crates.contains(&first),
            };
            if !allowed {
                let what = format!("{} must not name {}", wall.inside, named.path.join("::"));
                found.push(violation(Rule::Wall, file.name, named.line, what));
            }
        }
    }
}

/// Names that are no crates: primitive types, lints and attributes.
fn is_language(first: &str) -> bool {
    let primitive = ["u8", "u16", "u32", "u64", "u128", "usize", "i8", "i16", "i32", "i64", "i128", "isize"];
    primitive.contains(&first)
        || ["bool", "char", "str", "f32", "f64", "clippy", "rustfmt", "rustdoc"].contains(&first)
        || first.starts_with(char::is_uppercase)
}

fn check_homes(path: &Path, file: &File, found: &mut Vec<Violation>) {
    for (thing, homes) in HOMES {
        for named in file.named.iter().filter(|named| is_inside(&named.path, thing)) {
            if !is_inside_any(path, homes) {
                found.push(violation(Rule::Home, file.name, named.line, format!("must not name {thing}")));
            }
        }
    }
}

/// The paths that clippy.toml bans.
fn banned_calls(clippy: &str) -> Vec<String> {
    let quoted = clippy.split("path = \"").skip(1).filter_map(|rest| rest.split('"').next());
    quoted.map(str::to_owned).collect()
}

fn check_calls(path: &Path, file: &File, banned: &[String], found: &mut Vec<Violation>) {
    for call in banned {
        let homes =
            CALLS.iter().find(|(start, _)| call.starts_with(start)).map_or(&[][..], |(_, homes)| *homes);
        for named in file.named.iter().filter(|named| is_inside(&named.path, call)) {
            if !is_inside_any(path, homes) {
                found.push(violation(Rule::BannedCall, file.name, named.line, format!("calls {call}")));
            }
        }
    }
}

fn check_unsafe(path: &Path, file: &File, found: &mut Vec<Violation>) {
    let word =
        |placed: &&Placed| matches!(&placed.token, super::source::Token::Word(word) if word == "unsafe");
    if let Some(placed) = file.code.iter().find(word)
        && !is_inside(path, UNSAFE)
    {
        found.push(violation(
            Rule::Unsafe,
            file.name,
            placed.line,
            format!("unsafe code outside of {UNSAFE}"),
        ));
    }
}

/// Files that need each other, directly or around corners; each group is reported once. A part of a module may
/// name the module that it is directly a part of: a type that is split over files for its size has its private
/// parts there. Nothing else may point upwards.
fn check_cycles(files: &BTreeMap<Path, File>, modules: &Modules, found: &mut Vec<Violation>) {
    let mut needs: BTreeMap<&Path, BTreeMap<Path, usize>> = BTreeMap::new();
    for (path, file) in files {
        for named in file.named.iter().filter(|named| !named.facade) {
            if let Some(home) =
                modules.home(&named.path).filter(|home| home != path && !is_own_module(path, home))
            {
                needs.entry(path).or_default().entry(home).or_insert(named.line);
            }
        }
    }
    let mut reported = BTreeSet::new();
    for start in files.keys() {
        let Some(circle) = shortest_circle(start, &needs) else { continue };
        let group: BTreeSet<&Path> = circle.iter().copied().collect();
        if reported.insert(group) {
            let names: Vec<String> = circle.iter().map(|path| path.join("::")).collect();
            let line = needs[start][circle.get(1).copied().unwrap_or(start)];
            let what = format!("import cycle: {} -> {}", names.join(" -> "), names[0]);
            found.push(violation(Rule::Cycle, files[start].name, line, what));
        }
    }
}

/// Whether `home` is the module, below the crate's root, of which `path` is directly a part.
fn is_own_module(path: &Path, home: &Path) -> bool {
    home.len() > 1 && path.len() == home.len() + 1 && path.starts_with(home)
}

/// The shortest way from a module back to itself.
fn shortest_circle<'a>(
    start: &'a Path,
    needs: &'a BTreeMap<&Path, BTreeMap<Path, usize>>,
) -> Option<Vec<&'a Path>> {
    let mut ways: Vec<Vec<&Path>> = vec![vec![start]];
    let mut seen = BTreeSet::new();
    let mut at = 0;
    while at < ways.len() {
        let way = ways[at].clone();
        let next = needs.get(way[way.len() - 1]).into_iter().flatten();
        for (path, _) in next {
            if path == start {
                return Some(way);
            }
            if seen.insert(path) {
                ways.push([way.as_slice(), &[path]].concat());
            }
        }
        at += 1;
    }
    None
}

fn check_sizes(name: &str, text: &str, found: &mut Vec<Violation>) {
    let all = tokens(text);
    let lines = text.lines().count();
    if lines > FILE_LINES_MAX {
        found.push(violation(Rule::FileLength, name, lines, format!("more than {FILE_LINES_MAX} lines")));
    }
    let code = code_lines(&without_tests(&all));
    if code > FILE_CODE_LINES_MAX && module_path(name).is_some() {
        let what = format!("{code} lines of code, more than {FILE_CODE_LINES_MAX}");
        found.push(violation(Rule::FileLength, name, 1, what));
    }
    for (function, line, length) in functions(&all) {
        if length > FUNCTION_LINES_MAX {
            let what = format!("{function} has {length} lines of code, more than {FUNCTION_LINES_MAX}");
            found.push(violation(Rule::FunctionLength, name, line, what));
        }
    }
}
