//! Line and point plots as SVG, drawn by `plotters`; they stand on their own and in a page, on light and on dark ground.

use plotters::backend::SVGBackend;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

/// Points with a name.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// In the legend.
    pub label: String,
    /// Its colour's place among all, so that the same thing has the same one in every plot.
    pub colour: usize,
    /// In the order in which they are joined.
    pub points: Vec<Point>,
    /// Points that stand out, drawn as triangles.
    pub marks: Vec<Point>,
}

/// A point of a plot.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// Where it is along the horizontal axis.
    pub x: f64,
    /// Where it is along the vertical axis.
    pub y: f64,
    /// How far its error bars reach either way, along the horizontal and the vertical axis; none where it has none.
    pub error: [Option<f64>; 2],
}

impl From<(f64, f64)> for Point {
    /// A point without error bars.
    fn from((x, y): (f64, f64)) -> Point {
        Point { x, y, error: [None, None] }
    }
}

impl Point {
    fn is_finite(&self) -> bool {
        self.x.is_finite() && self.y.is_finite()
    }

    /// Both ends of its error bars along each axis; the point itself where it has none.
    fn ends(&self) -> [[f64; 2]; 2] {
        let ends = |middle: f64, error: Option<f64>| [middle - error.unwrap_or(0.0), middle + error.unwrap_or(0.0)];
        [ends(self.x, self.error[0]), ends(self.y, self.error[1])]
    }
}

/// What a plot shows.
#[derive(Clone, Debug)]
pub struct Plot<'a> {
    /// Above it, and for those who cannot see it.
    pub title: &'a str,
    /// Below the horizontal axis.
    pub x: &'a str,
    /// Beside the vertical axis.
    pub y: &'a str,
    /// What is drawn.
    pub series: &'a [Series],
    /// Whether points are joined by lines.
    pub joined: bool,
}

/// Width and height in pixels: small, so that the text can be read on a phone. Long labels of series add to the width.
const SIZE: (u32, u32) = (480, 320);
/// The part of the width that labels of series have, and what a character of them and the mark before them take.
const LEGEND: u32 = 104;
const CHARACTER: u32 = 8;
const MARK: u32 = 22;

/// Paul Tol's bright colours: told apart by most people, on light and on dark ground.
const COLOURS: [RGBColor; 7] = [
    RGBColor(68, 119, 170),
    RGBColor(238, 102, 119),
    RGBColor(34, 136, 51),
    RGBColor(190, 160, 40),
    RGBColor(70, 180, 215),
    RGBColor(170, 51, 119),
    RGBColor(130, 130, 130),
];

/// Points on each line, up to which every point is marked.
const FEW: usize = 12;

/// What ends an error bar along the horizontal and along the vertical axis, in pixels from its end.
const CAP_UPRIGHT: [(i32, i32); 2] = [(0, -3), (0, 3)];
const CAP_LEVEL: [(i32, i32); 2] = [(-3, 0), (3, 0)];

/// About so many numbers along an axis.
const LABELS: usize = 6;

/// Stands for the colour of the text around the plot, which plotters cannot name.
const TEXT: RGBColor = RGBColor(1, 2, 3);
const TEXT_WRITTEN: &str = "#010203";
/// The end of the drawing's first element.
const NAMESPACE: &str = "xmlns=\"http://www.w3.org/2000/svg\">";
const GRID: RGBColor = RGBColor(128, 128, 128);

