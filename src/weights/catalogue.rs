//! The published weights that have a name: where they come from, and where they lie.

use std::path::{Path, PathBuf};

use super::{Checkpoint, Shapes};
use crate::architecture::Architecture;
use crate::backbone::{Activation, Backbone, BackboneOptions, Known, Teller};
use crate::download::{self, Checksum, sha256};
use crate::error::{Error, Result};
use crate::files::{remove, write_atomically};

/// Bytes that a file of weights may have; the largest has 1.8 GB.
const MOST: u64 = 16 << 30;

/// Where OpenAI keeps its weights; each file lies in a folder that is named by its SHA-256.
const OPENAI: &str = "https://openaipublic.azureedge.net/clip/models";

/// Weights that somebody has published.
#[derive(Clone, Copy, Debug)]
pub struct PublishedWeights {
    /// The name, e.g. `openai/ViT-B-16`.
    pub name: &'static str,
    /// The model.
    pub backbone: Backbone,
    origin: Origin,
}

/// Where published weights come from.
#[derive(Clone, Copy, Debug)]
enum Origin {
    /// A file of OpenAI's, whose digest is published. It stays as it is, and is known by its content.
    OpenAi { file: &'static str, sha256: &'static str },
    /// A file whose digest nobody has published, and which does not say what its tensors do not tell, such as the activation. It
    /// is written anew as safetensors, which say so.
    Hub { url: &'static str },
}

/// All of them: `_MODELS` of OpenAI's `clip/clip.py`, and what this field also compares with of OpenCLIP's
/// `src/open_clip/pretrained.py` (with the activation that its name for the model has) and of the Hugging Face hub.
pub const PUBLISHED: [PublishedWeights; 13] = [
    openai(
        "openai/RN50",
        "RN50.pt",
        "afeb0e10f9e5a86da6080e35cf09123aca3b358a0c3e3b6c78a7b63bc04b6762",
        Architecture::rn50(),
    ),
    openai(
        "openai/RN101",
        "RN101.pt",
        "8fa8567bab74a42d41c5915025a8e4538c3bdbe8804a470a72f30b0d94fab599",
        Architecture::rn101(),
    ),
    openai(
        "openai/RN50x4",
        "RN50x4.pt",
        "7e526bd135e493cef0776de27d5f42653e6b4c8bf9e0f653bb11773263205fdd",
        Architecture::rn50x4(),
    ),
    openai(
        "openai/RN50x16",
        "RN50x16.pt",
        "52378b407f34354e150460fe41077663dd5b39c54cd0bfd2b27167a4a06ec9aa",
        Architecture::rn50x16(),
    ),
    openai(
        "openai/ViT-B-32",
        "ViT-B-32.pt",
        "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af",
        Architecture::vit_b32(),
    ),
    openai(
        "openai/ViT-B-16",
        "ViT-B-16.pt",
        "5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f",
        Architecture::vit_b16(),
    ),
    openai(
        "openai/ViT-L-14",
        "ViT-L-14.pt",
        "b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836",
        Architecture::vit_l14(),
    ),
    openai(
        "openai/ViT-L-14-336",
        "ViT-L-14-336px.pt",
        "3035c92b350959924f9f00213499208652fc7ea050643e8b385c2dac08641f02",
        Architecture::vit_l14_336(),
    ),
    hub(
        "laion2b/ViT-B-16",
        "https://huggingface.co/laion/CLIP-ViT-B-16-laion2B-s34B-b88K/resolve/main/open_clip_pytorch_model.bin",
        Activation::Gelu,
    ),
    hub(
        "datacomp-xl/ViT-B-16",
        "https://huggingface.co/laion/CLIP-ViT-B-16-DataComp.XL-s13B-b90K/resolve/main/open_clip_pytorch_model.bin",
        Activation::Gelu,
    ),
    hub("metaclip-400m/ViT-B-16", "https://dl.fbaipublicfiles.com/MMPT/metaclip/b16_400m.pt", Activation::QuickGelu),
    hub(
        "metaclip-fullcc/ViT-B-16",
        "https://dl.fbaipublicfiles.com/MMPT/metaclip/b16_fullcc2.5b.pt",
        Activation::QuickGelu,
    ),
    hub(
        "dfn2b/ViT-B-16",
        "https://huggingface.co/apple/DFN2B-CLIP-ViT-B-16/resolve/main/open_clip_pytorch_model.bin",
        Activation::QuickGelu,
    ),
];

const fn openai(
    name: &'static str,
    file: &'static str,
    sha256: &'static str,
    architecture: Architecture,
) -> PublishedWeights {
    PublishedWeights { name, backbone: Backbone::openai(architecture), origin: Origin::OpenAi { file, sha256 } }
}

/// A ViT-B/16.
const fn hub(name: &'static str, url: &'static str, activation: Activation) -> PublishedWeights {
    let backbone = Backbone { activation, ..Backbone::openai(Architecture::vit_b16()) };
    PublishedWeights { name, backbone, origin: Origin::Hub { url } }
}

impl PublishedWeights {
    /// The weights of that name, if they are known.
    pub fn find(name: &str) -> Option<&'static PublishedWeights> {
        PUBLISHED.iter().find(|published| published.name == name)
    }

