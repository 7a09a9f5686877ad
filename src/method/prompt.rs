//! A trained prompt as a file: the learned tensors under their published names as safetensors, with the method that they
//! belong to in a note beside them. Also the checkpoints of the published code, which become such files.
//!
//! The tensors know nothing of the classes that they were trained on, so they serve novel classes and other data sets.
//! The exceptions are those with an axis of classes, such as CoOp's class-specific context, which belong to their own classes in
//! their order.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::learnable::{Length, TensorShapes};
use super::{Learner, Method, shipped};
use crate::architecture::is_tensor;
use crate::error::{Error, Result};
use crate::text::few;
use crate::weights::{Array, Checkpoint, Shapes, is_no_weight, to_safetensors, wrapper};

/// How many names an error lists.
const NAMED: usize = 5;

/// What CLIP and its towers are called in the published code, and what OpenAI puts in front of their tensors.
const TOWERS: [(&str, &str); 5] = [
    ("", ""),
    ("image_encoder.", "visual."),
    ("ZS_image_encoder.", "visual."),
    ("text_encoder.", ""),
    ("clip_model.", ""),
];

/// What the file says about its tensors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Description {
    /// The method that trained the prompt.
    pub method: Method,
    /// How many epochs it was trained for.
    pub epoch: u32,
    /// The classes it is bound to; empty where it serves any.
    pub classes: Vec<String>,
}

impl Description {
    /// Describes what `method` has learned on `class_names` after `epoch` epochs.
    pub fn new(method: &Method, epoch: u32, class_names: &[String]) -> Description {
        let classes = if method.learner.is_bound() { class_names.to_vec() } else { Vec::new() };
        Description { method: method.clone(), epoch, classes }
    }

    /// What a file's note says, if it is a trained prompt's.
    ///
    /// # Errors
    /// When there is no note, or one of another kind; `origin` names the file, as in "the weights `file`".
    pub fn parse(note: Option<&str>, origin: &str) -> Result<Description> {
        let note = note.ok_or_else(|| {
            Error::hinted(
                format!("{origin} are no trained prompt: they name no method"),
                "train the prompt again, or import a published checkpoint with `maple-pipe prompts import`",
            )
        })?;
        serde_json::from_str(note)
            .map_err(|error| Error::invalid(format!("{origin} describe themselves wrongly: {error}")))
    }
}

/// The learned tensors of a file: a trained prompt, or a checkpoint of the published code.
#[derive(Debug)]
pub struct Prompt {
    origin: String,
    /// By published name.
    tensors: BTreeMap<String, Array>,
    /// The epoch that a published checkpoint says it is of.
    epoch: Option<i64>,
    /// Present in a trained prompt of ours.
    description: Option<Description>,
    /// The names of all tensors of the file, as published.
    names: Vec<String>,
    /// The names of tensors that are neither learned by any learner nor CLIP's own.
    unknown: Vec<String>,
    /// What published checkpoints of this learner hold and nothing uses, by name.
    left_over: BTreeMap<String, Array>,
}

impl Prompt {
    /// Reads the learned tensors and nothing else: a published checkpoint may hold all of CLIP beside them, and the
    /// embeddings of its training classes, which nobody needs.
    ///
    /// # Errors
    /// When the file cannot be read, or holds no learned prompt.
    pub fn read(path: &Path) -> Result<Prompt> {
        let all = Shapes::read(path)?;
        let wrapper = wrapper(all.names(), |name| learned_name(name).is_some());
        let learned = |name: &str| learned_name(name.strip_prefix(wrapper)?);
        let unknown = all.names().filter(|name| learned(name).is_none() && !is_given(&name[wrapper.len()..]));
        let unknown = unknown.map(str::to_owned).collect();
        let names = all.names().map(|name| name.strip_prefix(wrapper).unwrap_or(name).to_owned()).collect();
        let checkpoint = Checkpoint::read_some(path, &|name| learned(name).is_some())?;
        let origin = checkpoint.origin();
        let description = checkpoint.note().map(|note| Description::parse(Some(note), &origin)).transpose()?;
        let named = |(name, array): (&String, &Array)| Some((learned(name)?, array.clone()));
        let tensors: BTreeMap<String, Array> = checkpoint.tensors().iter().filter_map(named).collect();
        let left_over = BTreeMap::new();
        let epoch = checkpoint.epoch();
        let mut prompt = Prompt { tensors, epoch, description, origin, names, unknown, left_over };
        if let Some(learner) = prompt.learner() {
            let (left_over, tensors) =
                std::mem::take(&mut prompt.tensors).into_iter().partition(|(name, _)| learner.leaves_over(name));
            (prompt.left_over, prompt.tensors) = (left_over, tensors);
        } else {
            let names = few(NAMED, all.names().map(|name| format!("`{name}`")));
            return Err(Error::hinted(
                format!("{} hold no learned prompt; they have {names}", prompt.origin),
                "give a trained prompt, or a checkpoint of the published code such as `model.pth.tar-5`",
            ));
        }
        Ok(prompt)
    }

