//! Draws a scene: signed distances, one sample a pixel, edges softened over a pixel's width.
//!
//! Only `+ - * /`, square roots and `libm`'s sine and cosine are used, so every machine draws the same bytes.

use super::scene::{Colour, Fill, Layout, Pattern, Scene, Shape};
use super::style::{Background, Style};
use crate::data::random::{below, uniform};
use image::RgbImage;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::Rng;
use std::f32::consts::PI;

type Point = [f32; 2];
type Rgb = [f32; 3];

/// A picture, and what a caption may say about its looks.
pub struct Picture {
    /// The pixels.
    pub image: RgbImage,
    /// What is behind the objects; none behind a pattern.
    pub background: Option<Background>,
    /// Whether the light is in the lower half of the style's range.
    pub dark: bool,
    /// Whether the noise is in the upper half of the style's range.
    pub noisy: bool,
}

/// Draws `scene` in a look drawn from `style`, `size` pixels wide and high.
pub fn draw(scene: Scene, style: &Style, size: u32, generator: &mut ChaCha8Rng) -> Picture {
    let look = Look::draw(style, size, generator);
    let (background, canvas): (_, Box<dyn Fn(Point) -> Rgb>) = match scene {
        Scene::Pattern { pattern, first, second } => {
            let (first, second) = (look.paint(first, generator), look.paint(second, generator));
            let phase = [between(generator, [-0.5, 0.5]), between(generator, [-0.5, 0.5])];
            let look = look.clone();
            let unit = 0.5 * look.extent;
            let paint = move |point| {
                let distance = pattern_distance(pattern, look.local(point, phase, unit), look.line) * unit;
                mix(second, first, look.coverage(distance))
            };
            (None, Box::new(paint))
        }
        Scene::Object { fill, colour, shape } => {
            let colour = look.paint(colour, generator);
            let (background, behind) = backdrop(style, colour, generator);
            let free = 1.0 - look.extent;
            let centre = [between(generator, [-free, free]), between(generator, [-free, free])];
            let look = look.clone();
            let paint = move |point| {
                let local = look.local(point, centre, look.extent);
                let (inside, alpha) = object(&look, shape, fill, colour, local, look.extent);
                mix(behind(point), inside, alpha)
            };
            (Some(background), Box::new(paint))
        }
        Scene::Arrangement { layout, colour, shape } => {
            let colour = look.paint(colour, generator);
            let (background, behind) = backdrop(style, colour, generator);
            let free = 1.0 - look.extent;
            let centre = [between(generator, [-free, free]), between(generator, [-free, free])];
            let (places, radius) = places(layout);
            let look = look.clone();
            let paint = move |point| {
                let local = look.local(point, centre, look.extent);
                let place = nearest(&places, local);
                let unit = radius * look.extent;
                let inner = [(local[0] - place[0]) / radius, (local[1] - place[1]) / radius];
                let (inside, alpha) = object(&look, shape, Fill::Solid, colour, inner, unit);
                mix(behind(point), inside, alpha)
            };
            (Some(background), Box::new(paint))
        }
    };
    let image = look.develop(size, canvas, generator);
    let half = |range: [f32; 2]| (range[0] + range[1]) / 2.0;
    Picture { image, background, dark: look.light < half(style.light), noisy: look.noise > half(style.noise) }
}

/// The looks of one picture.
#[derive(Clone)]
struct Look {
    /// Half of the frame is 1.
    extent: f32,
    cosine: f32,
    sine: f32,
    hue: f32,
    saturation: f32,
    light: f32,
    /// The light is multiplied by `1 + shadow . point`.
    shadow: Point,
    noise: f32,
    line: f32,
    /// A pixel's width.
    pixel: f32,
}

impl Look {
    fn draw(style: &Style, size: u32, generator: &mut ChaCha8Rng) -> Look {
        let radians = between(generator, [-style.rotation, style.rotation]) * PI / 180.0;
        let direction = between(generator, [-PI, PI]);
        let depth = between(generator, [0.0, style.shadow]) / 2.0;
        Look {
            extent: between(generator, style.extent),
            cosine: libm::cosf(radians),
            sine: libm::sinf(radians),
            hue: style.hue_shift + between(generator, [-style.hue_jitter, style.hue_jitter]),
            saturation: between(generator, style.saturation),
            light: between(generator, style.light),
            shadow: [depth * libm::cosf(direction), depth * libm::sinf(direction)],
            noise: between(generator, style.noise),
            line: between(generator, style.line),
            pixel: 2.0 / size as f32,
        }
    }

