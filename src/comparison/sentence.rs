//! What a comparison says in words, and what it does not.

use super::Comparison;
use crate::text::plural;

/// What such numbers do not show.
pub const LIMITS: &str = "\
What this does not show: that a method is better on other data sets than these, or with other\n\
hyper-parameters. Seeds of one data set share its classes and test images, so the pairs with seeds and\n\
the images tell of these data sets alone; with few data sets no p-value can be small. Whoever compares\n\
many methods finds some small p-value by chance.\n";

impl Comparison {
    /// What a paper may print of it, with these names for the two methods.
    pub fn sentence(&self, [first, second]: [&str; 2]) -> String {
        let where_from = match self.datasets.as_slice() {
            [only] => format!("On {} ({})", only.dataset, plural(self.pairs, "seed", "seeds")),
            all => {
                format!("Over {} data sets ({})", all.len(), plural(self.pairs, "pair with seeds", "pairs with seeds"))
            }
        };
        let metric = match self.metric.as_str() {
            "hm" => "harmonic mean of base and novel accuracy".to_owned(),
            classes @ ("base" | "novel") => format!("{classes} accuracy"),
            other => other.replace('_', " "),
        };
        let direction = if self.difference < 0.0 { "below" } else { "above" };
        let drawn = if self.datasets.len() > 1 { "data sets" } else { "seeds" };
        let interval = self.interval.map_or_else(String::new, |[low, high]| {
            format!("95 % interval from {low:+.2} to {high:+.2}, bootstrap over {drawn}")
        });
        let chance = self.p_datasets.filter(|_| self.datasets.len() > 1);
        let chance = chance.map_or_else(String::new, |value| {
            let compared = if value < 0.0001 { "p < 0.0001".to_owned() } else { format!("p = {value:.4}") };
            format!("; Wilcoxon signed-rank test over data sets, {compared}")
        });
        let size = self.difference.abs();
        let aside = if interval.is_empty() { String::new() } else { format!(" ({interval}{chance})") };
        format!("{where_from}, the {metric} of {first} is {size:.2} points {direction} that of {second}{aside}.")
    }
}
