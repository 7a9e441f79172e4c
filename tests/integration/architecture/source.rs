//! One Rust file as tokens: comments gone, literals blank, test-only items left out, every token with its lines.

/// A token of Rust, as far as paths and sizes need it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// A keyword or name.
    Word(String),
    /// `::`
    PathSeparator,
    /// Any other character of punctuation.
    Mark(char),
    /// A literal or a lifetime.
    Literal,
}

/// A token and the lines that it covers, counted from 1.
#[derive(Clone, Debug)]
pub(super) struct Placed {
    pub(super) token: Token,
    pub(super) line: usize,
    pub(super) line_end: usize,
}

/// Splits a file into tokens.
pub(super) fn tokens(text: &str) -> Vec<Placed> {
    let mut lexer = Lexer { characters: text.chars().collect(), at: 0, line: 1 };
    let mut tokens = Vec::new();
    while let Some(placed) = lexer.next_token() {
        tokens.push(placed);
    }
    tokens
}

/// Leaves out every item under `#[cfg(test)]` or `#[cfg(all(test, ...))]`.
pub(super) fn without_tests(tokens: &[Placed]) -> Vec<Placed> {
    let mut kept = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if is_test_attribute(&tokens[at..]) {
            at = item_end(tokens, at);
        } else {
            kept.push(tokens[at].clone());
            at += 1;
        }
    }
    kept
}

/// Names of the modules in files of their own that are compiled for tests only.
pub(super) fn test_modules(tokens: &[Placed]) -> Vec<String> {
    let mut names = Vec::new();
    for at in (0..tokens.len()).filter(|at| is_test_attribute(&tokens[*at..])) {
        let item = &tokens[at..item_end(tokens, at)];
        let [.., Placed { token: Token::Word(keyword), .. }, Placed { token: Token::Word(name), .. }, end] =
            item
        else {
            continue;
        };
        if keyword == "mod" && end.token == Token::Mark(';') {
            names.push(name.clone());
        }
    }
    names
}

/// Number of lines that hold code.
pub(super) fn code_lines(tokens: &[Placed]) -> usize {
    let mut lines: Vec<usize> = tokens.iter().flat_map(|placed| placed.line..=placed.line_end).collect();
    lines.sort_unstable();
    lines.dedup();
    lines.len()
}

/// Every function with a body: its name, its line and the code lines of the body.
pub(super) fn functions(tokens: &[Placed]) -> Vec<(String, usize, usize)> {
    let mut found = Vec::new();
    for (at, pair) in tokens.windows(2).enumerate() {
        let [Placed { token: Token::Word(keyword), line, .. }, Placed { token: Token::Word(name), .. }] =
            pair
        else {
            continue;
        };
        if keyword != "fn" {
            continue;
        }
        let Some(open) = body_start(tokens, at) else { continue };
        let close = matching(tokens, open);
        found.push((name.clone(), *line, code_lines(&tokens[open + 1..close])));
    }
    found
}

/// Index of the token that closes what the token at `open` opens; the end if nothing does.
pub(super) fn matching(tokens: &[Placed], open: usize) -> usize {
    let mut depth = 0usize;
    for (at, placed) in tokens.iter().enumerate().skip(open) {
        match placed.token {
            Token::Mark('(' | '[' | '{') => depth += 1,
            Token::Mark(')' | ']' | '}') => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return at;
        }
    }
    tokens.len()
}

/// The brace that opens the body of the function at `start`; `None` for a declaration.
fn body_start(tokens: &[Placed], start: usize) -> Option<usize> {
    let mut at = start;
    while at < tokens.len() {
        match tokens[at].token {
            Token::Mark('{') => return Some(at),
            Token::Mark(';') => return None,
            Token::Mark('(' | '[') => at = matching(tokens, at) + 1,
            _ => at += 1,
        }
    }
    None
}

fn is_test_attribute(tokens: &[Placed]) -> bool {
    let word = |index: usize, expected: &str| matches!(tokens.get(index), Some(Placed { token: Token::Word(word), .. }) if word == expected);
    let mark = |index: usize, expected: char| matches!(tokens.get(index), Some(Placed { token: Token::Mark(mark), .. }) if *mark == expected);
    let attribute = mark(0, '#') && mark(1, '[') && word(2, "cfg") && mark(3, '(');
    attribute && (word(4, "test") || (word(4, "all") && mark(5, '(') && word(6, "test")))
}

/// One past the item whose first attribute is at `start`.
fn item_end(tokens: &[Placed], start: usize) -> usize {
    let mut at = start;
    while at + 1 < tokens.len() && tokens[at].token == Token::Mark('#') {
        at = matching(tokens, at + 1) + 1;
    }
    let is_use =
        tokens[at..].iter().take_while(|placed| placed.token != Token::Mark(';')).take(6).any(is_use_word);
    while at < tokens.len() {
        match tokens[at].token {
            Token::Mark(';' | ',') => return at + 1,
            Token::Mark('{') if !is_use => return matching(tokens, at) + 1,
            Token::Mark('{' | '(' | '[') => at = matching(tokens, at) + 1,
            _ => at += 1,
        }
    }
    at
}

fn is_use_word(placed: &Placed) -> bool {
    matches!(&placed.token, Token::Word(word) if word == "use")
}

struct Lexer {
    characters: Vec<char>,
    at: usize,
    line: usize,
}