impl Plot<'_> {
    /// The drawing; none where there is no point to draw.
    pub fn svg(&self) -> Option<String> {
        let all = || self.series.iter().flat_map(|series| series.points.iter().chain(&series.marks));
        let points = || all().filter(|point| point.is_finite());
        points().next()?;
        let mut text = String::new();
        let [x, y] = [0, 1].map(|axis| range(points().flat_map(|point| point.ends()[axis])));
        self.draw(&mut text, x, y).expect("a string takes all that is drawn");
        Some(finished(&text, self.title))
    }

    fn draw(&self, text: &mut String, x: (f64, f64), y: (f64, f64)) -> Result<(), Box<dyn std::error::Error>> {
        let longest = self.series.iter().map(|series| series.label.chars().count()).max().unwrap_or(0);
        let chart_width = SIZE.0 - LEGEND;
        let width = chart_width + LEGEND.max(MARK + CHARACTER * longest as u32);
        let root = SVGBackend::with_string(text, (width, SIZE.1)).into_drawing_area();
        let (area, legend) = root.split_horizontally(chart_width);
        let font = |size: u32| ("sans-serif", size).into_font().color(&TEXT);
        let mut chart = ChartBuilder::on(&area)
            .caption(self.title, font(16))
            .margin(8)
            .x_label_area_size(44)
            .y_label_area_size(58)
            .build_cartesian_2d(x.0..x.1, y.0..y.1)?;
        let number = |(low, high): (f64, f64)| {
            let decimals = (LABELS as f64 / (high - low)).log10().ceil().max(0.0) as usize;
            let steps = 10f64.powi(decimals as i32);
            // What is added takes the sign off a zero.
            move |value: &f64| format!("{:.decimals$}", (value * steps).round() / steps + 0.0)
        };
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(GRID.mix(0.25))
            .axis_style(GRID)
            .label_style(font(14))
            .axis_desc_style(font(14))
            .x_labels(LABELS)
            .y_labels(LABELS)
            .x_label_formatter(&number(x))
            .y_label_formatter(&number(y))
            .x_desc(self.x)
            .y_desc(self.y)
            .draw()?;
        let few = self.series.iter().all(|series| series.points.len() <= FEW);
        // Points of a cloud are small, so that those below them can be seen.
        let radius = if few { 4 } else { 2 };
        for (place, series) in self.series.iter().enumerate() {
            let colour = COLOURS[series.colour % COLOURS.len()];
            let at = |point: &Point| (point.x, point.y);
            if self.joined {
                chart.draw_series(LineSeries::new(series.points.iter().map(at), colour.stroke_width(2)))?;
            }
            for point in &series.points {
                let [[left, right], [low, high]] = point.ends();
                let bars = [
                    (point.error[0], [(left, point.y), (right, point.y)], CAP_UPRIGHT),
                    (point.error[1], [(point.x, low), (point.x, high)], CAP_LEVEL),
                ];
                for (_, ends, cap) in bars.into_iter().filter(|(error, ..)| error.is_some()) {
                    chart.draw_series([PathElement::new(ends, colour)])?;
                    let cap = |end| EmptyElement::at(end) + PathElement::new(cap, colour);
                    chart.draw_series(ends.map(cap))?;
                }
            }
            if !self.joined || few {
                chart.draw_series(series.points.iter().map(|point| Circle::new(at(point), radius, colour.filled())))?;
            }
            chart.draw_series(series.marks.iter().map(|point| TriangleMarker::new(at(point), 7, colour.filled())))?;
            let height = 34 + 20 * place as i32;
            legend.draw(&Circle::new((10, height), 4, colour.filled()))?;
            let anchored = font(14).pos(Pos::new(HPos::Left, VPos::Center));
            legend.draw(&Text::new(series.label.clone(), (MARK as i32, height), anchored))?;
        }
        root.present()?;
        Ok(())
    }
}

/// A drawing that says that there is nothing to draw, for a file that must be there.
pub fn blank() -> String {
    let ((width, height), words) = (SIZE, "nothing to draw");
    let (x, y) = (width / 2, height / 2);
    let text = format!(
        "<svg width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" {NAMESPACE}\n<text x=\"{x}\" y=\"{y}\" \
         text-anchor=\"middle\" font-family=\"sans-serif\" font-size=\"16\" fill=\"{TEXT_WRITTEN}\">\n{words}\n</text>\n</svg>\n"
    );
    finished(&text, words)
}

/// A range with some room around the values; around a single one, one either way.
fn range(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) = values.fold((f64::MAX, f64::MIN), |(low, high), value| (low.min(value), high.max(value)));
    let room = if low < high { (high - low) * 0.08 } else { 1.0 };
    (low - room, high + room)
}

