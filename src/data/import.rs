//! Takes over a folder that is there already: finds out what it is, and brings it below the data root.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::catalogue::shipped;
use super::manifest::{Counts, Manifest};
use super::reader::{ClassFolders, Division, Reader};
use crate::error::{Error, Result};

/// The name and manifest of the shipped data sets that have in `folder` all that they read; one that is in a folder of
/// its published name alone, if there is one.
pub fn recognise(folder: &Path) -> Vec<(&'static str, Manifest)> {
    let fits = shipped().filter(|(_, manifest)| manifest.lacks(folder).is_empty());
    let (named, others): (Vec<_>, Vec<_>) = fits.partition(|(_, manifest)| folder.ends_with(&manifest.folder));
    // The class folders of ImageNet-A and its like say nothing by themselves.
    if named.is_empty() { others.into_iter().filter(|(_, manifest)| has_own_files(manifest)).collect() } else { named }
}

fn has_own_files(manifest: &Manifest) -> bool {
    !matches!(manifest.reader, Reader::ClassFolders(_)) || manifest.within().iter().any(|path| path.contains('-'))
}

/// A manifest for a folder that nobody knows: a table of images, class folders below `train` and `test`, or class
/// folders to be divided.
///
/// # Errors
/// When it is none of these.
pub fn describe(folder: &Path, name: &str) -> Result<Manifest> {
    let is_folder = |name: &str| folder.join(name).is_dir();
    let subfolders = |path: &Path| {
        let entries = fs::read_dir(path).into_iter().flatten().flatten();
        entries.filter(|entry| entry.path().is_dir() && !entry.file_name().to_string_lossy().starts_with('.')).count()
    };
    let tables: Vec<String> = fs::read_dir(folder)
        .map_err(Error::io("read", folder))?
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.ends_with(".csv"))
        .collect();
    let reader = if let [table] = tables.as_slice() {
        Reader::Csv { file: table.clone() }
    } else if is_folder("train") && is_folder("test") {
        Reader::ClassFolders(ClassFolders {
            train: Some("train".to_owned()),
            val: is_folder("val").then(|| "val".to_owned()),
            test: Some("test".to_owned()),
            ..ClassFolders::default()
        })
    } else if subfolders(folder) > 1 {
        let division = Division { train: 0.5, val: 0.2, seed: 1 };
        Reader::ClassFolders(ClassFolders { division: Some(division), ..ClassFolders::default() })
    } else {
        return Err(Error::hinted(
            format!("`{}` is no data set that is known", folder.display()),
            "it needs class folders, `train/` and `test/` with class folders, or one .csv file with the columns path, \
             label, classname and split; a published data set lacks files: name it with `--as`",
        ));
    };
    Ok(Manifest {
        name: name.to_owned(),
        folder: name.to_owned(),
        images: ".".to_owned(),
        parts: Vec::new(),
        template: "a photo of a {}.".to_owned(),
        reader,
        counts: Counts::default(),
        sources: Vec::new(),
        licence: None,
        notes: Vec::new(),
    })
}

/// The five lines of a manifest that [`describe`] made.
pub fn text(manifest: &Manifest) -> String {
    let quoted = |text: &str| toml::Value::from(text).to_string();
    let reader = match &manifest.reader {
        Reader::Csv { file } => format!("kind = \"csv\", file = {}", quoted(file)),
        Reader::ClassFolders(ClassFolders { division: Some(Division { train, val, seed }), .. }) => {
            format!("kind = \"class-folders\", division = {{ train = {train}, val = {val}, seed = {seed} }}")
        }
        Reader::ClassFolders(ClassFolders { val: Some(_), .. }) => {
            "kind = \"class-folders\", train = \"train\", val = \"val\", test = \"test\"".to_owned()
        }
        _ => "kind = \"class-folders\", train = \"train\", test = \"test\"".to_owned(),
    };
    format!(
        "name = {}\nfolder = {}\nimages = {}\ntemplate = {}\nreader = {{ {reader} }}\n",
        quoted(&manifest.name),
        quoted(&manifest.folder),
        quoted(&manifest.images),
        quoted(&manifest.template)
    )
}

/// Copies a folder, links followed, whole or not at all.
fn copy_folder(folder: &Path, place: &Path) -> Result<()> {
    let above = place.parent().unwrap_or(Path::new("."));
    let scratch = tempfile::tempdir_in(above).map_err(Error::io("write in", above))?;
    for entry in walkdir::WalkDir::new(folder).follow_links(true) {
        let entry = entry.map_err(|error| Error::io("read", folder)(error.into()))?;
        let target = scratch.path().join(entry.path().strip_prefix(folder).expect("it is below"));
        let copied = match entry.file_type().is_dir() {
            true => fs::create_dir_all(&target),
            false => fs::copy(entry.path(), &target).map(drop),
        };
        copied.map_err(Error::io("write", &target))?;
    }
    // Only its owner may enter a temporary folder.
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(scratch.path(), open).map_err(Error::io("write", place))?;
    fs::rename(scratch.keep(), place).map_err(Error::io("write", place))
}

/// Makes `place` a link to `folder`, or a copy of it. Returns whether there was anything to do: `place` may be `folder`
/// already.
///
/// # Errors
/// When something else is at `place`, or it cannot be written.
pub fn bring(folder: &Path, place: &Path, copies: bool) -> Result<bool> {
    let folder = folder.canonicalize().map_err(Error::io("read", folder))?;
    if place.canonicalize().is_ok_and(|there| there == folder) {
        return Ok(false);
    }
    if place.symlink_metadata().is_ok() {
        let message = format!("`{}` is there already and is not `{}`", place.display(), folder.display());
        return Err(Error::hinted(message, "remove it, or import into another data root"));
    }
    let above = place.parent().map_or_else(PathBuf::new, Path::to_owned);
    fs::create_dir_all(&above).map_err(Error::io("create", &above))?;
    if copies {
        copy_folder(&folder, place)?;
    } else {
        symlink(&folder, place).map_err(Error::io("write", place))?;
    }
    Ok(true)
}
