//! A TOML document whose every value knows its key path and its line, so that each error can name them.
//!
//! Three views, borrowed from one parsed text: [`Document`], [`Table`] (an absent table reads as an empty
//! one, so that its defaults apply) and [`Value`]. They know TOML and nothing of what the keys mean.

use core::ops::RangeInclusive;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Octets of a wrong value that an error repeats.
const SHOWN_CHARACTERS_MAX: usize = 60;

/// Why there is no configuration. Each says where; all of them end the program with exit status 2.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{file}: cannot be read: {reason}")]
    Unreadable {
        /// File as it was named.
        file: String,
        /// What the system says.
        reason: String,
    },
    /// The text is not TOML, or a key or value is wrong or not built yet.
    #[error("{file}:{line}: {key}: {reason}")]
    Invalid {
        /// File as it was named.
        file: String,
        /// Line, counted from 1.
        line: usize,
        /// Key path, such as `storage.segment_size` or `domain[2].primary`.
        key: String,
        /// What is wrong.
        reason: String,
    },
}

/// The text of one file and its name.
pub(super) struct Document<'a> {
    file: &'a str,
    text: &'a str,
}

/// A table of a document, or the absence of one.
pub(super) struct Table<'a> {
    document: &'a Document<'a>,
    key: String,
    offset: usize,
    entries: Option<&'a DeTable<'a>>,
}

/// One value of a document.
pub(super) struct Value<'a> {
    document: &'a Document<'a>,
    key: String,
    value: &'a Spanned<DeValue<'a>>,
}

impl<'a> Document<'a> {
    pub(super) fn new(file: &'a str, text: &'a str) -> Self {
        Self { file, text }
    }

    /// Parses the text as TOML.
    pub(super) fn parse(&self) -> Result<Spanned<DeTable<'a>>, ConfigError> {
        DeTable::parse(self.text).map_err(|error| {
            let offset = error.span().map_or(0, |span| span.start);
            self.error(offset, &self.key_near(offset), error.message())
        })
    }

    /// The root table of what `parse` returned.
    pub(super) fn root(&'a self, root: &'a Spanned<DeTable<'a>>) -> Table<'a> {
        Table { document: self, key: String::new(), offset: 0, entries: Some(root.get_ref()) }
    }

    /// An error at an octet of the text.
    fn error(&self, offset: usize, key: &str, reason: impl ToString) -> ConfigError {
        let line = 1 + self.text.bytes().take(offset).filter(|b| *b == b'\n').count();
        ConfigError::Invalid {
            file: self.file.to_owned(),
            line,
            key: key.to_owned(),
            reason: reason.to_string(),
        }
    }

    /// What stands before the equals sign of the line at `offset`: the best name for text that is not TOML.
    fn key_near(&self, offset: usize) -> String {
        let start = self.text[..offset.min(self.text.len())].rfind('\n').map_or(0, |newline| newline + 1);
        let line = self.text[start..].lines().next().unwrap_or_default();
        line.split('=').next().map(str::trim).filter(|key| !key.is_empty()).unwrap_or("syntax").to_owned()
    }
}

impl<'a> Table<'a> {
    /// Refuses keys that do not exist.
    pub(super) fn expect_keys(&self, known: &[&str]) -> Result<(), ConfigError> {
        for (name, _) in self.entries.into_iter().flatten() {
            let key = name.get_ref().as_ref();
            let offset = name.span().start;
            if !known.contains(&key) {
                let reason = format!("unknown key; known here: {}", known.join(", "));
                return Err(self.document.error(offset, &self.path(key), reason));
            }
        }
        Ok(())
    }

    /// The value of a key, if the key is there.
    pub(super) fn value(&self, key: &str) -> Option<Value<'a>> {
        let value = self.entries?.get(key)?;
        Some(Value { document: self.document, key: self.path(key), value })
    }

    /// The value of a key that has no default.
    pub(super) fn required(&self, key: &str) -> Result<Value<'a>, ConfigError> {
        self.value(key).ok_or_else(|| self.missing(key, "is missing"))
    }

    /// The table of a key; empty if the key is absent.
    pub(super) fn table(&self, key: &str) -> Result<Table<'a>, ConfigError> {
        match self.value(key) {
            Some(value) => value.table(),
            None => {
                Ok(Table { document: self.document, key: self.path(key), offset: self.offset, entries: None })
            }
        }
    }

    /// An error about a key that ought to be in this table.
    pub(super) fn missing(&self, key: &str, reason: impl ToString) -> ConfigError {
        self.document.error(self.offset, &self.path(key), reason)
    }

    fn path(&self, key: &str) -> String {
        if self.key.is_empty() { key.to_owned() } else { format!("{}.{key}", self.key) }
    }
}

