//! `maple-pipe data`: the data sets whose manifests ship.

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use clap::{Args, Subcommand};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::weights::DataRoot;
use super::{display, print, say};
use crate::data::catalogue::{find, shipped};
use crate::data::check::{Check, check};
use crate::data::fetch::{Step, fetch};
use crate::data::import::{bring, describe, recognise, text};
use crate::data::sums::Sums;
use crate::data::{Item, Manifest, Split};
use crate::error::{Error, Result};

/// Missing files that are named one by one.
const NAMED: usize = 5;

/// List, fetch, check and import data sets
#[derive(Args, Debug)]
pub(super) struct DataCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List the data sets that have a manifest, and whether they are there and complete
    List(DataRoot),
    /// Download data sets and unpack them into the published layout; goes on where it stopped
    ///
    /// What needs an account, or has no address any more, is named with what to do by hand.
    Fetch {
        /// E.g. `eurosat dtd`; `maple-pipe data list` names them all
        #[arg(required = true)]
        names: Vec<String>,
        #[command(flatten)]
        data: DataRoot,
    },
    /// Compare a data set's files with its manifest
    Check {
        /// E.g. `eurosat`, or a manifest of your own, e.g. `manifests/mine.toml`
        name: String,
        /// Decode every image
        #[arg(long)]
        deep: bool,
        /// Print the images of each class as CSV
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
            Action::List(data) => list(data.folder.as_deref()),
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
        let table = crate::pipeline::read_table(Path::new(name))?;
        let manifest: Manifest = table.read().map_err(|mistake| vec![mistake])?;
        manifest.check()?;
        return Ok(manifest);
    }
    let names: Vec<&str> = shipped().map(|(name, _)| name).collect();
    let hint = crate::pipeline::diagnostic::did_you_mean(name, &names);
    let hint = hint.unwrap_or_else(|| "`maple-pipe data list` names those that are known".to_owned());
    Err(Error::hinted(format!("there is no data set `{name}`"), hint))
}

fn list(data_root: Option<&Path>) -> Result<()> {
    for (name, manifest) in shipped() {
        let state = match data_root {
            None => "no data root".to_owned(),
            Some(root) => state(&manifest, root)?,
        };
        let images = manifest.counts.images().map_or_else(String::new, |images| format!("{images} images"));
        let classes = manifest.counts.classes.map_or_else(String::new, |classes| format!("{classes} classes"));
        print(&format!("{name:16} {classes:>12} {images:>15}  {state}\n"))?;
    }
    Ok(())
}

fn state(manifest: &Manifest, root: &Path) -> Result<String> {
    let folder = root.join(&manifest.folder);
    if !folder.is_dir() {
        return Ok("not there".to_owned());
    }
    let found = check(manifest, &folder, &Sums::read(root)?, false, &|_, _| {})?;
    Ok(if found.is_complete() {
        format!("complete: {}", display(&folder))
    } else {
        format!("incomplete: {}", display(&folder))
    })
}

fn fetch_all(names: &[String], data_root: &Path) -> Result<()> {
    let wanted: Vec<(&String, Manifest)> =
        names.iter().map(|name| Ok((name, manifest(name)?))).collect::<Result<_>>()?;
    let sums = Mutex::new(Sums::read(data_root)?);
    let bars = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
    let fetch_one = |(name, manifest): &(&String, Manifest)| fetch_set(name, manifest, data_root, &sums, &bars);
    let results: Vec<Result<()>> = std::thread::scope(|scope| {
        let threads: Vec<_> = wanted.iter().map(|one| scope.spawn(|| fetch_one(one))).collect();
        threads.into_iter().map(|thread| thread.join().expect("no thread panics")).collect()
    });
    let mut errors: Vec<Error> = results.into_iter().filter_map(Result::err).collect();
    let last = errors.pop();
    for error in errors {
        say(&format!("error: {error}"));
        if let Some(hint) = error.hint() {
            say(&format!("hint: {hint}"));
        }
    }
    last.map_or(Ok(()), Err)
}

/// All sources of a data set; one that cannot be had does not keep the others from coming.
fn fetch_set(
    name: &str,
    manifest: &Manifest,
    data_root: &Path,
    sums: &Mutex<Sums>,
    bars: &MultiProgress,
) -> Result<()> {
    if manifest.sources.is_empty() {
        let message = format!("the manifest of `{name}` says nowhere where to get it");
        return Err(Error::hinted(message, "`maple-pipe data import` brings a folder that you have"));
    }
    let mut failed = None;
    let mut fetched = 0;
    for source in &manifest.sources {
        let bar = bars.add(bar(&format!("{name}: {}", source.file)));
        let result = fetch(manifest, source, data_root, sums, &mut |step| match step {
            Step::Downloading(have, total) => {
                total.into_iter().for_each(|total| bar.set_length(total));
                bar.set_position(have);
            }
            Step::Unpacking => bar.set_message(format!("{name}: unpacking {}", source.file)),
        });
        bar.finish_and_clear();
        match result {
            Ok(news) => fetched += usize::from(news),
            Err(error) => {
                if let Some(earlier) = failed.replace(error) {
                    say(&format!("error: {earlier}"));
                    earlier.hint().into_iter().for_each(|hint| say(&format!("hint: {hint}")));
                }
            }
        }
    }
    if let Some(error) = failed {
        return Err(error);
    }
    let folder = display(&data_root.join(&manifest.folder));
    say(&match fetched {
        0 => format!("{name} is there already: {folder}"),
        _ => format!("fetched {name}: {folder}"),
    });
    Ok(())
}

