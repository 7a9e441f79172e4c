//! The paths that a file names, resolved to full module paths: `use` trees, `crate`, `super`, `self`, aliases,
//! child modules, and paths inside expressions.

use std::collections::{BTreeMap, BTreeSet};

use super::source::{Placed, Token, matching};

/// A module path from its crate on, such as `stratamx::smtp::reply`.
pub(super) type Path = Vec<String>;

/// One import of a `use` tree.
#[derive(Clone, Debug)]
pub(super) struct Import {
    /// The path as it is written.
    pub(super) written: Path,
    /// The name under which this file knows it; `*` for all that is inside.
    pub(super) alias: String,
    /// Whether it is handed on.
    pub(super) public: bool,
    pub(super) line: usize,
}

/// A path that a file names, resolved.
#[derive(Clone, Debug)]
pub(super) struct Named {
    pub(super) path: Path,
    pub(super) line: usize,
    /// Handed on by `pub use` and not used here: a façade, not a need.
    pub(super) facade: bool,
}

/// What one file imports and names, as it is written.
#[derive(Debug, Default)]
pub(super) struct Written {
    pub(super) imports: Vec<Import>,
    /// Paths of two or more segments outside of `use`, with their line and the inline modules around them.
    inline: Vec<(Path, usize, Path)>,
    /// Every word outside of `use`.
    words: BTreeSet<String>,
}

/// Collects imports and paths of a file.
pub(super) fn collect(tokens: &[Placed]) -> Written {
    let mut written = Written::default();
    let mut modules: Vec<(String, usize)> = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        modules.retain(|(_, end)| at < *end);
        match &tokens[at].token {
            Token::Word(word) if word == "use" && !is_mark(tokens, at + 1, '<') => {
                let mut tree = Tree { tokens, at: at + 1, public: is_public(tokens, at), found: Vec::new() };
                tree.branch(&[]);
                written.imports.append(&mut tree.found);
                at = tree.at;
            }
            Token::Word(word) if word == "mod" && is_mark(tokens, at + 2, '{') => {
                if let Token::Word(name) = &tokens[at + 1].token {
                    modules.push((name.clone(), matching(tokens, at + 2)));
                }
                at += 3;
            }
            Token::Word(_) => {
                let (path, end) = path_at(tokens, at);
                written.words.extend(path.iter().cloned());
                if path.len() > 1 {
                    let around = modules.iter().map(|(name, _)| name.clone()).collect();
                    written.inline.push((path, tokens[at].line, around));
                }
                at = end;
            }
            _ => at += 1,
        }
    }
    written
}

/// All files of the tree as modules.
pub(super) struct Modules {
    /// What each module hands on: name to full path.
    facades: BTreeMap<Path, BTreeMap<String, Path>>,
    known: BTreeSet<Path>,
}

impl Modules {
    pub(super) fn new(files: &BTreeMap<Path, Written>) -> Self {
        let mut modules = Self { facades: BTreeMap::new(), known: files.keys().cloned().collect() };
        for (module, written) in files {
            let handed_on = written.imports.iter().filter(|import| import.public && import.alias != "*");
            let facade = handed_on
                .filter_map(|import| {
                    Some((import.alias.clone(), modules.resolve(&import.written, module, written, 0)?))
                })
                .collect();
            modules.facades.insert(module.clone(), facade);
        }
        modules
    }

    /// Everything that a file names, resolved as far as it can be told from text.
    pub(super) fn named(&self, module: &Path, written: &Written) -> Vec<Named> {
        let mut named = Vec::new();
        for import in &written.imports {
            let facade = import.public && !written.words.contains(&import.alias);
            if let Some(path) = self.resolve(&import.written, module, written, 0) {
                named.push(Named { path, line: import.line, facade });
            }
        }
        for (path, line, around) in &written.inline {
            let module = [module.as_slice(), around.as_slice()].concat();
            let is_type = path[0].starts_with(char::is_uppercase) && alias(written, &path[0]).is_none();
            if let Some(path) = self.resolve(path, &module, written, 0).filter(|_| !is_type) {
                named.push(Named { path, line: *line, facade: false });
            }
        }
        named
    }

    /// The module that defines what `path` names: the longest known prefix, through façades.
    pub(super) fn home(&self, path: &Path) -> Option<Path> {
        let mut path = path.clone();
        for _ in 0..16 {
            let length = (1..=path.len()).rev().find(|length| self.known.contains(&path[..*length]))?;
            let (module, rest) = path.split_at(length);
            let onward = rest.first().and_then(|name| self.facades.get(module)?.get(name));
            match onward {
                Some(onward) => path = [onward.as_slice(), &rest[1..]].concat(),
                None => return Some(module.to_vec()),
            }
        }
        None
    }

