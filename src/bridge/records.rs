//! Records that people are told about, as texts: what the checks of a domain look at beside addresses and exchangers.

use super::{Lookup, LookupError, Question};

/// Which records.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RecordKind {
    /// The name that a name stands for (CNAME).
    Alias,
    /// The names of an address (PTR); it is asked for as the address itself.
    Names,
    /// Texts (TXT), each of its strings in one.
    Texts,
}

impl Lookup {
    /// What a name has of a kind; nothing: it has none, or does not exist. Names are in lower case, without a dot at the end.
    ///
    /// # Errors
    /// No answer: see [`LookupError`].
    pub async fn records(&self, kind: RecordKind, name: &str) -> Result<Vec<String>, LookupError> {
        let (answer, answered) = async_channel::bounded(1);
        let found = self.ask(Question::Records { kind, name: name.to_owned(), answer }, &answered).await;
        if found == Err(LookupError::NoAddress) { Ok(Vec::new()) } else { found }
    }
}
