//! `maple-pipe data`: the data sets whose manifests ship.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use clap::{Args, Subcommand};
use indicatif::MultiProgress;
use serde::Serialize;

use super::terminal::{bar, complain, display, download_bar, print, print_json, say};
use super::weights::DataRoot;
use crate::data::catalogue::{find, shipped};
use crate::data::check::{Check, check, other_there};
use crate::data::fetch::{Step, fetch, keep_sums};
use crate::data::import::{bring, describe, recognise, text};
use crate::data::manifest::DataSource;
use crate::data::sums::Sums;
use crate::data::{Item, Manifest, Split};
use crate::diagnostic::Diagnostic;
use crate::error::{Error, Result};
use crate::terminal;
use crate::text::{NAMED, few, plural, visible};

/// Missing files from which on they are summed up, too, and folders that the summary has.
const MANY: usize = 5;

/// List, fetch, check and import data sets
#[derive(Args, Debug)]
pub(super) struct DataCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List the data sets that have a manifest, and whether they are there and complete
    List {
        /// Print JSON: an object for each data set, on a line of its own
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        data: DataRoot,
    },
    /// Download data sets and unpack them into the published layout; goes on where it stopped
    ///
    /// For a file that needs an account, or has no address any more, it prints the manual steps.
    Fetch {
        /// E.g. `eurosat dtd`; `maple-pipe data list` names them all
        #[arg(required = true)]
        names: Vec<String>,
        #[command(flatten)]
        data: DataRoot,
    },
    /// Compare a data set's files with its manifest
    ///
    /// Prints the images that the split names and that are on disk, and every file that is missing.
    Check {
        /// E.g. `eurosat`, or a manifest of your own, e.g. `manifests/mine.toml`
        name: String,
        /// Decode every image
        #[arg(long)]
        deep: bool,
        /// Print the images of each class as CSV instead: how many the split names, and how many are on disk
        #[arg(long)]
        per_class: bool,
        #[command(flatten)]
        data: DataRoot,
    },
    /// Bring a folder that is there already below the data root, as a link
    ///
    /// A published data set is recognised by its files and checked. For any other folder a manifest of five lines is
    /// printed: class folders, `train/` and `test/` with class folders, or a .csv file with the columns path, label,
    /// classname and split.
    Import {
        /// The folder
        #[arg(value_name = "FOLDER")]
        source: PathBuf,
        /// The data set that it is, or the name that it is to have
        #[arg(long = "as", value_name = "NAME")]
        name: Option<String>,
        /// Copy the files in place of a link
        #[arg(long)]
        copy: bool,
        #[command(flatten)]
        data: DataRoot,
    },
}

impl DataCommand {
    pub(super) fn run(self) -> Result<()> {
        match self.action {
            Action::List { json, data } => list(data.folder.as_deref(), json),
            Action::Fetch { names, data } => fetch_all(&names, data.folder()?),
            Action::Check { name, deep, per_class, data } => check_one(&name, deep, per_class, data.folder()?),
            Action::Import { source, name, copy, data } => import(&source, name.as_deref(), copy, data.folder()?),
        }
    }
}

/// The manifest that ships under a name, or the one in a file.
fn manifest(name: &str) -> Result<Manifest> {
    if let Some(manifest) = find(name) {
        return Ok(manifest);
    }
    if name.ends_with(".toml") {
        let table = crate::document::read_table(Path::new(name))?;
        let manifest: Manifest = table.read().map_err(|mistake| vec![mistake])?;
        manifest.check().map_err(|error| {
            let place = table.place_of(error.key()).unwrap_or(&table.span);
            vec![Diagnostic { hint: error.hint().map(Into::into), ..Diagnostic::at(place, error.to_string()) }]
        })?;
        return Ok(manifest);
    }
    let names: Vec<&str> = shipped().map(|(name, _)| name).collect();
    let hint = crate::text::did_you_mean(name, &names);
    let hint = hint.unwrap_or_else(|| "`maple-pipe data list` names those that are known".to_owned());
    Err(Error::hinted(format!("there is no data set `{name}`"), hint))
}

