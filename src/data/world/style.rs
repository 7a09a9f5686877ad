//! How the pictures of a data set look, apart from what they show.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What stands behind objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Background {
    /// One grey or pale tint.
    Plain,
    /// Two of them, fading into each other.
    Gradient,
    /// Soft blotches.
    Clouds,
}

impl Background {
    /// Its word in captions.
    pub fn word(self) -> &'static str {
        match self {
            Background::Plain => "plain",
            Background::Gradient => "shaded",
            Background::Clouds => "cloudy",
        }
    }
}

/// The range of looks from which every picture of a data set draws its own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Style {
    /// The backgrounds, each as likely as the others.
    pub backgrounds: Vec<Background>,
    /// Smallest and largest extent of what is shown, as a share of the frame.
    pub extent: [f32; 2],
    /// Largest rotation either way, in degrees.
    pub rotation: f32,
    /// Added to every hue, in degrees.
    pub hue_shift: f32,
    /// Largest change of a hue either way from picture to picture, in degrees.
    pub hue_jitter: f32,
    /// Least and greatest share of a colour's saturation that is kept.
    pub saturation: [f32; 2],
    /// Least and greatest brightness of the light.
    pub light: [f32; 2],
    /// How much the light may fall off across the frame, from 0 to 1.
    pub shadow: f32,
    /// Least and greatest amplitude of the pixel noise; 1 is the range from black to white.
    pub noise: [f32; 2],
    /// Thickness of lines (stripes, hollow outlines, mortar) relative to the usual one.
    pub line: [f32; 2],
}

impl Default for Style {
    fn default() -> Self {
        Style {
            backgrounds: vec![Background::Plain, Background::Gradient],
            extent: [0.6, 0.9],
            rotation: 12.0,
            hue_shift: 0.0,
            hue_jitter: 8.0,
            saturation: [0.8, 1.0],
            light: [0.85, 1.0],
            shadow: 0.2,
            noise: [0.0, 0.1],
            line: [0.9, 1.2],
        }
    }
}

impl Style {
    /// What is wrong with these numbers, if anything.
    pub fn problem(&self) -> Option<String> {
        if self.backgrounds.is_empty() {
            return Some("`backgrounds` is empty".to_owned());
        }
        let ranges = [
            ("extent", self.extent, 0.05, 1.0),
            ("saturation", self.saturation, 0.0, 1.0),
            ("light", self.light, 0.0, 1.0),
            ("noise", self.noise, 0.0, 1.0),
            ("line", self.line, 0.1, 3.0),
            ("shadow", [0.0, self.shadow], 0.0, 1.0),
            ("rotation", [0.0, self.rotation], 0.0, 180.0),
            ("hue_jitter", [0.0, self.hue_jitter], 0.0, 180.0),
            ("hue_shift", [-180.0, self.hue_shift], -180.0, 180.0),
        ];
        let wrong = ranges.into_iter().find(|(_, [least, greatest], low, high)| {
            // Written so that a value that is not a number is wrong too.
            !(low <= least && least <= greatest && greatest <= high)
        });
        wrong.map(|(name, _, low, high)| format!("`{name}` must lie between {low} and {high}, the lower bound first"))
    }
}
