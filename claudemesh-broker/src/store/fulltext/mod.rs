//! Full-text search on both engines: FTS5 of SQLite, `tsvector` of Postgres.
//!
//! The broker takes texts apart itself (`words`) and gives the engines nothing but words, so that both find the same and
//! no character of a query means anything to them. What differs between them is in this file alone.
//!
//! A searchable table `t` has a number `seq`, a `mesh_id`, and beside it a table `t_words` with the words of its rows.

mod query;
mod snippet;
mod words;

pub use query::Query;
pub(super) use words::fold;

use super::StoreError;
use super::rows::{limit as row_limit, not_of};
use claudemesh_proto::model::{MemberId, MeshId};
use query::Reading;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AnyPool, AssertSqlSafe};
use std::fmt::Write as _;

/// Which engine it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FullText {
    /// FTS5.
    Sqlite,
    /// `tsvector`.
    Postgres,
}

/// A table that can be searched.
pub(super) struct Searchable {
    /// Its name.
    pub(super) table: &'static str,
    /// What to read of it.
    pub(super) columns: &'static str,
    /// Which rows there are to find.
    pub(super) live: &'static str,
    /// Column with the id of the member that wrote the row.
    pub(super) author: &'static str,
    /// Column that is looked at when a query has no words.
    pub(super) text: &'static str,
    /// Whether the best match comes first, not the newest.
    pub(super) ranked: bool,
    /// Column with the time that says what is newest.
    pub(super) time: &'static str,
}

/// Which of the matches to give.
#[derive(Clone, Copy, Debug, Default)]
pub struct SearchFilter<'a> {
    /// Members whose rows are not for the caller.
    pub hidden: &'a [MemberId],
    /// Tags that a row must have, whatever their case.
    pub tags: &'a [String],
    /// Most rows.
    pub limit: usize,
}

/// What a search has found.
#[derive(Clone, Debug)]
pub struct Found<T> {
    /// The rows, in order.
    pub rows: Vec<T>,
    /// No row has all the words; these have some of them.
    pub partial: bool,
    /// There are more.
    pub more: bool,
}

impl Found<AnyRow> {
    pub(super) fn map<T>(self, read: impl Fn(&AnyRow) -> Result<T, StoreError>) -> Result<Found<T>, StoreError> {
        Ok(Found {
            rows: self.rows.iter().map(read).collect::<Result<_, _>>()?,
            partial: self.partial,
            more: self.more,
        })
    }
}

/// What separates tags in a column of tags: no tag contains it.
const TAG_END: char = '\n';

/// The text of a column that is searched by tag.
pub(super) fn tag_keys(tags: &[String]) -> String {
    let mut keys = String::from(TAG_END);
    for tag in tags {
        keys.push_str(&fold(tag));
        keys.push(TAG_END);
    }
    keys
}

fn tag_key(tag: &str) -> String {
    format!("{TAG_END}{}{TAG_END}", fold(tag))
}

/// The words of a row. They are taken out of the texts before the write: the committer does not wait for that.
pub(super) struct Words {
    body: Vec<String>,
    tags: Vec<String>,
}

impl Words {
    /// The words of a row with this text and these tags.
    pub(super) fn new(body: &str, tags: &[String]) -> Self {
        Self {
            body: words::to_index(body),
            tags: words::to_index(&tags.join("\n")),
        }
    }
}

/// Makes a row searchable. It must not be in the index.
pub(super) async fn index(
    connection: &mut AnyConnection,
    table: &str,
    seq: i64,
    mesh: &MeshId,
    Words { body, tags }: &Words,
) -> Result<(), StoreError> {
    if connection.backend_name() == "SQLite" {
        let sql = format!("INSERT INTO {table}_words (rowid, mesh, body, tags) VALUES ($1, $2, $3, $4)");
        sqlx::query(AssertSqlSafe(sql))
            .bind(seq)
            .bind(mesh.as_str())
            .bind(body.join(" "))
            .bind(tags.join(" "))
            .execute(connection)
            .await?;
    } else {
        let sql = format!("INSERT INTO {table}_words (seq, words) VALUES ($1, CAST($2 AS TSVECTOR))");
        sqlx::query(AssertSqlSafe(sql))
            .bind(seq)
            .bind(vector(mesh, body, tags))
            .execute(connection)
            .await?;
    }
    Ok(())
}

/// Takes a row out of the index.
pub(super) async fn unindex(connection: &mut AnyConnection, table: &str, seq: i64) -> Result<(), StoreError> {
    let number = if connection.backend_name() == "SQLite" {
        "rowid"
    } else {
        "seq"
    };
    let sql = format!("DELETE FROM {table}_words WHERE {number} = $1");
    sqlx::query(AssertSqlSafe(sql)).bind(seq).execute(connection).await?;
    Ok(())
}

