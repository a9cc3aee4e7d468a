//! A collection's vectors in memory, and how much memory there is for all of them.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::backends::vector::scan::{Best, cosine};
use crate::backends::vector::{UnitVector, VectorError};

/// Numbers that lie side by side: 1 MiB, so that a collection grows without being copied.
const CHUNK: usize = 256 * 1024;

/// Bytes that a vector takes in memory, with its row and its place.
pub(super) fn row_bytes(dimensions: usize) -> u64 {
    let bytes = dimensions * size_of::<f32>() + 64;
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

/// Memory for the vectors of all meshes.
#[derive(Debug)]
pub(super) struct Memory {
    limit: u64,
    used: AtomicU64,
}

impl Memory {
    /// Up to `limit` bytes.
    pub(super) fn new(limit: u64) -> Self {
        Self {
            limit,
            used: AtomicU64::new(0),
        }
    }

    fn take(&self, bytes: u64) -> bool {
        let more = |used: u64| used.checked_add(bytes).filter(|used| *used <= self.limit);
        self.used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .is_ok()
    }

    /// A part of it, if there is as much.
    pub(super) fn reserve(self: &Arc<Self>, bytes: u64) -> Option<Reservation> {
        self.take(bytes).then(|| Reservation {
            memory: self.clone(),
            bytes,
        })
    }
}

/// A part of the memory; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Reservation {
    memory: Arc<Memory>,
    bytes: u64,
}

impl Reservation {
    fn grow(&mut self, bytes: u64) -> bool {
        let taken = self.memory.take(bytes);
        if taken {
            self.bytes += bytes;
        }
        taken
    }

    fn shrink(&mut self, bytes: u64) {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        self.memory.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.memory.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// The time that a search has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadline {
    began: Instant,
    time: Duration,
}

impl Deadline {
    /// From now on.
    pub(super) fn after(time: Duration) -> Self {
        Self {
            began: Instant::now(),
            time,
        }
    }

    /// Ends what takes too long.
    pub(super) fn check(&self) -> Result<(), VectorError> {
        if self.began.elapsed() > self.time {
            return Err(VectorError::Timeout(self.time));
        }
        Ok(())
    }
}

/// The vectors of a collection, densely packed.
#[derive(Debug)]
pub(super) struct Matrix {
    dimensions: usize,
    per_chunk: usize,
    chunks: Vec<Vec<f32>>,
    /// The row in each place.
    rows: Vec<i64>,
    /// The place of each row.
    places: HashMap<i64, usize>,
    reserved: Reservation,
}

impl Matrix {
    /// Without vectors; `reserved` is memory for those that are going to be put.
    pub(super) fn new(dimensions: usize, reserved: Reservation) -> Self {
        Self {
            dimensions,
            per_chunk: (CHUNK / dimensions.max(1)).max(1),
            chunks: Vec::new(),
            rows: Vec::new(),
            places: HashMap::new(),
            reserved,
        }
    }

    fn vector(&self, place: usize) -> &[f32] {
        let start = (place % self.per_chunk) * self.dimensions;
        &self.chunks[place / self.per_chunk][start..start + self.dimensions]
    }

    fn vector_mut(&mut self, place: usize) -> &mut [f32] {
        let start = (place % self.per_chunk) * self.dimensions;
        &mut self.chunks[place / self.per_chunk][start..start + self.dimensions]
    }

    /// Puts the vector of a row for which memory is reserved.
    pub(super) fn put_reserved(&mut self, row: i64, vector: &[f32]) {
        debug_assert_eq!(vector.len(), self.dimensions);
        if let Some(place) = self.places.get(&row) {
            self.vector_mut(*place).copy_from_slice(vector);
            return;
        }
        if self.rows.len().is_multiple_of(self.per_chunk) {
            self.chunks.push(Vec::new());
        }
        if let Some(chunk) = self.chunks.last_mut() {
            chunk.extend_from_slice(vector);
        }
        self.places.insert(row, self.rows.len());
        self.rows.push(row);
    }

    /// Puts the vector of a row. `false` if there is no memory for it: then nothing is changed.
    pub(super) fn put(&mut self, row: i64, vector: &[f32]) -> bool {
        if !self.places.contains_key(&row) && !self.reserved.grow(row_bytes(self.dimensions)) {
            return false;
        }
        self.put_reserved(row, vector);
        true
    }