/// A progress bar on standard error, which nobody sees unless that is a terminal.
fn bar(name: &str) -> ProgressBar {
    let template = "{msg} [{wide_bar}] {bytes}/{total_bytes}, {bytes_per_sec}, {eta} left";
    let style = ProgressStyle::with_template(template).expect("the template is valid").progress_chars("=> ");
    ProgressBar::new(0).with_style(style).with_message(name.to_owned())
}

fn check_one(name: &str, deep: bool, per_class: bool, data_root: &Path) -> Result<()> {
    let manifest = manifest(name)?;
    let folder = data_root.join(&manifest.folder);
    if !folder.is_dir() {
        return Err(Error::hinted(
            format!("there is no folder `{}`", display(&folder)),
            format!(
                "`maple-pipe data fetch {name}` gets the data set, `maple-pipe data import` brings a folder that you have"
            ),
        ));
    }
    let style = ProgressStyle::with_template("decoding [{wide_bar}] {pos}/{len}").expect("the template is valid");
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()).with_style(style);
    let found = check(&manifest, &folder, &Sums::read(data_root)?, deep, &|done, total| {
        bar.set_length(total as u64);
        bar.set_position(done as u64);
    })?;
    bar.finish_and_clear();
    if let Some(split) = &found.split {
        if per_class {
            print(&classes(split))?;
        } else {
            print(&counts(&manifest, split))?;
        }
    }
    report(name, &manifest, &found, deep)
}

/// Images in each part, beside what the manifest says.
fn counts(manifest: &Manifest, split: &Split<Item>) -> String {
    let expected = [manifest.counts.train, manifest.counts.val, manifest.counts.test];
    let row = |what: &str, found: usize, expected: Option<usize>| {
        let expected = expected.map_or_else(|| "-".to_owned(), |expected| expected.to_string());
        format!("{what:8} {found:>9} {expected:>9}\n")
    };
    let mut text = format!("{:8} {:>9} {:>9}\n", "", "found", "manifest");
    text += &row("classes", split.class_names().len(), manifest.counts.classes);
    for ((part, items), expected) in split.parts().into_iter().zip(expected) {
        text += &row(part, items.len(), expected);
    }
    text
}

/// Images of each class in each part, as CSV.
fn classes(split: &Split<Item>) -> String {
    let names = split.class_names();
    let mut counts = vec![[0; 3]; names.len()];
    for (part, (_, items)) in split.parts().into_iter().enumerate() {
        for item in items {
            if let Some(count) = counts.get_mut(item.label) {
                count[part] += 1;
            }
        }
    }
    let mut writer = csv::Writer::from_writer(Vec::new());
    let mut write = |row: [&str; 5]| writer.write_record(row).expect("memory takes all");
    write(["label", "classname", "train", "val", "test"]);
    for (label, (name, count)) in names.iter().zip(counts).enumerate() {
        let [train, val, test] = count.map(|count: usize| count.to_string());
        write([&label.to_string(), name, &train, &val, &test]);
    }
    String::from_utf8(writer.into_inner().expect("memory takes all")).expect("names are UTF-8")
}

fn report(name: &str, manifest: &Manifest, found: &Check, deep: bool) -> Result<()> {
    found.differences.iter().for_each(|difference| say(&format!("differs: {difference}")));
    found.missing.iter().take(NAMED).for_each(|path| say(&format!("missing: {}", display(path))));
    if found.missing.len() > NAMED {
        say(&format!("missing: {} more", found.missing.len() - NAMED));
    }
    found.broken.iter().for_each(|broken| say(&format!("broken: {broken}")));
    if found.is_complete() {
        let decoded = if deep { ", and every image decodes" } else { "" };
        say(&format!("{name} is as its manifest says{decoded}"));
        return Ok(());
    }
    let (differences, missing, broken) = (found.differences.len(), found.missing.len(), found.broken.len());
    Err(Error::Found {
        message: format!(
            "data set `{name}` is not as its manifest says: {differences} different, {missing} missing, {broken} broken"
        ),
        hint: (!manifest.sources.is_empty() && missing > 0)
            .then(|| format!("`maple-pipe data fetch {name}` gets what is missing")),
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
            return bring_known(name, manifest, folder, copies, data_root, &mut sums);
        }
        checked.push((name, manifest, found));
    }
    if let Some((name, manifest, found)) = checked.first() {
        return report(name, manifest, found, false);
    }
    let own = folder.canonicalize().map_err(Error::io("read", folder))?;
    let own = own.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let manifest = describe(folder, name.unwrap_or(&own))?;
    manifest.check()?;
    let split = manifest.split(folder)?;
    bring(folder, &data_root.join(&manifest.folder), copies)?;
    print(&text(&manifest))?;
    let images: usize = split.parts().into_iter().map(|(_, items)| items.len()).sum();
    say(&format!(
        "imported {}: {} classes, {images} images; keep these lines as the manifest of a `dataset` stage",
        display(&data_root.join(&manifest.folder)),
        split.class_names().len()
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
