//! Statements as tokens, and tokens as text again.
//!
//! What is checked must be what Postgres reads. So the text of a member is taken apart into the few kinds of tokens below, and
//! Postgres gets a text that is made from these tokens: without comments, with every literal written anew, with a space
//! between any two. Spellings that are not needed (`E'…'`, `U&'…'`, `$tag$…$tag$`) are refused.

use crate::backends::sql::SqlError;

/// Longest name that Postgres does not cut.
const MAX_NAME: usize = 63;

/// A part of a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// A key word or a name without quotes.
    Word(String),
    /// A name in quotes, without them.
    Name(String),
    /// A number.
    Number(String),
    /// A text, without its quotes.
    Text(String),
    /// `$1`, `$2`, …
    Param(usize),
    /// An operator.
    Operator(String),
    /// One of `( ) [ ] , ; . :`.
    Mark(char),
}

impl Token {
    /// The word or name in lower case: Postgres reads words that way, and names that differ in case only are treated alike.
    pub(super) fn name(&self) -> Option<String> {
        match self {
            Self::Word(name) | Self::Name(name) => Some(name.to_ascii_lowercase()),
            _ => None,
        }
    }

    /// Whether it is this key word.
    pub(super) fn is_word(&self, word: &str) -> bool {
        matches!(self, Self::Word(have) if have.eq_ignore_ascii_case(word))
    }

    /// Whether it is this mark.
    pub(super) fn is_mark(&self, mark: char) -> bool {
        *self == Self::Mark(mark)
    }
}

/// Takes a statement apart.
///
/// # Errors
/// [`SqlError::Statement`] with what cannot be read.
pub(super) fn read(sql: &str) -> Result<Vec<Token>, SqlError> {
    let mut lexer = Lexer {
        rest: sql,
        tokens: Vec::new(),
    };
    while lexer.skip_blank()? {
        let token = lexer.token()?;
        lexer.tokens.push(token);
    }
    Ok(lexer.tokens)
}

/// The text that Postgres gets. `param` writes the values of parameters.
///
/// # Errors
/// Those of `param`.
pub(super) fn write<E>(tokens: &[Token], mut param: impl FnMut(usize) -> Result<String, E>) -> Result<String, E> {
    let mut sql = String::new();
    for token in tokens {
        if !sql.is_empty() {
            sql.push(' ');
        }
        match token {
            Token::Word(text) | Token::Number(text) | Token::Operator(text) => sql.push_str(text),
            Token::Name(name) => quote(&mut sql, '"', name),
            Token::Text(text) => quote(&mut sql, '\'', text),
            Token::Param(number) => sql.push_str(&param(*number)?),
            Token::Mark(mark) => sql.push(*mark),
        }
    }
    Ok(sql)
}

/// A text as a literal. Backslashes mean nothing in it (`standard_conforming_strings`).
pub(super) fn literal(text: &str) -> String {
    let mut sql = String::new();
    quote(&mut sql, '\'', text);
    sql
}

fn quote(sql: &mut String, mark: char, text: &str) {
    sql.push(mark);
    for c in text.chars() {
        if c == mark {
            sql.push(c);
        }
        sql.push(c);
    }
    sql.push(mark);
}

struct Lexer<'a> {
    rest: &'a str,
    tokens: Vec<Token>,
}

fn wrong<T>(text: impl Into<String>) -> Result<T, SqlError> {
    Err(SqlError::Statement(text.into()))
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r' | '\u{b}' | '\u{c}')
}

fn begins_word(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_' || !c.is_ascii()
}

fn goes_on(c: char) -> bool {
    begins_word(c) || c.is_ascii_digit() || c == '$'
}

fn is_operator(c: char) -> bool {
    "+-*/<>=~!@#%^&|`?".contains(c)
}

