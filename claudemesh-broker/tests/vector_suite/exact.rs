//! Results against what comparing everything gives.

use claudemesh_broker::backends::vector::{Filter, Query};
use claudemesh_proto::model::MemberId;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::json;
use std::collections::HashSet;
use uuid::Uuid;

use super::{Lab, Vectors, member, metadata, new_vector, query, unit};

const DIMENSIONS: usize = 48;

/// Numbers that look like chance and are the same in every run.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> f32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 40) as f32 / (1_u64 << 23) as f32 - 1.0
    }

    /// About normally distributed.
    fn normal(&mut self) -> f32 {
        (0..6).map(|_| self.next()).sum()
    }

    fn vector(&mut self) -> Vec<f32> {
        (0..DIMENSIONS).map(|_| self.normal()).collect()
    }
}

/// What was stored: the id, the direction, the author and the label.
type Known = Vec<(Uuid, Vec<f32>, &'static str, u64)>;

async fn fill(vectors: &Vectors, collection: &str, set: Vec<Vec<f32>>) -> Known {
    let stored = set.into_iter().enumerate().map(|(number, values)| {
        let number = number as u64;
        let author = if number.is_multiple_of(3) { "ana" } else { "ben" };
        let label = number % 7;
        let new = new_vector(
            &values,
            &number.to_string(),
            json!({ "label": label, "all": [label, "x"] }),
        );
        async move {
            let known = (new.id, new.vector.as_slice().to_vec(), author, label);
            vectors.store(collection, new, &member(author)).await.map(|_| known)
        }
    });
    stream::iter(stored).buffer_unordered(8).try_collect().await.unwrap()
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

/// The nearest ones by comparing everything.
fn nearest(known: &Known, values: &[f32], most: usize, counts: impl Fn(&str, u64) -> bool) -> Vec<(Uuid, f64)> {
    let direction = unit(values);
    let counted = known.iter().filter(|(_, _, author, label)| counts(author, *label));
    let mut all: Vec<_> = counted
        .map(|(id, vector, ..)| (*id, cosine(vector, direction.as_slice())))
        .collect();
    all.sort_by(|a, b| b.1.total_cmp(&a.1));
    all.truncate(most);
    all
}

pub async fn recall_at_10_is_at_least_99_of_100(lab: &Lab) {
    let vectors = lab.vectors();
    let mut chance = Chance(0x9e37_79b9_7f4a_7c15);
    let scattered: Vec<_> = (0..1_500).map(|_| chance.vector()).collect();
    // Twenty groups of vectors that differ little.
    let centres: Vec<_> = (0..20).map(|_| chance.vector()).collect();
    let clustered: Vec<_> = (0..1_500)
        .map(|number| {
            let centre: &Vec<f32> = &centres[number % centres.len()];
            centre.iter().map(|value| value + 0.05 * chance.normal()).collect()
        })
        .collect();
    for (name, set) in [("scattered", scattered), ("clustered", clustered)] {
        let queries: Vec<Vec<f32>> = set
            .iter()
            .step_by(30)
            .map(|near| near.iter().map(|value| value + 0.1 * chance.normal()).collect())
            .collect();
        let known = fill(&vectors, name, set).await;
        let mut found = 0;
        for values in &queries {
            let expected: HashSet<Uuid> = nearest(&known, values, 10, |_, _| true)
                .into_iter()
                .map(|(id, _)| id)
                .collect();
            let hits = vectors.search(name, query(values, 10)).await.unwrap();
            assert_eq!(hits.len(), 10);
            assert!(hits.is_sorted_by(|a, b| a.score >= b.score));
            found += hits.iter().filter(|hit| expected.contains(&hit.id)).count();
        }
        let recall = found as f64 / (10 * queries.len()) as f64;
        assert!(recall >= 0.99, "{name}: recall@10 {recall}");
    }
}

pub async fn filters_and_hidden_members_leave_the_true_nearest(lab: &Lab) {
    let vectors = lab.vectors();
    let mut chance = Chance(0x2545_f491_4f6c_dd1d);
    let known = fill(&vectors, "docs", (0..700).map(|_| chance.vector()).collect()).await;
    let queries: Vec<_> = (0..6).map(|_| chance.vector()).collect();
    for (filter, hidden, labels) in [
        (json!({ "label": 3 }), None, vec![3]),
        (json!({ "label": [1, 2] }), None, vec![1, 2]),
        (json!({ "all": "x", "label": [0, 6] }), None, vec![0, 6]),
        (json!({ "all": 5 }), Some("ben"), vec![5]),
        (json!({}), Some("ana"), (0..7).collect()),
        (json!({ "label": 3, "all": 4 }), None, vec![]),
        (json!({ "label": "3" }), None, vec![]),
        (json!({ "no": null }), None, vec![]),
    ] {
        let counts = |author: &str, label: u64| labels.contains(&label) && hidden != Some(author);
        for values in &queries {
            let expected = nearest(&known, values, 10, counts);
            let query = Query {
                filter: Filter::new(&metadata(filter.clone())).unwrap(),
                hidden: hidden.map(MemberId::from).into_iter().collect(),
                ..query(values, 10)
            };
            let hits = vectors.search("docs", query).await.unwrap();
            assert_eq!(hits.len(), expected.len(), "{filter}");
            for (hit, (id, cosine)) in hits.iter().zip(&expected) {
                assert_eq!(hit.id, *id, "{filter}");
                assert!((f64::from(hit.score) - cosine).abs() < 1e-5);
            }
        }
    }
}