    /// `point` as seen from something turned, at `centre`, whose half extent is `unit`.
    fn local(&self, point: Point, centre: Point, unit: f32) -> Point {
        let [x, y] = [point[0] - centre[0], point[1] - centre[1]];
        [(self.cosine * x + self.sine * y) / unit, (self.cosine * y - self.sine * x) / unit]
    }

    /// How much of a pixel lies inside an edge at this signed distance (in half frames, negative inside).
    fn coverage(&self, distance: f32) -> f32 {
        (0.5 - distance / self.pixel).clamp(0.0, 1.0)
    }

    /// A colour under this look.
    fn paint(&self, colour: Colour, generator: &mut ChaCha8Rng) -> Rgb {
        let value = between(generator, [0.85, 1.0]);
        let hue = match colour {
            Colour::Red => 0.0,
            Colour::Yellow => 52.0,
            Colour::Green => 115.0,
            Colour::Turquoise => 175.0,
            Colour::Blue => 225.0,
            Colour::Purple => 285.0,
            Colour::White => return [value; 3],
            Colour::Black => return [1.0 - value; 3],
        };
        from_hue(hue + self.hue, self.saturation, value)
    }

    /// Every pixel, lit, with noise, in 8 bits.
    fn develop(&self, size: u32, canvas: impl Fn(Point) -> Rgb, generator: &mut ChaCha8Rng) -> RgbImage {
        let mut grain = vec![0u8; 2 * 3 * (size * size) as usize];
        generator.fill_bytes(&mut grain);
        let mut grain = grain.chunks_exact(2);
        RgbImage::from_fn(size, size, |x, y| {
            let point = [(x as f32 + 0.5) * self.pixel - 1.0, (y as f32 + 0.5) * self.pixel - 1.0];
            let light = self.light * (1.0 - self.shadow[0] * point[0] - self.shadow[1] * point[1]);
            image::Rgb(canvas(point).map(|channel| {
                // The sum of two bytes: triangular noise in -1..1.
                let grain = grain.next().map_or(0.0, |pair| (f32::from(pair[0]) + f32::from(pair[1])) / 255.0 - 1.0);
                ((channel * light + self.noise * grain).clamp(0.0, 1.0) * 255.0 + 0.5) as u8
            }))
        })
    }
}

/// A number drawn uniformly from a range.
fn between(generator: &mut ChaCha8Rng, [low, high]: [f32; 2]) -> f32 {
    low + (high - low) * uniform(generator) as f32
}

/// `share` of `over` on top of `under`.
fn mix(under: Rgb, over: Rgb, share: f32) -> Rgb {
    std::array::from_fn(|channel| under[channel] + share * (over[channel] - under[channel]))
}

/// Hue in degrees, saturation, value to RGB.
fn from_hue(hue: f32, saturation: f32, value: f32) -> Rgb {
    let sector = hue.rem_euclid(360.0) / 60.0;
    [5.0, 3.0, 1.0].map(|offset| {
        let k = (sector + offset) % 6.0;
        value - value * saturation * k.min(4.0 - k).clamp(0.0, 1.0)
    })
}

/// How bright a colour looks.
fn luma(colour: Rgb) -> f32 {
    0.3 * colour[0] + 0.6 * colour[1] + 0.1 * colour[2]
}

/// A background's kind and its colour at each point, apart from `foreground` in brightness.
fn backdrop(style: &Style, foreground: Rgb, generator: &mut ChaCha8Rng) -> (Background, impl Fn(Point) -> Rgb + use<>) {
    let kind = style.backgrounds[below(generator, style.backgrounds.len())];
    let mut tint = || {
        let spread = 0.12;
        let middle = loop {
            let grey = between(generator, [0.1, 0.9]);
            if (grey - luma(foreground)).abs() > 0.25 {
                break grey;
            }
        };
        std::array::from_fn(|_| middle + between(generator, [-spread, spread]))
    };
    let tints: [Rgb; 2] = [tint(), tint()];
    let direction = between(generator, [-PI, PI]);
    let slope = [libm::cosf(direction) / 2.0, libm::sinf(direction) / 2.0];
    let lattice: [[f32; 7]; 7] = std::array::from_fn(|_| std::array::from_fn(|_| between(generator, [0.0, 1.0])));
    let shade = move |point: Point| {
        let share = match kind {
            Background::Plain => 0.0,
            Background::Gradient => (0.5 + slope[0] * point[0] + slope[1] * point[1]).clamp(0.0, 1.0),
            Background::Clouds => cloud(&lattice, point),
        };
        mix(tints[0], tints[1], share)
    };
    (kind, shade)
}