    /// The names of tensors that are neither learned by any learner nor CLIP's own.
    pub fn unknown(&self) -> &[String] {
        &self.unknown
    }

    /// The names of tensors that published checkpoints of this learner hold and that nothing uses: they are not imported.
    pub fn left_over(&self) -> Vec<&str> {
        self.left_over.keys().map(String::as_str).collect()
    }

    /// Checks that no tensor would be left out that may decide what the method computes.
    ///
    /// # Errors
    /// Names the tensors that are neither learned by any learner nor CLIP's own.
    pub fn check_whole(&self) -> Result<()> {
        if self.unknown.is_empty() {
            return Ok(());
        }
        let names = few(NAMED, self.unknown.iter().map(|name| format!("`{name}`")));
        Err(Error::hinted(
            format!("{} hold tensors that no learner has and that are not CLIP's: {names}", self.origin),
            "they are of another method: without these tensors it would compute other numbers",
        ))
    }

    /// Where the tensors come from, as it reads in a message: "the weights `file`".
    pub(super) fn origin(&self) -> &str {
        &self.origin
    }

    /// What the file says of itself, if it is one of ours.
    pub fn description(&self) -> Option<&Description> {
        self.description.as_ref()
    }

    /// The epoch that a published checkpoint says it is of.
    pub fn epoch(&self) -> Option<i64> {
        self.epoch
    }

    /// The learned tensors by published name.
    pub fn tensors(&self) -> &BTreeMap<String, Array> {
        &self.tensors
    }

    /// The learner that the tensors are of, with those options that they tell. Of several that learn the same, it is the one that
    /// the file names, or else the one whose checkpoints look like it.
    pub fn learner(&self) -> Option<Learner> {
        self.learner_like(self.description.as_ref().map(|description| &description.method.learner))
    }

    /// The same, with another one that is wanted in place of the one that the file names.
    fn learner_like(&self, wanted: Option<&Learner>) -> Option<Learner> {
        let all = self.tensors.iter().chain(&self.left_over);
        let shapes = all.map(|(name, array)| (name.clone(), array.shape.clone()));
        let learners = Learner::of_tensors(&TensorShapes(shapes.collect()));
        let is_wanted = |learner: &Learner| wanted.is_some_and(|wanted| wanted.name() == learner.name());
        // Of equals the first of the list.
        let published = self.tensors.keys().chain(self.left_over.keys());
        let names: Vec<String> = self.names.iter().chain(published).cloned().collect();
        let likeness = |learner: &Learner| (is_wanted(learner), learner.likeness(&names));
        learners.into_iter().rev().max_by_key(likeness)
    }

    /// What the tensors tell of the learner, as a method file has it.
    pub fn told(&self) -> String {
        listed(&self.learner().expect("looked at when it was read"))
    }

    /// The same where a method is known that they are of.
    pub fn told_as(&self, method: &Method) -> String {
        listed(&self.learner_like(Some(&method.learner)).expect("looked at when it was read"))
    }

