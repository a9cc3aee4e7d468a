//! A query of a member, taken apart and written anew for a server that meshes share.
//!
//! The server gets a text that is made from what was understood, and nothing of the original: names in backticks, texts as
//! parameters, every expression in brackets, and the mesh's label in every pattern of a node. What is not understood is refused;
//! so is what cannot be kept to the mesh, with the reason. So every node that a query can name has the mesh's label:
//!
//! * nodes come from patterns, which all carry the label, and from relationships, whose ends were named by such patterns when
//!   they were made;
//! * no label that belongs to a mesh can be written, set or removed, and no label or text can be computed into a query;
//! * procedures, subqueries, commands, files and functions that are not listed do not exist.

mod clauses;
mod expressions;
mod functions;
mod lexer;
mod patterns;

use std::collections::{BTreeMap, HashSet};

use super::super::GraphError;
use super::super::values::RESERVED;
use lexer::{Kind, Token};

/// How deep expressions may be nested.
const DEPTH: usize = 64;

/// Most clauses of a query, and most nodes in its patterns: the server cannot stop while it plans.
const PARTS: usize = 200;

/// What the server gets.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Rewritten {
    /// The query.
    pub(super) text: String,
    /// The texts that were in it, by the names of their parameters.
    pub(super) texts: BTreeMap<String, String>,
    /// Whether it may make nodes or relationships.
    pub(super) makes: bool,
}

/// Why a query is not run.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Refusal {
    at: usize,
    text: String,
    /// It is understood, and not for members.
    is_forbidden: bool,
}

fn wrong(at: usize, text: impl Into<String>) -> Refusal {
    Refusal {
        at,
        text: text.into(),
        is_forbidden: false,
    }
}

fn refuse(at: usize, text: impl Into<String>) -> Refusal {
    Refusal {
        at,
        text: text.into(),
        is_forbidden: true,
    }
}

/// Writes a query anew. With `label`, every node has it.
///
/// # Errors
/// [`GraphError::Query`] if it is not understood, [`GraphError::Forbidden`] if it is not for members.
pub(super) fn rewrite(text: &str, label: Option<&str>) -> Result<Rewritten, GraphError> {
    let rewritten = lexer::tokens(text).and_then(|tokens| {
        let mut parser = Parser {
            source: text,
            tokens,
            at: 0,
            depth: 0,
            label,
            texts: BTreeMap::new(),
            known: HashSet::new(),
            makes: false,
            is_bar_free: true,
            parts: 0,
        };
        let text = parser.query()?;
        Ok(Rewritten {
            text,
            texts: parser.texts,
            makes: parser.makes,
        })
    });
    rewritten.map_err(|refusal| {
        let before = &text[..refusal.at.min(text.len())];
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().map_or(0, |line| line.chars().count()) + 1;
        let text = format!("{} (line {line}, column {column})", refusal.text);
        match refusal.is_forbidden {
            true => GraphError::Forbidden(text),
            false => GraphError::Query(text),
        }
    })
}

struct Parser<'a> {
    source: &'a str,
    tokens: Vec<Token>,
    at: usize,
    depth: usize,
    label: Option<&'a str>,
    texts: BTreeMap<String, String>,
    /// Variables that name something already: nodes of `CREATE` and `MERGE` with such a name are no new ones.
    known: HashSet<String>,
    makes: bool,
    /// Whether `|` after a label is one of the label expression: before the `|` of a comprehension it is not.
    is_bar_free: bool,
    /// Clauses and nodes so far.
    parts: usize,
}

type Written = Result<String, Refusal>;

impl Parser<'_> {
    fn kind(&self) -> &Kind {
        &self.tokens[self.at].kind
    }

    /// The token so many further on.
    fn ahead(&self, by: usize) -> &Kind {
        let last = self.tokens.len() - 1;
        &self.tokens[(self.at + by).min(last)].kind
    }

    /// Where the parser is, in bytes of the query.
    fn place(&self) -> usize {
        self.tokens[self.at].start
    }

    fn step(&mut self) {
        if self.at + 1 < self.tokens.len() {
            self.at += 1;
        }
    }

    fn is_sign(&self, sign: &str) -> bool {
        matches!(self.kind(), Kind::Sign(found) if *found == sign)
    }

    fn take_sign(&mut self, sign: &str) -> bool {
        let is_there = self.is_sign(sign);
        if is_there {
            self.step();
        }
        is_there
    }

    fn sign(&mut self, sign: &str) -> Result<(), Refusal> {
        match self.take_sign(sign) {
            true => Ok(()),
            false => Err(self.expected(sign)),
        }
    }

    fn is_word_at(&self, by: usize, word: &str) -> bool {
        matches!(self.ahead(by), Kind::Word { text, quoted: false } if text.eq_ignore_ascii_case(word))
    }

    fn is_word(&self, word: &str) -> bool {
        self.is_word_at(0, word)
    }

    fn take_word(&mut self, word: &str) -> bool {
        let is_there = self.is_word(word);
        if is_there {
            self.step();
        }
        is_there
    }

    fn word(&mut self, word: &str) -> Result<(), Refusal> {
        match self.take_word(word) {
            true => Ok(()),
            false => Err(self.expected(word)),
        }
    }

    fn expected(&self, what: &str) -> Refusal {
        let found = match self.kind() {
            Kind::End => "the query ends".to_owned(),
            Kind::Sign(sign) => format!("there is {sign}"),
            Kind::Word { text, .. } => format!("there is {text}"),
            Kind::Text(_) => "there is a text".to_owned(),
            Kind::Number(text) => format!("there is {text}"),
            Kind::Param(text) => format!("there is ${text}"),
        };
        wrong(self.place(), format!("expected {what}, but {found}"))
    }

    /// A name: of a variable, property, type, map key or column.
    fn name(&mut self, what: &str) -> Result<String, Refusal> {
        match self.kind().clone() {
            Kind::Word { text, .. } => {
                if text.to_ascii_lowercase().starts_with(RESERVED) {
                    let why = format!("names that start with {RESERVED} are the broker's");
                    return Err(refuse(self.place(), why));
                }
                self.step();
                Ok(text)
            }
            Kind::Sign("$") => Err(refuse(self.place(), "computed names are not available on this server")),
            _ => Err(self.expected(what)),
        }
    }

    /// A text becomes a parameter: nothing in it can be taken for Cypher.
    fn text(&mut self, content: String) -> String {
        let name = format!("{RESERVED}{}", self.texts.len());
        let written = format!("${name}");
        self.texts.insert(name, content);
        written
    }

    /// Counts a clause or a node.
    fn part(&mut self) -> Result<(), Refusal> {
        self.parts += 1;
        match self.parts <= PARTS {
            true => Ok(()),
            false => Err(wrong(
                self.place(),
                format!("a query has at most {PARTS} clauses and nodes"),
            )),
        }
    }

    /// Goes one level deeper.
    fn deeper<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T, Refusal>) -> Result<T, Refusal> {
        if self.depth == DEPTH {
            return Err(wrong(
                self.place(),
                format!("expressions are nested more than {DEPTH} deep"),
            ));
        }
        self.depth += 1;
        let done = work(self);
        self.depth -= 1;
        done
    }

    /// Things with commas between them.
    fn list(&mut self, mut one: impl FnMut(&mut Self) -> Written) -> Written {
        let mut all = one(self)?;
        while self.take_sign(",") {
            all.push_str(", ");
            all.push_str(&one(self)?);
        }
        Ok(all)
    }
}

/// A name in backticks. Names have none in them.
fn quoted(name: &str) -> String {
    format!("`{name}`")
}

#[cfg(test)]
mod tests;