/// Bilinear interpolation in a lattice laid over the frame.
fn cloud(lattice: &[[f32; 7]; 7], point: Point) -> f32 {
    let [x, y] = point.map(|coordinate| ((coordinate + 1.0) * 3.0).clamp(0.0, 5.999));
    let (column, row) = (x as usize, y as usize);
    let (right, down) = (x - column as f32, y - row as f32);
    let along = |row: usize| lattice[row][column] + right * (lattice[row][column + 1] - lattice[row][column]);
    along(row) + down * (along(row + 1) - along(row))
}

/// The paint of an object at a local point, and how much of the pixel it covers; `unit` is the object's half extent.
fn object(look: &Look, shape: Shape, fill: Fill, colour: Rgb, local: Point, unit: f32) -> (Rgb, f32) {
    let outline = shape_distance(shape, local);
    let accent = if luma(colour) > 0.55 { [0.1; 3] } else { [0.95; 3] };
    let line = 0.16 * look.line;
    let (paint, edge) = match fill {
        Fill::Solid => (colour, outline),
        Fill::Hollow => (colour, outline.max(-outline - line)),
        Fill::Striped => {
            let stripe = periodic(local[1], 0.5).abs() - 0.7 * line;
            (mix(colour, accent, look.coverage(stripe * unit)), outline)
        }
        Fill::Dotted => {
            let dot = length([periodic(local[0], 0.5), periodic(local[1], 0.5)]) - 0.8 * line;
            (mix(colour, accent, look.coverage(dot * unit)), outline)
        }
    };
    (paint, look.coverage(edge * unit))
}

/// The offset to the middle of the nearest period, in `-period/2 .. period/2`.
fn periodic(coordinate: f32, period: f32) -> f32 {
    coordinate - period * (coordinate / period + 0.5).floor()
}

fn length([x, y]: Point) -> f32 {
    (x * x + y * y).sqrt()
}

/// Signed distance to an axis-parallel box about the origin.
fn rectangle([x, y]: Point, half: Point) -> f32 {
    let [right, down] = [x.abs() - half[0], y.abs() - half[1]];
    length([right.max(0.0), down.max(0.0)]) + right.max(down).min(0.0)
}

/// Signed distance to the outline of a shape that fits the unit circle.
fn shape_distance(shape: Shape, [x, y]: Point) -> f32 {
    match shape {
        Shape::Circle => length([x, y]) - 0.85,
        Shape::Square => rectangle([x, y], [0.75, 0.75]),
        // The half planes of an upright equilateral triangle.
        Shape::Triangle => (0.866 * x.abs() - 0.5 * y - 0.45).max(y - 0.6),
        Shape::Plus => rectangle([x, y], [0.9, 0.28]).min(rectangle([x, y], [0.28, 0.9])),
        Shape::Moon => (length([x, y]) - 0.9).max(0.68 - length([x - 0.42, y])),
        Shape::Star => star([x, y]),
    }
}

/// Signed distance to a five-pointed star, after folding the plane into one of its ten congruent wedges.
fn star([x, y]: Point) -> f32 {
    const FIRST: Point = [0.809_017, -0.587_785_25];
    const SECOND: Point = [-0.809_017, -0.587_785_25];
    let mut folded = [x.abs(), -y];
    for mirror in [FIRST, SECOND] {
        let over = 2.0 * (mirror[0] * folded[0] + mirror[1] * folded[1]).max(0.0);
        folded = [folded[0] - over * mirror[0], folded[1] - over * mirror[1]];
    }
    let point = [folded[0].abs(), folded[1] - 0.95];
    // From the tip to the inner corner at 45 % of the radius.
    let edge = [-0.45 * SECOND[1], 0.45 * FIRST[0] - 0.95];
    let along = ((point[0] * edge[0] + point[1] * edge[1]) / (edge[0] * edge[0] + edge[1] * edge[1])).clamp(0.0, 1.0);
    let distance = length([point[0] - edge[0] * along, point[1] - edge[1] * along]);
    if point[1] * edge[0] - point[0] * edge[1] > 0.0 { distance } else { -distance }
}

/// Signed distance to the foreground of a pattern whose cells are about one unit wide.
fn pattern_distance(pattern: Pattern, [x, y]: Point, line: f32) -> f32 {
    let checks = |x: f32, y: f32| {
        let (across, down) = (periodic(x, 1.0).abs() - 0.25, periodic(y, 1.0).abs() - 0.25);
        let nearest = across.abs().min(down.abs());
        if (across < 0.0) == (down < 0.0) { -nearest } else { nearest }
    };
    match pattern {
        Pattern::Checkerboard => checks(x, y),
        Pattern::Stripes => periodic(x, 0.7).abs() - 0.175 * line,
        Pattern::Dots => length([periodic(x, 0.7), periodic(y, 0.7)]) - 0.22 * line,
        Pattern::Zigzag => (periodic(y + periodic(x, 1.0).abs(), 0.6).abs() - 0.15 * line) * 0.707,
        Pattern::Bricks => {
            let row = (y / 0.5).floor();
            let shifted = if row.rem_euclid(2.0) < 1.0 { x } else { x + 0.5 };
            rectangle([periodic(shifted, 1.0), periodic(y - 0.25, 0.5)], [0.5 - 0.07 * line, 0.25 - 0.07 * line])
        }
        Pattern::Target => periodic(length([x, y]), 0.8).abs() - 0.2 * line,
    }
}

