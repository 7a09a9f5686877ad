//! Captioned pictures in memory: pixels decoded once, captions tokenized once.

use crate::clip::Tokenizer;
use image::RgbImage;
use maple_pipe::backbone::Backbone;
use maple_pipe::data::image::decode;
use maple_pipe::data::random;
use maple_pipe::data::transform::{Normalisation, View};
use maple_pipe::data::world::{CAPTIONS, IMAGES};
use maple_pipe::error::{Error, Result};
use maple_pipe::files::read_foreign_text;
use maple_pipe::tally::Tally;
use rayon::prelude::*;
use serde::Deserialize;
use std::collections::BTreeSet;
use std::path::Path;
use tch::Tensor;

/// One line of the captions file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    path: String,
    caption: String,
}

/// Captioned pictures.
pub(super) struct Captioned {
    pictures: Vec<RgbImage>,
    normalisation: Normalisation,
    /// Of each caption, which row of the words each token is; all as long as the longest.
    tokens: Vec<Vec<i64>>,
    /// The token ids in use, ascending, so that end of text stays the largest.
    pub(super) words: Vec<i64>,
}

impl Captioned {
    /// Reads every picture and caption of a folder; fails on what cannot be read, decoded or tokenized.
    pub(super) fn read(folder: &Path, backbone: &Backbone) -> Result<Captioned> {
        let path = folder.join(CAPTIONS);
        const FORMAT: &str = "captions file";
        let text = read_foreign_text(&path, FORMAT)?;
        let parse = |(number, line): (usize, &str)| {
            let place = |error| Error::format(&path, FORMAT, format!("line {}: {error}", number + 1));
            serde_json::from_str::<Line>(line).map_err(place)
        };
        let lines: Vec<Line> = text.lines().enumerate().map(parse).collect::<Result<_>>()?;
        let decode = |line: &Line| {
            let path = folder.join(IMAGES).join(&line.path);
            let bytes = std::fs::read(&path).map_err(Error::io("read", &path))?;
            Tally::read_bytes(bytes.len());
            decode(&bytes, &path)
        };
        let pictures = lines.par_iter().map(decode).collect::<Result<_>>()?;
        let tokenizer = Tokenizer::new();
        let text_positions = backbone.architecture.text_positions;
        let tokenize = |Line { path, caption }: &Line| {
            tokenizer.tokenize(caption, text_positions, &format!("the caption of `{path}`"))
        };
        let texts: Vec<Vec<i64>> = lines.iter().map(tokenize).collect::<Result<_>>()?;
        let words: Vec<i64> = texts.iter().flatten().copied().collect::<BTreeSet<i64>>().into_iter().collect();
        let longest = texts.iter().map(Vec::len).max().unwrap_or_default();
        // What stands behind the end of a text is never read.
        let row = |text: Vec<i64>| {
            let mut row: Vec<i64> =
                text.iter().map(|token| words.partition_point(|word| word < token) as i64).collect();
            row.resize(longest, 0);
            row
        };
        let tokens = texts.into_iter().map(row).collect();
        let normalisation = Normalisation::new(&backbone.preprocessing);
        Ok(Captioned { pictures, normalisation, tokens, words })
    }

    /// Number of pictures.
    pub(super) fn len(&self) -> usize {
        self.pictures.len()
    }

    /// The tokens of these captions, `(indices, longest caption)`.
    pub(super) fn tokens(&self, indices: &[usize]) -> Tensor {
        let rows: Vec<i64> = indices.iter().flat_map(|&index| self.tokens[index].iter().copied()).collect();
        Tensor::from_slice(&rows).reshape([indices.len() as i64, -1])
    }

    /// Random crops of these pictures, `(indices, 3, size, size)`, that keep between the shares `crop` of the area.
    pub(super) fn pixels(&self, indices: &[usize], size: u32, crop: [f64; 2], seed: u64, epoch: u64) -> Tensor {
        let values = 3 * size as usize * size as usize;
        let mut pixels = vec![0.0; indices.len() * values];
        for (&index, output) in indices.iter().zip(pixels.chunks_exact_mut(values)) {
            let mut generator = random::generator(seed, "pretraining crop", epoch, index as u64);
            let picture = &self.pictures[index];
            let view = draw_view(picture.width(), picture.height(), crop, &mut generator);
            self.normalisation.apply(view.of(picture, size).as_raw(), output);
        }
        let size = i64::from(size);
        Tensor::from_slice(&pixels).reshape([indices.len() as i64, 3, size, size])
    }
}

/// A box of the picture's own aspect ratio, never mirrored: captions may speak of directions.
fn draw_view(width: u32, height: u32, [least, greatest]: [f64; 2], generator: &mut random::Generator) -> View {
    let side = (least + (greatest - least) * random::uniform(generator)).sqrt();
    let mut place = |whole: u32| {
        let kept = ((f64::from(whole) * side).round() as u32).clamp(1, whole);
        (random::below(generator, (whole - kept + 1) as usize) as u32, kept)
    };
    let ((left, width), (top, height)) = (place(width), place(height));
    View { top, left, height, width, flip: false }
}