/// How a data set stands below the data root.
#[derive(Serialize)]
struct Listed {
    name: &'static str,
    classes: Option<usize>,
    images: Option<usize>,
    /// `complete`, `incomplete`, `not there` or `unreadable`; nothing without a data root.
    state: Option<&'static str>,
    /// Where it lies, or is to lie.
    folder: Option<PathBuf>,
    /// Why it cannot be read.
    error: Option<String>,
}

fn list(data_root: Option<&Path>, json: bool) -> Result<()> {
    if !json {
        print(&format!("{:16} {:>8} {:>9}  state\n", "data set", "classes", "images"))?;
    }
    for (name, manifest) in shipped() {
        let folder = data_root.map(|root| root.join(&manifest.folder));
        let state = data_root.zip(folder.as_deref()).map(|(root, folder)| state(&manifest, folder, root));
        let (state, error) = match state {
            // One that cannot be read says nothing about the others.
            Some(Err(error)) => (Some("unreadable"), Some(error.to_string())),
            state => (state.and_then(Result::ok), None),
        };
        let (classes, images) = (manifest.counts.classes, manifest.counts.images());
        if json {
            print_json(&Listed { name, classes, images, state, folder, error })?;
            continue;
        }
        let number = |number: Option<usize>| number.map_or_else(|| "-".to_owned(), |number| number.to_string());
        let place = match (state, folder) {
            (Some("complete" | "incomplete"), Some(folder)) => format!(": {}", display(&folder)),
            _ => error.map(|error| format!(": {error}")).unwrap_or_default(),
        };
        let state = state.unwrap_or("-");
        print(&format!("{name:16} {:>8} {:>9}  {state}{place}\n", number(classes), number(images)))?;
    }
    if data_root.is_none() {
        say("hint: give `--data-root FOLDER` or set MAPLE_DATA, and the list says which data sets are there");
    }
    Ok(())
}

fn state(manifest: &Manifest, folder: &Path, root: &Path) -> Result<&'static str> {
    if !folder.is_dir() {
        return Ok("not there");
    }
    let sums = Sums::read(root)?;
    Ok(match check(manifest, folder, &sums, false, &|_, _| {})?.is_complete() {
        true => "complete",
        false if other_there(manifest, folder, &sums).is_some() => "not there",
        false => "incomplete",
    })
}

fn fetch_all(names: &[String], data_root: &Path) -> Result<()> {
    let names: BTreeSet<&String> = names.iter().collect();
    let wanted: Vec<(&String, Manifest)> =
        names.into_iter().map(|name| Ok((name, manifest(name)?))).collect::<Result<_>>()?;
    let sums = Mutex::new(Sums::read(data_root)?);
    let bars = MultiProgress::with_draw_target(terminal::bars());
    let fetch_one = |(name, manifest): &(&String, Manifest)| fetch_set(name, manifest, data_root, &sums, &bars);
    let results: Vec<Result<()>> = std::thread::scope(|scope| {
        let threads: Vec<_> = wanted.iter().map(|one| scope.spawn(|| fetch_one(one))).collect();
        threads.into_iter().map(|thread| thread.join().expect("no thread panics")).collect()
    });
    let mut errors: Vec<Error> = results.into_iter().filter_map(Result::err).collect();
    let last = errors.pop();
    errors.iter().for_each(complain);
    last.map_or(Ok(()), Err)
}

