//! What `maple-pipe predict` and `maple-pipe features` share: pictures, the model that looks at them, and the worker that has it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use walkdir::WalkDir;

use super::computer::Computer;
use super::project::StoreArguments;
use super::terminal::{bar, display, say_waiting};
use super::weights::{DataRoot, Given};
use crate::backbone::BackboneOptions;
use crate::data::reader::{EXTENSIONS, is_image};
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::executor::infer;
use crate::identity;
use crate::inference::{Answer, Request, What};
use crate::numerics::Numerics;
use crate::stages::{pretrain, train};
use crate::store::{Record, StatCache, Store};
use crate::terminal::warn;
use crate::text::{plural, similar_path};
use crate::weights::{PUBLISHED, Shapes, known};

/// What to do where the weights of a prompt are not found.
const NAME_THEM: &str = "name them with `--weights`: a file, or published ones such as `openai/ViT-B-16`";

/// What to do where a file of weights does not say enough.
const SAY_IT: &str = "add `--activation gelu` (or `quick_gelu`: that is OpenAI's), `--vision-heads N` or `--text-heads N`; \
                      Hugging Face's `config.json` has them as `hidden_act` and `num_attention_heads`";

/// The model that looks at pictures.
#[derive(Args, Debug)]
pub(super) struct ModelArguments {
    /// The weights of the CLIP model: a file, or the name of published ones [default: those that the prompt was trained with, if
    /// the store has trained it]
    #[arg(long, short)]
    weights: Option<String>,
    #[command(flatten)]
    given: Given,
    #[command(flatten)]
    pub(super) data: DataRoot,
    #[command(flatten)]
    store: StoreArguments,
    #[command(flatten)]
    computer: Computer,
}

/// The weights of a CLIP model, and what is known of it.
pub(super) struct Model {
    weights: PathBuf,
    backbone: BackboneOptions,
}

impl ModelArguments {
    /// The model that a trained prompt is for.
    ///
    /// # Errors
    /// When it is not named and cannot be found.
    pub(super) fn of_prompt(&self, prompt: &Path) -> Result<Model> {
        let store = self.store()?;
        let trained = store.as_ref().map(|store| Trained::find(store, prompt)).transpose()?.flatten();
        let Some(given) = &self.weights else {
            let (Some(store), Some(trained)) = (store, trained) else {
                let message = format!("the store does not know with which weights `{}` was trained", display(prompt));
                return Err(Error::hinted(message, NAME_THEM));
            };
            let path = trained.locate(&store, self.data.folder.as_deref())?;
            return self.model(path, trained.backbone);
        };
        let path = self.data.locate(given)?;
        if let Some(trained) = &trained
            && trained.weights != Digest::of_file(&path)?
        {
            warn(&format!("`{}` was trained with other weights than `{given}`", display(prompt)));
        }
        self.model(path, trained.map(|trained| trained.backbone).unwrap_or_default())
    }

    /// The model in a file of weights.
    ///
    /// # Errors
    /// When other weights are named beside it, or something is not known of it.
    pub(super) fn of_weights(&self, path: PathBuf) -> Result<Model> {
        match &self.weights {
            Some(other) => Err(Error::hinted(
                format!("both `{}` and `--weights {other}` are weights", display(&path)),
                "give a trained prompt and its weights, or weights alone",
            )),
            None => self.model(path, BackboneOptions::default()),
        }
    }

    fn model(&self, weights: PathBuf, trained_as: BackboneOptions) -> Result<Model> {
        let given = self.given.options();
        let given = if given.is_empty() { trained_as } else { given };
        let shapes = Shapes::read_clip(&weights)?;
        let told = known(&weights, &shapes, &given, false)?;
        let is_ours = || -> Result<bool> {
            let Some(store) = self.store()? else { return Ok(false) };
            Ok(pretrained(&store, &Digest::of_file(&weights)?).is_some())
        };
        let told = match told.backbone(shapes.origin()) {
            Err(_) if is_ours()? => known(&weights, &shapes, &given, true)?,
            _ => told,
        };
        let say_it = |error: Error| Error::hinted(error.to_string(), SAY_IT);
        let backbone = told.backbone(shapes.origin()).map_err(say_it)?.options();
        Ok(Model { weights, backbone })
    }

    /// The store, if there is one.
    fn store(&self) -> Result<Option<Store>> {
        if self.store.store.is_some() { self.store.open().map(Some) } else { Ok(self.store.open().ok()) }
    }

    /// Has a worker look at pictures; what is left out becomes a warning.
    ///
    /// # Errors
    /// Nothing could be computed.
    pub(super) fn look(
        &self,
        Model { weights, backbone }: Model,
        images: Vec<String>,
        what: What,
        mut hear: impl FnMut(Answer),
    ) -> Result<LeftOut> {
        let bar = bar("{msg} [{wide_bar}] {pos}/{len}, {eta} left").with_message("looking at pictures");
        bar.set_length(images.len() as u64);
        let mut left_out = LeftOut { of: images.len(), messages: Vec::new() };
        let request = Request {
            build: identity::BUILD.to_owned(),
            images,
            weights,
            backbone,
            what,
            device: self.computer.device(),
            numerics: Numerics::Native,
            threads: self.computer.threads(),
        };
        infer(&request, |answer| match answer {
            Answer::LeftOut(message) => left_out.messages.push(message),
            Answer::Progress(done) => bar.set_position(done as u64),
            answer => {
                bar.inc(1);
                hear(answer);
            }
        })?;
        bar.finish_and_clear();
        left_out.messages.iter().for_each(|message| warn(&format!("left out: {message}")));
        Ok(left_out)
    }
}

