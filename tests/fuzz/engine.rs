//! The search: a population of inputs, mutations of them, and what becomes of an input that fails.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{env, fs};

use storage::sim::Random;

/// What is fuzzed.
pub struct Target {
    /// Of its corpus.
    pub name: &'static str,
    /// Asserts everything that must hold for an input; tells by its signs what came about.
    pub run: fn(&[u8]) -> Signs,
    /// What mutations put in.
    pub words: &'static [&'static [u8]],
    /// How often under `make test`.
    pub runs: u64,
}

/// What an input brought about, as hashes.
#[derive(Default)]
pub struct Signs(Vec<u64>);

impl Signs {
    /// This came about.
    pub fn note(&mut self, sign: impl Hash) {
        let mut hasher = DefaultHasher::new();
        sign.hash(&mut hasher);
        self.0.push(hasher.finish());
    }

    /// A number came about; only its size matters.
    pub fn note_size(&mut self, what: &str, number: usize) {
        self.note((what, number.checked_ilog2()));
    }
}

/// Octets of an input at most.
const INPUT_OCTETS_MAX: usize = 12 * 1024;

/// Runs the corpus, then mutations of it.
pub fn fuzz(target: &Target) {
    let seed = env::var("STRATAMX_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| u64::from(std::process::id()));
    println!("seed {seed}; repeat: STRATAMX_SEED={seed} cargo nextest run -p stratamx fuzz::{}", target.name);
    let corpus = corpus(target.name);
    assert!(!corpus.is_empty(), "tests/fuzz/corpus/{} has no inputs", target.name);
    let Some(failed) = search(target, corpus, seed) else { return };
    let path = keep(target.name, "failed", &failed);
    println!("failed: {} (seed {seed}): {}", path.display(), failed.escape_ascii());
    (target.run)(&failed);
    panic!("{} fails not every time", path.display());
}

/// The first input that fails, made shorter.
pub fn search(target: &Target, corpus: Vec<Vec<u8>>, seed: u64) -> Option<Vec<u8>> {
    let seconds = env::var("STRATAMX_FUZZ_SECONDS").ok().and_then(|seconds| seconds.parse().ok());
    let end = seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let (mut random, mut seen, mut population) = (Random::new(seed), HashSet::new(), Vec::new());
    for input in corpus {
        match signs(target, &input) {
            Some(signs) => seen.extend(signs.0),
            None => return Some(shorten(target, input)),
        }
        population.push(input);
    }
    let mut run = 0;
    while end.map_or(run < target.runs, |end| Instant::now() < end) {
        run += 1;
        let input = mutate(&population, target.words, &mut random);
        let Some(signs) = signs(target, &input) else { return Some(shorten(target, input)) };
        let known = seen.len();
        seen.extend(signs.0);
        if seen.len() > known {
            if end.is_some() {
                keep(target.name, "found", &input);
            }
            population.push(input);
        }
    }
    println!("{}: {run} runs, {} signs, {} inputs", target.name, seen.len(), population.len());
    None
}

/// None: it failed.
fn signs(target: &Target, input: &[u8]) -> Option<Signs> {
    catch_unwind(AssertUnwindSafe(|| (target.run)(input))).ok()
}

/// Takes out what the failure does not need. Each try that fails too prints its panic.
fn shorten(target: &Target, mut input: Vec<u8>) -> Vec<u8> {
    let mut length = input.len() / 2;
    while length > 0 {
        let mut at = 0;
        while at + length <= input.len() {
            let shorter = [&input[..at], &input[at + length..]].concat();
            if signs(target, &shorter).is_none() {
                input = shorter;
            } else {
                at += length;
            }
        }
        length /= 2;
    }
    input
}

fn corpus(name: &str) -> Vec<Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(name);
    let entries = fs::read_dir(directory).expect("every target has a corpus");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).expect("an input")).collect()
}

fn keep(name: &str, what: &str, input: &[u8]) -> PathBuf {
    let mut hasher = DefaultHasher::new();
    input.hash(&mut hasher);
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("fuzz").join(name);
    fs::create_dir_all(&directory).expect("a directory below target");
    let path = directory.join(format!("{what}-{:016x}", hasher.finish()));
    fs::write(&path, input).expect("a file below target");
    path
}

/// An input of the population, changed in one to eight ways.
fn mutate(population: &[Vec<u8>], words: &[&[u8]], random: &mut Random) -> Vec<u8> {
    let mut input = population[below(random, population.len())].clone();
    for _ in 0..1 << below(random, 4) {
        let other = &population[below(random, population.len())];
        change(&mut input, other, words, random);
    }
    input.truncate(INPUT_OCTETS_MAX);
    input
}

fn change(input: &mut Vec<u8>, other: &[u8], words: &[&[u8]], random: &mut Random) {
    let at = below(random, input.len() + 1);
    match below(random, 10) {
        0 => input.insert(at, INTERESTING[below(random, INTERESTING.len())]),
        1 if !words.is_empty() => {
            input.splice(at..at, words[below(random, words.len())].iter().copied());
        }
        2 => {
            let piece = other[range(other.len(), random)].to_vec();
            input.splice(at..at, piece);
        }
        3 => {
            let piece = range(input.len(), random);
            let copy = input[piece].repeat(1 + below(random, 3));
            input.splice(at..at, copy);
        }
        4 if random.one_in(8) => {
            let piece = range(input.len().min(64), random);
            let copy = input[piece].repeat(1 << below(random, 12));
            input.splice(at..at, copy);
        }
        5 => {
            input.truncate(at);
            input.extend_from_slice(&other[below(random, other.len() + 1)..]);
        }
        6 => change_number(input, at, random),
        7 => drop(input.drain(range(input.len(), random))),
        _ => change_octet(input, at, random),
    }
}

fn change_octet(input: &mut [u8], at: usize, random: &mut Random) {
    let Some(octet) = input.get_mut(at) else { return };
    *octet = match below(random, 3) {
        0 => *octet ^ (1 << below(random, 8)),
        1 => INTERESTING[below(random, INTERESTING.len())],
        _ => random.next().to_le_bytes()[0],
    };
}

/// The first decimal number from `at` on becomes another, or one more or less.
fn change_number(input: &mut Vec<u8>, at: usize, random: &mut Random) {
    let Some(start) = input[at..].iter().position(u8::is_ascii_digit).map(|found| at + found) else { return };
    let length = input[start..].iter().take_while(|octet| octet.is_ascii_digit()).count();
    let text = String::from_utf8_lossy(&input[start..start + length]).into_owned();
    let number: u64 = text.parse().unwrap_or(0);
    let changed = match below(random, 4) {
        0 => number.saturating_add(1),
        1 => number.saturating_sub(1),
        2 => random.below(40),
        _ => [0, u64::MAX, 1 << 31, 999, 1_000_000][below(random, 5)],
    };
    input.splice(start..start + length, changed.to_string().into_bytes());
}

/// A piece of so many octets, mostly a short one.
fn range(length: usize, random: &mut Random) -> core::ops::Range<usize> {
    let start = below(random, length + 1);
    let longest = (length - start).min(1 << below(random, 10));
    start..start + below(random, longest + 1)
}

/// A number below `bound`, which is not 0.
pub fn below(random: &mut Random, bound: usize) -> usize {
    usize::try_from(random.below(bound as u64)).expect("below a usize")
}

const INTERESTING: &[u8] = b"\r\n.\0 \t<>@\"\\:;,=+-[]%aZ09\x7f\x80\xc3\xff";
