//! CLIP's byte-pair encoding (OpenAI's `clip/simple_tokenizer.py`): text is repaired, unescaped, lower-cased and split
//! into tokens of a vocabulary of 49,408.

use instant_clip_tokenizer::Token;

use crate::error::{Error, Result};

/// How many tokens CLIP's vocabulary has.
pub const VOCABULARY: i64 = 49_408;

/// Start and end of text as OpenAI's vocabulary writes them.
const MARKERS: [&str; 2] = ["<|startoftext|>", "<|endoftext|>"];

/// The same as the byte-pair encoder below writes them, which OpenAI's does not know.
const FOREIGN_MARKERS: [&str; 2] = ["<start_of_text>", "<end_of_text>"];

/// Turns text into CLIP's token ids.
pub struct Tokenizer {
    encoder: instant_clip_tokenizer::Tokenizer,
}

impl Tokenizer {
    /// The tokenizer of every published CLIP; its vocabulary is part of the program.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Tokenizer {
        Tokenizer { encoder: instant_clip_tokenizer::Tokenizer::new() }
    }

    /// The tokens of `text` alone, without start and end.
    pub fn encode(&self, text: &str) -> Vec<i64> {
        let text = clean(text);
        let mut tokens = Vec::new();
        let mut rest = text.as_str();
        while let Some((start, marker)) = first_marker(rest) {
            self.encoder.encode(&unmarked(&rest[..start]), &mut tokens);
            tokens.push(if marker == MARKERS[0] { self.encoder.start_of_text() } else { self.encoder.end_of_text() });
            rest = &rest[start + marker.len()..];
        }
        self.encoder.encode(&unmarked(rest), &mut tokens);
        tokens.into_iter().map(id).collect()
    }

    /// A token as OpenAI's vocabulary writes it: `</w>` stands where a word ends. `None` for an id beyond it.
    pub fn word(&self, token: i64) -> Option<String> {
        let token = Token::from_u16(u16::try_from(token).ok()?, &self.encoder)?;
        if [self.encoder.start_of_text(), self.encoder.end_of_text()].contains(&token) {
            return Some(MARKERS[usize::from(token == self.encoder.end_of_text())].to_owned());
        }
        let text = self.encoder.decode([token]);
        Some(text.strip_suffix(' ').map_or(text.clone(), |word| format!("{word}</w>")))
    }

    /// The id with which every text starts.
    pub fn start_of_text(&self) -> i64 {
        id(self.encoder.start_of_text())
    }

    /// The id with which every text ends, the largest of the vocabulary.
    pub fn end_of_text(&self) -> i64 {
        id(self.encoder.end_of_text())
    }

    /// The tokens of `text` between start and end, not padded. In errors the text is `subject`, e.g. "the caption".
    ///
    /// # Errors
    /// When there are more than `positions` (77 in every published model), or the text holds a start or end itself:
    /// the text tower would read its output there.
    pub fn tokenize(&self, text: &str, positions: i64, subject: &str) -> Result<Vec<i64>> {
        let tokens = self.encode(text);
        let (start, end) = (self.start_of_text(), self.end_of_text());
        if tokens.iter().any(|token| [start, end].contains(token)) {
            return Err(Error::hinted(
                format!(
                    "{subject} holds `{}` or `{}`, which mark the start and the end of a text",
                    MARKERS[0], MARKERS[1]
                ),
                "give the class another name",
            ));
        }
        let length = tokens.len() + 2;
        if length as i64 > positions {
            return Err(Error::hinted(
                format!("{subject} has {length} tokens, more than the {positions} that the text tower reads"),
                "shorten the class name, the words around it, or the context",
            ));
        }
        Ok([vec![start], tokens, vec![end]].concat())
    }
}

fn id(token: Token) -> i64 {
    i64::from(token.to_u16())
}