impl Lexer<'_> {
    /// Passes over blanks and comments; whether something follows.
    fn skip_blank(&mut self) -> Result<bool, SqlError> {
        loop {
            self.rest = self.rest.trim_start_matches(is_blank);
            if let Some(comment) = self.rest.strip_prefix("--") {
                self.rest = comment.find(['\n', '\r']).map_or("", |end| &comment[end..]);
            } else if self.rest.starts_with("/*") {
                self.skip_comment()?;
            } else {
                return Ok(!self.rest.is_empty());
            }
        }
    }

    /// Comments may hold comments.
    fn skip_comment(&mut self) -> Result<(), SqlError> {
        let mut depth = 0_usize;
        loop {
            if let Some(rest) = self.rest.strip_prefix("/*") {
                (self.rest, depth) = (rest, depth + 1);
            } else if let Some(rest) = self.rest.strip_prefix("*/") {
                (self.rest, depth) = (rest, depth - 1);
                if depth == 0 {
                    return Ok(());
                }
            } else {
                let mut chars = self.rest.chars();
                if chars.next().is_none() {
                    return wrong("a comment does not end");
                }
                self.rest = chars.as_str();
            }
        }
    }

    fn take(&mut self, length: usize) -> String {
        let (taken, rest) = self.rest.split_at(length);
        self.rest = rest;
        taken.to_owned()
    }

    fn length(&self, goes_on: impl Fn(char) -> bool) -> usize {
        self.rest.find(|c| !goes_on(c)).unwrap_or(self.rest.len())
    }

    fn token(&mut self) -> Result<Token, SqlError> {
        let mut chars = self.rest.chars();
        let first = chars.next().unwrap_or_default();
        let second = chars.next().unwrap_or_default();
        match first {
            '\'' => self.quoted('\'').map(Token::Text),
            '"' => {
                let name = self.quoted('"')?;
                if name.is_empty() || name.len() > MAX_NAME {
                    return wrong(format!("a name has 1 to {MAX_NAME} bytes"));
                }
                Ok(Token::Name(name))
            }
            '$' if second.is_ascii_digit() => self.param(),
            '$' => wrong("texts between $…$ are not supported; write 'text'"),
            '.' if second.is_ascii_digit() => self.number(),
            c if c.is_ascii_digit() => self.number(),
            c if begins_word(c) => self.word(),
            ':' if second == ':' => Ok(Token::Operator(self.take(2))),
            '(' | ')' | '[' | ']' | ',' | ';' | '.' | ':' => {
                self.rest = &self.rest[1..];
                Ok(Token::Mark(first))
            }
            c if is_operator(c) => {
                let mut length = self.length(is_operator);
                // A comment ends an operator.
                for comment in ["--", "/*"] {
                    if let Some(at) = self.rest[..length].find(comment) {
                        length = at;
                    }
                }
                Ok(Token::Operator(self.take(length)))
            }
            other => wrong(format!("the character {other:?} is not part of SQL")),
        }
    }

    fn quoted(&mut self, mark: char) -> Result<String, SqlError> {
        let mut text = String::new();
        let mut chars = self.rest[1..].chars();
        loop {
            match chars.next() {
                None => return wrong("a text or name in quotes does not end"),
                Some('\0') => return wrong("the statement holds a NUL character"),
                Some(c) if c == mark => {
                    let rest = chars.as_str();
                    if !rest.starts_with(mark) {
                        self.rest = rest;
                        return Ok(text);
                    }
                    chars.next();
                    text.push(mark);
                }
                Some(c) => text.push(c),
            }
        }
    }

    fn param(&mut self) -> Result<Token, SqlError> {
        self.rest = &self.rest[1..];
        let length = self.length(|c| c.is_ascii_digit());
        let digits = self.take(length);
        match digits.parse() {
            Ok(number) if number > 0 && !self.rest.starts_with(goes_on) => Ok(Token::Param(number)),
            _ => wrong(format!("${digits} is no parameter; parameters are $1, $2, …")),
        }
    }

    fn number(&mut self) -> Result<Token, SqlError> {
        let is_digit = |c: char| c.is_ascii_digit() || c == '_';
        let mut number = self.take(self.length(is_digit));
        if self.rest.starts_with('.') && !self.rest.starts_with("..") {
            number.push_str(&self.take(1));
            number.push_str(&self.take(self.length(is_digit)));
        }
        if self.rest.starts_with(['e', 'E']) {
            let after = &self.rest[1..];
            let sign = usize::from(after.starts_with(['+', '-']));
            if after[sign..].starts_with(|c: char| c.is_ascii_digit()) {
                number.push_str(&self.take(1 + sign));
                number.push_str(&self.take(self.length(is_digit)));
            }
        }
        if self.rest.starts_with(goes_on) || number.ends_with('_') || number.contains("__") {
            return wrong(format!("after the number {number} a blank is missing"));
        }
        Ok(Token::Number(number))
    }

    fn word(&mut self) -> Result<Token, SqlError> {
        let word = self.take(self.length(goes_on));
        if word.len() > MAX_NAME {
            return wrong(format!("a name has at most {MAX_NAME} bytes"));
        }
        let is_prefix = ["e", "b", "x", "n"]
            .iter()
            .any(|prefix| word.eq_ignore_ascii_case(prefix));
        let is_unicode =
            word.eq_ignore_ascii_case("u") && (self.rest.starts_with("&'") || self.rest.starts_with("&\""));
        if is_prefix && self.rest.starts_with('\'') || is_unicode {
            return wrong(format!(
                "texts that begin with {word} are not supported; write 'text', or pass it in params"
            ));
        }
        Ok(Token::Word(word))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn canonical(sql: &str) -> String {
        write(&read(sql).unwrap(), |number| Ok::<_, ()>(format!("<{number}>"))).unwrap()
    }

    #[test]
    fn statements_are_taken_apart_and_put_together() {
        for (sql, expected) in [
            ("SELECT 1", "SELECT 1"),
            (
                "select a.b,\"C\"\"d\" from t--x\nwhere/* /* ; */ */x='it''s;'",
                "select a . b , \"C\"\"d\" from t where x = 'it''s;'",
            ),
            (
                "SELECT .5, 1.5e-3, a.b::int, x->>'k', -1, 1_000",
                "SELECT .5 , 1.5e-3 , a . b :: int , x ->> 'k' , - 1 , 1_000",
            ),
            ("SELECT $1::text, t[1:2]", "SELECT <1> :: text , t [ 1 : 2 ]"),
            ("SELECT '\\', 'a--b', '/*'", "SELECT '\\' , 'a--b' , '/*'"),
            ("a--b", "a"),
            ("a/**/b", "a b"),
            ("1*-2", "1 *- 2"),
            ("\u{a0}é", "\u{a0}é"),
        ] {
            assert_eq!(canonical(sql), expected);
        }
    }

    #[test]
    fn spellings_with_a_meaning_of_their_own_are_refused() {
        for sql in [
            "SELECT E'\\''",
            "SELECT x'00'",
            "SELECT U&'\\0041'",
            "SELECT U&\"a\"",
            "SELECT $$a$$",
            "SELECT $a$b$a$",
            "SELECT 'open",
            "SELECT \"open",
            "/* open",
            "/* /* */",
            "SELECT 1a",
            "SELECT 0x1F",
            "SELECT $0",
            "SELECT $1a",
            "\\d",
            "SELECT {1}",
            "SELECT \"\"",
            "SELECT '\0'",
            "SELECT 1__0",
            &format!("SELECT {}", "n".repeat(64)),
            &format!("SELECT \"{}\"", "n".repeat(64)),
        ] {
            assert!(matches!(read(sql), Err(SqlError::Statement(_))), "{sql}");
        }
    }

    proptest! {
        /// What is put together reads the same again: nothing in a token becomes something else.
        #[test]
        fn what_is_written_reads_the_same(sql in "[ a-c'\"$0-2.;:()*/+-\\[\\]E&\\\\\n_é]{0,40}") {
            if let Ok(tokens) = read(&sql) {
                let text = write(&tokens, |number| Ok::<_, ()>(format!("${number}"))).unwrap();
                let again = read(&text);
                prop_assert_eq!(again.as_ref(), Ok(&tokens), "{:?}", text);
            }
        }

        #[test]
        fn literals_stay_texts(text in "[a'\"\\\\;\\-]{0,20}") {
            prop_assert_eq!(read(&literal(&text)), Ok(vec![Token::Text(text)]));
        }
    }
}
