//! Reliability diagrams as SVG: small, since there is one for each method and data set.

use std::fmt::Write;

use maud::{Markup, html};

use crate::evaluation::{BINS, Bin, Calibration};

/// The side of the square in which accuracy stands above confidence.
const SIDE: f64 = 120.0;
/// Where the square begins.
const LEFT: f64 = 22.0;
const TOP: f64 = 4.0;
/// How high the shares of the images below it are at most, and the room above them.
const SHARES: f64 = 22.0;
const GAP: f64 = 14.0;

/// Accuracy above confidence in each bin, with what lies between the two, and below them the share of the images.
pub(super) fn diagram(calibration: &Calibration, says: &str) -> Markup {
    let images = calibration.whole().images.max(1) as f64;
    let most = calibration.bins.iter().map(|bin| bin.images).max().unwrap_or(0).max(1) as f64;
    let bottom = TOP + SIDE;
    let foot = bottom + GAP + SHARES;
    let height = |share: f64| bottom - SIDE * share;
    let bars = path(calibration, |bin| (bottom, height(bin.accuracy())));
    let gaps = path(calibration, |bin| (height(bin.accuracy()), height(bin.mean_confidence())));
    let shares = path(calibration, |bin| (foot, foot - SHARES * bin.images as f64 / most));
    let (width, right) = (LEFT + SIDE + 6.0, LEFT + SIDE);
    html! {
        svg.reliability viewBox=(format!("0 0 {width} {}", foot + 1.0)) role="img" aria-label=(says) {
            title { (says) }
            rect.frame x=(LEFT) y=(TOP) width=(SIDE) height=(SIDE) {}
            path.accuracy d=(bars) {}
            path.apart d=(gaps) {}
            path.ideal d=(format!("M{LEFT} {bottom}L{right} {TOP}")) {}
            path.shares d=(shares) {}
            @for (share, word) in [(0.0, "0"), (0.5, "0.5"), (1.0, "1")] {
                text.at-left x=(LEFT - 3.0) y=(format!("{:.0}", height(share) + 3.0)) { (word) }
                text.at-foot x=(format!("{:.0}", LEFT + SIDE * share)) y=(bottom + 10.0) { (word) }
            }
            text.at-left x=(LEFT - 3.0) y=(foot - SHARES + 7.0) { (format!("{:.0}%", 100.0 * most / images)) }
        }
    }
}

/// A bar in each bin that has images, between the two heights that it says.
fn path(calibration: &Calibration, heights: impl Fn(&Bin) -> (f64, f64)) -> String {
    let step = SIDE / BINS as f64;
    let mut path = String::new();
    for (place, bin) in calibration.bins.iter().enumerate().filter(|(_, bin)| bin.images > 0) {
        let (from, to) = heights(bin);
        let (left, wide, high) = (LEFT + step * place as f64 + 0.5, step - 1.0, to - from);
        write!(path, "M{left:.1} {from:.1}h{wide:.1}v{high:.1}h-{wide:.1}z").expect("a string takes all");
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_bin_with_images_has_its_bars() {
        let calibration = Calibration::of([(0.98, true), (0.98, false), (0.4, true)]);
        let svg = diagram(&calibration, "MaPLe < CoOp").into_string();
        let bars = |class: &str| {
            let path = svg.split(&format!("class=\"{class}\" d=\"")).nth(1).unwrap();
            path.split('"').next().unwrap().matches('M').count()
        };
        assert_eq!(["accuracy", "apart", "shares", "ideal"].map(bars), [2, 2, 2, 1]);
        // Half of those in the last bin are right: its bar ends in the middle; the fuller bin's share is 67 %.
        assert!(svg.contains("M134.5 124.0h7.0v-60.0h-7.0z") && svg.contains(">67%<"), "{svg}");
        assert!(svg.contains("<title>MaPLe &lt; CoOp</title>"), "{svg}");
    }
}