/// The text as it is encoded: repaired as ftfy does, HTML entities resolved, white space collapsed, lower case.
fn clean(text: &str) -> String {
    let text = plsfix::fix_text(&without_terminal_escapes(text), None);
    let text = htmlize::unescape(htmlize::unescape(text.as_str())).into_owned();
    text.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase()
}

/// Removes colour codes such as `ESC [31m`, which ftfy does and its port leaves.
fn without_terminal_escapes(text: &str) -> String {
    let mut parts = text.split("\x1b[");
    let mut kept = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let behind = part.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';');
        match behind.strip_prefix(|c: char| c.is_ascii_alphabetic()) {
            Some(rest) => kept.push_str(rest),
            None => kept.extend(["\x1b[", part]),
        }
    }
    kept
}

/// Where the first start or end of text stands, and which.
fn first_marker(text: &str) -> Option<(usize, &'static str)> {
    MARKERS.iter().filter_map(|marker| Some((text.find(marker)?, *marker))).min()
}

/// Breaks the encoder's own markers up; a space between `<` and a letter changes no token.
fn unmarked(text: &str) -> String {
    FOREIGN_MARKERS.iter().fold(text.to_owned(), |text, marker| text.replace(marker, &marker.replace('<', "< ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Deserialize)]
    struct Case {
        text: String,
        clean: String,
        encode: Vec<i64>,
        tokenize_raises: bool,
    }

    #[derive(serde::Deserialize)]
    struct Reference {
        cases: Vec<Case>,
    }

    #[test]
    fn equal_to_the_published_tokenizer() {
        let text = include_str!("../tests/fixtures/tokenizer/cases.json");
        let reference: Reference = serde_json::from_str(text).unwrap();
        let tokenizer = Tokenizer::new();
        let mut different = Vec::new();
        for case in &reference.cases {
            let tokens = tokenizer.encode(&case.text);
            if clean(&case.text) != case.clean || tokens != case.encode {
                different.push(format!("{:?}: {:?} for {:?}, {tokens:?}", case.text, clean(&case.text), case.clean));
            }
            let marked = MARKERS.iter().any(|marker| case.clean.contains(marker));
            assert_eq!(
                tokenizer.tokenize(&case.text, 77, "").is_err(),
                case.tokenize_raises || marked,
                "{:?}",
                case.text
            );
        }
        assert_eq!(reference.cases.len(), 213);
        assert!(different.is_empty(), "{} differ:\n{}", different.len(), different.join("\n"));
    }

    #[test]
    fn tokens_are_written_as_in_the_vocabulary() {
        let tokenizer = Tokenizer::new();
        let words: Vec<String> =
            tokenizer.encode("a photo of boeing 737").into_iter().map(|token| tokenizer.word(token).unwrap()).collect();
        assert_eq!(words, ["a</w>", "photo</w>", "of</w>", "boeing</w>", "7</w>", "3</w>", "7</w>"]);
        assert_eq!(tokenizer.word(tokenizer.start_of_text()).unwrap(), MARKERS[0]);
        assert_eq!(tokenizer.word(tokenizer.end_of_text()).unwrap(), MARKERS[1]);
        assert_eq!((tokenizer.word(49_408), tokenizer.word(-1)), (None, None));
    }

    #[test]
    fn the_encoders_own_markers_are_plain_text() {
        let tokenizer = Tokenizer::new();
        assert_eq!(tokenizer.encode("a<start_of_text>b"), tokenizer.encode("a < start _ of _ text > b"));
        assert!(tokenizer.tokenize("<end_of_text>", 77, "").is_ok());
    }

    #[test]
    fn a_text_that_cannot_be_read_is_named() {
        let tokenizer = Tokenizer::new();
        let message = tokenizer.tokenize("a cat.", 4, "the caption").unwrap_err().to_string();
        assert_eq!(message, "the caption has 5 tokens, more than the 4 that the text tower reads");
        let message = tokenizer.tokenize("a <|endoftext|>", 77, "the caption").unwrap_err().to_string();
        assert!(message.starts_with("the caption holds `<|startoftext|>` or"), "{message}");
    }
}