/// All sources of a data set that are not there yet, and then those that lack something.
fn fetch_set(
    name: &str,
    manifest: &Manifest,
    data_root: &Path,
    sums: &Mutex<Sums>,
    bars: &MultiProgress,
) -> Result<()> {
    if manifest.sources.is_empty() {
        let message = format!("`{name}` has no `[[source]]`, so it cannot be downloaded");
        return Err(Error::hinted(message, "`maple-pipe data import` brings a folder that you have"));
    }
    let folder = data_root.join(&manifest.folder);
    let get = |sources: &[&DataSource]| fetch_sources(name, manifest, sources, data_root, sums, bars);
    let look = || check(manifest, &folder, &sums.lock().expect("nobody panics"), false, &|_, _| {});
    let mut wanted: Vec<&DataSource> = manifest.sources.iter().filter(|source| !source.is_there(&folder)).collect();
    let is_there = wanted.is_empty();
    get(&wanted)?;
    // Which images there must be is known once the split is there.
    let mut found = look()?;
    let lacking = found.lacking();
    wanted = manifest.sources.iter().filter(|source| source.has_some_of(&folder, &lacking)).collect();
    if !wanted.is_empty() {
        let places = few(NAMED, lacking.iter().map(|path| display(path)).collect::<BTreeSet<_>>().into_iter());
        say(&format!("{name} is incomplete ({places}), so that {} again", needed(&wanted)));
        get(&wanted)?;
        found = look()?;
    }
    if !found.is_complete() {
        let other = other_there(manifest, &folder, &sums.lock().expect("nobody panics"));
        return Err(Error::Found {
            message: format!("`{name}` does not match its manifest, although all its sources are there"),
            hint: Some(match other {
                Some(other) => format!("`{}` holds `{other}`: fetch `{name}` into another data root", display(&folder)),
                None => format!("`maple-pipe data check {name}` says what is wrong"),
            }),
        });
    }
    keep_sums(manifest, data_root, &mut sums.lock().expect("nobody panics"))?;
    let folder = display(&folder);
    say(&match is_there && wanted.is_empty() {
        true => format!("{name} is there already: {folder}"),
        false => format!("fetched {name}: {folder}"),
    });
    Ok(())
}

/// `a.tar and b.tar are needed`
fn needed(sources: &[&DataSource]) -> String {
    let files: Vec<String> = sources.iter().map(|source| format!("`{}`", source.file)).collect();
    format!("{} {} needed", files.join(" and "), if files.len() == 1 { "is" } else { "are" })
}

/// Some sources of a data set; one that cannot be had does not keep the others from coming.
fn fetch_sources(
    name: &str,
    manifest: &Manifest,
    sources: &[&DataSource],
    data_root: &Path,
    sums: &Mutex<Sums>,
    bars: &MultiProgress,
) -> Result<()> {
    let mut failed = None;
    for source in sources {
        let bar = bars.add(download_bar(&format!("{name}: {}", source.file)));
        let result = fetch(manifest, source, data_root, sums, &mut |step| match step {
            Step::Downloading(have, total) => {
                total.into_iter().for_each(|total| bar.set_length(total));
                bar.set_position(have);
            }
            Step::Unpacking => bar.set_message(format!("{name}: unpacking {}", source.file)),
        });
        bar.finish_and_clear();
        if let Err(error) = result
            && let Some(earlier) = failed.replace(error)
        {
            complain(&earlier);
        }
    }
    failed.map_or(Ok(()), Err)
}

fn check_one(name: &str, deep: bool, per_class: bool, data_root: &Path) -> Result<()> {
    let manifest = manifest(name)?;
    let folder = data_root.join(&manifest.folder);
    if !folder.is_dir() {
        let import = "`maple-pipe data import` brings a folder that you have";
        return Err(Error::hinted(
            format!("there is no folder `{}`", display(&folder)),
            match manifest.sources.is_empty() {
                true => format!("correct `folder` in the manifest, which is below the data root, or {import}"),
                false => format!("`maple-pipe data fetch {name}` gets the data set, {import}"),
            },
        ));
    }
    let bar = bar("decoding [{wide_bar}] {pos}/{len}");
    let found = check(&manifest, &folder, &Sums::read(data_root)?, deep, &|done, total| {
        bar.set_length(total as u64);
        bar.set_position(done as u64);
    })?;
    bar.finish_and_clear();
    if let Some(split) = &found.split {
        if per_class {
            print(&classes(split, &found.on_disk))?;
        } else {
            print(&counts(&manifest, split, &found.on_disk))?;
        }
    }
    if !per_class {
        print(&missing(&found))?;
    }
    report(name, &manifest, &folder, &found, deep)
}

/// Every file and folder that is missing, one per line.
fn missing(found: &Check) -> String {
    found.missing.iter().map(|path| format!("missing: {}\n", display(path))).collect()
}

