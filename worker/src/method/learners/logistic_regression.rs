//! Multinomial logistic regression with an L2 penalty, by the method and the stopping rule of scikit-learn's `LogisticRegression`:
//! L-BFGS as in L-BFGS-B 3.0 (Zhu, Byrd, Lu, Nocedal), with the line search of More and Thuente.

use std::collections::VecDeque;

use tch::{Kind, Tensor};

/// Corrections that L-BFGS keeps.
const CORRECTIONS: usize = 10;
/// Iterations of L-BFGS, and tries of a line search.
const MOST_ITERATIONS: usize = 1_000;
const MOST_TRIES: usize = 50;
/// A regression is also done when its objective falls by less than this, relatively.
const LEAST_FALL: f64 = 64.0 * f64::EPSILON;
/// The sufficient decrease, the curvature and the width at which a line search ends.
const DECREASE: f64 = 1e-3;
const CURVATURE: f64 = 0.9;
const WIDTH: f64 = 0.1;
/// The longest step.
const LONGEST: f64 = 1e10;

/// What is fitted to.
pub(super) struct Regression {
    /// `(n, embedding)`, in fp64.
    features: Tensor,
    /// `(n, classes)`, in fp64: 1 for the class of each.
    targets: Tensor,
}

/// Weights `(classes, embedding)` and bias `(classes,)`, in fp64.
#[derive(Debug)]
pub(super) struct Classifier {
    pub(super) weight: Tensor,
    pub(super) bias: Tensor,
    /// Iterations that found it.
    iterations: usize,
}

impl Clone for Classifier {
    fn clone(&self) -> Self {
        let [weight, bias] = [&self.weight, &self.bias].map(Tensor::shallow_clone);
        Classifier { weight, bias, iterations: self.iterations }
    }
}

impl Classifier {
    /// Logits `(n, classes)` of features `(n, embedding)` in fp64.
    pub(super) fn logits(&self, features: &Tensor) -> Tensor {
        features.linear(&self.weight, Some(&self.bias))
    }
}

/// A place of the search: weights, one row a class, with the bias behind each, `(classes, embedding + 1)`.
struct Place {
    weights: Tensor,
    value: f64,
    gradient: Tensor,
}

impl Regression {
    /// Of features `(n, embedding)` with labels `(n,)` of so many classes.
    pub(super) fn new(features: &Tensor, labels: &Tensor, classes: i64) -> Regression {
        let features = features.to_kind(Kind::Double);
        let targets = labels.one_hot(classes).to_kind(Kind::Double);
        Regression { features, targets }
    }

    /// The classifier with the least mean cross-entropy plus the sum of the squares of its weights by twice C and n. The search
    /// ends when no derivative exceeds `tolerance`.
    pub(super) fn fit(&self, c: f64, tolerance: f64) -> Classifier {
        let strength = 1.0 / (c * self.features.size()[0] as f64);
        let shape = [self.targets.size()[1], self.features.size()[1] + 1];
        let start = Tensor::zeros(shape, (Kind::Double, self.features.device()));
        let (weights, iterations) = minimum(start, tolerance, |weights| self.objective(weights, strength));
        let embedding = shape[1] - 1;
        let parts = weights.split_with_sizes([embedding, 1], 1);
        Classifier { weight: parts[0].contiguous(), bias: parts[1].squeeze_dim(1).contiguous(), iterations }
    }

    fn objective(&self, weights: &Tensor, strength: f64) -> (f64, Tensor) {
        let n = self.features.size()[0] as f64;
        let embedding = self.features.size()[1];
        let (weight, bias) = (weights.narrow(1, 0, embedding), weights.select(1, embedding));
        let log_probabilities = self.features.linear(&weight, Some(&bias)).log_softmax(-1, Kind::Double);
        let loss = -(&log_probabilities * &self.targets).sum(Kind::Double) / n;
        let penalty = weight.square().sum(Kind::Double) * (0.5 * strength);
        let errors = (log_probabilities.exp() - &self.targets) / n;
        let of_weight = errors.tr().matmul(&self.features) + &weight * strength;
        let of_bias = errors.sum_dim_intlist([0i64].as_slice(), true, None).tr();
        ((loss + penalty).double_value(&[]), Tensor::cat(&[of_weight, of_bias], 1))
    }
}

