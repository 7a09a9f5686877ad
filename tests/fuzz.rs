//! The bodies of the fuzz targets (`fuzz/`) on their corpus, and on what becomes of it by a few random changes. The
//! changes are the same in every run; `cargo +nightly fuzz run TARGET` looks for more, for as long as one likes.

#[path = "../fuzz/bodies.rs"]
mod bodies;

use std::fs;
use std::path::{Path, PathBuf};

use maple_pipe::data::random::{Generator, below, generator};

/// Changed inputs of a target; of those that make many files for each, fewer. All together have 10,000.
fn changed(target: &str) -> u64 {
    if ["archive", "stat_cache"].contains(&target) { 250 } else { 950 }
}

/// The longest changed input, in bytes.
const LONGEST: usize = 1 << 14;
/// What parsers are most often wrong about.
const NUMBERS: [u64; 10] = [0, 1, 0x7f, 0x80, 0xff, 0x7fff, 0xffff, 0x7fff_ffff, 0xffff_ffff, u64::MAX >> 1];

/// The inputs that a target starts from, in the order of their names.
fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut paths: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    // Those that the fuzzer has added are named by their SHA-1.
    paths.retain(|path| path.file_name().unwrap().len() != 40);
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

/// Makes one to four changes: a bit, a byte, a number, a cut, a piece that goes or comes twice, a piece of another input.
fn change(bytes: &mut Vec<u8>, others: &[(PathBuf, Vec<u8>)], random: &mut Generator) {
    for _ in 0..=below(random, 4) {
        let place = below(random, bytes.len() + 1);
        let length = below(random, bytes.len() - place + 1).min(below(random, 64));
        let piece = place..place + length;
        match below(random, 8) {
            0 if place < bytes.len() => bytes[place] ^= 1 << below(random, 8),
            1 if place < bytes.len() => bytes[place] = below(random, 256) as u8,
            2 => {
                let number = NUMBERS[below(random, NUMBERS.len())].to_le_bytes();
                let width = (1 << below(random, 4)).min(bytes.len() - place);
                bytes[place..place + width].copy_from_slice(&number[..width]);
            }
            3 => {
                let digits = NUMBERS[below(random, NUMBERS.len())].to_string();
                bytes.splice(piece, digits.into_bytes());
            }
            4 => bytes.truncate(place),
            5 => drop(bytes.drain(piece)),
            6 => {
                let twice = bytes[piece].to_vec();
                let to = below(random, bytes.len() + 1);
                bytes.splice(to..to, twice);
            }
            _ => {
                let other = &others[below(random, others.len())].1;
                let from = below(random, other.len() + 1);
                let end = from + below(random, other.len() - from + 1).min(64);
                bytes.splice(piece, other[from..end].iter().copied());
            }
        }
    }
    bytes.truncate(LONGEST);
}

/// Says what a body was given, if it panics.
struct Given<'a> {
    target: &'a str,
    origin: String,
    bytes: &'a [u8],
}

impl Drop for Given<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let Given { target, origin, bytes } = self;
            maple_pipe::terminal::say(&format!("{target}: {origin}: {}", bytes.escape_ascii()));
        }
    }
}

fn check(target: &str) {
    let (_, body) = bodies::BODIES.iter().find(|(name, _)| *name == target).unwrap();
    let corpus = corpus(target);
    assert!(!corpus.is_empty());
    for (path, bytes) in &corpus {
        let _given = Given { target, origin: path.display().to_string(), bytes };
        body(bytes);
    }
    for seed in 0..changed(target) {
        let mut random = generator(seed, target, 0, 0);
        let (path, bytes) = &corpus[below(&mut random, corpus.len())];
        let mut bytes = bytes.clone();
        change(&mut bytes, &corpus, &mut random);
        let _given = Given { target, origin: format!("seed {seed}, from {}", path.display()), bytes: &bytes };
        body(&bytes);
    }
}

macro_rules! targets {
    ($($target:ident)+) => {
        $(#[test]
        fn $target() {
            check(stringify!($target));
        })+

        #[test]
        fn every_body_is_a_target_and_is_tested() {
            let names: Vec<&str> = bodies::BODIES.iter().map(|(name, _)| *name).collect();
            assert_eq!(names, [$(stringify!($target)),+]);
            assert_eq!(names.iter().map(|name| changed(name)).sum::<u64>(), 10_000);
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
            let package = fs::read_to_string(folder.join("Cargo.toml")).unwrap();
            for name in names {
                let target = fs::read_to_string(folder.join(format!("fuzz_targets/{name}.rs"))).unwrap();
                assert!(target.contains(&format!("bodies::{name}(data)")), "{name}");
                assert!(package.contains(&format!("path = \"fuzz_targets/{name}.rs\"")), "{name}");
            }
        }
    };
}

targets! { archive checkpoint image manifest pickle pipeline prompt record safetensors split stat_cache tokenizer }
