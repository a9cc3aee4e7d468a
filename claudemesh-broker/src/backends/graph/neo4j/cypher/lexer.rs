//! The tokens of a query.

use super::{Refusal, refuse, wrong};

/// A token.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind {
    /// A name or keyword; `quoted` in backticks, and then no keyword.
    Word { text: String, quoted: bool },
    /// The content of a text.
    Text(String),
    /// A number as it is written.
    Number(String),
    /// `$name`.
    Param(String),
    /// An operator or bracket.
    Sign(&'static str),
    /// The end of the query.
    End,
}

/// A token and where it is.
#[derive(Clone, Debug)]
pub(super) struct Token {
    pub(super) kind: Kind,
    /// Bytes of the query.
    pub(super) start: usize,
    pub(super) end: usize,
    /// For an opening bracket: the token that closes it.
    pub(super) closes: usize,
}

/// Operators, longest first.
const SIGNS: [&str; 33] = [
    "..", "<>", "<=", ">=", "=~", "+=", "||", "::", "(", ")", "[", "]", "{", "}", ",", ".", ":", ";", "|", "&", "!",
    "%", "=", "<", ">", "+", "-", "*", "/", "^", "$", "#", "?",
];
/// How deep brackets may be nested.
const DEPTH: usize = 64;
/// Most tokens of a query: the server cannot stop while it plans.
const TOKENS: usize = 10_000;

pub(super) fn tokens(text: &str) -> Result<Vec<Token>, Refusal> {
    let mut lexer = Lexer { text, at: 0 };
    let mut tokens = Vec::new();
    let mut open: Vec<usize> = Vec::new();
    loop {
        lexer.skip()?;
        let start = lexer.at;
        let kind = lexer.token()?;
        let index = tokens.len();
        if index == TOKENS {
            return Err(wrong(
                start,
                format!("a query has at most {TOKENS} words and signs; pass values as parameters"),
            ));
        }
        match &kind {
            Kind::Sign("(" | "[" | "{") => {
                if open.len() == DEPTH {
                    return Err(wrong(start, format!("brackets are nested more than {DEPTH} deep")));
                }
                open.push(index);
            }
            Kind::Sign(close @ (")" | "]" | "}")) => {
                let Some(opened) = open.pop() else {
                    return Err(wrong(start, format!("{close} closes nothing")));
                };
                let opened: &mut Token = &mut tokens[opened];
                let fits = matches!(
                    (&opened.kind, *close),
                    (Kind::Sign("("), ")") | (Kind::Sign("["), "]") | (Kind::Sign("{"), "}")
                );
                if !fits {
                    return Err(wrong(start, format!("{close} does not close the bracket that is open")));
                }
                opened.closes = index;
            }
            _ => {}
        }
        let is_end = kind == Kind::End;
        tokens.push(Token {
            kind,
            start,
            end: lexer.at,
            closes: index,
        });
        if is_end {
            return match open.pop() {
                Some(open) => Err(wrong(
                    start,
                    format!("a bracket is not closed: {:?}", tokens[open].kind),
                )),
                None => Ok(tokens),
            };
        }
    }
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
}

