//! What is wrong with a TOML text or an override, where, and what to do: file, line, caret, hint.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet, renderer::DecorStyle};

use crate::text::{suggestion, visible};

/// A text that values came from: a TOML file, or one `--set` argument.
#[derive(Debug)]
pub struct SourceText {
    /// The file's path, or `--set`.
    pub name: String,
    /// The folder that relative paths in this text start from.
    pub folder: PathBuf,
    /// The whole text.
    pub text: String,
}

/// A range of bytes in a source.
#[derive(Clone, Debug)]
pub struct Span {
    /// The text.
    pub source: Arc<SourceText>,
    /// The bytes.
    pub range: Range<usize>,
}

impl Span {
    /// The same place.
    pub fn is(&self, other: &Span) -> bool {
        Arc::ptr_eq(&self.source, &other.source) && self.range == other.range
    }

    /// The folder that a relative path written at this place starts from.
    pub fn folder(&self) -> &Path {
        &self.source.folder
    }
}

/// One mistake in the user's input.
#[derive(Clone, Debug)]
pub struct Diagnostic {
    /// A lower-case sentence naming the thing in backticks.
    pub message: String,
    /// Where it stands.
    pub span: Option<Span>,
    /// What to do about it.
    pub hint: Option<String>,
    /// A key is missing, which another mistake may be the reason of.
    pub is_missing_key: bool,
}

impl Diagnostic {
    /// A mistake without a place.
    pub fn new(message: impl Into<String>) -> Diagnostic {
        Diagnostic { message: message.into(), span: None, hint: None, is_missing_key: false }
    }

    /// A mistake at `span`.
    pub fn at(span: &Span, message: impl Into<String>) -> Diagnostic {
        Diagnostic { span: Some(span.clone()), ..Diagnostic::new(message) }
    }

    /// The same with a hint.
    pub fn hint(mut self, hint: impl Into<String>) -> Diagnostic {
        self.hint = Some(hint.into());
        self
    }

    /// The same with a hint that names the candidate nearest to `word`, or lists them all.
    pub fn suggest(self, word: &str, candidates: &[impl AsRef<str>]) -> Diagnostic {
        match suggestion(word, candidates) {
            Some(hint) => self.hint(hint),
            None => self,
        }
    }

    /// The text for a terminal, with colours (which the stream drops where there is none).
    pub fn render(&self) -> String {
        self.render_as(Level::ERROR)
    }

    /// The same, where the command goes on.
    pub fn warning(&self) -> String {
        self.render_as(Level::WARNING)
    }

    fn render_as(&self, level: Level<'_>) -> String {
        let renderer = Renderer::styled().decor_style(DecorStyle::Ascii);
        let message = visible(&self.message);
        let title = level.primary_title(&*message);
        let Some(span) = &self.span else {
            let nothing = Vec::<Snippet<'_, annotate_snippets::Annotation<'_>>>::new();
            let hint: String = self.hint.iter().map(|hint| format!("\nhint: {}", visible(hint))).collect();
            return renderer.render(&[title.elements(nothing)]) + &hint;
        };
        let name = visible(&span.source.name);
        // The renderer leaves these, which some terminals obey. What stands for one has as many bytes, or the range would shift.
        let text = span.source.text.replace(|c| ('\u{80}'..='\u{9f}').contains(&c), "·");
        let annotation = AnnotationKind::Primary.span(span.range.clone());
        let mut group = title.element(Snippet::source(&text).path(&*name).annotation(annotation));
        if let Some(hint) = &self.hint {
            group = group.element(Level::HELP.with_name("hint").message(visible(hint)));
        }
        renderer.render(&[group])
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.render())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistake_steers_no_terminal() {
        let steers = "\x1b[2J\u{9d}0;t\u{202e}";
        let source = SourceText { name: steers.into(), folder: PathBuf::new(), text: format!("a = {steers}") };
        let span = Span { source: Arc::new(source), range: 4..5 };
        for mistake in [Diagnostic::at(&span, steers), Diagnostic::new(steers)] {
            // Without the colours, which are ours.
            let text = mistake.hint(steers).to_string();
            assert!(!text.contains("\x1b[2J") && !text.contains(['\u{9d}', '\u{202e}']), "{text:?}");
            assert!(text.contains("␛[2J"), "{text:?}");
        }
    }
}
