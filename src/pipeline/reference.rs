//! `"@stage"` and `"@stage.output"`.

use crate::diagnostic::Span;
use crate::document::Value;

/// A stage, or one of its outputs, named in a pipeline.
#[derive(Clone, Debug)]
pub struct Reference {
    /// The stage's name.
    pub stage: String,
    /// One of its outputs; all of them, or the only one, where none is named.
    pub output: Option<String>,
    /// Where it is written.
    pub span: Span,
}

impl Reference {
    /// Reads a string that starts with `@`; anything else is no reference.
    pub fn read(value: &Value) -> Option<Reference> {
        let name = value.text()?.strip_prefix('@')?;
        // The name of a stage has no `.`.
        let (stage, output) = name.split_once('.').map_or((name, None), |(stage, output)| (stage, Some(output)));
        Some(Reference { stage: stage.to_owned(), output: output.map(str::to_owned), span: value.span.clone() })
    }

    /// Whether this output of this stage is meant.
    pub fn means(&self, stage: &str, output: &str) -> bool {
        self.stage == stage && self.output.as_deref().is_none_or(|named| named == output)
    }
}