/// Pictures that could not be read or decoded.
pub(super) struct LeftOut {
    /// Of so many.
    pub(super) of: usize,
    /// What is wrong with each.
    pub(super) messages: Vec<String>,
}

impl LeftOut {
    /// How many pictures have been looked at.
    pub(super) fn others(&self) -> usize {
        self.of - self.messages.len()
    }

    /// Says at the end whether something is missing.
    ///
    /// # Errors
    /// [`Error::Found`] where something is.
    pub(super) fn conclude(&self) -> Result<()> {
        match self.messages.len() {
            0 => Ok(()),
            count => {
                let message = format!("{count} of {} left out", plural(self.of, "picture is", "pictures are"));
                Err(Error::Found { message, hint: None })
            }
        }
    }
}

/// How the store has trained a prompt.
struct Trained {
    weights: Digest,
    backbone: BackboneOptions,
}

impl Trained {
    fn find(store: &Store, prompt: &Path) -> Result<Option<Trained>> {
        let _held = store.share_if_there(say_waiting)?;
        let digest = Digest::of_file(prompt)?;
        let trained = |record: Arc<Record>| {
            is_left(&record, "prompt", &digest).then_some(())?;
            let recipe = record.recipe.value();
            (recipe["kind"] == train::KIND.name).then_some(())?;
            let weights = Digest::parse(recipe["inputs"]["weights.weights"].as_str()?)?;
            let backbone = serde_json::from_value(recipe["parameters"]["backbone"].clone()).unwrap_or_default();
            Some(Trained { weights, backbone })
        };
        Ok(store.records().into_iter().find_map(trained))
    }

    /// The file of the weights: in the store, or below the data root.
    fn locate(&self, store: &Store, data_root: Option<&Path>) -> Result<PathBuf> {
        if let Some(record) = pretrained(store, &self.weights) {
            return store.artifact(&record.outputs["weights"]);
        }
        let cache = StatCache::open(store.stat_cache());
        let published = data_root.into_iter().flat_map(|root| PUBLISHED.iter().map(move |one| one.path(root)));
        let found = published.filter(|path| path.is_file()).find(|path| {
            let digest = cache.file(path);
            digest.is_ok_and(|digest| digest == self.weights)
        });
        // A store that cannot be written can still be read.
        let _ = store.keep_digests(&cache);
        found.ok_or_else(|| {
            let message =
                "the weights that the prompt was trained with are neither in the store nor below the data root";
            Error::hinted(message, NAME_THEM)
        })
    }
}

/// The record of the `pretrain` node that left weights with this digest.
fn pretrained(store: &Store, weights: &Digest) -> Option<Arc<Record>> {
    let is_theirs = |record: &Arc<Record>| {
        is_left(record, "weights", weights) && record.recipe.value()["kind"] == pretrain::KIND.name
    };
    store.records().into_iter().find(is_theirs)
}

fn is_left(record: &Record, output: &str, digest: &Digest) -> bool {
    record.outputs.get(output).is_some_and(|artifact| artifact.digest == *digest)
}

/// The picture files that are named, and those below folders that are named, in the order of their names.
///
/// # Errors
/// When one is not there, or there is none.
pub(super) fn pictures(given: &[PathBuf]) -> Result<Vec<String>> {
    let mut files = Vec::new();
    for path in given {
        if path.is_dir() {
            for entry in WalkDir::new(path).follow_links(true).sort_by_file_name() {
                let entry = entry.map_err(|error| Error::io("read", path)(error.into()))?;
                if entry.file_type().is_file() && is_image(entry.path()) {
                    files.push(entry.into_path());
                }
            }
        } else if path.exists() {
            files.push(path.clone());
        } else {
            let message = format!("there is no picture or folder `{}`", display(path));
            return Err(match similar_path(path) {
                Some(hint) => Error::hinted(message, hint),
                None => Error::invalid(message),
            });
        }
    }
    if files.is_empty() {
        let extensions = EXTENSIONS.map(|extension| format!(".{extension}")).join(", ");
        return Err(Error::hinted(
            "there are no pictures in what is named",
            format!("of folders, files with these extensions are taken: {extensions}; name others yourself"),
        ));
    }
    let text = |path: PathBuf| {
        path.into_os_string().into_string().map_err(|path| {
            let message = format!("the path `{}` is not plain UTF-8", path.to_string_lossy());
            Error::hinted(message, "rename the file or folder")
        })
    };
    files.into_iter().map(text).collect()
}