/// What the manifest says of each part, what the split names, and what of it is on disk.
fn counts(manifest: &Manifest, split: &Split<Item>, on_disk: &Split<bool>) -> String {
    let expected = [manifest.counts.train, manifest.counts.val, manifest.counts.test];
    let row = |what: &str, expected: Option<usize>, named: usize, found: &dyn Display| {
        let expected = expected.map_or_else(|| "-".to_owned(), |expected| expected.to_string());
        format!("{what:8} {expected:>9} {named:>9} {found:>9}\n")
    };
    let mut text = format!("{:8} {:>9} {:>9} {:>9}\n", "", "manifest", "split", "on disk");
    let found: BTreeSet<usize> =
        pairs(split, on_disk).filter(|(.., found)| *found).map(|(_, item, _)| item.label).collect();
    text += &row("classes", manifest.counts.classes, split.class_names().len(), &found.len());
    for (((part, items), (_, found)), expected) in split.parts().into_iter().zip(on_disk.parts()).zip(expected) {
        text += &row(part, expected, items.len(), &found.iter().filter(|found| **found).count());
    }
    text
}

/// The place of the part, the image, and whether it is there.
fn pairs<'a>(split: &'a Split<Item>, on_disk: &'a Split<bool>) -> impl Iterator<Item = (usize, &'a Item, bool)> {
    let parts = split.parts().into_iter().zip(on_disk.parts()).enumerate();
    parts.flat_map(|(part, ((_, items), (_, found)))| {
        items.iter().zip(found).map(move |(item, &found)| (part, item, found))
    })
}

/// Images of each class in each part, as CSV.
fn classes(split: &Split<Item>, on_disk: &Split<bool>) -> String {
    let names = split.class_names();
    let mut counts = vec![[0; 6]; names.len()];
    for (part, item, found) in pairs(split, on_disk) {
        if let Some(count) = counts.get_mut(item.label) {
            count[2 * part] += 1;
            count[2 * part + 1] += usize::from(found);
        }
    }
    let mut writer = csv::Writer::from_writer(Vec::new());
    let parts = ["train", "train_on_disk", "val", "val_on_disk", "test", "test_on_disk"];
    writer.write_record(["label", "classname"].into_iter().chain(parts)).expect("memory takes all");
    for (label, (name, count)) in names.iter().zip(counts).enumerate() {
        let numbers = count.map(|count: usize| count.to_string());
        let row = [label.to_string(), name.clone()].into_iter().chain(numbers);
        writer.write_record(row).expect("memory takes all");
    }
    String::from_utf8(writer.into_inner().expect("memory takes all")).expect("names are UTF-8")
}

/// Where files are missing, for a person who does not want to read all their names.
fn summary(manifest: &Manifest, folder: &Path, found: &Check) -> Vec<String> {
    let images = manifest.image_folder(folder);
    let items: Vec<PathBuf> = found
        .split
        .iter()
        .flat_map(Split::parts)
        .flat_map(|(_, items)| items)
        .map(|item| images.join(&item.path))
        .collect();
    let line = |(above, missing): (&&Path, &BTreeSet<&Path>)| {
        let below = |path: &'_ PathBuf| {
            path.strip_prefix(above).ok()?.components().next().map(|name| name.as_os_str().to_owned())
        };
        let all: BTreeSet<_> = items.iter().filter_map(below).collect();
        let names = missing.iter().map(|path| path.file_name().unwrap_or_default().to_string_lossy().into_owned());
        let of = if all.len() < missing.len() { String::new() } else { format!(" of {}", all.len()) };
        format!("{}{of} are missing in `{}`: {}", missing.len(), display(above), few(NAMED, names))
    };
    let folders = found.missing_by_folder();
    let more = folders.len().saturating_sub(MANY);
    let rest: usize = folders.values().skip(MANY).map(BTreeSet::len).sum();
    let rest = (more > 0).then(|| format!("{rest} are missing in {more} other folders"));
    folders.iter().take(MANY).map(line).chain(rest).collect()
}

