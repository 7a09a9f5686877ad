//! A method as its TOML file in `pipelines/methods/` states it: which learner, its options, and how it is trained.
//! The learners themselves are in the package `maple-pipe-worker`.

mod catalogue;
mod check;
mod checkpoint;
pub mod learnable;
pub mod learners;
mod options;
mod precision;
mod pretraining;
pub mod prompt;
mod training;
mod vocabulary;

use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use catalogue::{all_trained, shipped, shipped_as};
pub use check::check_template;
pub use checkpoint::PublishedCheckpoint;
pub use learners::{ClassTokenPosition, Learner};
pub use options::{CheckpointLayout, Input, Options, Steps, Teacher};
pub use precision::Precision;
pub use pretraining::Pretraining;
pub use prompt::{Description, Prompt};
pub use training::{Annealing, Optimizer, Training};
pub use vocabulary::{Interpretation, Neighbour};

use crate::data::Augmentation;
use crate::document::read_text;
use crate::error::{Error, Result};

/// One method of prompt learning. Its JSON is canonical: every option stands in it, defaults too.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Method {
    /// The learner and its options, at the top of the file: `learner = "maple"`, `depth = 9`, ...
    #[serde(flatten)]
    pub learner: Learner,
    /// The number formats in which it computes.
    #[serde(default)]
    pub precision: Precision,
    /// How training images are changed at random.
    #[serde(default, skip_serializing_if = "Augmentation::is_default")]
    pub augmentation: Augmentation,
    /// How the learner is trained by steps; absent where there are none, as for `zero-shot`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub training: Option<Training>,
}

impl Method {
    /// Reads the text of a method file outside any pipeline: a value that differs from data set to data set is the one of
    /// `otherwise`.
    ///
    /// # Errors
    /// When it is no TOML, lacks an option, has an unknown one, or a value makes no sense.
    pub fn parse(text: &str) -> Result<Method> {
        let method: Method = read_text(text, Path::new("method.toml"))?.read().map_err(|mistake| vec![mistake])?;
        method.validate()?;
        Ok(method)
    }

    /// Whether it learns anything.
    pub fn is_trained(&self) -> bool {
        !self.learner.learned().is_empty()
    }

    /// Checks the values.
    ///
    /// # Errors
    /// Names the option that makes no sense, and what would.
    pub fn validate(&self) -> Result<()> {
        self.learner.validate()?;
        self.augmentation.validate()?;
        match (self.learner.steps(), &self.training) {
            (Steps::Never | Steps::Maybe, None) => Ok(()),
            (Steps::Never, Some(_)) => {
                let how = if self.is_trained() { "is trained without steps" } else { "is not trained" };
                let message = format!("`{}` {how}", self.learner.name());
                Err(Error::hinted(message, "remove the table `[training]`"))
            }
            (Steps::Maybe | Steps::Always, Some(training)) => {
                training.validate()?;
                if training.iterations > 0 && !self.learner.clip_average(1).is_empty() {
                    let message = "`iterations` do not say over how many epochs the model is averaged";
                    return Err(Error::hinted(message, "give `epochs` in their place").about("training.iterations"));
                }
                Ok(())
            }
            (Steps::Always, None) => Err(Error::hinted(
                "the table `[training]` is missing",
                "add it with `epochs`, `batch_size` and `learning_rate`",
            )),
        }
    }