    /// The shipped methods that these tensors may be of; those that train as many epochs as the checkpoint says, if there are
    /// such. Of several with the same learner, which differ in how they train it, only the first.
    pub fn shipped(&self) -> Vec<(&'static str, Method)> {
        let learner = self.learner();
        let is_of = |method: &Method| learner.as_ref().is_some_and(|learner| learner.name() == method.learner.name());
        let fits = |method: &Method| is_of(method) && self.check_shapes(&method.learner).is_ok();
        let trains_so_long =
            |method: &Method| method.training.as_ref().map(|training| i64::from(training.epochs)) == self.epoch;
        let fitting = shipped().filter(|(_, method)| fits(method));
        let (so_long, others): (Vec<_>, Vec<_>) = fitting.partition(|(_, method)| trains_so_long(method));
        let mut methods: Vec<(&str, Method)> = Vec::new();
        for (name, method) in if so_long.is_empty() { others } else { so_long } {
            if methods.iter().all(|(_, known)| known.learner != method.learner) {
                methods.push((name, method));
            }
        }
        methods
    }

    /// The bytes of the trained prompt that these tensors are under `method`, bound to `class_names` if they are
    /// class-specific; to those that the file names where these are none.
    ///
    /// # Errors
    /// When the tensors are of another learner or have other options, which the message names.
    pub fn import(&self, method: &Method, class_names: &[String]) -> Result<Vec<u8>> {
        method.validate()?;
        self.check_whole()?;
        let class_names = match &self.description {
            Some(description) if class_names.is_empty() => &description.classes[..],
            _ => class_names,
        };
        // Where a tensor does not fit, an option that it contradicts says more than its name.
        let classes = self
            .check_shapes(&method.learner)
            .or_else(|mismatch| self.check_options(&method.learner).and(Err(mismatch)))?;
        if let Some(classes) = classes
            && classes != class_names.len() as i64
        {
            return Err(Error::hinted(
                format!("{} have a context for each of {classes} classes, not of {}", self.origin, class_names.len()),
                "name the classes that it was trained on, in the order of their labels",
            ));
        }
        let said = self.description.as_ref().map(|description| description.epoch);
        let recorded = self.epoch.and_then(|epoch| u32::try_from(epoch).ok());
        let planned = method.training.as_ref().map_or(0, |training| training.epochs);
        if let Some(recorded) = recorded
            && recorded != planned
            && !method.clip_average().is_empty()
        {
            return Err(Error::hinted(
                format!(
                    "{} are of epoch {recorded}, but the method averages the model over {planned} epochs",
                    self.origin
                ),
                "give the method that it was trained with; a checkpoint from before the last epoch is not averaged, and needs \
                 `aggregate = \"prompts\"`",
            ));
        }
        let epoch = said.or(recorded).unwrap_or(planned);
        let description = Description::new(method, epoch, class_names);
        let note = serde_json::to_string(&description).map_err(|error| Error::invalid(error.to_string()))?;
        to_safetensors(&self.tensors, Some(&note))
    }

    /// Compares the options that the tensors tell with those of the method.
    fn check_options(&self, wanted: &Learner) -> Result<()> {
        let learner = self.learner_like(Some(wanted)).expect("looked at when it was read");
        let (found, hint) = (options(&learner), format!("a method that fits has: {}", listed(&learner)));
        let wanted = options(wanted);
        if found["learner"] != wanted["learner"] {
            let message = format!("{} are of the learner {}, not {}", self.origin, found["learner"], wanted["learner"]);
            return Err(Error::hinted(message, hint));
        }
        match learner.told().iter().find(|name| found[**name] != wanted[**name]) {
            Some(name) => {
                let (found, wanted) = (&found[*name], &wanted[*name]);
                let message = format!("{} have `{name}` {found}, but the method says {wanted}", self.origin);
                Err(Error::hinted(message, hint))
            }
            None => Ok(()),
        }
    }

