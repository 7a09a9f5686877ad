//! `maple-pipe fewshot`: the few-shot samples that the published code draws.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use super::terminal::{print, say};
use crate::data::sampling::small_classes;
use crate::data::{Classes, Item, Split, few_shot};
use crate::error::Result;

/// Print the few-shot sample of a split file, as the published code draws it; no image is needed
///
/// One image per line, `train,PATH` or `val,PATH`. Samples are drawn from all classes first and cut afterwards, as in the
/// published code.
#[derive(Args, Debug)]
pub(super) struct FewShotCommand {
    /// One of CoOp's `split_zhou_*.json` files, or another of that form
    #[arg(long, value_name = "FILE")]
    split: PathBuf,
    /// Training images per class
    #[arg(long, value_name = "N")]
    shots: NonZeroUsize,
    /// For Python's `random`, as the published code seeds it
    #[arg(long, value_name = "N")]
    seed: u64,
    /// The classes to keep
    #[arg(long, default_value = "all")]
    classes: ClassesArgument,
    /// `list` prints CSV with the columns path, label, classname and split
    #[arg(value_name = "list")]
    list: Option<List>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum List {
    List,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ClassesArgument {
    All,
    Base,
    Novel,
}

impl From<ClassesArgument> for Classes {
    fn from(argument: ClassesArgument) -> Classes {
        match argument {
            ClassesArgument::All => Classes::All,
            ClassesArgument::Base => Classes::Base,
            ClassesArgument::Novel => Classes::Novel,
        }
    }
}

impl FewShotCommand {
    pub(super) fn run(self) -> Result<()> {
        let sample = sample(&self.split, self.shots, self.seed, self.classes.into())?;
        match self.list {
            None => print(&lines(&sample)),
            Some(List::List) => print(&table(&sample)),
        }
    }
}

/// The sample's parts with their images.
type Sample = [(&'static str, Vec<Item>); 2];

fn sample(split: &Path, shots: NonZeroUsize, seed: u64, classes: Classes) -> Result<Sample> {
    let split = Split::read(split)?;
    let count = split.class_names().len();
    let drawn = few_shot(&split, shots, seed);
    let train = classes.select(&drawn.train, count);
    if let Some(small) = small_classes(&train, classes.names(&split.class_names()), shots) {
        say(&format!("note: {small}"));
    }
    Ok([("train", train), ("val", classes.select(&drawn.val, count))])
}

fn lines(sample: &Sample) -> String {
    let lines = sample.iter().flat_map(|(part, items)| items.iter().map(move |item| format!("{part},{}\n", item.path)));
    lines.collect()
}

fn table(sample: &Sample) -> String {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let mut write = |row: [&str; 4]| writer.write_record(row).expect("memory takes all");
    write(["path", "label", "classname", "split"]);
    for (part, items) in sample {
        items.iter().for_each(|item| write([&item.path, &item.label.to_string(), &item.class_name, part]));
    }
    String::from_utf8(writer.into_inner().expect("memory takes all")).expect("paths are UTF-8")
}