impl<'a> Value<'a> {
    /// An error about this value, which it repeats.
    pub(super) fn error(&self, reason: impl ToString) -> ConfigError {
        let shown: String = self.source().chars().take(SHOWN_CHARACTERS_MAX).collect();
        let shown = shown.lines().next().unwrap_or_default();
        let reason = format!("{shown} {}", reason.to_string());
        self.document.error(self.value.span().start, &self.key, reason)
    }

    pub(super) fn string(&self) -> Result<&'a str, ConfigError> {
        match self.value.get_ref() {
            DeValue::String(text) => Ok(text),
            _ => Err(self.error("is not a text in quotes")),
        }
    }

    /// A whole number within bounds.
    pub(super) fn integer(&self, bounds: RangeInclusive<u32>) -> Result<u32, ConfigError> {
        let DeValue::Integer(number) = self.value.get_ref() else {
            return Err(self.error("is not a whole number"));
        };
        let number = i128::from_str_radix(number.as_str(), number.radix()).ok();
        let number =
            number.and_then(|number| u32::try_from(number).ok()).filter(|number| bounds.contains(number));
        number.ok_or_else(|| self.error(format!("is not within {} and {}", bounds.start(), bounds.end())))
    }

    /// `true` or `false`.
    pub(super) fn boolean(&self) -> Result<bool, ConfigError> {
        match self.value.get_ref() {
            DeValue::Boolean(truth) => Ok(*truth),
            _ => Err(self.error("is neither true nor false")),
        }
    }

    /// A text, or a whole number as it is written.
    pub(super) fn text_or_number(&self) -> Result<&'a str, ConfigError> {
        match self.value.get_ref() {
            DeValue::String(text) => Ok(text),
            DeValue::Integer(number) if number.radix() == 10 => Ok(number.as_str()),
            _ => Err(self.error("is neither a text in quotes nor a whole number")),
        }
    }

    /// A TCP port.
    pub(super) fn port(&self) -> Result<u16, ConfigError> {
        let port = self.integer(1..=u16::MAX.into())?;
        u16::try_from(port).map_err(|_| self.error("is not a port"))
    }

    /// One of the texts of `built`, or an error that tells what exists; `unbuilt` ones name what holds now.
    pub(super) fn choice<T: Copy>(&self, built: &[(&str, T)], unbuilt: &[&str]) -> Result<T, ConfigError> {
        let text = self.string()?;
        if let Some((_, choice)) = built.iter().find(|(name, _)| *name == text) {
            return Ok(*choice);
        }
        let names: Vec<&str> = built.iter().map(|(name, _)| *name).collect();
        let in_force = names.first().copied().unwrap_or_default();
        if unbuilt.contains(&text) {
            return Err(self.error(format!("is not built yet; \"{in_force}\" is in force")));
        }
        Err(self.error(format!("is not one of \"{}\"", names.join("\", \""))))
    }

    /// The elements of a list of `length` elements.
    pub(super) fn list(&self, length: RangeInclusive<usize>) -> Result<Vec<Value<'a>>, ConfigError> {
        let DeValue::Array(elements) = self.value.get_ref() else {
            return Err(self.error("is not a list"));
        };
        if !length.contains(&elements.len()) {
            return Err(self.error(format!("has not {} to {} elements", length.start(), length.end())));
        }
        let element =
            |(index, value)| Value { document: self.document, key: format!("{}[{index}]", self.key), value };
        Ok(elements.iter().enumerate().map(element).collect())
    }

    pub(super) fn table(&self) -> Result<Table<'a>, ConfigError> {
        match self.value.get_ref() {
            DeValue::Table(entries) => Ok(Table {
                document: self.document,
                key: self.key.clone(),
                offset: self.value.span().start,
                entries: Some(entries),
            }),
            _ => Err(self.error("is not a table")),
        }
    }

    /// The value as the file writes it.
    fn source(&self) -> &'a str {
        self.document.text.get(self.value.span()).unwrap_or_default()
    }
}
