//! Collecting a result within its bounds.

use claudemesh_proto::ops::GraphResult;
use serde_json::{Map, Value};

use super::{GraphError, GraphLimits};

/// A result that grows up to its bounds.
#[derive(Debug)]
pub(super) struct Records {
    result: GraphResult,
    bytes: usize,
    limits: GraphLimits,
}

impl Records {
    /// An empty result.
    pub(super) fn new(limits: GraphLimits) -> Self {
        Self {
            result: GraphResult::default(),
            bytes: 0,
            limits,
        }
    }

    /// Adds a record, whose values are in the order of RETURN. `false`: it has no place any more, and no further one has.
    ///
    /// # Errors
    /// [`GraphError::TooLarge`] if not even the first record has a place.
    pub(super) fn push(&mut self, values: Vec<(String, Value)>) -> Result<bool, GraphError> {
        if self.result.truncated {
            return Ok(false);
        }
        let columns = values.iter().map(|(name, _)| name.clone()).collect();
        let record: Map<_, _> = values.into_iter().collect();
        let size = serde_json::to_vec(&record).map_or(usize::MAX, |text| text.len());
        if self.result.records.len() < self.limits.records && size <= self.limits.bytes.saturating_sub(self.bytes) {
            self.bytes += size;
            self.result.columns = columns;
            self.result.records.push(record);
            return Ok(true);
        }
        if self.result.records.is_empty() {
            return Err(GraphError::TooLarge(format!(
                "a record of the result has more than {} bytes; return single properties instead of whole nodes",
                self.limits.bytes
            )));
        }
        self.result.truncated = true;
        Ok(false)
    }

    /// The result, as far as it has a place.
    pub(super) fn shown(self) -> GraphResult {
        self.result
    }

    /// Nothing of what there is has a place.
    pub(super) fn none() -> GraphResult {
        GraphResult {
            truncated: true,
            ..GraphResult::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_ends_at_its_bounds() {
        let limits = GraphLimits {
            records: 3,
            bytes: 100,
            ..GraphLimits::default()
        };
        let record = |length: usize| vec![("a".to_owned(), Value::from("x".repeat(length)))];
        let mut records = Records::new(limits);
        let kept: Vec<_> = (0..4).map(|_| records.push(record(1)).unwrap()).collect();
        assert_eq!(kept, [true, true, true, false]);
        assert!(records.shown().truncated);
        let mut records = Records::new(limits);
        assert!(records.push(record(50)).unwrap() && !records.push(record(50)).unwrap());
        assert!(!records.push(record(1)).unwrap(), "what follows is left out too");
        let result = records.shown();
        assert_eq!((result.records.len(), result.columns), (1, vec!["a".to_owned()]));
        assert!(matches!(
            Records::new(limits).push(record(200)),
            Err(GraphError::TooLarge(_))
        ));
    }
}