    /// The weights with which its training averages CLIP's own tensors over the epochs, as an evaluation has to repeat it; none
    /// where they stay as they are.
    pub fn clip_average(&self) -> Vec<f64> {
        self.training.as_ref().map_or_else(Vec::new, |training| self.learner.clip_average(training.epochs))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::architecture::Architecture;
    use crate::method::learners::ZeroShot;

    const TRAINING: &str = "[training]\nepochs = 5\nbatch_size = 4\nlearning_rate = 0.0035\n";

    const MAPLE: &str = "learner = \"maple\"\ncontext_length = 2\ndepth = 9\n\
                         [training]\nepochs = 5\nbatch_size = 4\nlearning_rate = 0.0035\n";

    const PROMPTSRC: &str = "context_length = 4\ndepth = 9\nvision_context_length = 4\nvision_depth = 9\n\
                             aggregation_mean = 15\naggregation_deviation = 1";

    #[test]
    fn defaults_stand_in_the_json() {
        let method = Method::parse(MAPLE).unwrap();
        let json = serde_json::to_value(&method).unwrap();
        assert_eq!(
            json,
            serde_json::json!({
                "learner": "maple", "context_length": 2, "context_initial_words": "", "depth": 9, "precision": "fp32",
                "training": {
                    "epochs": 5, "batch_size": 4, "learning_rate": 0.0035, "momentum": 0.9, "weight_decay": 0.0005,
                    "warmup_epochs": 1, "warmup_learning_rate": 0.00001,
                },
            })
        );
        assert_eq!(serde_json::from_value::<Method>(json).unwrap(), method);
    }

    /// Outside a pipeline a value that differs from data set to data set is that of `otherwise`.
    #[test]
    fn a_choice_is_made_in_a_method_file() {
        let text = "learner = \"kgcoop\"\ncontext_length = 4\nteacher_weight = 8.0\n[teacher_template]\nper = \"dataset\"\n\
                    dtd = \"{} texture.\"\notherwise = \"a {}.\"\n";
        let Learner::Kgcoop(options) = Method::parse(&format!("{text}{TRAINING}")).unwrap().learner else { panic!() };
        assert_eq!(options.teacher_template, "a {}.");
        for (from, to, expected) in [
            ("8.0", "-1.0", "`teacher_weight` is -1"),
            ("a {}.", "a thing", "the template `a thing` does not hold `{}` once"),
        ] {
            let message = Method::parse(&format!("{}{TRAINING}", text.replace(from, to))).unwrap_err().to_string();
            assert_eq!(message, expected);
        }
    }

    /// Keys hold this. An option that is absent here and stands in the JSON at its default would change the keys of every
    /// method of its learner; `skip_serializing_if` keeps it out.
    #[test]
    fn a_method_says_of_its_options_no_more_than_it_did() {
        let coop = ["class_specific_context", "class_token_position", "context_initial_words", "context_length"];
        let tip =
            ["alpha", "alpha_end", "alpha_values", "beta", "beta_end", "beta_values", "chosen_on_test", "templates"];
        let learners: [(&str, &str, &[&str]); 17] = [
            ("zero-shot", "", &["dataset_template", "templates"]),
            ("coop", "context_length = 4", &coop),
            ("cocoop", "context_length = 4", &["context_initial_words", "context_length"]),
            ("vpt", "vision_context_length = 4\nvision_depth = 2", &["vision_context_length", "vision_depth"]),
            (
                "ivlp",
                "context_length = 4\ndepth = 3\nvision_context_length = 4\nvision_depth = 2",
                &["context_initial_words", "context_length", "depth", "vision_context_length", "vision_depth"],
            ),
            ("maple", "context_length = 2\ndepth = 3", &["context_initial_words", "context_length", "depth"]),
            (
                "promptsrc",
                PROMPTSRC,
                &[
                    "aggregate",
                    "aggregation_deviation",
                    "aggregation_mean",
                    "context_initial_words",
                    "context_length",
                    "depth",
                    "image_loss_weight",
                    "teacher_templates",
                    "text_loss_weight",
                    "vision_context_length",
                    "vision_depth",
                ],
            ),
            (
                "kgcoop",
                "context_length = 4\nteacher_template = \"a {}.\"\nteacher_weight = 8.0",
                &["context_initial_words", "context_length", "teacher_template", "teacher_weight"],
            ),
            (
                "prograd",
                "context_length = 4\nteacher_template = \"a {}.\"",
                &["context_initial_words", "context_length", "projection", "teacher_template"],
            ),
            (
                "tcp",
                "context_length = 4\nprompt_template = \"X X X X {}.\"\nteacher_template = \"a {}.\"\nteacher_weight = 8.0",
                &[
                    "class_token_block",
                    "context_initial_words",
                    "context_length",
                    "prompt_template",
                    "teacher_template",
                    "teacher_weight",
                ],
            ),
            ("linear-probe", "", &["halvings", "tolerance"]),
            ("zs-lp", "", &["class_adaptive_penalty", "templates"]),
            ("task-residual", "", &["residual_scale", "templates"]),
            ("clip-adapter", "", &["ratio", "templates"]),
            ("tip-adapter", "", &tip),
            (
                "clip-lora",
                "rank = 2\ntext_blocks = [1, 3]",
                &["alpha", "dropout", "products", "rank", "template", "text_blocks"],
            ),
            ("mma", "blocks = [2, 3]\nwidth = 4\nscale = 0.001", &["blocks", "scale", "width"]),
        ];
        let names = |value: &serde_json::Value| -> BTreeSet<String> {
            value.as_object().into_iter().flatten().map(|(name, _)| name.clone()).collect()
        };
        let set = |names: &[&str]| -> BTreeSet<String> { names.iter().map(|name| (*name).to_owned()).collect() };
        for (learner, options, expected) in learners {
            let training = if ["zero-shot", "linear-probe"].contains(&learner) { "" } else { TRAINING };
            let method = Method::parse(&format!("learner = \"{learner}\"\n{options}\n{training}")).unwrap();
            let json = serde_json::to_value(&method).unwrap();
            let always: &[&str] =
                if training.is_empty() { &["learner", "precision"] } else { &["learner", "precision", "training"] };
            assert_eq!(names(&json), set(&[expected, always].concat()), "{learner}");
            assert!(Learner::NAMES.contains(&learner), "{learner}");
        }
        assert_eq!(learners.len(), Learner::NAMES.len(), "every learner stands here");
        let trained = ["batch_size", "epochs", "learning_rate"];
        let by_step = Method::parse(&format!("{MAPLE}annealing = \"step\"\nkeep_last_batch = true\n")).unwrap();
        let json = serde_json::to_value(&by_step).unwrap();
        assert_eq!(
            (&json["training"]["annealing"], &json["training"]["keep_last_batch"]),
            (&"step".into(), &true.into())
        );
        assert_eq!(serde_json::from_value::<Method>(json).unwrap(), by_step);
        let always = ["momentum", "warmup_epochs", "warmup_learning_rate", "weight_decay"];
        let json = serde_json::to_value(Method::parse(MAPLE).unwrap()).unwrap();
        assert_eq!(names(&json["training"]), set(&[&trained[..], &always].concat()));
    }

    #[test]
    fn an_augmentation_stands_in_the_json_where_it_is_not_the_default() {
        let augmentation = |text: &str| {
            let method = Method::parse(&format!("{MAPLE}{text}")).unwrap();
            serde_json::to_value(method).unwrap()["augmentation"].take()
        };
        let default = "[augmentation]\ncrop = true\ncrop_scale = [0.08, 1.0]\nflip = true\n";
        assert_eq!([augmentation(""), augmentation(default)], [serde_json::Value::Null, serde_json::Value::Null]);
        let half = serde_json::json!({ "crop": true, "crop_scale": [0.5, 1.0], "flip": true });
        assert_eq!(augmentation("[augmentation]\ncrop_scale = [0.5, 1.0]\n"), half);
    }

    #[test]
    fn an_optimizer_has_its_own_options() {
        let training = |text: &str| Method::parse(&format!("{MAPLE}{text}\n"));
        let json = |text: &str| serde_json::to_value(training(text).unwrap().training).unwrap();
        assert_eq!(json("optimizer = \"sgd\"\nbetas = [0.9, 0.999]\neps = 1e-8"), json(""));
        let adamw = json("optimizer = \"adamw\"\nbetas = [0.8, 0.999]\neps = 1e-3");
        assert_eq!((&adamw["optimizer"], &adamw["eps"]), (&"adamw".into(), &1e-3.into()));
        assert_eq!(adamw["betas"], serde_json::json!([0.8, 0.999]));
        assert_eq!(adamw["momentum"], serde_json::Value::Null);
        assert_eq!(json("optimizer = \"adam\"")["betas"], serde_json::json!([0.9, 0.999]));
        let adam = Method::parse(&format!("{MAPLE}optimizer = \"adam\"\n")).unwrap();
        assert_eq!(serde_json::from_value::<Method>(serde_json::to_value(&adam).unwrap()).unwrap(), adam);
        for (text, expected) in [
            ("betas = [0.8, 0.999]", "`betas` is an option of `adam` and `adamw`"),
            ("eps = 1e-3", "`eps` is an option of `adam` and `adamw`"),
            ("optimizer = \"adam\"\nmomentum = 0.8", "`momentum` is an option of `sgd` alone"),
            ("optimizer = \"adam\"\nbetas = [0.8, 1.0]", "`betas` is 1, so no gradient is ever forgotten"),
            ("optimizer = \"adam\"\neps = -1.0", "`eps` is -1"),
            ("optimizer = \"adm\"", "unknown value `adm`"),
        ] {
            let message = training(text).unwrap_err().to_string();
            assert!(message.contains(expected), "{message}\ndoes not say: {expected}");
        }
    }

    #[test]
    fn a_training_has_epochs_or_iterations() {
        let training = |text: &str| Method::parse(&MAPLE.replace("epochs = 5\n", text));
        let json = |text: &str| serde_json::to_value(training(text).unwrap().training).unwrap();
        let by_steps = json("iterations = 50\nannealing = \"step\"\nfinal_learning_rate = 1e-6\n");
        assert_eq!((&by_steps["iterations"], &by_steps["annealing"]), (&50.into(), &"step".into()));
        assert_eq!((&by_steps["final_learning_rate"], &by_steps["epochs"]), (&1e-6.into(), &serde_json::Value::Null));
        assert_eq!(json("epochs = 5\nannealing = \"epoch\"\nfinal_learning_rate = 0.0\n"), json("epochs = 5\n"));
        for (text, expected) in [
            ("epochs = 5\niterations = 50\n", "both `epochs` and `iterations` are given"),
            ("", "a training needs `epochs` or `iterations`"),
            ("epochs = 0\n", "a training needs `epochs` or `iterations`"),
            ("epochs = 5\nfinal_learning_rate = -1.0\n", "`final_learning_rate` is -1"),
        ] {
            assert_eq!(training(text).unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn what_is_added_to_the_towers_has_to_make_sense() {
        let method = |text: &str| Method::parse(&format!("{text}\n{TRAINING}"));
        let lora = |text: &str| method(&format!("learner = \"clip-lora\"\nrank = 2\n{text}"));
        let mma = |text: &str| method(&format!("learner = \"mma\"\n{text}"));
        let cases = [
            (lora(""), "no block is updated"),
            (lora("text_blocks = [2, 1]"), "`text_blocks` is [2, 1]"),
            (lora("vision_blocks = [0, 1]"), "`vision_blocks` is [0, 1]"),
            (lora("text_blocks = [1, 1001]"), "`text_blocks` is [1, 1001]"),
            (lora("text_blocks = [1, 2]\ndropout = 1.0"), "`dropout` is 1"),
            (lora("text_blocks = [1, 2]\nalpha = 0.0"), "`alpha` is 0"),
            (lora("text_blocks = [1, 2]\nproducts = []"), "`products` names nothing, or something twice"),
            (lora("text_blocks = [1, 2]\ntemplate = \"a photo\""), "the template `a photo` does not hold `{}` once"),
            (mma("blocks = [5, 12]\nwidth = 0\nscale = 0.001"), "`width` is 0"),
            (mma("blocks = [5, 12]\nwidth = 32\nscale = 0.0"), "`scale` is 0"),
        ];
        for (method, expected) in cases {
            assert_eq!(method.unwrap_err().to_string(), expected);
        }
        let fits =
            |method: Result<Method>| method.unwrap().learner.fits(&Architecture::tiny()).unwrap_err().to_string();
        let message = "`text_blocks` is 4, but the text tower has 3 blocks";
        assert_eq!(fits(lora("text_blocks = [1, 4]")), message);
        let message = "`blocks` is 4, but the text tower has 3 blocks";
        assert_eq!(fits(mma("blocks = [2, 4]\nwidth = 4\nscale = 0.1")), message);
        assert!(fits(method("learner = \"clip-lora\"\nrank = 65\ntext_blocks = [1, 3]")).starts_with("`rank` is 65, "));
    }

    /// Numbers of which so many things are made are refused before anything is made.
    #[test]
    fn counts_are_bounded() {
        let method =
            |learner: &str, options: &str| Method::parse(&format!("learner = \"{learner}\"\n{options}\n{TRAINING}"));
        let ivlp = "context_length = 2\ndepth = 3\nvision_context_length = 2\nvision_depth = 3";
        for (learner, options, most) in [
            ("coop", "context_length = 2", "context_length = 75"),
            ("cocoop", "context_length = 2", "context_length = 75"),
            ("maple", "context_length = 2\ndepth = 3", "context_length = 75"),
            ("maple", "context_length = 2\ndepth = 3", "depth = 1000"),
            ("vpt", "vision_context_length = 2\nvision_depth = 3", "vision_context_length = 1000"),
            ("vpt", "vision_context_length = 2\nvision_depth = 3", "vision_depth = 1000"),
            ("ivlp", ivlp, "context_length = 75"),
            ("ivlp", ivlp, "depth = 1000"),
            ("ivlp", ivlp, "vision_context_length = 1000"),
            ("ivlp", ivlp, "vision_depth = 1000"),
            ("promptsrc", PROMPTSRC, "context_length = 75"),
            ("promptsrc", PROMPTSRC, "vision_depth = 1000"),
        ] {
            let (name, most) = most.split_once(" = ").unwrap();
            let changed = |value: &str| {
                let lines = options.lines().map(|line| match line.split_once(" = ") {
                    Some((option, _)) if option == name => format!("{name} = {value}\n"),
                    _ => format!("{line}\n"),
                });
                method(learner, &lines.collect::<String>())
            };
            changed(most).unwrap();
            let Error::Invalid { message, hint, .. } = changed("1000000000").unwrap_err() else {
                panic!("{learner} {name}")
            };
            assert_eq!(message, format!("`{name}` is 1000000000"), "{learner}");
            assert_eq!(hint, Some(format!("give a number from 1 to {most}")), "{learner}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let with_words =
            |words: &str| MAPLE.replace("depth = 9", &format!("depth = 9\ncontext_initial_words = \"{words}\""));
        let augmented = |options: &str| format!("{MAPLE}[augmentation]\n{options}\n");
        let cases = [
            (MAPLE.replace("depth", "depht"), "unknown key `depht`"),
            (MAPLE.replace("epochs", "epoch"), "unknown key `epoch`"),
            (MAPLE.replace("maple", "mapel"), "unknown value `mapel`"),
            (MAPLE.replace("depth = 9\n", ""), "missing key `depth`"),
            (MAPLE.replace("depth = 9", "depth = 0"), "`depth` is 0"),
            (MAPLE.replace("0.0035", "-1.0"), "`learning_rate` is -1"),
            (format!("{MAPLE}momentum = 1.5\n"), "`momentum` is 1.5, so no gradient is ever forgotten"),
            (with_words("a photo of a {}"), "`context_initial_words` has `{}`: `a photo of a {}`"),
            (with_words("a_photo_of_a"), "`context_initial_words` has `_`: `a_photo_of_a`"),
            (
                with_words("a photo of a").replace("length = 2", "length = 8"),
                "`context_length` is 8, but initial words start 4 tokens at most",
            ),
            (MAPLE.replace("depth = 9", "depth = 9\nprecision = \"fp64\""), "unknown value `fp64`"),
            (MAPLE.split("[training]").next().unwrap().to_owned(), "the table `[training]` is missing"),
            ("learner = \"zero-shot\"\ndepth = 1\n".to_owned(), "unknown key `depth`"),
            (MAPLE.replace("maple", "zero-shot").replace("context_length = 2\ndepth = 9\n", ""), "is not trained"),
            ("learner = \"zero-shot\"\ndataset_template = false\n".to_owned(), "there is no template"),
            ("learner = \"zero-shot\"\ntemplates = [\"a photo\"]\n".to_owned(), "`a photo` does not hold `{}` once"),
            (augmented("crop_scale = [0.5, 1.1]"), "`crop_scale` is from 0.5 to 1.1"),
            (augmented("crop_scale = [0.5, 0.1]"), "`crop_scale` is from 0.5 to 0.1"),
            (augmented("crop_scale = [0.0, 1.0]"), "`crop_scale` is from 0 to 1"),
            (
                augmented("crop = false\ncrop_scale = [0.5, 1.0]"),
                "`crop_scale` is an option of crops, and `crop` is false",
            ),
            (augmented("flips = false"), "unknown key `flips`"),
        ];
        for (text, expected) in cases {
            let message = Method::parse(&text).unwrap_err().to_string();
            assert!(message.contains(expected), "{message}\ndoes not say: {expected}");
        }
    }

    #[test]
    fn numbers_of_promptsrc_that_make_no_sense_are_refused() {
        let parse = |options: &str| Method::parse(&format!("learner = \"promptsrc\"\n{options}\n{TRAINING}"));
        for (name, wrong, hint) in [
            ("aggregation_deviation", "0", "give a number above 0"),
            ("aggregation_deviation", "-2", "give a number above 0"),
            ("text_loss_weight", "-1", "give a number from 0 up"),
            ("image_loss_weight", "-0.5", "give a number from 0 up"),
        ] {
            let lines = PROMPTSRC.lines().filter(|line| !line.starts_with(name)).map(|line| format!("{line}\n"));
            let error = parse(&format!("{}{name} = {wrong}", lines.collect::<String>())).unwrap_err();
            let number: f64 = wrong.parse().unwrap();
            assert_eq!((error.to_string(), error.hint().as_deref()), (format!("`{name}` is {number}"), Some(hint)));
        }
        let message =
            parse(&format!("{PROMPTSRC}\nteacher_templates = [\"a {{}} or a {{}}\"]")).unwrap_err().to_string();
        assert!(message.contains("`a {} or a {}` does not hold `{}` once"), "{message}");
        let message = parse(&PROMPTSRC.replace("vision_depth = 9", "vision_depth = 0")).unwrap_err().to_string();
        assert_eq!(message, "`vision_context_length` is 4, but `vision_depth` is 0");
        let whole = parse(&format!("{PROMPTSRC}\naggregate = \"all\"")).unwrap();
        assert_eq!((whole.clip_average().len(), parse(PROMPTSRC).unwrap().clip_average().len()), (5, 0));
    }

    #[test]
    fn a_depth_beyond_the_tower_is_refused() {
        let learner = Method::parse(MAPLE).unwrap().learner;
        assert_eq!(learner.fits(&Architecture::vit_b16()).ok(), Some(()));
        let message = learner.fits(&Architecture::tiny()).unwrap_err().to_string();
        assert_eq!(message, "`depth` is 9, but the text tower has 3 blocks");
    }

    #[test]
    fn a_resnet_takes_no_prompts() {
        let parse = |text: &str| {
            let training = "[training]\nepochs = 1\nbatch_size = 1\nlearning_rate = 0.1\n";
            Method::parse(&format!("{text}\n{training}")).unwrap().learner
        };
        let resnet = Architecture::rn50();
        let coop = "learner = 'coop'\ncontext_length = 4";
        let cocoop = "learner = 'cocoop'\ncontext_length = 4";
        let vpt = "learner = 'vpt'\nvision_context_length = 4\nvision_depth = 3";
        let zero_shot = Learner::ZeroShot(ZeroShot { templates: Vec::new(), dataset_template: true });
        for learner in [zero_shot, parse(coop), parse(cocoop)] {
            learner.fits(&resnet).unwrap();
        }
        for (learner, name) in [(parse(vpt), "vision_depth"), (Method::parse(MAPLE).unwrap().learner, "depth")] {
            let message = learner.fits(&resnet).unwrap_err().to_string();
            assert!(message.starts_with(&format!("`{name}` is ")), "{message}");
            assert!(message.ends_with("but the vision tower is a ResNet, which takes no prompts"), "{message}");
        }
    }
}
