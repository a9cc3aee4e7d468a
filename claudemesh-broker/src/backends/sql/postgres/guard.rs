//! What rights cannot forbid in Postgres: the catalog shows the names of other meshes, and functions reach the settings of the
//! connection, locks of the whole database and files of large objects.
//!
//! Rights are the first wall: the mesh's role may use its own schema and nothing else. This is the second: only kinds of
//! statements that are listed, no name of the catalog, and only functions that are listed, of those that this server has.

use std::collections::HashSet;

use super::functions::ALLOWED;
use super::lexer::Token;
use crate::backends::sql::SqlError;

/// First words of statements that read.
const READING: [&str; 4] = ["select", "with", "values", "table"];
/// First words of statements that change data.
const CHANGING: [&str; 6] = ["insert", "update", "delete", "merge", "truncate", "with"];
/// What can be created, altered and dropped.
const OBJECTS: [&str; 4] = ["table", "index", "view", "sequence"];
/// Types whose text form is a name of the catalog, and schemas that are not the mesh's.
const HIDDEN: [&str; 14] = [
    "regclass",
    "regproc",
    "regprocedure",
    "regoper",
    "regoperator",
    "regtype",
    "regrole",
    "regnamespace",
    "regconfig",
    "regdictionary",
    "regcollation",
    "aclitem",
    "refcursor",
    "information_schema",
];

/// What a statement is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// It changes data, or creates something: the database may grow.
    Grow,
    /// It removes data or tables.
    Shrink,
}

/// The rules of one mesh on one server.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules<'a> {
    /// Names of the server's own functions, in lower case.
    pub(super) functions: &'a HashSet<String>,
    /// The mesh's schema.
    pub(super) schema: &'a str,
}

fn forbidden<T>(text: impl Into<String>) -> Result<T, SqlError> {
    Err(SqlError::Forbidden(text.into()))
}

fn wrong<T>(text: impl Into<String>) -> Result<T, SqlError> {
    Err(SqlError::Statement(text.into()))
}

/// Removes semicolons at the end.
pub(super) fn trim(tokens: &mut Vec<Token>) {
    while tokens.last().is_some_and(|token| token.is_mark(';')) {
        tokens.pop();
    }
}

impl Rules<'_> {
    /// Checks a statement of `mesh_query`.
    ///
    /// # Errors
    /// [`SqlError::Forbidden`], [`SqlError::Statement`].
    pub(super) fn reads(&self, tokens: &[Token]) -> Result<(), SqlError> {
        let first = tokens.iter().find(|token| !token.is_mark('('));
        let Some(first) = first else {
            return wrong("there is no statement");
        };
        if !READING.iter().any(|word| first.is_word(word)) {
            let shown = first.name().unwrap_or_default();
            if is_change(&shown) {
                return forbidden("mesh_query only reads; use mesh_execute for changes");
            }
            return forbidden(format!(
                "mesh_query takes SELECT, WITH, VALUES and TABLE, not {}",
                shown.to_uppercase()
            ));
        }
        self.names(tokens)
    }

    /// Checks a statement of `mesh_execute`.
    ///
    /// # Errors
    /// [`SqlError::Forbidden`], [`SqlError::Statement`].
    pub(super) fn changes(&self, tokens: &[Token]) -> Result<Kind, SqlError> {
        let word = |at: usize| tokens.get(at).and_then(Token::name).unwrap_or_default();
        let Some(Token::Word(first)) = tokens.first() else {
            return wrong("there is no statement");
        };
        let first = first.to_ascii_lowercase();
        let kind = match first.as_str() {
            "select" | "values" | "table" => {
                return wrong("this statement changes nothing; use mesh_query for reading");
            }
            "create" | "alter" | "drop" => {
                let mut at = 1;
                while ["or", "replace", "unique"].contains(&word(at).as_str()) {
                    at += 1;
                }
                let object = word(at);
                if !OBJECTS.contains(&object.as_str()) {
                    return forbidden(format!(
                        "{} {} is not for members; tables, indexes, views and sequences are",
                        first.to_uppercase(),
                        object.to_uppercase()
                    ));
                }
                match first.as_str() {
                    "drop" => Kind::Shrink,
                    _ => Kind::Grow,
                }
            }
            "delete" | "truncate" => Kind::Shrink,
            changing if CHANGING.contains(&changing) => Kind::Grow,
            other => {
                return forbidden(format!(
                    "mesh_execute takes CREATE, ALTER, DROP, INSERT, UPDATE, DELETE, MERGE and TRUNCATE, not {}",
                    other.to_uppercase()
                ));
            }
        };
        self.names(tokens)?;
        Ok(kind)
    }

    /// What may be named, wherever it stands.
    fn names(&self, tokens: &[Token]) -> Result<(), SqlError> {
        for (at, token) in tokens.iter().enumerate() {
            if token.is_mark(';') {
                return wrong("one statement per call, please; send the others in calls of their own");
            }
            let Some(name) = token.name() else { continue };
            let next = tokens.get(at + 1);
            // A number in place of a parameter stands in brackets.
            let is_called = next.is_some_and(|token| token.is_mark('(') || matches!(token, Token::Param(_)));
            let is_qualifier = next.is_some_and(|token| token.is_mark('.'));
            let after_dot = at > 0 && tokens[at - 1].is_mark('.');
            // Types of lists begin with an underscore.
            let plain = name.trim_start_matches('_');
            if plain.starts_with("pg_") || HIDDEN.contains(&plain) {
                return forbidden(format!(
                    "{name} belongs to the database server; mesh_schema shows the tables"
                ));
            }
            if is_qualifier && !after_dot && ["public", "mesh"].contains(&name.as_str()) {
                return forbidden("only the mesh's own tables can be reached; write their names without a schema");
            }
            if is_called && after_dot {
                let qualifier = at.checked_sub(2).and_then(|at| tokens[at].name());
                if qualifier.as_deref() != Some(self.schema) {
                    return forbidden("functions are called by their name without a schema");
                }
            }
            // `(1).f` and `a[1].f` call a function too.
            let is_applied = after_dot && !matches!(tokens[at.saturating_sub(2)], Token::Word(_) | Token::Name(_));
            if (is_called || is_applied)
                && self.functions.contains(&name)
                && ALLOWED.binary_search(&name.as_str()).is_err()
            {
                return forbidden(format!(
                    "the function {name} is not for members; if {name} is a table or type of yours, give it another name"
                ));
            }
            let creates = token.is_word("into")
                && next
                    .and_then(Token::name)
                    .is_some_and(|next| ["temp", "temporary", "local", "global"].contains(&next.as_str()));
            if creates {
                return forbidden("temporary tables are not for members");
            }
        }
        Ok(())
    }
}

fn is_change(word: &str) -> bool {
    CHANGING.contains(&word) || ["create", "alter", "drop"].contains(&word)
}
