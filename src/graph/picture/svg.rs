//! A picture as SVG, laid out and drawn here.

use layout::core::base::Orientation;
use layout::core::format::{ClipHandle, RenderBackend};
use layout::core::geometry::{Point, Position};
use layout::core::style::StyleAttr;
use layout::std_shapes::shapes::{Arrow, Element, ShapeKind};
use layout::topo::layout::VisualGraph;
use svg::node::element::{Circle, Definitions, Group, Marker, Path, Rectangle, Style, Text, Title};
use svg::{Document, Node};

use super::{Block, Picture};
use crate::error::{Error, Result};
use crate::graph::Standing;

/// Boxes that can be laid out in reasonable time, and looked at.
const BOXES: usize = 100;
/// Around the picture, in pixels like all that follows.
const MARGIN: f64 = 24.0;
/// Between a box and its neighbours: for arrows beside it, for nothing above and below.
const HALO: (f64, f64) = (72.0, 32.0);
/// Between arrows at the same box.
const PORT: f64 = 12.0;
/// Within a box.
const PADDING: f64 = 12.0;
/// From a cell to the next one.
const STEP: f64 = 13.0;
/// A cell.
const CELL: f64 = 10.0;
/// From a line of a box's text to the next one.
const LINE: f64 = 16.0;
/// The widest of usual letters, as a part of the size of the font.
const LETTER: f64 = 0.62;
const TITLE: f64 = 14.0;
const SMALL: f64 = 11.0;
const LABEL: f64 = 9.0;
const STYLE: &str = "text { font-family: system-ui, 'Segoe UI', 'DejaVu Sans', sans-serif; fill: #1b2733; }\n\
    .title { font-size: 14px; font-weight: 600; }\n\
    .line { font-size: 11px; fill: #51606f; }\n\
    .label { font-size: 9px; fill: #51606f; text-anchor: end; }\n\
    .box { fill: #ffffff; stroke: #c3ccd5; }\n\
    .arrow { fill: none; stroke: #8895a3; stroke-width: 1.4; }\n\
    .fresh { fill: #8fd3b6; stroke: #2e8b67; }\n\
    .stale { fill: #f0a030; stroke: #8f5600; }\n\
    .waiting { fill: #ffffff; stroke: #8895a3; }\n\
    .blocked { fill: #d0d0d0; stroke: #8895a3; stroke-dasharray: 2 2; }\n\
    .mark { fill: #5c3600; }";

/// A drawn document.
///
/// # Errors
/// There are too many boxes.
pub fn svg(picture: &Picture<'_>) -> Result<String> {
    if picture.boxes.len() > BOXES {
        return Err(Error::hinted(
            format!("a picture of {} boxes cannot be read", picture.boxes.len()),
            "`--by stage` draws one box a stage, `--only GLOB` selects nodes",
        ));
    }
    let places = Places::of(picture);
    let (low, high) = places.bounds(picture);
    let legend = high.y + MARGIN;
    let (width, height) = ((high.x - low.x).max(LEGEND) + 2.0 * MARGIN, legend - low.y + STEP + 2.0 * MARGIN);
    let mut drawing = Group::new();
    for arrow in places.routes(picture) {
        drawing.append(Path::new().set("class", "arrow").set("d", arrow).set("marker-end", "url(#head)"));
    }
    for (block, place) in picture.boxes.iter().zip(&places.boxes) {
        drawing.append(draw(block, *place));
    }
    drawing.append(draw_legend(picture, Point::new(low.x, legend)));
    let origin = format!("translate({:.1} {:.1})", MARGIN - low.x, MARGIN - low.y);
    let head = Marker::new()
        .set("id", "head")
        .set("viewBox", "0 0 8 8")
        .set("refX", 7)
        .set("refY", 4)
        .set("markerWidth", 7)
        .set("markerHeight", 7)
        .set("orient", "auto")
        .add(Path::new().set("d", "M0 0.8 L7.2 4 L0 7.2 z").set("fill", "#8895a3"));
    let document = Document::new()
        .set("viewBox", format!("0 0 {width:.0} {height:.0}"))
        .set("width", format!("{width:.0}"))
        .set("height", format!("{height:.0}"))
        .add(Title::new(picture.name))
        .add(Style::new(STYLE))
        .add(Definitions::new().add(head))
        .add(Rectangle::new().set("width", "100%").set("height", "100%").set("fill", "#f7f9fa"))
        .add(drawing.set("transform", origin));
    Ok(format!("{document}\n"))
}

/// Where things are; a box's place is its upper left corner.
#[derive(Default)]
struct Places {
    boxes: Vec<Point>,
    /// Where arrows pass between boxes.
    arrows: Vec<Vec<Point>>,
}