fn dot(a: &Tensor, b: &Tensor) -> f64 {
    (a * b).sum(Kind::Double).double_value(&[])
}

/// A minimum of a function, which gives its value and gradient, and after how many iterations it was found.
fn minimum(start: Tensor, tolerance: f64, objective: impl Fn(&Tensor) -> (f64, Tensor)) -> (Tensor, usize) {
    let at = |weights: Tensor| {
        let (value, gradient) = objective(&weights);
        Place { weights, value, gradient }
    };
    let largest = |gradient: &Tensor| gradient.abs().max().double_value(&[]);
    let mut place = at(start);
    let mut corrections: VecDeque<Correction> = VecDeque::new();
    let mut iterations = 0;
    while iterations < MOST_ITERATIONS && largest(&place.gradient) > tolerance {
        let direction = direction(&place.gradient, &corrections);
        let slope = dot(&place.gradient, &direction);
        let first = if iterations == 0 { dot(&direction, &direction).sqrt().recip() } else { 1.0 };
        let mut next = None;
        let along = |step: f64| {
            let found = at(&place.weights + &direction * step);
            let line = (found.value, dot(&found.gradient, &direction));
            next = Some(found);
            line
        };
        let has_found = slope < 0.0 && line_search(along, place.value, slope, first);
        let Some(next) = next.filter(|_| has_found) else {
            if corrections.is_empty() {
                break;
            }
            // From here down the gradient itself.
            corrections.clear();
            continue;
        };
        iterations += 1;
        let fall = place.value - next.value;
        let scale = place.value.abs().max(next.value.abs()).max(1.0);
        let is_done = largest(&next.gradient) <= tolerance || fall <= LEAST_FALL * scale;
        let (step, change) = (&next.weights - &place.weights, &next.gradient - &place.gradient);
        let product = dot(&step, &change);
        if product > f64::EPSILON * -dot(&place.gradient, &step) {
            if corrections.len() == CORRECTIONS {
                corrections.pop_front();
            }
            let of_change = dot(&change, &change);
            corrections.push_back(Correction { step, change, product, of_change });
        }
        place = next;
        if is_done {
            break;
        }
    }
    (place.weights, iterations)
}

/// What L-BFGS keeps of a step: how the place and the gradient changed, their product, and the square of the latter.
struct Correction {
    step: Tensor,
    change: Tensor,
    product: f64,
    of_change: f64,
}

/// The direction of the next step, by the two loops of L-BFGS.
fn direction(gradient: &Tensor, corrections: &VecDeque<Correction>) -> Tensor {
    let mut direction = -gradient;
    let mut shares = Vec::with_capacity(corrections.len());
    for correction in corrections.iter().rev() {
        let share = dot(&correction.step, &direction) / correction.product;
        direction -= &correction.change * share;
        shares.push(share);
    }
    if let Some(last) = corrections.back() {
        direction *= last.product / last.of_change;
    }
    for (correction, share) in corrections.iter().zip(shares.into_iter().rev()) {
        let other = dot(&correction.change, &direction) / correction.product;
        direction += &correction.step * (share - other);
    }
    direction
}

/// A point of a line: how far, the value there and the slope.
#[derive(Clone, Copy)]
struct Point {
    step: f64,
    value: f64,
    slope: f64,
}

