//! Mail data on its way out, part by part: dots unstuffed (RFC 5321 4.5.2), line ends as the place wants them, and in an
//! mbox the lines quoted that look like its separators (mboxrd: one more `>` in front of `>*From `).

use std::io::{self, Write};

use memchr::memchr;

/// How a message is written.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Form {
    /// Lines end with LF, as mailboxes on disk have them; else with CRLF, as RFC 5322 has it.
    pub(crate) line_feed: bool,
    /// Separators are quoted.
    pub(crate) quoted: bool,
    /// The data is dot-stuffed.
    pub(crate) stuffed: bool,
}

/// See the module. Nothing is held but what a separator may begin with, so a message of any size passes.
pub(crate) struct Body<'a, W> {
    output: &'a mut W,
    form: Form,
    line: Line,
    /// The part before this ended with a CR.
    held_return: bool,
}

/// Where in a line.
#[derive(Clone, Copy)]
enum Line {
    /// Behind a CRLF, or at the very start: a dot here was added.
    Start,
    /// As many `>`, and so many octets of [`SEPARATOR`].
    Quotes(u64, usize),
    /// Anywhere else.
    Inside,
}

const SEPARATOR: &[u8; 5] = b"From ";

impl<'a, W: Write> Body<'a, W> {
    pub(crate) fn new(output: &'a mut W, form: Form) -> Self {
        Self { output, form, line: Line::Start, held_return: false }
    }

    /// Takes the next part.
    pub(crate) fn write(&mut self, mut rest: &[u8]) -> io::Result<()> {
        while let Some(first) = rest.first() {
            match self.line {
                Line::Start => {
                    let added = self.form.stuffed && *first == b'.';
                    rest = &rest[usize::from(added)..];
                    self.line = if self.form.quoted { Line::Quotes(0, 0) } else { Line::Inside };
                }
                Line::Quotes(count, 0) if *first == b'>' => {
                    self.line = Line::Quotes(count + 1, 0);
                    rest = &rest[1..];
                }
                Line::Quotes(count, matched) if *first == SEPARATOR[matched] => {
                    self.line = Line::Quotes(count, matched + 1);
                    rest = &rest[1..];
                    if matched + 1 == SEPARATOR.len() {
                        self.end_quotes(count + 1, SEPARATOR.len())?;
                    }
                }
                Line::Quotes(count, matched) => self.end_quotes(count, matched)?,
                Line::Inside => rest = self.inside(rest)?,
            }
        }
        Ok(())
    }

    /// The end: a last line without an end gets one.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        if let Line::Quotes(count, matched) = self.line {
            if count + matched as u64 == 0 {
                // A line that had nothing but the added dot.
                self.line = Line::Start;
                return Ok(());
            }
            self.end_quotes(count, matched)?;
        }
        if self.held_return {
            self.output.write_all(b"\r")?;
        }
        match self.line {
            Line::Start => Ok(()),
            _ => self.output.write_all(self.line_end()),
        }
    }

    fn inside<'b>(&mut self, rest: &'b [u8]) -> io::Result<&'b [u8]> {
        if core::mem::take(&mut self.held_return) {
            if let Some(behind) = rest.strip_prefix(b"\n") {
                self.end_line()?;
                return Ok(behind);
            }
            self.output.write_all(b"\r")?;
        }
        let Some(at) = memchr(b'\n', rest) else {
            let line = rest.strip_suffix(b"\r");
            self.held_return = line.is_some();
            self.output.write_all(line.unwrap_or(rest))?;
            return Ok(&[]);
        };
        let line = &rest[..at];
        match line.strip_suffix(b"\r") {
            Some(line) => {
                self.output.write_all(line)?;
                self.end_line()?;
            }
            // No server of ours takes such a line; it is kept as it is.
            None => self.output.write_all(&rest[..=at])?,
        }
        Ok(&rest[at + 1..])
    }

    fn end_line(&mut self) -> io::Result<()> {
        self.line = Line::Start;
        self.output.write_all(self.line_end())
    }

    const fn line_end(&self) -> &'static [u8] {
        if self.form.line_feed { b"\n" } else { b"\r\n" }
    }

    fn end_quotes(&mut self, count: u64, matched: usize) -> io::Result<()> {
        self.line = Line::Inside;
        for _ in 0..count {
            self.output.write_all(b">")?;
        }
        self.output.write_all(&SEPARATOR[..matched])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EML: Form = Form { line_feed: false, quoted: false, stuffed: true };
    const MBOX: Form = Form { line_feed: true, quoted: true, stuffed: true };

    fn written(form: Form, parts: &[&[u8]]) -> String {
        let mut out = Vec::new();
        let mut body = Body::new(&mut out, form);
        for part in parts {
            body.write(part).unwrap();
        }
        body.finish().unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn data_is_the_same_at_every_split() {
        let data = b"From a\r\n..\r\n.From b\r\n>From c\r\n>>Fro\r\n\r\r\n>\r\nFrom: d\r\n.>From e\r\nFrom ";
        let eml = "From a\r\n.\r\nFrom b\r\n>From c\r\n>>Fro\r\n\r\r\n>\r\nFrom: d\r\n>From e\r\nFrom \r\n";
        let mbox = ">From a\n.\n>From b\n>>From c\n>>Fro\n\r\n>\nFrom: d\n>>From e\n>From \n";
        for split in 0..=data.len() {
            let (front, back) = data.split_at(split);
            assert_eq!(written(EML, &[front, back]), eml, "{split}");
            assert_eq!(written(MBOX, &[front, back]), mbox, "{split}");
        }
        let single: Vec<&[u8]> = data.chunks(1).collect();
        assert_eq!(written(EML, &single), eml);
        assert_eq!(written(MBOX, &single), mbox);
    }

    #[test]
    fn what_is_not_stuffed_keeps_its_dots_and_a_last_line_ends() {
        assert_eq!(written(Form::default(), &[b".a\r\n.b"]), ".a\r\n.b\r\n");
        assert_eq!(written(MBOX, &[b""]), "");
        assert_eq!(written(MBOX, &[b"a\r"]), "a\r\n");
        assert_eq!(written(EML, &[b"a\nb\r\n"]), "a\nb\r\n");
    }
}
