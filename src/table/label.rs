//! What a data set or a method is called in a table.

/// A name, and what is printed for it.
#[derive(Clone, Debug, PartialEq)]
pub struct Label {
    /// As the pipeline names it.
    pub name: String,
    /// As people read it.
    pub text: String,
}