/// Looks for a step along a line that lowers the value enough and flattens the slope enough (MINPACK-2's `dcsrch`). The last step
/// for which the line was asked is the one; false where there is none.
fn line_search(mut along: impl FnMut(f64) -> (f64, f64), value: f64, slope: f64, first: f64) -> bool {
    let threshold = DECREASE * slope;
    let (mut best, mut other) = (Point { step: 0.0, value, slope }, Point { step: 0.0, value, slope });
    let (mut is_bracketed, mut is_first_stage) = (false, true);
    let (mut width, mut width_before) = (LONGEST, 2.0 * LONGEST);
    let (mut least, mut most, mut step) = (0.0, 5.0 * first, first);
    for _ in 0..MOST_TRIES {
        let (value_here, slope_here) = along(step);
        let here = Point { step, value: value_here, slope: slope_here };
        let limit = value + step * threshold;
        if is_first_stage && here.value <= limit && here.slope >= 0.0 {
            is_first_stage = false;
        }
        let is_stuck = is_bracketed && (step <= least || step >= most || most - least <= WIDTH * most);
        let is_at_end = step >= LONGEST && here.value <= limit && here.slope <= threshold;
        let is_good = here.value <= limit && here.slope.abs() <= CURVATURE * -slope;
        if is_stuck || is_at_end || is_good {
            return true;
        }
        if is_first_stage && here.value <= best.value && here.value > limit {
            // The function less the line of sufficient decrease.
            let less = |point: Point| Point {
                value: point.value - point.step * threshold,
                slope: point.slope - threshold,
                ..point
            };
            let more = |point: Point| Point {
                value: point.value + point.step * threshold,
                slope: point.slope + threshold,
                ..point
            };
            let (mut best_less, mut other_less) = (less(best), less(other));
            step = next_step(&mut best_less, &mut other_less, less(here), &mut is_bracketed, [least, most]);
            (best, other) = (more(best_less), more(other_less));
        } else {
            step = next_step(&mut best, &mut other, here, &mut is_bracketed, [least, most]);
        }
        if is_bracketed {
            let now = (other.step - best.step).abs();
            if now >= 0.66 * width_before {
                step = best.step + 0.5 * (other.step - best.step);
            }
            (width_before, width) = (width, now);
            (least, most) = (best.step.min(other.step), best.step.max(other.step));
        } else {
            (least, most) = (step + 1.1 * (step - best.step), step + 4.0 * (step - best.step));
        }
        step = step.clamp(0.0, LONGEST);
        if is_bracketed && (step <= least || step >= most || most - least <= WIDTH * most) {
            step = best.step;
        }
    }
    false
}