    /// Whether a file is known by its content, so that nobody has to tell anything of it.
    pub fn has_digest(&self) -> bool {
        matches!(self.origin, Origin::OpenAi { .. })
    }

    /// The weights with this SHA-256, if they are known.
    pub fn of_digest(digest: &str) -> Option<&'static PublishedWeights> {
        PUBLISHED.iter().find(|published| matches!(published.origin, Origin::OpenAi { sha256, .. } if sha256 == digest))
    }

    /// The weights that a file of a model of these sizes holds, if they are known.
    ///
    /// # Errors
    /// When the file cannot be read.
    fn of_file(path: &Path, architecture: &Architecture) -> Result<Option<&'static PublishedWeights>> {
        let may_be =
            |published: &PublishedWeights| published.backbone.architecture == *architecture && published.has_digest();
        if PUBLISHED.iter().any(may_be) { Ok(PublishedWeights::of_digest(&sha256(path)?)) } else { Ok(None) }
    }

    /// Where the file is published.
    pub fn url(&self) -> String {
        match self.origin {
            Origin::OpenAi { file, sha256 } => format!("{OPENAI}/{sha256}/{file}"),
            Origin::Hub { url } => url.to_owned(),
        }
    }

    /// Where the file lies: in `weights/` of the folder that holds the data sets.
    pub fn path(&self, data_root: &Path) -> PathBuf {
        match self.origin {
            Origin::OpenAi { file, .. } => data_root.join("weights/openai").join(file),
            Origin::Hub { .. } => data_root.join(format!("weights/{}.safetensors", self.name)),
        }
    }

    /// Whether a file is what [`PublishedWeights::fetch`] leaves.
    ///
    /// # Errors
    /// It is something else; the message says what.
    pub fn check(&self, path: &Path) -> Result<()> {
        let other = match self.origin {
            Origin::OpenAi { sha256: published, .. } => {
                let found = sha256(path)?;
                (found != published).then(|| format!("its SHA-256 is {found}"))
            }
            Origin::Hub { .. } => {
                let shapes = Shapes::read_clip(path)?;
                let found = known(path, &shapes, &BackboneOptions::default(), false)?.backbone(shapes.origin())?;
                (found != self.backbone).then(|| "its model has other sizes, or another activation".to_owned())
            }
        };
        match other {
            None => Ok(()),
            Some(why) => {
                let message = format!("`{}` is not `{}`: {why}", path.display(), self.name);
                Err(Error::hinted(message, "remove it, and fetch it again"))
            }
        }
    }

    /// Downloads the file, from `url` instead of where it is published if that is given. `progress` gets the bytes that
    /// are there, and how many there will be if the server says so.
    ///
    /// # Errors
    /// When the server cannot be reached, fails, or sends something else; what to do by hand is in the hint.
    pub fn fetch(&self, data_root: &Path, url: Option<&str>, progress: download::Progress) -> Result<()> {
        let published = self.url();
        let (path, url) = (self.path(data_root), url.unwrap_or(&published));
        match self.origin {
            Origin::OpenAi { sha256, .. } => {
                let checksum = Checksum::Sha256(sha256.to_owned());
                download::download(url, Some(&checksum), MOST, &path, progress).map(drop)
            }
            Origin::Hub { .. } => {
                let downloaded = path.with_extension("download");
                download::download(url, None, MOST, &downloaded, progress)
                    .and_then(|_| self.write_anew(&downloaded, &path))
            }
        }
        .map_err(|error| error.or_by_hand(|| self.by_hand(&path)))
    }

    /// Writes what a file holds with what its publisher says of it, and removes the file.
    fn write_anew(&self, file: &Path, path: &Path) -> Result<()> {
        let checkpoint = Checkpoint::read_clip(file)?;
        if checkpoint.shapes().architecture()? != self.backbone.architecture {
            let message = format!("`{}` holds a model of other sizes than `{}`", file.display(), self.name);
            return Err(Error::hinted(message, "remove it, and fetch it again"));
        }
        let statements = [(Teller::Published(self.name), self.backbone.options())];
        let known = Known::new(self.backbone.architecture, &statements)?;
        write_atomically(path, &checkpoint.to_bytes(&known)?)?;
        remove(file).map_err(Error::io("remove", file))
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
        let (url, path) = (self.url(), path.display());
        match self.origin {
            Origin::OpenAi { .. } => format!("download {url} on another machine and put it at `{path}`"),
            Origin::Hub { .. } => format!(
                "download {url} on another machine, and write it with `maple-pipe weights convert FILE {path} --activation {}`",
                self.backbone.activation
            ),
        }
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
    statements.push((Teller::Published(published.name), published.backbone.options()));
    Known::new(architecture, &statements)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use safetensors::Dtype;

    use super::*;
    use crate::weights::{Array, to_safetensors};

    /// Writes a tiny model of zeros, which says nothing of itself.
    fn write_tiny(path: &Path) {
        let tensors = Architecture::tiny().tensors().into_iter().map(|(name, shape)| {
            let bytes = vec![0; 4 * shape.iter().product::<i64>() as usize];
            (name, Array { dtype: Dtype::F32, shape, bytes: bytes.into() })
        });
        std::fs::write(path, to_safetensors(&tensors.collect(), None).unwrap()).unwrap();
    }

    #[test]
    fn weights_of_a_hub_say_of_themselves_what_their_publisher_says() {
        let folder = tempfile::tempdir().unwrap();
        let (downloaded, path) = (folder.path().join("a.download"), folder.path().join("a.safetensors"));
        write_tiny(&downloaded);
        let backbone = Backbone { activation: Activation::Gelu, ..Backbone::openai(Architecture::tiny()) };
        let weights = PublishedWeights { name: "hub/a", backbone, origin: Origin::Hub { url: "" } };
        weights.write_anew(&downloaded, &path).unwrap();
        assert!(!downloaded.exists());
        weights.check(&path).unwrap();
        let known = known(&path, &Shapes::read_clip(&path).unwrap(), &BackboneOptions::default(), false).unwrap();
        assert_eq!(known.activation.map(|told| (told.value, told.by)), Some((Activation::Gelu, Teller::File)));

        // A file of another model is neither taken nor removed.
        write_tiny(&downloaded);
        let other = hub("hub/b", "", Activation::Gelu);
        let refused = other.write_anew(&downloaded, &folder.path().join("b.safetensors")).unwrap_err().to_string();
        assert!(refused.ends_with("holds a model of other sizes than `hub/b`"), "{refused}");
        assert!(downloaded.exists() && !folder.path().join("b.safetensors").exists());
        let message = other.check(&path).unwrap_err().to_string();
        assert!(message.ends_with("its model has other sizes, or another activation"), "{message}");
    }

    #[test]
    fn names_and_places_are_their_own() {
        let all = |get: &dyn Fn(&PublishedWeights) -> String| PUBLISHED.iter().map(get).collect::<BTreeSet<_>>().len();
        let path = |one: &PublishedWeights| one.path(Path::new("data")).display().to_string();
        assert_eq!([all(&|one| one.name.to_owned()), all(&path), all(&PublishedWeights::url)], [PUBLISHED.len(); 3]);
    }
}
