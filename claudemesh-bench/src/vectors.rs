//! Searches over many vectors, beside comparing the query with each of them without anything around it.

use std::collections::HashMap;
use std::time::Instant;

use anyhow::Context as _;
use claudemesh_client::MeshClient;
use claudemesh_client::flows::create_mesh;
use claudemesh_proto::ops::{VectorSearch, VectorStore};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use hdrhistogram::Histogram;
use serde_json::json;

use crate::broker::{Broker, DataDir, StoreKind};
use crate::load::{histogram, record};
use crate::recall::Chance;
use crate::report::{grouped, quantiles, ratio, time};
use crate::scenarios::Bench;

/// Vectors of the collection.
const VECTORS: usize = 100_000;
/// Numbers of a vector.
const DIMENSIONS: usize = 768;
/// Every so manieth vector has the label that is filtered by.
const LABELLED: usize = 100;
/// Vectors that are stored beside each other.
const UNDER_WAY: usize = 16;
/// Searches of each kind.
const QUERIES: usize = 200;
/// Results of a search.
const NEAREST: usize = 10;
const COLLECTION: &str = "bench";

/// A direction, about evenly distributed.
fn direction(chance: &mut Chance) -> Vec<f32> {
    let mut number = || (chance.next() >> 40) as f32 / (1_u64 << 23) as f32 - 1.0;
    let mut values: Vec<f32> = (0..DIMENSIONS).map(|_| (0..4).map(|_| number()).sum()).collect();
    let length = values.iter().map(|value| value * value).sum::<f32>().sqrt();
    values.iter_mut().for_each(|value| *value /= length);
    values
}

/// All vectors, one behind the other: in groups of ten that are near to each other.
fn matrix() -> Vec<f32> {
    let mut chance = Chance(0x9e37_79b9_7f4a_7c15);
    let mut matrix = Vec::with_capacity(VECTORS * DIMENSIONS);
    let mut centre = Vec::new();
    for number in 0..VECTORS {
        if number % 10 == 0 {
            centre = direction(&mut chance);
        }
        let own = direction(&mut chance);
        let mixed: Vec<f32> = centre.iter().zip(&own).map(|(centre, own)| centre + own).collect();
        let length = mixed.iter().map(|value| value * value).sum::<f32>().sqrt();
        matrix.extend(mixed.iter().map(|value| value / length));
    }
    matrix
}

fn queries() -> Vec<Vec<f32>> {
    let mut chance = Chance(0x2545_f491_4f6c_dd1d);
    (0..QUERIES).map(|_| direction(&mut chance)).collect()
}

/// The numbers of the nearest vectors, by comparing all of them.
fn nearest(matrix: &[f32], query: &[f32]) -> Vec<usize> {
    let mut best: Vec<(f32, usize)> = Vec::with_capacity(NEAREST + 1);
    for (number, vector) in matrix.chunks_exact(DIMENSIONS).enumerate() {
        let mut sums = [0_f32; 16];
        for (a, b) in vector.as_chunks::<16>().0.iter().zip(query.as_chunks::<16>().0) {
            for lane in 0..16 {
                sums[lane] += a[lane] * b[lane];
            }
        }
        let score: f32 = sums.iter().sum();
        if best.len() < NEAREST || best.last().is_some_and(|worst| score > worst.0) {
            let place = best.partition_point(|better| better.0 >= score);
            best.insert(place, (score, number));
            best.truncate(NEAREST);
        }
    }
    best.into_iter().map(|(_, number)| number).collect()
}

impl Bench {
    /// Search over 100,000 vectors of 768 numbers.
    pub(crate) async fn vectors(&mut self) -> anyhow::Result<()> {
        let data = DataDir::new("vectors")?;
        let broker = Broker::start(&data, &StoreKind::Sqlite).await?;
        let identity = create_mesh(&broker.url(), "Bench", Some("ana")).await?.identity;
        let client = MeshClient::connect(identity).await?;
        let matrix = matrix();
        let started = Instant::now();
        let ids: HashMap<String, usize> = stream::iter(matrix.chunks_exact(DIMENSIONS).enumerate())
            .map(|(number, vector)| {
                let request = VectorStore {
                    collection: COLLECTION.to_owned(),
                    text: number.to_string(),
                    metadata: Some([("label".to_owned(), json!(number % LABELLED))].into()),
                    vector: Some(vector.to_vec()),
                    id: None,
                };
                let stored = client.vector_store(request);
                async move { stored.await.map(|stored| (stored.id, number)) }
            })
            .buffer_unordered(UNDER_WAY)
            .try_collect()
            .await
            .context("storing")?;
        let stored = VECTORS as f64 / started.elapsed().as_secs_f64();
        self.report.fact(
            format!("vectors of {DIMENSIONS} stored, {UNDER_WAY} under way"),
            format!("{}/s", grouped(stored)),
        );
        let mut load = histogram();
        search(&client, &queries()[0], None, &mut load).await?;
        self.report
            .fact("first search, which loads the collection", time(load.max()));

        let (mut alone, mut searched, mut filtered) = (histogram(), histogram(), histogram());
        let mut found = 0;
        // In turn, so that both see the same machine.
        for query in queries() {
            let began = Instant::now();
            let expected = nearest(&matrix, &query);
            record(&mut alone, began.elapsed());
            let hits = search(&client, &query, None, &mut searched).await?;
            found += hits
                .iter()
                .filter(|id| ids.get(*id).is_some_and(|number| expected.contains(number)))
                .count();
            search(&client, &query, Some(7), &mut filtered).await?;
        }
        client.close().await;
        broker.stop().await?;
        let recall = found as f64 / (QUERIES * NEAREST) as f64;
        let of = format!("over {} × {DIMENSIONS}, nearest {NEAREST}", grouped(VECTORS as f64));
        self.report.fact(format!("comparing all, {of}"), quantiles(&alone));
        self.report.fact(format!("vector search {of}"), quantiles(&searched));
        self.report.fact(
            format!("the same with a filter that one in {LABELLED} passes"),
            quantiles(&filtered),
        );
        let ratio = ratio(searched.mean(), alone.mean());
        self.report.fact("vector search to comparing all, mean", ratio);
        self.report.fact("recall@10 of vector search", format!("{recall:.4}"));
        anyhow::ensure!(recall >= 0.99, "recall@10 is {recall:.4}");
        Ok(())
    }
}

/// Ids of the nearest vectors.
async fn search(
    client: &MeshClient,
    query: &[f32],
    label: Option<usize>,
    took: &mut Histogram<u64>,
) -> anyhow::Result<Vec<String>> {
    let request = VectorSearch {
        collection: COLLECTION.to_owned(),
        vector: Some(query.to_vec()),
        limit: Some(u32::try_from(NEAREST)?),
        filter: label
            .map(|label| ("label".to_owned(), json!(label)))
            .into_iter()
            .collect(),
        ..VectorSearch::default()
    };
    let began = Instant::now();
    let results = client.vector_search(request).await?.results;
    record(took, began.elapsed());
    anyhow::ensure!(results.len() == NEAREST, "{} results", results.len());
    Ok(results.into_iter().map(|result| result.id).collect())
}