/// The next step of a line search, from cubic and quadratic interpolation, and the new ends of the interval that holds a minimum
/// (MINPACK-2's `dcstep`).
fn next_step(best: &mut Point, other: &mut Point, here: Point, is_bracketed: &mut bool, bounds: [f64; 2]) -> f64 {
    let turns = here.slope * best.slope.signum() < 0.0;
    let apart = here.step - best.step;
    let cubic = |from: &Point, sign: f64| {
        let theta = 3.0 * (from.value - here.value) / (here.step - from.step) + from.slope + here.slope;
        let scale = theta.abs().max(from.slope.abs()).max(here.slope.abs());
        let root = (theta / scale).powi(2) - (from.slope / scale) * (here.slope / scale);
        (theta, sign * scale * root.max(0.0).sqrt())
    };
    let secant = here.step + here.slope / (here.slope - best.slope) * (best.step - here.step);
    let next = if here.value > best.value {
        let (theta, gamma) = cubic(best, if apart < 0.0 { -1.0 } else { 1.0 });
        let ratio = (gamma - best.slope + theta) / (gamma - best.slope + gamma + here.slope);
        let by_cubic = best.step + ratio * apart;
        let fall = (best.value - here.value) / apart + best.slope;
        let by_quadratic = best.step + best.slope / fall / 2.0 * apart;
        *is_bracketed = true;
        match (by_cubic - best.step).abs() < (by_quadratic - best.step).abs() {
            true => by_cubic,
            false => by_cubic + (by_quadratic - by_cubic) / 2.0,
        }
    } else if turns {
        let (theta, gamma) = cubic(best, if apart > 0.0 { -1.0 } else { 1.0 });
        let ratio = (gamma - here.slope + theta) / (gamma - here.slope + gamma + best.slope);
        let by_cubic = here.step - ratio * apart;
        *is_bracketed = true;
        if (by_cubic - here.step).abs() > (secant - here.step).abs() { by_cubic } else { secant }
    } else if here.slope.abs() < best.slope.abs() {
        let (theta, gamma) = cubic(best, if apart > 0.0 { -1.0 } else { 1.0 });
        let ratio = (gamma - here.slope + theta) / (gamma + (best.slope - here.slope) + gamma);
        let by_cubic = match ratio < 0.0 && gamma != 0.0 {
            true => here.step - ratio * apart,
            false if apart > 0.0 => bounds[1],
            false => bounds[0],
        };
        let is_nearer = (by_cubic - here.step).abs() < (secant - here.step).abs();
        if *is_bracketed {
            let next = if is_nearer { by_cubic } else { secant };
            let furthest = here.step + 0.66 * (other.step - here.step);
            if apart > 0.0 { next.min(furthest) } else { next.max(furthest) }
        } else {
            let next = if is_nearer { secant } else { by_cubic };
            next.min(bounds[1]).max(bounds[0])
        }
    } else if *is_bracketed {
        let (theta, gamma) = cubic(other, if here.step > other.step { -1.0 } else { 1.0 });
        let ratio = (gamma - here.slope + theta) / (gamma - here.slope + gamma + other.slope);
        here.step + ratio * (other.step - here.step)
    } else if apart > 0.0 {
        bounds[1]
    } else {
        bounds[0]
    };
    if here.value > best.value {
        *other = here;
    } else {
        if turns {
            *other = *best;
        }
        *best = here;
    }
    next
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::clip::Weights;

    fn recorded() -> (Weights, serde_json::Value) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/reference/features/linear_probe");
        let meta = serde_json::from_str(&std::fs::read_to_string(folder.join("meta.json")).unwrap()).unwrap();
        (Weights::read(&folder.join("tensors.safetensors")).unwrap(), meta)
    }

    /// The sample of the first seed with so many images of a class, and the number of the result in the recording.
    fn sample(tensors: &Weights, meta: &serde_json::Value, shot: u64) -> (Regression, usize) {
        let results = meta["results"].as_array().unwrap();
        let number = results.iter().position(|result| result["shot"] == shot && result["seed"] == 1).unwrap();
        let places: Vec<i64> = serde_json::from_value(results[number]["train_index"].clone()).unwrap();
        let places = Tensor::from_slice(&places);
        let of = |name: &str| tensors.get(name).unwrap().index_select(0, &places);
        (Regression::new(&of("train.features"), &of("train.labels"), 5), number)
    }

    fn apart(found: &Tensor, recorded: &Tensor) -> f64 {
        (found - recorded).norm().double_value(&[]) / recorded.norm().double_value(&[])
    }

    #[test]
    fn the_optimum_is_that_of_scikit_learn() {
        let (tensors, meta) = recorded();
        let mut worst = 0f64;
        for shot in [1, 4, 16] {
            let (regression, _) = sample(&tensors, &meta, shot);
            for c in ["0.0001", "0.01", "1", "100"] {
                let found = regression.fit(c.parse().unwrap(), 1e-12);
                let name = |part: &str| format!("shot{shot}.converged_C{c}.{part}");
                worst = worst.max(apart(&found.weight, tensors.get(&name("coef")).unwrap()));
            }
        }
        println!("{worst:.1e}");
        assert!(worst < 1e-5, "{worst:.1e}");
    }

    /// The recorded iterations stop far from the optimum, and ours at the same places.
    #[test]
    fn iterations_are_those_of_scikit_learn() {
        let (tensors, meta) = recorded();
        let mut worst = 0f64;
        for shot in [1, 4, 16] {
            let (regression, number) = sample(&tensors, &meta, shot);
            for (place, tried) in meta["results"][number]["search"].as_array().unwrap().iter().enumerate() {
                let c = tried["C"].as_f64().unwrap();
                let found = regression.fit(c, 1e-4);
                let away = apart(&found.weight, tensors.get(&format!("shot{shot}.search{place}.coef")).unwrap());
                println!("{shot} shots, C {c}: {} of {} iterations, {away:.1e}", found.iterations, tried["n_iter"]);
                assert_eq!(found.iterations as u64, tried["n_iter"].as_u64().unwrap(), "{shot} shots, C {c}");
                worst = worst.max(away);
            }
        }
        assert!(worst < 1e-5, "{worst:.1e}");
    }
}
