//! The published weights that have a name: where they come from, and where they lie.

use std::path::{Path, PathBuf};

use super::Shapes;
use crate::architecture::Architecture;
use crate::backbone::{Backbone, BackboneOptions, Known, Teller};
use crate::download::{self, Checksum, sha256};
use crate::error::{Error, Result};

/// Bytes that a file of weights may have; the largest has 1.8 GB.
const MOST: u64 = 16 << 30;

/// Where OpenAI keeps its weights; each file lies in a folder that is named by its SHA-256.
const OPENAI: &str = "https://openaipublic.azureedge.net/clip/models";

/// Weights that somebody has published.
#[derive(Clone, Copy, Debug)]
pub struct PublishedWeights {
    /// The name, e.g. `openai/ViT-B-16`.
    pub name: &'static str,
    /// The digest of the file's content.
    pub sha256: &'static str,
    /// The model's sizes.
    pub architecture: Architecture,
    file: &'static str,
}

/// All of them: `_MODELS` of OpenAI's `clip/clip.py`.
pub const PUBLISHED: [PublishedWeights; 8] = [
    PublishedWeights {
        name: "openai/RN50",
        file: "RN50.pt",
        sha256: "afeb0e10f9e5a86da6080e35cf09123aca3b358a0c3e3b6c78a7b63bc04b6762",
        architecture: Architecture::rn50(),
    },
    PublishedWeights {
        name: "openai/RN101",
        file: "RN101.pt",
        sha256: "8fa8567bab74a42d41c5915025a8e4538c3bdbe8804a470a72f30b0d94fab599",
        architecture: Architecture::rn101(),
    },
    PublishedWeights {
        name: "openai/RN50x4",
        file: "RN50x4.pt",
        sha256: "7e526bd135e493cef0776de27d5f42653e6b4c8bf9e0f653bb11773263205fdd",
        architecture: Architecture::rn50x4(),
    },
    PublishedWeights {
        name: "openai/RN50x16",
        file: "RN50x16.pt",
        sha256: "52378b407f34354e150460fe41077663dd5b39c54cd0bfd2b27167a4a06ec9aa",
        architecture: Architecture::rn50x16(),
    },
    PublishedWeights {
        name: "openai/ViT-B-32",
        file: "ViT-B-32.pt",
        sha256: "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af",
        architecture: Architecture::vit_b32(),
    },
    PublishedWeights {
        name: "openai/ViT-B-16",
        file: "ViT-B-16.pt",
        sha256: "5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f",
        architecture: Architecture::vit_b16(),
    },
    PublishedWeights {
        name: "openai/ViT-L-14",
        file: "ViT-L-14.pt",
        sha256: "b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836",
        architecture: Architecture::vit_l14(),
    },
    PublishedWeights {
        name: "openai/ViT-L-14-336",
        file: "ViT-L-14-336px.pt",
        sha256: "3035c92b350959924f9f00213499208652fc7ea050643e8b385c2dac08641f02",
        architecture: Architecture::vit_l14_336(),
    },
];

impl PublishedWeights {
    /// The weights of that name, if they are known.
    pub fn find(name: &str) -> Option<&'static PublishedWeights> {
        PUBLISHED.iter().find(|published| published.name == name)
    }

    /// The weights that a file of a model of these sizes holds, if they are known.
    ///
    /// # Errors
    /// When the file cannot be read.
    fn of_file(path: &Path, architecture: &Architecture) -> Result<Option<&'static PublishedWeights>> {
        let mut candidates = PUBLISHED.iter().filter(|published| published.architecture == *architecture).peekable();
        if candidates.peek().is_none() {
            return Ok(None);
        }
        let digest = sha256(path)?;
        Ok(candidates.find(|published| published.sha256 == digest))
    }

    /// The model.
    pub fn backbone(&self) -> Backbone {
        Backbone::openai(self.architecture)
    }

    /// Where the file is published.
    pub fn url(&self) -> String {
        format!("{OPENAI}/{}/{}", self.sha256, self.file)
    }

    /// Where the file lies: in `weights/` of the folder that holds the data sets.
    pub fn path(&self, data_root: &Path) -> PathBuf {
        data_root.join("weights/openai").join(self.file)
    }

    /// Downloads the file, from `url` instead of where it is published if that is given. `progress` gets the bytes that
    /// are there, and how many there will be if the server says so.
    ///
    /// # Errors
    /// When the server cannot be reached, fails, or sends something else; what to do by hand is in the hint.
    pub fn fetch(&self, data_root: &Path, url: Option<&str>, progress: download::Progress) -> Result<()> {
        let published = self.url();
        let path = self.path(data_root);
        let checksum = Checksum::Sha256(self.sha256.to_owned());
        let version = download::download(url.unwrap_or(&published), Some(&checksum), MOST, &path, progress);
        version.map(drop).map_err(|error| error.or_by_hand(|| self.by_hand(&path)))
    }

    /// Where these weights lie.
    ///
    /// # Errors
    /// Says how to get them when they are not there.
    pub fn locate(&self, data_root: Option<&Path>) -> Result<PathBuf> {
        let Some(data_root) = data_root else {
            return Err(Error::hinted(
                format!("the weights `{}` lie in the folder of your data sets, which is not given", self.name),
                "give `--data-root FOLDER` or set MAPLE_DATA",
            ));
        };
        let path = self.path(data_root);
        if path.is_file() {
            return Ok(path);
        }
        let hint = format!("run `maple-pipe weights fetch {}`, or {}", self.name, self.by_hand(&path));
        Err(Error::hinted(format!("the weights `{}` are not there", self.name), hint))
    }

    fn by_hand(&self, path: &Path) -> String {
        format!("download {} on another machine and put it at `{}`", self.url(), path.display())
    }
}

/// What is known of the model whose tensors lie in the file `path` and have these `shapes`: what is `given`, what the file
/// says of itself, what follows where the stage `pretrain` made it, and what the publisher says of a file with this content.
///
/// It depends on the file's content and not on its place, as keys do.
///
/// # Errors
/// When the tensors are those of no CLIP model, something that is said cannot be true of them, or two contradict each other.
pub fn known(path: &Path, shapes: &Shapes, given: &BackboneOptions, of_pretrain: bool) -> Result<Known> {
    let architecture = shapes.architecture()?;
    let mut statements = vec![(Teller::User, *given), (Teller::File, *shapes.said())];
    if of_pretrain {
        statements.push((Teller::Pretrain, Backbone::openai(architecture).options()));
    }
    let known = Known::new(architecture, &statements)?;
    // A digest takes a second; most files say enough without it.
    if known.activation.is_some() {
        return Ok(known);
    }
    let Some(published) = PublishedWeights::of_file(path, &architecture)? else { return Ok(known) };
    statements.push((Teller::Published(published.name), published.backbone().options()));
    Known::new(architecture, &statements)
}
