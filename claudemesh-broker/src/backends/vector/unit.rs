//! Vectors of length one: what counts for the cosine is the direction.

use claudemesh_proto::limits::MAX_VECTOR_DIMENSIONS;

/// A direction: finite numbers, of which the sum of squares is one.
#[derive(Clone, Debug, PartialEq)]
pub struct UnitVector(Vec<f32>);

impl UnitVector {
    /// The direction of these numbers.
    ///
    /// # Errors
    /// What is wrong with them, as text for the caller.
    pub fn new(mut values: Vec<f32>) -> Result<Self, String> {
        if values.is_empty() || values.len() > MAX_VECTOR_DIMENSIONS {
            let count = values.len();
            return Err(format!(
                "a vector has 1 to {MAX_VECTOR_DIMENSIONS} dimensions, this one has {count}"
            ));
        }
        if let Some(at) = values.iter().position(|value| !value.is_finite()) {
            return Err(format!("number {at} of the vector is out of range"));
        }
        // Squares of small and of large numbers do not fit into 32 bits.
        let squares: f64 = values.iter().map(|value| f64::from(*value).powi(2)).sum();
        let length = squares.sqrt();
        if length <= 0.0 {
            return Err("a vector of zeros has no direction; send the embedding of the text".to_owned());
        }
        for value in &mut values {
            // At most one: it fits.
            *value = (f64::from(*value) / length) as f32;
        }
        Ok(Self(values))
    }

    /// Number of dimensions.
    #[must_use]
    pub fn dimensions(&self) -> usize {
        self.0.len()
    }

    /// The numbers.
    #[must_use]
    pub fn as_slice(&self) -> &[f32] {
        &self.0
    }

    /// The numbers.
    #[must_use]
    pub fn into_vec(self) -> Vec<f32> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directions_have_length_one() {
        for values in [
            vec![3.0, 4.0],
            vec![1e-30, 0.0],
            vec![f32::MAX, f32::MAX],
            vec![f32::MIN_POSITIVE / 2.0; 4096],
        ] {
            let unit = UnitVector::new(values.clone()).unwrap();
            let length: f64 = unit.as_slice().iter().map(|value| f64::from(*value).powi(2)).sum();
            assert!((length - 1.0).abs() < 1e-4, "{values:?}: {length}");
        }
        assert_eq!(UnitVector::new(vec![3.0, 4.0]).unwrap().as_slice(), [0.6, 0.8]);
    }

    #[test]
    fn what_has_no_direction_is_refused() {
        for values in [
            vec![],
            vec![0.0, -0.0],
            vec![1.0, f32::NAN],
            vec![f32::INFINITY],
            vec![1.0; 4097],
        ] {
            assert!(UnitVector::new(values).is_err());
        }
    }
}