impl Lexer<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    /// Skips blanks and comments.
    fn skip(&mut self) -> Result<(), Refusal> {
        loop {
            let rest = self.rest();
            let blank = rest.len() - rest.trim_start().len();
            if blank > 0 {
                self.at += blank;
            } else if rest.starts_with("//") {
                self.at += rest.find('\n').unwrap_or(rest.len());
            } else if let Some(comment) = rest.strip_prefix("/*") {
                match comment.find("*/") {
                    Some(end) => self.at += end + 4,
                    None => return Err(wrong(self.at, "this comment does not end")),
                }
            } else {
                return Ok(());
            }
        }
    }

    fn take(&mut self, is: impl Fn(char) -> bool) -> String {
        let rest = self.rest();
        let length = rest.find(|c| !is(c)).unwrap_or(rest.len());
        let taken = rest[..length].to_owned();
        self.at += length;
        taken
    }

    fn token(&mut self) -> Result<Kind, Refusal> {
        let start = self.at;
        match self.peek() {
            None => Ok(Kind::End),
            Some('`') => {
                self.at += 1;
                let text = self.take(|c| c != '`');
                if self.peek().is_none() {
                    return Err(wrong(start, "this name does not end"));
                }
                self.at += 1;
                if self.peek() == Some('`') || text.contains('\\') {
                    let text = "names with ` or \\ in them are not available on this server";
                    return Err(refuse(start, text));
                }
                if text.is_empty() || text.len() > 256 || text.chars().any(char::is_control) {
                    return Err(wrong(start, "a name has 1 to 256 bytes and no control characters"));
                }
                Ok(Kind::Word { text, quoted: true })
            }
            Some(quote @ ('\'' | '"')) => self.string(quote).map(Kind::Text),
            Some('$') => {
                self.at += 1;
                let name = self.take(is_inner);
                match name.chars().next() {
                    Some(first) if is_first(first) => Ok(Kind::Param(name)),
                    None if self.peek() == Some('(') => Ok(Kind::Sign("$")),
                    _ => Err(wrong(start, "a parameter is $ and a name")),
                }
            }
            Some(first) if is_first(first) => {
                let text = self.take(is_inner);
                match text.len() <= 256 {
                    true => Ok(Kind::Word { text, quoted: false }),
                    false => Err(wrong(start, "a name has at most 256 bytes")),
                }
            }
            Some(first) if first.is_ascii_digit() => self.number(),
            Some('.') if self.rest()[1..].starts_with(|c: char| c.is_ascii_digit()) => self.number(),
            Some('\\') => Err(refuse(
                start,
                "escapes outside of texts are not available on this server",
            )),
            Some(other) => {
                let sign = SIGNS.into_iter().find(|sign| self.rest().starts_with(sign));
                let sign = sign.ok_or_else(|| wrong(start, format!("{other:?} means nothing here")))?;
                self.at += sign.len();
                Ok(Kind::Sign(sign))
            }
        }
    }

    fn number(&mut self) -> Result<Kind, Refusal> {
        let start = self.at;
        let is_hex = self.rest().starts_with("0x") || self.rest().starts_with("0X");
        let is_octal = self.rest().starts_with("0o");
        if is_hex || is_octal {
            self.at += 2;
            let digits = self.take(|c| c.is_ascii_alphanumeric());
            let radix = if is_hex { 16 } else { 8 };
            let value = i64::from_str_radix(&digits, radix);
            let value = value.map_err(|_| wrong(start, "this is no integer of 64 bits"))?;
            return Ok(Kind::Number(value.to_string()));
        }
        let mut text = self.take(|c| c.is_ascii_digit());
        let is_fraction = self.rest().starts_with('.') && self.rest()[1..].starts_with(|c: char| c.is_ascii_digit());
        if is_fraction {
            self.at += 1;
            text = format!("{text}.{}", self.take(|c| c.is_ascii_digit()));
        }
        let exponent = self.rest().starts_with(['e', 'E']);
        if exponent {
            self.at += 1;
            let sign = match self.peek() {
                Some(sign @ ('+' | '-')) => {
                    self.at += 1;
                    sign.to_string()
                }
                _ => String::new(),
            };
            text = format!("{text}e{sign}{}", self.take(|c| c.is_ascii_digit()));
        }
        let is_right = match is_fraction || exponent {
            true => text.parse::<f64>().is_ok(),
            // One more than the largest: it may be negated.
            false => text.parse::<u64>().is_ok_and(|value| value <= 1 << 63),
        };
        match is_right && !self.peek().is_some_and(is_inner) {
            true => Ok(Kind::Number(if text.starts_with('.') {
                format!("0{text}")
            } else {
                text
            })),
            false => Err(wrong(start, "this is no number, or it is too large")),
        }
    }

    fn string(&mut self, quote: char) -> Result<String, Refusal> {
        let start = self.at;
        self.at += 1;
        let mut text = String::new();
        let mut chars = self.text[self.at..].char_indices();
        while let Some((index, c)) = chars.next() {
            let at = self.at + index;
            if c == quote {
                self.at = at + 1;
                return Ok(text);
            }
            if c != '\\' {
                text.push(c);
                continue;
            }
            let escaped = chars.next().map(|(_, c)| c);
            text.push(match escaped {
                Some('n') => '\n',
                Some('t') => '\t',
                Some('r') => '\r',
                Some('b') => '\u{8}',
                Some('f') => '\u{c}',
                Some(same @ ('\\' | '\'' | '"' | '`')) => same,
                Some(u @ ('u' | 'U')) => {
                    let digits = if u == 'u' { 4 } else { 8 };
                    let code: String = chars.by_ref().take(digits).map(|(_, c)| c).collect();
                    let code = (code.len() == digits)
                        .then(|| u32::from_str_radix(&code, 16).ok())
                        .flatten();
                    let c = code.and_then(char::from_u32);
                    c.ok_or_else(|| wrong(at, "this is no code of a character"))?
                }
                _ => return Err(wrong(at, "this escape means nothing; write \\\\ for a backslash")),
            });
        }
        Err(wrong(start, "this text does not end"))
    }
}

fn is_first(c: char) -> bool {
    c.is_alphabetic() || c == '_'
}

fn is_inner(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}
