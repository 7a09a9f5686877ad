//! `pretrain`: trains a small CLIP on captioned images of the embedded world. Runs in `worker`.

use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::world;
use crate::backbone::BackboneOptions;
use crate::error::Result;
use crate::kind::{Given, Kind, PathPort, Place, Port, Work, file};
use crate::method::Pretraining;
use crate::weights::{PUBLISHED, PublishedWeights, Shapes, known};

/// Trains a small CLIP on captioned images.
pub static KIND: Kind = Kind {
    inputs: &[("captioned", "A `world` stage that draws captioned pictures.")],
    outputs: &[file("weights", "weights.safetensors")],
    provenance: Some(("weights", Some("weights"))),
    ..Kind::of::<Pretrain>("pretrain", "Trains a small CLIP on captioned pictures of the embedded world.", 3)
};

/// What an input with the weights of a CLIP model takes.
pub(super) const INPUT: &str =
    "A file, the name of published weights such as `openai/ViT-B-16`, or a `pretrain` stage.";

/// The CLIP weights that a stage works with.
pub(super) fn weights() -> Port {
    let published = |name: &str, root: Option<&Path>| Some(PublishedWeights::find(name)?.locate(root));
    Port::one("weights", &KIND, vec!["weights"]).or_path(PathPort::Named(published))
}

/// Looks whether all is known of the model in a file of weights, with what is said of it. Weights whose digest is
/// published are known by their place below the data root.
///
/// # Errors
/// Asks for what nobody tells, or names what contradicts the file.
pub fn check_weights(path: &Path, given: &BackboneOptions, data_root: Option<&Path>) -> Result<()> {
    let is_published = |root: &Path| PUBLISHED.iter().any(|one| one.has_digest() && one.path(root) == *path);
    if data_root.is_some_and(is_published) {
        return Ok(());
    }
    let shapes = Shapes::read_clip(path)?;
    known(path, &shapes, given, false)?.backbone(shapes.origin()).map(drop)
}

/// Parameters of a `pretrain` stage.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(transparent)]
pub struct Pretrain(pub Pretraining);

impl Work for Pretrain {
    fn kind(&self) -> &'static Kind {
        &KIND
    }

    fn ports(&self, _given: &Given<'_>) -> Result<Vec<Port>> {
        self.0.validate()?;
        Ok(vec![Port::one("captioned", &world::KIND, vec!["files"])])
    }

    fn place(&self) -> Place<'_> {
        Place::Worker(self.0.numerics)
    }

    fn image_size(&self) -> Option<u64> {
        Some(self.0.architecture.image_size.unsigned_abs())
    }
}