/// Where the objects of an arrangement stand in the unit square, and their radius.
fn places(layout: Layout) -> (Vec<Point>, f32) {
    match layout {
        Layout::Pair => (vec![[-0.5, 0.0], [0.5, 0.0]], 0.42),
        Layout::Row => (vec![[-0.68, 0.0], [0.0, 0.0], [0.68, 0.0]], 0.32),
        Layout::Column => (vec![[0.0, -0.68], [0.0, 0.0], [0.0, 0.68]], 0.32),
        Layout::Pyramid => (vec![[0.0, -0.5], [-0.5, 0.45], [0.5, 0.45]], 0.42),
        Layout::Grid => {
            let steps = [-0.66, 0.0, 0.66];
            (steps.iter().flat_map(|&y| steps.map(|x| [x, y])).collect(), 0.29)
        }
        Layout::Ring => {
            let at = |index| PI * index as f32 / 3.0;
            ((0..6).map(|index| [0.7 * libm::cosf(at(index)), 0.7 * libm::sinf(at(index))]).collect(), 0.29)
        }
    }
}

/// The place closest to a point.
fn nearest(places: &[Point], point: Point) -> Point {
    let distance = |place: &Point| length([point[0] - place[0], point[1] - place[1]]);
    places.iter().copied().min_by(|a, b| distance(a).total_cmp(&distance(b))).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::random::generator;

    /// A style that leaves nothing to chance but the background's grey.
    fn still() -> Style {
        Style {
            backgrounds: vec![Background::Plain],
            extent: [0.9, 0.9],
            rotation: 0.0,
            hue_jitter: 0.0,
            saturation: [1.0, 1.0],
            light: [1.0, 1.0],
            shadow: 0.0,
            noise: [0.0, 0.0],
            line: [1.0, 1.0],
            ..Style::default()
        }
    }

    /// The share of pixels that are clearly red.
    fn red_share(scene: Scene) -> f32 {
        let picture = draw(scene, &still(), 64, &mut generator(1, "test", 0, 0));
        let red = picture.image.pixels().filter(|pixel| pixel.0[0] > 150 && pixel.0[1] < 60 && pixel.0[2] < 60);
        red.count() as f32 / 4096.0
    }

    #[test]
    fn shapes_cover_the_area_that_geometry_asks_for() {
        // Areas in a frame of 4, extent 0.9: circle pi r^2, square (2 * .75)^2, cross 2 arms less their overlap.
        for (shape, area) in
            [(Shape::Circle, PI * 0.85 * 0.85), (Shape::Square, 2.25), (Shape::Plus, 2.0 * 1.8 * 0.56 - 0.56 * 0.56)]
        {
            let share = red_share(Scene::Object { fill: Fill::Solid, colour: Colour::Red, shape });
            let wanted = area * 0.81 / 4.0;
            assert!((share - wanted).abs() < 0.04, "{shape:?}: {share} instead of {wanted}");
        }
    }

    #[test]
    fn fills_take_paint_away_from_the_solid_shape() {
        for shape in Shape::ALL {
            let solid = red_share(Scene::Object { fill: Fill::Solid, colour: Colour::Red, shape });
            assert!(solid > 0.1, "{shape:?} {solid}");
            for fill in [Fill::Striped, Fill::Dotted, Fill::Hollow] {
                let share = red_share(Scene::Object { fill, colour: Colour::Red, shape });
                assert!(share < 0.95 * solid && share > 0.2 * solid, "{fill:?} {shape:?}: {share} of {solid}");
            }
        }
    }

    #[test]
    fn patterns_and_arrangements_show_both_their_colours() {
        for pattern in Pattern::ALL {
            let share = red_share(Scene::Pattern { pattern, first: Colour::Red, second: Colour::Blue });
            assert!((0.15..0.85).contains(&share), "{pattern:?} {share}");
        }
        for layout in Layout::ALL {
            let share = red_share(Scene::Arrangement { layout, colour: Colour::Red, shape: Shape::Circle });
            assert!((0.1..0.7).contains(&share), "{layout:?} {share}");
        }
    }
}
