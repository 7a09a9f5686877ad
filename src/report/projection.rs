//! Principal component analysis: points of many dimensions in the plane that shows most of their spread.

use crate::data::random;

/// How often an axis is turned at most.
const TURNS: usize = 500;
/// An axis that turns no further than this stays: one less the cosine.
const STILL: f64 = 1e-14;

/// Points in a plane.
#[derive(Debug)]
pub(super) struct Projection {
    axes: [Vec<f64>; 2],
    /// Of each point, how far it is along the first and the second principal component.
    pub(super) points: Vec<[f64; 2]>,
    /// The share of the variance that each component has.
    pub(super) shares: [f64; 2],
}

impl Projection {
    /// The plane of points that have equally many dimensions, at least two; none where they have no spread in two directions. It
    /// is found by orthogonal iteration from axes that are always the same, and each axis points to the side of its farthest
    /// point, so the same points give the same plane on every machine.
    pub(super) fn of(points: &[Vec<f64>]) -> Option<Projection> {
        let dimensions = points.first()?.len();
        let centred = centred(points);
        let variance: f64 = centred.iter().map(|point| product(point, point)).sum();
        let mut random = random::generator(0, "principal components", 0, 0);
        let mut axis = || -> Vec<f64> { (0..dimensions).map(|_| random::uniform(&mut random) - 0.5).collect() };
        let mut axes = orthonormal([axis(), axis()])?;
        for _ in 0..TURNS {
            let turned = orthonormal(axes.each_ref().map(|axis| spread_along(&centred, axis)))?;
            let is_still = axes.iter().zip(&turned).all(|(axis, turned)| product(axis, turned).abs() > 1.0 - STILL);
            axes = turned;
            if is_still {
                break;
            }
        }
        for axis in &mut axes {
            let places = centred.iter().map(|point| product(point, axis));
            let farthest = places.fold(0.0, |far: f64, place| if place.abs() > far.abs() { place } else { far });
            axis.iter_mut().for_each(|value| *value *= farthest.signum());
        }
        let mut projection = Projection { axes, points: Vec::new(), shares: [0.0; 2] };
        projection.points = projection.of_centred(&centred);
        projection.shares =
            [0, 1].map(|axis| projection.points.iter().map(|point| point[axis].powi(2)).sum::<f64>() / variance);
        Some(projection)
    }

    /// Where other points are along the same axes, from their own mean.
    pub(super) fn others(&self, points: &[Vec<f64>]) -> Vec<[f64; 2]> {
        self.of_centred(&centred(points))
    }

    fn of_centred(&self, points: &[Vec<f64>]) -> Vec<[f64; 2]> {
        points.iter().map(|point| self.axes.each_ref().map(|axis| product(point, axis))).collect()
    }
}

/// Points from their mean.
fn centred(points: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let dimensions = points.first().map_or(0, Vec::len);
    let centre: Vec<f64> = (0..dimensions).map(|place| mean(points.iter().map(|point| point[place]))).collect();
    points.iter().map(|point| point.iter().zip(&centre).map(|(value, centre)| value - centre).collect()).collect()
}

/// The scatter matrix of points around zero, times an axis.
fn spread_along(points: &[Vec<f64>], axis: &[f64]) -> Vec<f64> {
    let mut sum = vec![0.0; axis.len()];
    for point in points {
        let along = product(point, axis);
        sum.iter_mut().zip(point).for_each(|(sum, value)| *sum += along * value);
    }
    sum
}

/// Both axes of length one, the second at a right angle to the first; none where they do not span a plane.
fn orthonormal([first, mut second]: [Vec<f64>; 2]) -> Option<[Vec<f64>; 2]> {
    const NOTHING: f64 = 1e-12;
    let length = product(&first, &first).sqrt();
    let first = unit(first)?;
    let along = product(&first, &second);
    second.iter_mut().zip(&first).for_each(|(second, first)| *second -= along * first);
    let is_plane = product(&second, &second).sqrt() > NOTHING * length;
    Some([first, unit(second).filter(|_| is_plane)?])
}

/// The same direction with length one.
fn unit(axis: Vec<f64>) -> Option<Vec<f64>> {
    let length = product(&axis, &axis).sqrt();
    (length > 0.0).then(|| axis.into_iter().map(|value| value / length).collect())
}

fn product(one: &[f64], other: &[f64]) -> f64 {
    one.iter().zip(other).map(|(one, other)| one * other).sum()
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = values.len() as f64;
    values.sum::<f64>() / count
}

#[cfg(test)]
mod tests {
    use super::*;

    // numpy: u, s, v = np.linalg.svd(x - x.mean(0)); u[:, :2] * s[:2] with signs as above; s[:2] ** 2 / (s ** 2).sum().
    #[test]
    fn the_plane_is_that_of_a_singular_value_decomposition() {
        // Spread 3, 2 and 1 along turned axes, around (5, 5, 5).
        let turned = |a: f64, b: f64, c: f64| {
            let (s, t) = (0.6, 0.8);
            vec![5.0 + t * a - s * b, 5.0 + s * a + t * b, 5.0 + c]
        };
        let corners =
            [(3.0, 0.0, 0.0), (-3.0, 0.0, 0.0), (0.0, 2.0, 0.0), (0.0, -2.0, 0.0), (0.0, 0.0, 1.0), (0.0, 0.0, -1.0)];
        let points: Vec<Vec<f64>> = corners.iter().map(|&(a, b, c)| turned(a, b, c)).collect();
        let Projection { points, shares, .. } = Projection::of(&points).unwrap();
        for (share, expected) in shares.into_iter().zip([9.0 / 14.0, 4.0 / 14.0]) {
            assert!((share - expected).abs() < 1e-9, "{shares:?}");
        }
        for (point, (a, b, _)) in points.iter().zip(corners) {
            assert!(
                (point[0].abs() - f64::abs(a)).abs() < 1e-6 && (point[1].abs() - f64::abs(b)).abs() < 1e-6,
                "{points:?}"
            );
        }
    }

    #[test]
    fn an_axis_points_to_its_farthest_point() {
        let points = [[0.0, 0.0], [1.0, 0.0], [2.0, 1.0], [-10.0, 0.0], [0.0, -3.0]];
        for sign in [1.0, -1.0] {
            let turned: Vec<Vec<f64>> = points.iter().map(|point| point.map(|value| sign * value).to_vec()).collect();
            let found = Projection::of(&turned).unwrap().points;
            assert!(found[3][0] > 8.0 && found[4][1] > 2.0, "{found:?}");
            // The same points elsewhere are where they were.
            let elsewhere: Vec<Vec<f64>> = turned.iter().map(|point| vec![point[0] + 8.0, point[1] - 2.0]).collect();
            let others = Projection::of(&turned).unwrap().others(&elsewhere);
            for (other, found) in others.as_flattened().iter().zip(found.as_flattened()) {
                assert!((other - found).abs() < 1e-9, "{other}, {found}");
            }
        }
    }

    #[test]
    fn points_without_spread_in_two_directions_have_no_plane() {
        let line: Vec<Vec<f64>> = (0..5).map(|place| vec![f64::from(place), 2.0 * f64::from(place), 0.0]).collect();
        for points in [&[][..], &line[..1], &line[..], &[vec![1.0, 1.0], vec![1.0, 1.0]]] {
            assert!(Projection::of(points).is_none(), "{points:?}");
        }
    }
}