    fn resolve(&self, path: &[String], module: &Path, written: &Written, depth: usize) -> Option<Path> {
        let (first, rest) = path.split_first()?;
        let join = |base: &[String]| Some([base, rest].concat());
        match first.as_str() {
            "Self" => None,
            "crate" => join(&module[..1]),
            "self" => join(module),
            "super" => {
                let mut up = module.len().checked_sub(1)?;
                let skip = rest.iter().take_while(|segment| *segment == "super").count();
                up = up.checked_sub(skip)?;
                Some([&module[..up], &rest[skip..]].concat())
            }
            _ => {
                let child = [module.as_slice(), core::slice::from_ref(first)].concat();
                if self.known.contains(&child) {
                    return join(&child);
                }
                match alias(written, first).filter(|import| depth < 8 && import.written != path) {
                    Some(import) => {
                        let file = self.file_of(module);
                        join(&self.resolve(&import.written, &file, written, depth + 1)?)
                    }
                    None => Some(path.to_vec()),
                }
            }
        }
    }

    /// The file that holds a possibly inline module.
    fn file_of(&self, module: &Path) -> Path {
        let length = (1..=module.len()).rev().find(|length| self.known.contains(&module[..*length]));
        module[..length.unwrap_or(module.len())].to_vec()
    }
}

fn alias<'a>(written: &'a Written, name: &str) -> Option<&'a Import> {
    written.imports.iter().find(|import| import.alias == name)
}

/// A path that starts at `at`, and the index behind it.
fn path_at(tokens: &[Placed], at: usize) -> (Path, usize) {
    let mut path = Vec::new();
    let mut at = at;
    while let Some(Token::Word(word)) = tokens.get(at).map(|placed| &placed.token) {
        path.push(word.clone());
        at += 1;
        if tokens.get(at).map(|placed| &placed.token) != Some(&Token::PathSeparator) {
            break;
        }
        at += 1;
    }
    (path, at)
}

fn is_mark(tokens: &[Placed], at: usize, mark: char) -> bool {
    tokens.get(at).is_some_and(|placed| placed.token == Token::Mark(mark))
}

/// Whether `pub` or `pub(...)` stands before the token at `at`.
fn is_public(tokens: &[Placed], at: usize) -> bool {
    let before = &tokens[..at];
    let before = match before.last() {
        Some(Placed { token: Token::Mark(')'), .. }) => {
            let open = before.iter().rposition(|placed| placed.token == Token::Mark('(')).unwrap_or(0);
            &before[..open]
        }
        _ => before,
    };
    matches!(before.last(), Some(Placed { token: Token::Word(word), .. }) if word == "pub")
}

/// A `use` tree while it is read.
struct Tree<'a> {
    tokens: &'a [Placed],
    at: usize,
    public: bool,
    found: Vec<Import>,
}

impl Tree<'_> {
    /// Reads one branch: a path that ends in a name, an alias, `*` or a group.
    fn branch(&mut self, prefix: &[String]) {
        let line = self.tokens.get(self.at).map_or(0, |placed| placed.line);
        if matches!(self.token(), Some(Token::PathSeparator)) {
            self.at += 1;
        }
        let (path, end) = path_at(self.tokens, self.at);
        self.at = end;
        let mut written = [prefix, &path].concat();
        if written.len() > 1 && written.last().is_some_and(|last| last == "self") {
            written.pop();
        }
        match self.token() {
            Some(Token::Mark('{')) => {
                let end = matching(self.tokens, self.at);
                self.at += 1;
                while self.at < end {
                    self.branch(&written);
                    self.at += usize::from(matches!(self.token(), Some(Token::Mark(','))));
                }
                self.at = end + 1;
            }
            Some(Token::Mark('*')) => {
                self.at += 1;
                self.found.push(Import { written, alias: "*".to_owned(), public: self.public, line });
            }
            Some(Token::Word(word)) if word == "as" => {
                let alias = match self.tokens.get(self.at + 1).map(|placed| &placed.token) {
                    Some(Token::Word(alias)) => alias.clone(),
                    _ => "_".to_owned(),
                };
                self.at += 2;
                self.found.push(Import { written, alias, public: self.public, line });
            }
            _ => {
                let alias = written.last().cloned().unwrap_or_default();
                self.found.push(Import { written, alias, public: self.public, line });
            }
        }
    }

    fn token(&self) -> Option<&Token> {
        self.tokens.get(self.at).map(|placed| &placed.token)
    }
}