fn report(name: &str, manifest: &Manifest, folder: &Path, found: &Check, deep: bool) -> Result<()> {
    found.notes.iter().for_each(|note| say(&format!("note: {}", visible(note))));
    found.differences.iter().for_each(|difference| say(&format!("differs: {}", visible(difference))));
    if found.missing.len() > MANY {
        summary(manifest, folder, found).iter().for_each(|line| say(&visible(line)));
    }
    found.broken.iter().for_each(|broken| say(&format!("broken: {}", visible(broken))));
    if found.is_complete() {
        let decoded = if deep { ", and every image decodes" } else { "" };
        say(&format!("{name} matches its manifest{decoded}"));
        return Ok(());
    }
    let counts = [
        (found.differences.len(), "mismatch", "mismatches"),
        (found.missing.len(), "missing file or folder", "missing files or folders"),
        (found.broken.len(), "broken image", "broken images"),
    ];
    let counts = counts.into_iter().filter(|(count, ..)| *count > 0).map(|(count, one, many)| plural(count, one, many));
    let lacking = found.lacking();
    let wanted = |source: &&DataSource| !source.is_there(folder) || source.has_some_of(folder, &lacking);
    let mut wanted = manifest.sources.iter().filter(wanted).peekable();
    let hint = wanted.peek().is_some().then(|| {
        let does = if wanted.any(|source| source.can_be_had(folder)) { "gets" } else { "says how to get" };
        format!("`maple-pipe data fetch {name}` {does} what is missing")
    });
    Err(Error::Found {
        message: format!("data set `{name}` does not match its manifest: {}", counts.collect::<Vec<_>>().join(", ")),
        hint: found.hint.clone().or(hint),
    })
}

fn import(folder: &Path, name: Option<&str>, copies: bool, data_root: &Path) -> Result<()> {
    if !folder.is_dir() {
        return Err(Error::invalid(format!("there is no folder `{}`", display(folder))));
    }
    let known: Vec<(String, Manifest)> = match name {
        Some(name) => find(name).map(|manifest| (name.to_owned(), manifest)).into_iter().collect(),
        None => recognise(folder).into_iter().map(|(name, manifest)| (name.to_owned(), manifest)).collect(),
    };
    let mut sums = Sums::read(data_root)?;
    let mut checked = Vec::new();
    for (name, manifest) in &known {
        let found = check(manifest, folder, &sums, false, &|_, _| {})?;
        if found.is_complete() {
            found.notes.iter().for_each(|note| say(&format!("note: {note}")));
            return bring_known(name, manifest, folder, copies, data_root, &mut sums);
        }
        checked.push((name, manifest, found));
    }
    if let Some((name, manifest, found)) = checked.first() {
        print(&missing(found))?;
        return report(name, manifest, folder, found, false);
    }
    let own = folder.canonicalize().map_err(Error::io("read", folder))?;
    let own = own.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let manifest = describe(folder, name.unwrap_or(&own))?;
    manifest.check()?;
    let split = manifest.split(folder)?;
    let found = check(&manifest, folder, &sums, false, &|_, _| {})?;
    if !found.is_complete() {
        print(&missing(&found))?;
        return report(&manifest.name, &manifest, folder, &found, false);
    }
    bring(folder, &data_root.join(&manifest.folder), copies)?;
    print(&text(&manifest))?;
    let images: usize = split.parts().into_iter().map(|(_, items)| items.len()).sum();
    found.notes.iter().for_each(|note| say(&format!("note: {note}")));
    say(&format!(
        "imported {}: {}, {}; save these lines as `manifests/{}.toml`, and name that file in a `dataset` stage",
        display(&data_root.join(&manifest.folder)),
        plural(split.class_names().len(), "class", "classes"),
        plural(images, "image", "images"),
        manifest.name
    ));
    Ok(())
}

fn bring_known(
    name: &str,
    manifest: &Manifest,
    folder: &Path,
    copies: bool,
    data_root: &Path,
    sums: &mut Sums,
) -> Result<()> {
    let place = data_root.join(&manifest.folder);
    let news = bring(folder, &place, copies)?;
    if let Some(file) = manifest.unpublished_split() {
        sums.keep(&format!("{}/{file}", manifest.folder))?;
    }
    say(&format!("{} {name}: {}", if news { "imported" } else { "is there already:" }, display(&place)));
    Ok(())
}
