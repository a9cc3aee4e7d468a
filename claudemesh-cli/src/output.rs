//! What commands print: aligned text for people or one JSON document for programs, and errors on standard error.

use crate::CliError;
use serde::Serialize;
use std::io::{self, IsTerminal, Write};
use unicode_width::UnicodeWidthStr;

/// Where and how a command prints.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    /// Print one JSON document instead of text.
    pub(crate) json: bool,
    /// Print results only.
    pub(crate) quiet: bool,
    color: bool,
}

/// Colours that mean something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// The important part of a line.
    Bold,
    /// Side information.
    Dim,
    /// It works, it is here.
    Good,
    /// It waits, or needs attention.
    Warn,
    /// It failed.
    Bad,
}

impl Style {
    fn code(self) -> &'static str {
        match self {
            Self::Bold => "1",
            Self::Dim => "2",
            Self::Good => "32",
            Self::Warn => "33",
            Self::Bad => "31",
        }
    }
}

/// A remark for a person, to standard error.
pub(crate) fn warn(text: impl AsRef<str>) {
    let _ = writeln!(io::stderr().lock(), "warning: {}", text.as_ref());
}

impl Output {
    /// Text with colours if standard output is a terminal that has them and `NO_COLOR` is not set.
    pub(crate) fn new(json: bool, quiet: bool) -> Self {
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let dumb = set("TERM").is_some_and(|term| term == "dumb");
        let color = !json && !dumb && set("NO_COLOR").is_none() && io::stdout().is_terminal();
        Self { json, quiet, color }
    }

    /// `text` in a style, if colours are on.
    pub(crate) fn paint(self, style: Style, text: impl AsRef<str>) -> String {
        let text = text.as_ref();
        if self.color {
            format!("\x1b[{}m{text}\x1b[0m", style.code())
        } else {
            text.to_owned()
        }
    }

    /// One line of text; nothing in JSON mode.
    pub(crate) fn line(self, text: impl AsRef<str>) {
        if !self.json {
            write_out(text.as_ref());
        }
    }

    /// A line that is nice to know; nothing in JSON mode and with `--quiet`.
    pub(crate) fn note(self, text: impl AsRef<str>) {
        if !self.quiet {
            self.line(text);
        }
    }

    /// A remark that must not mix with results: to standard error, in JSON mode too.
    pub(crate) fn warn(self, text: impl AsRef<str>) {
        warn(text);
    }

    /// The JSON document of the command; nothing in text mode.
    pub(crate) fn json<T: Serialize + ?Sized>(self, value: &T) -> Result<(), CliError> {
        if self.json {
            write_out(&to_json(value, true)?);
        }
        Ok(())
    }

    /// One line of a JSON stream (`up`, `inbox --follow`); nothing in text mode.
    pub(crate) fn json_line<T: Serialize + ?Sized>(self, value: &T) -> Result<(), CliError> {
        if self.json {
            write_out(&to_json(value, false)?);
        }
        Ok(())
    }

    /// Rows with aligned columns; the last column is not padded. Styles are applied after padding.
    pub(crate) fn table(self, rows: &[Vec<Cell>]) {
        let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            rows.iter()
                .filter_map(|row| row.get(column))
                .map(|cell| cell.text.width())
                .max()
        };
        let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
        for row in rows {
            let mut line = String::new();
            for (column, cell) in row.iter().enumerate() {
                let padding = if column + 1 == row.len() {
                    0
                } else {
                    widths[column] + 2 - cell.text.width()
                };
                line.push_str(
                    &cell
                        .style
                        .map_or_else(|| cell.text.clone(), |style| self.paint(style, &cell.text)),
                );
                line.extend(std::iter::repeat_n(' ', padding));
            }
            self.line(line.trim_end());
        }
    }
}

/// One cell of a table.
#[derive(Clone, Debug)]
pub(crate) struct Cell {
    text: String,
    style: Option<Style>,
}

/// A plain cell. Control characters are made visible: names and texts come from other people.
pub(crate) fn cell(text: impl AsRef<str>) -> Cell {
    Cell {
        text: one_line(text.as_ref()),
        style: None,
    }
}

/// A cell in a style.
pub(crate) fn styled(style: Style, text: impl AsRef<str>) -> Cell {
    Cell {
        style: Some(style),
        ..cell(text)
    }
}

/// `text` on one line, without characters that could steer a terminal.
pub(crate) fn one_line(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { visible(c) })
        .collect()
}

/// `text` with its line breaks and tabs, without other characters that could steer a terminal.
pub(crate) fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if matches!(c, '\n' | '\t') { c } else { visible(c) })
        .collect()
}

/// Control characters and the ones that reorder text become a replacement character.
fn visible(c: char) -> char {
    let reorders = matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    if c.is_control() || reorders { '\u{fffd}' } else { c }
}

/// The first characters of a key, for people; other texts as they are.
pub(crate) fn short(key: &str) -> &str {
    if key.len() == 64 {
        key.get(..16).unwrap_or(key)
    } else {
        key
    }
}

/// Shows a failure on standard error.
pub(crate) fn report(error: &CliError, json: bool) {
    let mut stderr = io::stderr().lock();
    let _ = if json {
        writeln!(stderr, "{}", error.to_json())
    } else {
        writeln!(
            stderr,
            "error: {}\n  → {}",
            printable(error.message()),
            printable(error.next_step())
        )
    };
}

fn to_json<T: Serialize + ?Sized>(value: &T, pretty: bool) -> Result<String, CliError> {
    let text = if pretty {
        serde_json::to_string_pretty(value)
    } else {
        serde_json::to_string(value)
    };
    text.map_err(|error| CliError::local(format!("The result is not JSON: {error}"), "Report it."))
}

/// Writes a line. A reader that has gone away (`| head`) ends the program quietly.
fn write_out(text: &str) {
    let mut stdout = io::stdout().lock();
    if writeln!(stdout, "{text}").and_then(|()| stdout.flush()).is_err() {
        std::process::exit(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_others_cannot_steer_the_terminal() {
        assert_eq!(one_line("a\x1b[2Jb\nc"), "a [2Jb c");
        assert_eq!(printable("a\x1b[2J\nb\u{202e}"), "a\u{fffd}[2J\nb\u{fffd}");
    }

    #[test]
    fn short_keys_are_not_cut_inside_a_character() {
        assert_eq!(short("abc"), "abc");
        assert_eq!(short(&"ab".repeat(32)), "abababababababab");
    }
}
