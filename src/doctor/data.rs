//! The data root: data sets and published weights.

use std::path::Path;

use rayon::prelude::*;
use serde_json::json;

use super::{Finding, State};
use crate::data::Manifest;
use crate::data::catalogue::shipped;
use crate::data::check::{check, other_there};
use crate::data::sums::Sums;
use crate::error::Result;
use crate::weights::PUBLISHED;

/// How a data set stands below the data root.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Standing {
    Complete,
    Incomplete,
    Absent,
}

/// How a data set's folder compares with its manifest.
pub(super) fn standing(manifest: &Manifest, folder: &Path, root: &Path) -> Result<Standing> {
    if !folder.is_dir() {
        return Ok(Standing::Absent);
    }
    let sums = Sums::read(root)?;
    Ok(match check(manifest, folder, &sums, false, &|_, _| {})?.is_complete() {
        true => Standing::Complete,
        false if other_there(manifest, folder, &sums).is_some() => Standing::Absent,
        false => Standing::Incomplete,
    })
}

/// Which of the data sets of the papers are there.
pub fn data_root(root: Option<&Path>) -> Finding {
    let subject = "data root";
    let Some(root) = root else {
        let hint = "give `--data-root FOLDER` or set MAPLE_DATA; the quickstart needs none";
        return Finding::warning(subject, "not given", hint);
    };
    if !root.is_dir() {
        let text = format!("`{}` is not there", root.display());
        return Finding::warning(
            subject,
            text,
            "`maple-pipe data fetch NAME` makes it, or name another with `--data-root`",
        );
    }
    let sets: Vec<(&str, Manifest)> = shipped().collect();
    let found: Vec<(&str, Result<Standing>)> = sets
        .par_iter()
        .map(|(name, manifest)| (*name, standing(manifest, &root.join(&manifest.folder), root)))
        .collect();
    let names = |wanted: Standing| -> Vec<&str> {
        let is_wanted = |standing: &Result<Standing>| standing.as_ref().unwrap_or(&Standing::Incomplete) == &wanted;
        found.iter().filter(|(_, standing)| is_wanted(standing)).map(|(name, _)| *name).collect()
    };
    let (complete, incomplete, absent) =
        (names(Standing::Complete), names(Standing::Incomplete), names(Standing::Absent));
    let some = |word: &str, names: &[&str]| {
        if names.is_empty() { String::new() } else { format!("; {word}: {}", names.join(", ")) }
    };
    let text = format!(
        "`{}`: {} of {} data sets are complete{}{}",
        root.display(),
        complete.len(),
        found.len(),
        some("complete", &complete),
        some("incomplete", &incomplete),
    );
    let details = json!({ "folder": root, "complete": complete, "incomplete": incomplete, "absent": absent });
    let finding = match incomplete.first() {
        Some(name) => {
            let hint =
                format!("`maple-pipe data check {name}` says what is missing, `maple-pipe data fetch {name}` gets it");
            Finding::warning(subject, text, hint)
        }
        None if complete.is_empty() => {
            Finding::new(State::Ok, subject, text).hint("`maple-pipe data list` names them all")
        }
        None => Finding::ok(subject, text),
    };
    finding.details(details)
}

/// Which published weights are there.
pub fn weights(root: Option<&Path>) -> Finding {
    let subject = "weights";
    let Some(root) = root else {
        return Finding::ok(subject, "those of papers lie in the data root");
    };
    let there: Vec<&str> =
        PUBLISHED.iter().filter(|weights| weights.path(root).is_file()).map(|weights| weights.name).collect();
    let details = json!({ "there": there });
    let finding = if there.is_empty() {
        let hint = "the pipelines of the papers need `maple-pipe weights fetch openai/ViT-B-16`";
        Finding::warning(subject, "no published weights are there", hint)
    } else {
        Finding::ok(subject, there.join(", "))
    };
    finding.details(details)
}