impl Lexer {
    fn next_token(&mut self) -> Option<Placed> {
        self.skip_blank();
        let line = self.line;
        let first = self.peek(0)?;
        let token = match first {
            '"' => self.text('"'),
            '\'' => self.quote(),
            ':' if self.peek(1) == Some(':') => {
                self.advance(2);
                Token::PathSeparator
            }
            _ if first.is_alphanumeric() || first == '_' => self.word(),
            _ => {
                self.advance(1);
                Token::Mark(first)
            }
        };
        Some(Placed { token, line, line_end: self.line })
    }

    fn peek(&self, ahead: usize) -> Option<char> {
        self.characters.get(self.at + ahead).copied()
    }

    fn advance(&mut self, count: usize) {
        for _ in 0..count {
            if self.peek(0) == Some('\n') {
                self.line += 1;
            }
            self.at += 1;
        }
    }

    /// Skips white space and comments; block comments nest.
    fn skip_blank(&mut self) {
        let mut depth = 0;
        while let Some(first) = self.peek(0) {
            match (first, self.peek(1)) {
                ('/', Some('*')) => {
                    depth += 1;
                    self.advance(2);
                }
                ('*', Some('/')) if depth > 0 => {
                    depth -= 1;
                    self.advance(2);
                }
                ('/', Some('/')) if depth == 0 => {
                    while self.peek(0).is_some_and(|c| c != '\n') {
                        self.advance(1);
                    }
                }
                _ if depth > 0 || first.is_whitespace() => self.advance(1),
                _ => return,
            }
        }
    }

    /// A quoted text with escapes; its opening quote comes next.
    fn text(&mut self, quote: char) -> Token {
        self.advance(1);
        while let Some(next) = self.peek(0) {
            self.advance(if next == '\\' { 2 } else { 1 });
            if next == quote {
                break;
            }
        }
        Token::Literal
    }

    /// A character literal or a lifetime.
    fn quote(&mut self) -> Token {
        if self.peek(1) == Some('\\') || self.peek(2) == Some('\'') {
            return self.text('\'');
        }
        self.advance(1);
        self.letters();
        Token::Literal
    }

    /// A word, a number, or the prefix of a literal with the literal.
    fn word(&mut self) -> Token {
        let word = self.letters();
        match (word.as_str(), self.peek(0)) {
            ("b", Some('\'')) => self.text('\''),
            ("b" | "c", Some('"')) => self.text('"'),
            ("r" | "br" | "cr", Some('"')) => self.raw_text(),
            ("br" | "cr", Some('#')) => self.raw_text(),
            ("r", Some('#')) if matches!(self.peek(1), Some('#' | '"')) => self.raw_text(),
            ("r", Some('#')) => {
                self.advance(1);
                Token::Word(self.letters())
            }
            _ if word.starts_with(|c: char| c.is_ascii_digit()) => Token::Literal,
            _ => Token::Word(word),
        }
    }

    fn letters(&mut self) -> String {
        let mut word = String::new();
        while let Some(next) = self.peek(0).filter(|c| c.is_alphanumeric() || *c == '_') {
            word.push(next);
            self.advance(1);
        }
        word
    }

    /// A raw text; its hashes or its quote come next.
    fn raw_text(&mut self) -> Token {
        let mut hashes = 0;
        while self.peek(0) == Some('#') {
            hashes += 1;
            self.advance(1);
        }
        self.advance(1);
        while let Some(next) = self.peek(0) {
            self.advance(1);
            if next == '"' && (0..hashes).all(|ahead| self.peek(ahead) == Some('#')) {
                self.advance(hashes);
                break;
            }
        }
        Token::Literal
    }
}

#[test]
fn comments_texts_and_tests_are_not_code() {
    let text = r####"
        // tokio::spawn
        /* tokio /* nested */ tokio */
        fn a<'a>(b: &'a str) -> char { let _ = ("tokio::x", r#"tokio "quoted" "#, b"tokio", '"', b'\'', '\u{41}'); 'c' }
        #[cfg(test)]
        use tokio::{spawn, select};
        #[cfg(test)]
        #[allow(dead_code)]
        mod tests { fn tokio() {} }
        #[cfg(all(test, feature = "sim"))]
        fn tokio() {}
        fn r#last() {}
    "####;
    let words: Vec<String> =
        without_tests(&tokens(text)).into_iter().filter_map(|placed| word(placed.token)).collect();
    assert_eq!(words, ["fn", "a", "b", "str", "char", "let", "_", "fn", "last"]);
}

#[test]
fn a_module_of_tests_may_have_its_own_file() {
    let text =
        "#[cfg(test)]\nmod tests;\nmod state;\n#[cfg(test)] mod inner { mod a; }\n#[cfg(test)] use b::mod_;";
    assert_eq!(test_modules(&tokens(text)), ["tests"]);
}

#[test]
fn lines_of_a_function_are_those_of_its_body_that_hold_code() {
    let text = "fn a(\n    b: [u8; 2],\n) {\n\n    // why\n    let c = \"\n\";\n    c;\n}\nfn d();\n";
    assert_eq!(functions(&tokens(text)), [("a".to_owned(), 1, 3)]);
    assert_eq!(code_lines(&tokens(text)), 8);
}

#[cfg(test)]
fn word(token: Token) -> Option<String> {
    match token {
        Token::Word(word) => Some(word),
        _ => None,
    }
}
