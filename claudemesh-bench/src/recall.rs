//! Recall over many memories, beside the same search in SQLite without anything around it.

use std::time::Instant;

use anyhow::Context as _;
use claudemesh_client::MeshClient;
use claudemesh_client::flows::create_mesh;
use claudemesh_proto::ops::{Recall, Remember};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use hdrhistogram::Histogram;

use crate::broker::{Broker, DataDir, StoreKind};
use crate::load::{histogram, record};
use crate::report::{grouped, quantiles, ratio};
use crate::scenarios::Bench;

/// Memories of the mesh.
const MEMORIES: u32 = 100_000;
/// Words that texts are made of; how often one is used falls with its number, as in a language.
const WORDS: u64 = 20_000;
/// Words of a text.
const LENGTH: u64 = 30;
/// Memories that are stored beside each other.
const UNDER_WAY: usize = 64;
/// Searches of each kind.
const QUERIES: u64 = 300;
/// Results of a search.
const LIMIT: u32 = 20;

/// Numbers that look like chance and are the same in every run.
pub(crate) struct Chance(pub(crate) u64);

impl Chance {
    /// The next one.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A word: small numbers often, large ones seldom.
    fn word(&mut self) -> String {
        let fraction = (self.next() % 1_000_000) as f64 / 1e6;
        // Words of one letter and a number: no stem, no common word.
        format!("w{}", (WORDS as f64).powf(fraction) as u64)
    }

    fn words(&mut self, count: u64) -> String {
        (0..count).map(|_| self.word()).collect::<Vec<_>>().join(" ")
    }
}

fn texts() -> impl Iterator<Item = String> {
    let mut chance = Chance(0x9e37_79b9_7f4a_7c15);
    (0..MEMORIES).map(move |_| chance.words(LENGTH))
}

fn queries() -> Vec<String> {
    let mut chance = Chance(0x2545_f491_4f6c_dd1d);
    (0..QUERIES).map(|_| chance.words(2)).collect()
}

impl Bench {
    /// Recall over 100,000 memories.
    pub(crate) async fn recall(&mut self) -> anyhow::Result<()> {
        let data = DataDir::new("recall")?;
        let broker = Broker::start(&data, &StoreKind::Sqlite).await?;
        let identity = create_mesh(&broker.url(), "Bench", Some("ana")).await?.identity;
        let client = MeshClient::connect(identity).await?;
        let started = Instant::now();
        stream::iter(texts())
            .map(|content| {
                client.remember(Remember {
                    content,
                    tags: Vec::new(),
                })
            })
            .buffer_unordered(UNDER_WAY)
            .try_for_each(|_| async { Ok(()) })
            .await
            .context("remembering")?;
        let stored = f64::from(MEMORIES) / started.elapsed().as_secs_f64();
        self.report.fact(
            format!("memories stored, {UNDER_WAY} under way"),
            format!("{}/s", grouped(stored)),
        );
        let (recalled, found) = recalls(&client).await?;
        client.close().await;
        broker.stop().await?;
        let raw = DataDir::new("recall-raw")?;
        let (searched, expected) = searches(&raw.path().join("raw.db"))?;
        anyhow::ensure!(found == expected, "recall found {found} memories, SQLite {expected}");
        let of = format!("over {} memories, 2 words", grouped(f64::from(MEMORIES)));
        self.report.fact(format!("FTS5 alone, {of}"), quantiles(&searched));
        self.report.fact(format!("recall {of}"), quantiles(&recalled));
        self.report
            .fact("recall to FTS5 alone, mean", ratio(recalled.mean(), searched.mean()));
        Ok(())
    }
}

/// Every query once, one after the other; and how many memories were found.
async fn recalls(client: &MeshClient) -> anyhow::Result<(Histogram<u64>, usize)> {
    let mut took = histogram();
    let mut found = 0;
    for query in queries() {
        let request = Recall {
            query: query.clone(),
            tags: Vec::new(),
            limit: Some(LIMIT),
        };
        let started = Instant::now();
        let result = client.recall(request).await?;
        record(&mut took, started.elapsed());
        // SQLite alone is asked for texts with both words only; recall goes on to beginnings of words if there are none.
        let has_all = |text: &str| query.split(' ').all(|word| text.split(' ').any(|other| other == word));
        found += result.memories.iter().filter(|memory| has_all(&memory.content)).count();
    }
    Ok((took, found))
}

/// The same texts and queries in a table with an FTS5 index.
fn searches(path: &std::path::Path) -> anyhow::Result<(Histogram<u64>, usize)> {
    let mut connection = rusqlite::Connection::open(path)?;
    connection.execute_batch(
        "PRAGMA journal_mode = WAL; CREATE TABLE memory (seq INTEGER PRIMARY KEY, content TEXT NOT NULL);
         CREATE VIRTUAL TABLE words USING fts5 (body, content = '', tokenize = 'ascii');",
    )?;
    let transaction = connection.transaction()?;
    {
        let mut row = transaction.prepare("INSERT INTO memory (seq, content) VALUES (?1, ?2)")?;
        let mut words = transaction.prepare("INSERT INTO words (rowid, body) VALUES (?1, ?2)")?;
        for (seq, text) in texts().enumerate() {
            let seq = i64::try_from(seq)?;
            row.execute(rusqlite::params![seq, text])?;
            words.execute(rusqlite::params![seq, text])?;
        }
    }
    transaction.commit()?;
    let mut search = connection.prepare(
        "SELECT memory.content FROM words JOIN memory ON memory.seq = words.rowid WHERE words MATCH ?1 \
         ORDER BY rank LIMIT ?2",
    )?;
    let mut took = histogram();
    let mut found = 0;
    for query in queries() {
        let started = Instant::now();
        let rows = search.query_map(rusqlite::params![query, LIMIT], |row| row.get::<_, String>(0))?;
        found += rows.collect::<Result<Vec<_>, _>>()?.len();
        record(&mut took, started.elapsed());
    }
    Ok((took, found))
}
