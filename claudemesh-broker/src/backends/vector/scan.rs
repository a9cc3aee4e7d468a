//! Exact search: a query is compared with every vector.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// Numbers that are multiplied side by side: what compilers turn into vector instructions.
const LANES: usize = 16;

/// Cosine of two directions.
pub(super) fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0_f32; LANES];
    let (a_lanes, a_rest) = a.as_chunks::<LANES>();
    let (b_lanes, b_rest) = b.as_chunks::<LANES>();
    for (a, b) in a_lanes.iter().zip(b_lanes) {
        for lane in 0..LANES {
            sums[lane] += a[lane] * b[lane];
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    (sums.iter().sum::<f32>() + rest).clamp(-1.0, 1.0)
}

/// A row with its score. The greatest is the one that goes first when there are too many.
#[derive(Clone, Copy, Debug)]
struct Scored {
    score: f32,
    row: i64,
}

impl Ord for Scored {
    fn cmp(&self, other: &Self) -> Ordering {
        // Of two with the same score the older one stays.
        other.score.total_cmp(&self.score).then(self.row.cmp(&other.row))
    }
}

impl PartialOrd for Scored {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Scored {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Scored {}

/// The best rows so far.
#[derive(Debug)]
pub(super) struct Best {
    most: usize,
    heap: BinaryHeap<Scored>,
}

impl Best {
    /// At most this many.
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            heap: BinaryHeap::with_capacity(most + 1),
        }
    }

    /// Takes a row if it is among the best.
    pub(super) fn offer(&mut self, row: i64, score: f32) {
        let scored = Scored { score, row };
        if self.heap.len() < self.most {
            self.heap.push(scored);
        } else if let Some(mut worst) = self.heap.peek_mut()
            && scored < *worst
        {
            *worst = scored;
        }
    }

    /// The best rows, the best first.
    pub(super) fn into_rows(self) -> Vec<(i64, f32)> {
        let sorted = self.heap.into_sorted_vec();
        sorted.into_iter().map(|scored| (scored.row, scored.score)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_come_first_and_of_equals_the_oldest() {
        let mut best = Best::new(3);
        for (row, score) in [(1, 0.1), (2, 0.5), (3, -1.0), (4, 0.5), (5, 0.9), (6, 0.5)] {
            best.offer(row, score);
        }
        assert_eq!(best.into_rows(), [(5, 0.9), (2, 0.5), (4, 0.5)]);
        assert!(Best::new(0).into_rows().is_empty());
    }

    #[test]
    fn any_length_counts_to_its_end() {
        for length in [1, 15, 16, 17, 100, 4096] {
            let a: Vec<f32> = (0..length).map(|n| (n % 7) as f32).collect();
            let expected: f32 = a.iter().map(|x| x * x * 1e-6).sum();
            let b: Vec<f32> = a.iter().map(|x| x * 1e-6).collect();
            assert!((cosine(&a, &b) - expected).abs() < 1e-4, "{length}");
        }
    }
}