/// The drawing with a name, in the colours of its surroundings.
fn finished(text: &str, title: &str) -> String {
    let title = htmlize::escape_text(title);
    let style = "<style>.plot{color:#1b2733}@media (prefers-color-scheme:dark){.plot{color:#d7dee6}}</style>";
    let drawing = text.replace(TEXT_WRITTEN, "currentColor");
    let named = format!("<svg class=\"plot\" role=\"img\" aria-label=\"{}\" ", htmlize::escape_attribute(&*title));
    let drawing = drawing.replacen("<svg ", &named, 1);
    drawing.replacen(NAMESPACE, &format!("{NAMESPACE}<title>{title}</title>{style}"), 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plot<'a>(title: &'a str, series: &'a [Series]) -> Plot<'a> {
        Plot { title, x: "shots", y: "accuracy", series, joined: true }
    }

    #[test]
    fn a_plot_names_its_series_and_takes_the_colour_of_the_text() {
        let series = [Series {
            label: "A & B".into(),
            colour: 0,
            points: vec![(1.0, 50.0).into(), (16.0, 70.5).into()],
            marks: vec![],
        }];
        let svg = plot("Accuracy <1>", &series).svg().unwrap();
        assert!(svg.contains("A &amp; B") && svg.contains("<title>Accuracy &lt;1&gt;</title>"), "{svg}");
        assert!(svg.contains("currentColor") && !svg.contains(TEXT_WRITTEN), "{svg}");
        assert!(svg.contains("<polyline"), "{svg}");
    }

    #[test]
    fn no_two_numbers_along_an_axis_are_alike() {
        let series = [Series {
            label: "near".into(),
            colour: 0,
            points: vec![(1.0, 1.601).into(), (2.0, 1.609).into()],
            marks: vec![],
        }];
        let svg = plot("near", &series).svg().unwrap();
        let texts = svg.split("</text>").filter_map(|part| part.rsplit_once('>'));
        let mut numbers: Vec<&str> =
            texts.map(|(_, text)| text.trim()).filter(|text| text.starts_with("1.6")).collect();
        let count = numbers.len();
        numbers.dedup();
        assert!(count > 3 && numbers.len() == count, "{numbers:?}");
    }

    #[test]
    fn a_zero_along_an_axis_has_no_sign() {
        let points = vec![(-0.5, -0.45).into(), (0.8, 0.55).into()];
        let series = [Series { label: "around".into(), colour: 0, points, marks: vec![] }];
        let svg = plot("around", &series).svg().unwrap();
        let texts = svg.split("</text>").filter_map(|part| part.rsplit_once('>'));
        let zeros: Vec<&str> = texts.map(|(_, text)| text.trim()).filter(|text| text.ends_with("0.0")).collect();
        assert_eq!(zeros, ["0.0", "0.0"]);
    }

    #[test]
    fn a_long_label_makes_a_plot_wider() {
        let width = |label: &str| {
            let points = vec![(1.0, 1.0).into()];
            let series = [Series { label: label.into(), colour: 0, points, marks: vec![] }];
            let svg = plot("wide", &series).svg().unwrap();
            svg.split("width=\"").nth(1).unwrap().split('"').next().unwrap().parse::<u32>().unwrap()
        };
        assert_eq!([width("CoOp"), width("solid turquoise crescent")], [480, 480 - 104 + 22 + 8 * 24]);
    }

    /// Lines of an error bar and of its caps.
    #[test]
    fn an_error_bar_is_drawn_where_there_is_one_and_stays_within_the_plot() {
        let lines = |error| {
            let points = vec![Point { error, ..(1.0, 50.0).into() }, (2.0, 51.0).into()];
            let series = [Series { label: "one".into(), colour: 2, points, marks: vec![] }];
            let svg = Plot { joined: false, ..plot("bars", &series) }.svg().unwrap();
            let of_colour = svg.split('<').filter(|part| part.starts_with("polyline") && part.contains("#228833"));
            let heights = of_colour.clone().flat_map(|line| {
                let points = line.split("points=\"").nth(1).unwrap().split('"').next().unwrap();
                points.split_whitespace().map(|point| point.split(',').nth(1).unwrap().parse().unwrap())
            });
            assert!(heights.into_iter().all(|height: f64| (0.0..320.0).contains(&height)), "{svg}");
            of_colour.count()
        };
        assert_eq!([[None, None], [None, Some(30.0)], [Some(0.5), Some(30.0)]].map(lines), [0, 3, 6]);
    }

    #[test]
    fn one_point_is_drawn_and_none_gives_no_drawing() {
        let single = [Series { label: "one".into(), colour: 1, points: vec![(3.0, 3.0).into()], marks: vec![] }];
        assert!(plot("one", &single).svg().unwrap().contains("<circle"));
        let empty = [Series { label: "none".into(), colour: 1, points: Vec::new(), marks: Vec::new() }];
        assert_eq!((plot("none", &empty).svg(), plot("none", &[]).svg()), (None, None));
        let blank = blank();
        assert!(blank.contains("<title>nothing to draw</title>") && blank.contains("currentColor"), "{blank}");
    }
}