/// Searches, from the strictest reading of the query to the loosest, until something is found.
pub(super) async fn search(
    engine: FullText,
    pool: &AnyPool,
    what: &Searchable,
    mesh: &MeshId,
    query: &Query,
    filter: SearchFilter<'_>,
) -> Result<Found<AnyRow>, StoreError> {
    let readings: &[Reading] = query.readings();
    let mut rows = Vec::new();
    let mut partial = false;
    for reading in readings {
        let statement = Statement::new(engine, what, mesh, query, *reading, filter);
        rows = statement.fetch(pool).await?;
        if !rows.is_empty() {
            partial = *reading == Reading::Any;
            break;
        }
    }
    let more = rows.len() > filter.limit;
    rows.truncate(filter.limit);
    Ok(Found { rows, partial, more })
}

/// A statement that grows with its parameters.
struct Statement {
    sql: String,
    texts: Vec<String>,
    limit: i64,
}

impl Statement {
    fn new(
        engine: FullText,
        what: &Searchable,
        mesh: &MeshId,
        query: &Query,
        reading: Reading,
        filter: SearchFilter<'_>,
    ) -> Self {
        let Searchable { table, columns, .. } = *what;
        let contains = match engine {
            FullText::Sqlite => "instr",
            FullText::Postgres => "strpos",
        };
        let mut statement = Self {
            sql: String::new(),
            texts: Vec::new(),
            limit: row_limit(filter.limit).saturating_add(1),
        };
        let mut best = None;
        let condition = match (reading, engine) {
            (Reading::Literal, _) => {
                let text = statement.bind(query.text().to_owned());
                statement.sql = format!("SELECT {columns} FROM {table} t");
                format!("{contains}(t.{}, {text}) > 0", what.text)
            }
            (_, FullText::Sqlite) => {
                let expression = statement.bind(format!(
                    "mesh : \"{}\" AND {{body tags}} : ({})",
                    mesh.as_str().replace('"', "\"\""),
                    query.fts5(reading)
                ));
                // The order of the tables is fixed: rows come out of the index best first, and only those are looked up
                // that are given back.
                statement.sql =
                    format!("SELECT {columns} FROM {table}_words CROSS JOIN {table} t ON t.seq = {table}_words.rowid");
                best = Some(format!("{table}_words.rank"));
                format!("{table}_words MATCH {expression}")
            }
            (_, FullText::Postgres) => {
                let words = query.tsquery(reading);
                let expression = statement.bind(format!("'{}' & ({words})", mesh_word(mesh)));
                let ranking = statement.bind(words);
                statement.sql = format!("SELECT {columns} FROM {table}_words w JOIN {table} t ON t.seq = w.seq");
                // 1: a long text has more words, which is no merit.
                best = Some(format!(
                    "ts_rank(w.words, CAST({ranking} AS TSQUERY), 1) DESC, t.seq DESC"
                ));
                format!("w.words @@ CAST({expression} AS TSQUERY)")
            }
        };
        let mesh = statement.bind(mesh.as_str().to_owned());
        statement.add(&format!(" WHERE {condition} AND t.mesh_id = {mesh} AND {}", what.live));
        if !filter.hidden.is_empty() {
            let first = statement.texts.len() + 1;
            statement
                .texts
                .extend(filter.hidden.iter().map(|member| member.0.clone()));
            statement.add(&not_of(&format!("t.{}", what.author), filter.hidden.len(), first));
        }
        for tag in filter.tags {
            let key = statement.bind(tag_key(tag));
            statement.add(&format!(" AND {contains}(t.tag_keys, {key}) > 0"));
        }
        let order = best
            .filter(|_| what.ranked)
            .unwrap_or_else(|| format!("t.{} DESC, t.seq DESC", what.time));
        let limit = statement.texts.len() + 1;
        statement.add(&format!(" ORDER BY {order} LIMIT ${limit}"));
        statement
    }

    fn add(&mut self, sql: &str) {
        self.sql.push_str(sql);
    }

    /// Adds a parameter and gives its place.
    fn bind(&mut self, text: String) -> String {
        self.texts.push(text);
        format!("${}", self.texts.len())
    }

    async fn fetch(self, pool: &AnyPool) -> Result<Vec<AnyRow>, StoreError> {
        // Only names of tables and columns and numbers of parameters are in the text.
        let mut query = sqlx::query(AssertSqlSafe(self.sql));
        for text in self.texts {
            query = query.bind(text);
        }
        Ok(query.bind(self.limit).fetch_all(pool).await?)
    }
}

/// The word of a mesh in Postgres. No other word has a colon.
fn mesh_word(mesh: &MeshId) -> String {
    let id: String = mesh.as_str().chars().filter(char::is_ascii_alphanumeric).collect();
    format!("mesh:{id}")
}

/// The text form of a `tsvector`: tags weigh more than the body, which they follow at a distance, so that no phrase
/// reaches from one into the other.
fn vector(mesh: &MeshId, body: &[String], tags: &[String]) -> String {
    /// Positions in a `tsvector` end there.
    const LAST: usize = 16_383;
    const GAP: usize = 2;
    let mut text = format!("'{}'", mesh_word(mesh));
    let start = body.len() + GAP;
    let body = body.iter().enumerate().map(|(place, word)| (place + 1, word, 'C'));
    let tags = tags.iter().enumerate().map(|(place, word)| (start + place, word, 'B'));
    for (place, word, weight) in body.chain(tags) {
        // Writing to a string cannot fail.
        let _ = write!(text, " '{word}':{}{weight}", place.min(LAST));
    }
    text
}