impl Places {
    fn of(picture: &Picture<'_>) -> Places {
        let mut graph = VisualGraph::new(Orientation::LeftToRight);
        // Its self-check takes exponential time.
        graph.dag.set_validate(false);
        let handles: Vec<_> = picture
            .boxes
            .iter()
            .map(|block| {
                let shape = ShapeKind::new_box("");
                let mut element = Element::create(shape, StyleAttr::simple(), Orientation::LeftToRight, size(block));
                element.pos = Position::new(Point::zero(), size(block), Point::zero(), Point::new(HALO.0, HALO.1));
                graph.add_node(element)
            })
            .collect();
        // In the order of their heads: then no arrow is added that leads to a box with arrows from it, and the search
        // for circles, also exponential, ends at once.
        for &(from, to) in &picture.arrows {
            graph.add_edge(Arrow::simple(""), handles[from], handles[to]);
        }
        let mut places = Places::default();
        if !handles.is_empty() {
            graph.do_it(false, false, false, &mut places);
        }
        places
    }

    /// The upper left and the lower right corner of everything.
    fn bounds(&self, picture: &Picture<'_>) -> (Point, Point) {
        let corners = self.boxes.iter().zip(&picture.boxes).flat_map(|(&place, block)| [place, place.add(size(block))]);
        corners.chain(self.arrows.iter().flatten().copied()).fold(
            (Point::zero(), Point::zero()),
            |(low, high), point| {
                (
                    Point::new(low.x.min(point.x), low.y.min(point.y)),
                    Point::new(high.x.max(point.x), high.y.max(point.y)),
                )
            },
        )
    }

    /// Arrows as SVG paths. The layout's own curves bend beside the middle of a column of boxes and so pass under wide
    /// ones; these run straight through a column and bend between columns.
    fn routes(&self, picture: &Picture<'_>) -> Vec<String> {
        let columns = self.columns(picture);
        let column =
            |x: f64| columns.iter().copied().find(|(left, right)| (*left..=*right).contains(&x)).unwrap_or((x, x));
        let route = |(arrow, (start, end)): (usize, (f64, f64))| {
            let (from, to) = picture.arrows[arrow];
            let (tail, head) = (self.boxes[from].x + size(&picture.boxes[from]).x, self.boxes[to].x);
            let mut right = column(tail).1;
            let mut y = start;
            let mut path = format!("M{tail:.1} {y:.1}H{right:.1}");
            let straights = self.arrows[arrow].iter().map(|pass| (column(pass.x), pass.y));
            for ((left, straight_to), height) in straights.chain([((column(head).0, head), end)]) {
                let middle = f64::midpoint(right, left);
                path += &format!("C{middle:.1} {y:.1} {middle:.1} {height:.1} {left:.1} {height:.1}H{straight_to:.1}");
                (right, y) = (straight_to, height);
            }
            path
        };
        self.ports(picture).into_iter().enumerate().map(route).collect()
    }

    /// The heights at which arrows leave and reach their boxes: in the order of where they come from or go to, so that
    /// they do not cross.
    fn ports(&self, picture: &Picture<'_>) -> Vec<(f64, f64)> {
        let middle = |place: usize| self.boxes[place].y + size(&picture.boxes[place]).y / 2.0;
        let next = |arrow: usize| self.arrows[arrow].first().map_or(middle(picture.arrows[arrow].1), |pass| pass.y);
        let last = |arrow: usize| self.arrows[arrow].last().map_or(middle(picture.arrows[arrow].0), |pass| pass.y);
        let port = |arrow: usize, place: usize, at: &dyn Fn(usize) -> Option<f64>| {
            let mut beside: Vec<(f64, usize)> =
                (0..self.arrows.len()).filter_map(|other| Some((at(other)?, other))).collect();
            beside.sort_by(|one, other| one.0.total_cmp(&other.0).then(one.1.cmp(&other.1)));
            let position = beside.iter().position(|(_, other)| *other == arrow).unwrap_or(0) as f64;
            let space = (size(&picture.boxes[place]).y - PADDING) / beside.len() as f64;
            middle(place) + (position - (beside.len() - 1) as f64 / 2.0) * space.min(PORT)
        };
        let of = |(arrow, &(from, to)): (usize, &(usize, usize))| {
            let leaves = |other: usize| (picture.arrows[other].0 == from).then(|| next(other));
            let reaches = |other: usize| (picture.arrows[other].1 == to).then(|| last(other));
            (port(arrow, from, &leaves), port(arrow, to, &reaches))
        };
        picture.arrows.iter().enumerate().map(of).collect()
    }

    /// The left and right ends of each column of boxes.
    fn columns(&self, picture: &Picture<'_>) -> Vec<(f64, f64)> {
        let ends = |(place, block): (&Point, &Block<'_>)| (place.x, place.x + size(block).x);
        let mut boxes: Vec<(f64, f64)> = self.boxes.iter().zip(&picture.boxes).map(ends).collect();
        boxes.sort_by(|one, other| one.0.total_cmp(&other.0));
        let mut columns: Vec<(f64, f64)> = Vec::new();
        for (left, right) in boxes {
            match columns.last_mut() {
                Some(column) if left <= column.1 => column.1 = column.1.max(right),
                _ => columns.push((left, right)),
            }
        }
        columns
    }
}

/// The layout draws its boxes in the order in which they were added, and so its arrows.
impl RenderBackend for Places {
    fn draw_rect(&mut self, place: Point, _: Point, _: &StyleAttr, _: Option<String>, _: Option<ClipHandle>) {
        self.boxes.push(place);
    }