    /// Compares names and shapes; returns the number of classes that they are bound to.
    fn check_shapes(&self, learner: &Learner) -> Result<Option<i64>> {
        let mut widths: Vec<(Length, i64)> = Vec::new();
        let expected = learner.learnable();
        let known = |name: &String| expected.iter().any(|(known, _)| known == name);
        if let Some(name) = self.tensors.keys().find(|name| !known(name)) {
            return Err(Error::invalid(format!("{} hold `{name}`, which this learner does not learn", self.origin)));
        }
        for (name, axes) in &expected {
            let Some(array) = self.tensors.get(name) else {
                return Err(Error::invalid(format!("{} lack `{name}`", self.origin)));
            };
            let mut fits = axes.len() == array.shape.len();
            for (axis, &length) in axes.iter().zip(&array.shape) {
                // Tokens side by side are as wide as those in rows.
                let (axis, length) = match axis {
                    Length::Texts(count) if length % count == 0 => (&Length::Text, length / count),
                    axis => (axis, length),
                };
                fits &= match (axis, widths.iter().find(|(known, _)| known == axis)) {
                    (Length::Count(count), _) => *count == length,
                    (_, Some((_, known))) => *known == length,
                    (axis, None) => {
                        widths.push((*axis, length));
                        true
                    }
                };
            }
            if !fits {
                return Err(Error::invalid(format!(
                    "{} hold `{name}` as {:?}, which does not fit",
                    self.origin, array.shape
                )));
            }
        }
        Ok(widths.iter().find(|(axis, _)| *axis == Length::Classes).map(|(_, classes)| *classes))
    }
}

fn options(learner: &Learner) -> Value {
    serde_json::to_value(learner).expect("a learner is plain data")
}

/// The options that tensors tell, as a method file has them.
fn listed(learner: &Learner) -> String {
    let options = options(learner);
    let shown = ["learner"].iter().chain(learner.told()).map(|name| format!("{name} = {}", options[*name]));
    shown.collect::<Vec<_>>().join(", ")
}

/// The published name of a learned tensor, by its name in a file; `None` for what is not learned. Checkpoints of CoOp and
/// CoCoOp hold the prompt learner alone, without its name.
fn learned_name(name: &str) -> Option<String> {
    let names = [name.to_owned(), format!("prompt_learner.{name}")];
    names.into_iter().find(|name| Learner::is_learned(name))
}

/// Whether a tensor is one that training leaves as it was: CLIP's own, also that of a frozen copy, or made of the class
/// names.
fn is_given(name: &str) -> bool {
    let name = name.strip_prefix("prompt_learner.").unwrap_or(name);
    let clip = |(theirs, ours): &(&str, &str)| {
        name.strip_prefix(theirs).is_some_and(|rest| is_tensor(&format!("{ours}{rest}")))
    };
    ["token_prefix", "token_suffix", "token_midfix", "token_embedding", "tokenized_prompts"].contains(&name)
        || is_no_weight(name)
        || TOWERS.iter().any(clip)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn learned_tensors_are_known_by_their_names() {
        for (name, expected) in [
            ("ctx", Some("prompt_learner.ctx")),
            ("prompt_learner.ctx", Some("prompt_learner.ctx")),
            ("prompt_learner.proj.weight", Some("prompt_learner.proj.weight")),
            ("meta_net.linear1.bias", Some("prompt_learner.meta_net.linear1.bias")),
            ("image_encoder.VPT", Some("image_encoder.VPT")),
            ("prompt_learner.token_prefix", None),
            ("token_suffix", None),
            ("image_encoder.proj", None),
            ("text_encoder.text_projection", None),
            ("ctxx", None),
        ] {
            assert_eq!(learned_name(name).as_deref(), expected, "{name}");
        }
    }

    #[test]
    fn what_training_leaves_alone_is_known() {
        for (name, expected) in [
            ("prompt_learner.token_prefix", true),
            ("token_midfix", true),
            ("logit_scale", true),
            ("image_encoder.class_embedding", true),
            ("image_encoder.transformer.resblocks.11.attn.in_proj_weight", true),
            ("image_encoder.layer4.2.bn3.num_batches_tracked", true),
            ("text_encoder.text_projection", true),
            ("prompt_learner.ZS_image_encoder.proj", true),
            ("image_encoder.transformer.resblocks.11.adapter.weight", false),
            ("adapter.fc.weight", false),
            ("film_img.weight", false),
            ("prompt_learner.scale", false),
            ("text_encoder.lora.weight", false),
        ] {
            assert_eq!(is_given(name), expected, "{name}");
        }
    }
}