    /// Removes a row. The last one takes its place.
    pub(super) fn remove(&mut self, row: i64) {
        let Some(place) = self.places.remove(&row) else {
            return;
        };
        let last = self.rows.len() - 1;
        if place != last {
            let vector = self.vector(last).to_vec();
            self.vector_mut(place).copy_from_slice(&vector);
            self.rows[place] = self.rows[last];
            self.places.insert(self.rows[last], place);
        }
        self.rows.pop();
        let length = (last % self.per_chunk) * self.dimensions;
        if let Some(chunk) = self.chunks.last_mut() {
            chunk.truncate(length);
        }
        if length == 0 {
            self.chunks.pop();
        }
        self.reserved.shrink(row_bytes(self.dimensions));
    }

    /// The rows closest to the query.
    pub(super) fn nearest(
        &self,
        query: &UnitVector,
        most: usize,
        deadline: Deadline,
    ) -> Result<Vec<(i64, f32)>, VectorError> {
        let mut best = Best::new(most);
        let query = query.as_slice();
        for (chunk, rows) in self.chunks.iter().zip(self.rows.chunks(self.per_chunk)) {
            deadline.check()?;
            for (vector, row) in chunk.chunks_exact(self.dimensions).zip(rows) {
                best.offer(*row, cosine(query, vector));
            }
        }
        Ok(best.into_rows())
    }

    /// The closest ones of these rows.
    pub(super) fn nearest_of(
        &self,
        rows: &[i64],
        query: &UnitVector,
        most: usize,
        deadline: Deadline,
    ) -> Result<Vec<(i64, f32)>, VectorError> {
        let mut best = Best::new(most);
        let query = query.as_slice();
        for rows in rows.chunks(self.per_chunk) {
            deadline.check()?;
            for row in rows {
                if let Some(place) = self.places.get(row) {
                    best.offer(*row, cosine(query, self.vector(*place)));
                }
            }
        }
        Ok(best.into_rows())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(values: &[f32]) -> UnitVector {
        UnitVector::new(values.to_vec()).unwrap()
    }

    #[test]
    fn rows_are_put_replaced_and_removed_and_memory_is_given_back() {
        let memory = Arc::new(Memory::new(10_000_000));
        let dimensions = 1_000;
        let mut matrix = Matrix::new(dimensions, memory.reserve(0).unwrap());
        let direction = |at: usize| {
            let mut values = vec![0.0_f32; dimensions];
            values[at] = 1.0;
            values
        };
        for row in 0..600_usize {
            assert!(matrix.put(row as i64, &direction(row)));
        }
        assert_eq!(memory.used.load(Ordering::Relaxed), 600 * row_bytes(dimensions));
        assert!(matrix.put(5, &direction(700)), "a row has one vector");
        for row in (0..600).filter(|row| row % 3 != 2) {
            matrix.remove(row);
            matrix.remove(row);
        }
        assert_eq!(memory.used.load(Ordering::Relaxed), 200 * row_bytes(dimensions));
        let deadline = Deadline::after(Duration::from_secs(60));
        for row in 0..600_usize {
            let query = unit(&direction(if row == 5 { 700 } else { row }));
            let found = matrix.nearest(&query, 1, deadline).unwrap();
            assert_eq!(found.len(), 1);
            assert_eq!(found[0] == (row as i64, 1.0), row % 3 == 2, "{row}: {found:?}");
            let found = matrix.nearest_of(&[row as i64, 8], &query, 1, deadline).unwrap();
            assert_eq!(found[0].1 == 1.0, row % 3 == 2, "{row}: {found:?}");
        }
        for row in 0..600 {
            matrix.remove(row);
        }
        assert!(matrix.nearest(&unit(&direction(1)), 5, deadline).unwrap().is_empty());
        assert_eq!((memory.used.load(Ordering::Relaxed), matrix.chunks.len()), (0, 0));
    }

    #[test]
    fn memory_has_an_end() {
        let memory = Arc::new(Memory::new(3 * row_bytes(2)));
        let mut matrix = Matrix::new(2, memory.reserve(0).unwrap());
        assert!((0..3).all(|row| matrix.put(row, &[1.0, 0.0])));
        assert!(!matrix.put(3, &[1.0, 0.0]));
        assert!(matrix.put(2, &[0.0, 1.0]), "it takes no more memory");
        assert!(memory.reserve(1).is_none());
        drop(matrix);
        assert!(memory.reserve(3 * row_bytes(2)).is_some());
        let late = Deadline::after(Duration::ZERO);
        let matrix = Matrix::new(2, memory.reserve(0).unwrap());
        assert!(
            matrix.nearest(&unit(&[1.0]), 1, late).unwrap().is_empty(),
            "nothing to look at"
        );
    }
}