    fn draw_arrow(
        &mut self,
        path: &[(Point, Point)],
        _: bool,
        _: (bool, bool),
        _: &StyleAttr,
        _: Option<String>,
        _: &str,
    ) {
        // The rest of it are the two ends and control points.
        self.arrows.push(path[1..path.len() - 1].iter().map(|(_, pass)| *pass).collect());
    }

    fn draw_text(&mut self, _: Point, _: &str, _: &StyleAttr) {}

    fn draw_line(&mut self, _: Point, _: Point, _: &StyleAttr, _: Option<String>) {}

    fn draw_circle(&mut self, _: Point, _: Point, _: &StyleAttr, _: Option<String>) {}

    fn create_clip(&mut self, _: Point, _: Point, _: usize) -> ClipHandle {
        0
    }
}

/// The width of a text, rather too much than too little.
fn width(text: &str, size: f64) -> f64 {
    text.chars().count() as f64 * size * LETTER
}

/// The width of the labels before the cells.
fn labels(block: &Block<'_>) -> f64 {
    let widest = block.rows.iter().map(|row| width(&row.label, LABEL)).fold(0.0, f64::max);
    if widest > 0.0 { widest + 6.0 } else { 0.0 }
}

fn size(block: &Block<'_>) -> Point {
    let longest = block.rows.iter().map(|row| row.cells.len()).max().unwrap_or(0);
    let cells = labels(block) + longest as f64 * STEP;
    let texts = block.lines.iter().map(|line| width(line, SMALL)).fold(width(block.title, TITLE), f64::max);
    let lines = 1 + block.lines.len();
    Point::new(
        cells.max(texts) + 2.0 * PADDING,
        lines as f64 * LINE + 6.0 + block.rows.len() as f64 * STEP + 2.0 * PADDING,
    )
}

fn draw(block: &Block<'_>, place: Point) -> Group {
    let size = size(block);
    let frame = Rectangle::new().set("class", "box").set("width", size.x).set("height", size.y).set("rx", 6);
    let origin = format!("translate({:.1} {:.1})", place.x, place.y);
    let mut group = Group::new().set("transform", origin).add(frame);
    let mut y = PADDING + SMALL;
    group.append(Text::new(block.title).set("class", "title").set("x", PADDING).set("y", y));
    for line in &block.lines {
        y += LINE;
        group.append(Text::new(line).set("class", "line").set("x", PADDING).set("y", y));
    }
    y += 10.0;
    let labels = labels(block);
    for row in &block.rows {
        if !row.label.is_empty() {
            let text = Text::new(&row.label).set("class", "label").set("x", PADDING + labels - 6.0);
            group.append(text.set("y", y + CELL - 2.0));
        }
        for (column, cell) in row.cells.iter().enumerate() {
            let title = Title::new(format!("{}: {}", cell.name, cell.reason));
            let place = Point::new(PADDING + labels + column as f64 * STEP, y);
            group.append(draw_cell(cell.standing, place).add(title));
        }
        y += STEP;
    }
    group
}

/// Told apart without colours, too: a stale cell has a mark, a waiting one is empty, a
/// blocked one has a broken line around it.
fn draw_cell(standing: Standing, place: Point) -> Group {
    let square = Rectangle::new().set("class", standing.name()).set("width", CELL).set("height", CELL).set("rx", 2);
    let mut group = Group::new().add(square.set("x", place.x).set("y", place.y));
    if standing == Standing::Stale {
        let center = (place.x + CELL / 2.0, place.y + CELL / 2.0);
        group.append(Circle::new().set("class", "mark").set("cx", center.0).set("cy", center.1).set("r", 2));
    }
    group
}

/// The width of the legend, where nothing is blocked.
const LEGEND: f64 = 3.0 * LEGEND_STEP;
const LEGEND_STEP: f64 = 130.0;

fn draw_legend(picture: &Picture<'_>, place: Point) -> Group {
    let mut group = Group::new();
    let counts = picture.counts();
    let is_shown = |standing: &Standing| *standing != Standing::Blocked || counts.blocked > 0;
    for (column, standing) in Standing::ALL.into_iter().filter(is_shown).enumerate() {
        let x = place.x + column as f64 * LEGEND_STEP;
        let words = format!("{standing} ({})", counts.of(standing));
        group.append(draw_cell(standing, Point::new(x, place.y)));
        group.append(Text::new(words).set("class", "line").set("x", x + STEP + 4.0).set("y", place.y + CELL - 1.0));
    }
    group
}
