//! The report as HTML.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::diagram::diagram;
use super::evaluation::share;
use super::{Confusion, DatasetAttention, DatasetDetail, MakingRun, Matrix, MethodCalibration, Mistake, Report};
use crate::comparison::{Comparison, LIMITS};
use crate::evaluation::BINS;
use crate::store::{RunNode, RunRecord};
use crate::table::{Cell, Table};
use crate::text::{duration, plural, utc};

const STYLE: &str = include_str!("report.css");
/// The colours that the style sheet has for stages.
const STAGE_COLOURS: usize = 12;
const SCRIPT: &str = include_str!("report.js");

impl Report {
    /// The report as one HTML file that needs nothing else.
    pub fn html(&self) -> String {
        page(self).into_string()
    }
}

fn page(report: &Report) -> Markup {
    let sections: [(&str, &str, Option<Markup>); 9] = [
        ("results", "Results", (!report.tables.is_empty()).then(|| results(report))),
        ("training", "Training", (!report.training.is_empty()).then(|| figures(&report.training))),
        ("classes", "Classes and mistakes", (!report.datasets.is_empty()).then(|| details(&report.datasets))),
        ("features", "Features", (!report.features.is_empty()).then(|| features(&report.features))),
        ("attention", "Attention", (!report.attentions.is_empty()).then(|| attention(&report.attentions))),
        ("pipeline", "Pipeline", Some(pipeline(report))),
        ("time", "Time", Some(time(report))),
        ("run", "Runs", (!report.runs.is_empty()).then(|| runs(report))),
        ("provenance", "Provenance", (!report.made_by.is_empty()).then(|| provenance(report))),
    ];
    let title = format!("{} - maple-pipe report", report.name);
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                a.skip href="#content" { "Skip to the results" }
                header {
                    h1 { (report.name) }
                    p.summary { (summary(report)) }
                    nav aria-label="Sections" {
                        @for (id, heading, content) in &sections {
                            @if content.is_some() { a href={ "#" (id) } { (heading) } " " }
                        }
                    }
                }
                main #content {
                    @for (id, heading, content) in sections {
                        @if let Some(content) = content {
                            section id=(id) aria-labelledby={ (id) "-heading" } {
                                h2 id={ (id) "-heading" } { (heading) }
                                (content)
                            }
                        }
                    }
                }
                footer { p { "Made by maple-pipe " (env!("CARGO_PKG_VERSION")) " on " (utc(report.made)) "." } }
                script { (PreEscaped(SCRIPT)) }
            }
        }
    }
}

fn summary(report: &Report) -> String {
    let counts = &report.counts;
    let standing = match counts.stale + counts.waiting + counts.blocked {
        0 => "all up to date".to_owned(),
        missing => format!("{} up to date, {missing} not: the numbers below are partial", counts.fresh),
    };
    let set = match report.overrides.as_slice() {
        [] => String::new(),
        overrides => format!(" Set for this report: {}.", overrides.join(", ")),
    };
    format!("{} nodes, {standing}; {} of computing.{set}", counts.nodes, duration(report.seconds))
}

fn results(report: &Report) -> Markup {
    html! {
        @for ((table, mixed), matrices) in report.tables.iter().zip(&report.matrices) {
            (results_table(table))
            @if let Some(mixed) = mixed { p.caption { (mixed) } }
            @let plots = table.dataset_plots();
            @if let Some(plot) = table.plot() { figure.plot-figure { (PreEscaped(plot)) } }
            @if !plots.is_empty() {
                details { summary { "The same for each data set" } (figures(&plots)) }
            }
            @if !matrices.is_empty() { (beside(matrices)) }
        }
    }
}

/// A table whose columns sort it.
fn results_table(table: &Table) -> Markup {
    let notes = table.notes();
    let best = |group: usize, column: usize| {
        let complete = |cell: &&Cell| cell.note().is_none();
        let cells = table.groups[group].rows.iter().filter_map(|row| row[column].as_ref().filter(complete));
        cells.filter_map(|cell| cell.mean).fold(f64::MIN, f64::max)
    };
    let cell = |group: usize, method: usize, column: usize| {
        number(table, table.groups[group].rows[method][column].as_ref(), best(group, column), &notes)
    };
    // With a single metric, data sets stand side by side.
    let is_wide = table.metrics.len() == 1 && table.groups.len() > 1;
    let caption = if table.caption.is_empty() { &table.name } else { &table.caption };
    html! {
        p.caption { (caption) }
        div.scroll tabindex="0" role="region" aria-label=(caption) {
            table.results.sortable aria-label=(caption) {
                @if is_wide {
                    thead { tr {
                        (heading("Method"))
                        @for group in &table.groups { (number_heading(&group.label.text)) }
                    } }
                    tbody {
                        @for (method, label) in table.methods.iter().enumerate() {
                            tr {
                                th scope="row" { (label.text) }
                                @for group in 0..table.groups.len() { (cell(group, method, 0)) }
                            }
                        }
                    }
                } @else {
                    thead { tr {
                        (heading("Data set")) (heading("Method"))
                        @for metric in &table.metrics { (number_heading(&metric.heading())) }
                    } }
                    tbody {
                        @for (place, group) in table.groups.iter().enumerate() {
                            @for (method, label) in table.methods.iter().enumerate() {
                                tr .average[group.label.name == "average"] {
                                    td.dataset { (group.label.text) }
                                    th scope="row" { (label.text) }
                                    @for column in 0..table.metrics.len() { (cell(place, method, column)) }
                                }
                            }
                        }
                    }
                }
            }
        }
        @if !notes.is_empty() || table.is_spread() || table.is_compared() {
            ul.notes {
                @if table.is_spread() { li { "±, and bars in plots: " (table.deviation.says()) "." } }
                @for (place, note) in notes.iter().enumerate() { li { sup { (place + 1) } " " (note) } }
                @if table.is_compared() {
                    li { "Small: the difference to the published number; " span.off { "!" } ": more than "
                        (format!("{:.2}", table.tolerance)) "." }
                }
            }
        }
    }
}

fn number(table: &Table, cell: Option<&Cell>, best: f64, notes: &[String]) -> Markup {
    let Some(cell) = cell else { return html! { td.number data-value="" { } } };
    let is_best = cell.note().is_none() && cell.mean.is_some_and(|mean| mean >= best);
    html! {
        td.number data-value=(cell.mean.map_or(String::new(), |mean| mean.to_string())) {
            @match cell.mean {
                Some(mean) if is_best => strong { (format!("{mean:.2}")) },
                Some(mean) => (format!("{mean:.2}")),
                None => span.missing { "missing" },
            }
            @if let Some(std) = cell.std { span.std { " ± " (format!("{std:.2}")) } }
            @if let Some(delta) = cell.delta() {
                @let is_off = table.is_off(cell);
                span.delta.off[is_off] { " " (format!("{delta:+.2}")) @if is_off { "!" } }
            }
            @if let Some(note) = cell.note_number(notes) { sup { (note) } }
        }
    }
}

/// How far the methods of a table are apart.
fn beside(matrices: &[Matrix]) -> Markup {
    html! {
        details {
            summary { "Methods beside each other: differences, intervals, p" }
            p.caption {
                "The row's mean less the column's, in percentage points; below it its 95 % interval (bootstrap over data sets, or \
                 over seeds where there is one data set) and p (Wilcoxon's signed-rank test over data sets, not corrected for \
                 the number of pairs). " b { "Bold" } ": the interval leaves out zero."
            }
            @for matrix in matrices {
                h3 { (matrix.metric) }
                div.scroll tabindex="0" role="region" aria-label={ "Methods beside each other, " (matrix.metric) } {
                    table.matrix.beside aria-label={ "Methods beside each other, " (matrix.metric) } {
                        thead { tr { td {} @for method in &matrix.methods { th.number scope="col" { (method) } } } }
                        tbody {
                            @for (method, row) in matrix.methods.iter().zip(&matrix.cells) {
                                tr {
                                    th scope="row" { (method) }
                                    @for (other, cell) in matrix.methods.iter().zip(row) {
                                        (difference(cell.as_ref(), [method, other], matrix))
                                    }
                                }
                            }
                        }
                    }
                }
            }
            p.caption { (LIMITS) }
        }
    }
}

/// A method beside another; the darker the further they are apart.
fn difference(cell: Option<&Comparison>, methods: [&str; 2], matrix: &Matrix) -> Markup {
    let Some(cell) = cell else { return html! { td {} } };
    let differences = matrix.cells.iter().flatten().flatten().map(|one| one.difference.abs());
    let share = 40.0 * cell.difference.abs() / differences.fold(1e-9, f64::max);
    let is_clear = cell.interval.is_some_and(|[low, high]| low > 0.0 || high < 0.0);
    let words = format!("{:+.2}", cell.difference);
    html! {
        td.number.heat.worse[cell.difference < 0.0] title=(cell.sentence(methods))
            style={ "--share:" (format!("{share:.0}%")) } {
            @if is_clear { strong { (words) } } @else { (words) }
            @if let Some([low, high]) = cell.interval { span { (format!("{low:+.2} to {high:+.2}")) } }
            @if let Some(p) = cell.p_datasets.filter(|_| cell.datasets.len() > 1) {
                span { @if p < 0.001 { "p < 0.001" } @else { (format!("p = {p:.3}")) } }
            }
        }
    }
}

/// The heading of a column of names that sorts.
fn heading(name: &str) -> Markup {
    html! { th scope="col" aria-sort="none" { button type="button" { (name) } } }
}

/// The heading of a column of numbers that sorts.
fn number_heading(name: &str) -> Markup {
    html! { th.number scope="col" aria-sort="none" { button type="button" { (name) } } }
}

fn figures(plots: &[String]) -> Markup {
    html! { div.plots { @for plot in plots { figure.plot-figure { (PreEscaped(plot)) } } } }
}

fn features(plots: &[String]) -> Markup {
    html! {
        p.caption {
            "Test images of some classes as plain CLIP's image tower sees them: their features, each of length one, along the two \
             principal components of those that are shown. Triangles: the texts of the classes, where a stage has them, along the \
             same components from the mean of all texts, since texts and images lie apart as wholes. Classes that lie apart here \
             are told apart easily; those that do not may be so along other components."
        }
        (figures(plots))
    }
}

/// Images by methods: where each looks.
fn attention(datasets: &[DatasetAttention]) -> Markup {
    html! {
        p.caption {
            "Where the class token of the image tower looks: its attention in the last block, the mean over the heads. Orange parts \
             get much of it, next to the patch that gets most. This is no attention rollout (Abnar and Zuidema, 2020), which \
             multiplies the attention of all blocks. In percent: the share that goes to learned prompts, which are no part of the \
             image."
        }
        @for (place, dataset) in datasets.iter().enumerate() {
            details open[place == 0] {
                summary { (dataset.label) }
                div.scroll tabindex="0" role="region" aria-label={ "Attention on " (dataset.label) } {
                    table.attention aria-label={ "Attention on " (dataset.label) } {
                        thead { tr {
                            th scope="col" { "Image" }
                            @for method in &dataset.methods { th scope="col" { (method) } }
                        } }
                        tbody { @for image in &dataset.images { tr {
                            th scope="row" { (example(image.picture.as_ref(), &image.class)) span { (image.class) } }
                            @for (method, look) in dataset.methods.iter().zip(&image.looks) {
                                td { @if let Some((picture, prompts)) = look {
                                    (example(picture.as_ref(), &format!("where {method} looks in {}", image.class)))
                                    @if *prompts > 0.0 { span { (format!("{prompts:.0} % to prompts")) } }
                                } }
                            }
                        } } }
                    }
                }
            }
        }
    }
}

fn example(picture: Option<&String>, says: &str) -> Markup {
    html! {
        @match picture {
            Some(picture) => { img src=(picture) alt=(says) width="96" height="96"; }
            None => span.missing { "image not there" },
        }
    }
}

fn details(datasets: &[DatasetDetail]) -> Markup {
    html! {
        @for (place, detail) in datasets.iter().enumerate() {
            details open[place == 0] {
                summary { (detail.label) }
                (worst_classes(detail))
                @if !detail.calibrations.is_empty() { (calibration(detail)) }
                @if let Some(confusion) = &detail.confusion { (matrix(confusion, &detail.label)) }
                @if !detail.mistakes.is_empty() { (mistakes(&detail.mistakes)) }
            }
        }
    }
}

/// Classes by methods, the worst class first.
fn worst_classes(detail: &DatasetDetail) -> Markup {
    let which = if detail.count > detail.worst.len() {
        format!("The {} of {} classes with most errors", detail.worst.len(), detail.count)
    } else {
        "All classes, those with most errors first".to_owned()
    };
    html! {
        h3 { "Worst classes" }
        p.caption { (which) ": correct test images in percent, over all seeds." }
        div.scroll tabindex="0" role="region" aria-label={ "Classes of " (detail.label) } {
            table.classes.sortable aria-label={ "Classes of " (detail.label) } {
                thead { tr { (heading("Class")) @for method in &detail.methods { (number_heading(method)) } } }
                tbody {
                    @for row in &detail.worst {
                        tr {
                            th scope="row" { (row.class) }
                            @for correct in &row.correct { (class_share(*correct)) }
                        }
                    }
                }
            }
        }
    }
}

/// How sure methods are beside how often they are right: a table, and a diagram of each.
fn calibration(detail: &DatasetDetail) -> Markup {
    let percent = |share: f64| format!("{:.1}", 100.0 * share);
    let says = |one: &MethodCalibration| {
        let setting = if one.setting.is_empty() { String::new() } else { format!(", {}", one.setting) };
        format!("{}{setting}", one.method)
    };
    html! {
        h3 { "Calibration" }
        p.caption {
            "In percent. Confidence: the mean probability of what an image is taken for. ECE: the expected calibration error of \
             Guo et al. (2017), in " (BINS) " equal bins: how far accuracy and confidence are apart in each, weighted by its \
             images; the mean over the seeds ± their standard deviation (divisor n)."
        }
        div.scroll tabindex="0" role="region" aria-label={ "Calibration on " (detail.label) } {
            table.classes.sortable aria-label={ "Calibration on " (detail.label) } {
                thead { tr {
                    (heading("Method")) (heading("Setting")) (number_heading("Accuracy")) (number_heading("Confidence"))
                    (number_heading("ECE"))
                } }
                tbody {
                    @for one in &detail.calibrations {
                        @let whole = one.whole.whole();
                        @let (error, deviation) = one.error;
                        tr {
                            th scope="row" { (one.method) }
                            td { (one.setting) }
                            td.number data-value=(whole.accuracy()) { (percent(whole.accuracy())) }
                            td.number data-value=(whole.mean_confidence()) { (percent(whole.mean_confidence())) }
                            td.number data-value=(error) {
                                (format!("{error:.2}"))
                                @if let Some(deviation) = deviation { span.std { " ± " (format!("{deviation:.2}")) } }
                            }
                        }
                    }
                }
            }
        }
        details {
            summary { "Reliability diagrams" }
            p.caption {
                "Accuracy above confidence, over all seeds. " span.key { i.accuracy {} "accuracy of a bin" } " "
                span.key { i.apart {} "from there to its mean confidence" } " " span.key { i.shares {} "its share of the images" }
                " On the diagonal a method is as often right as it is sure."
            }
            ul.reliabilities {
                @for one in &detail.calibrations {
                    @let name = says(one);
                    li {
                        (diagram(&one.whole, &format!("Reliability of {name} on {}: ECE {:.2} %", detail.label, one.error.0)))
                        span { (name) ": ECE " (format!("{:.1}", one.error.0)) }
                    }
                }
            }
        }
    }
}

fn class_share(correct: Option<(usize, usize)>) -> Markup {
    let Some((right, images)) = correct else { return html! { td.number data-value="" { } } };
    let percent = 100.0 * share((right, images));
    html! {
        td.number.heat data-value=(percent) title={ (right) " of " (images) " images" }
            style={ "--share:" (format!("{:.0}%", 0.6 * percent)) } { (format!("{percent:.1}")) }
    }
}

fn matrix(confusion: &Confusion, dataset: &str) -> Markup {
    let which = if confusion.count > confusion.classes.len() {
        format!("the {} of {} classes with most errors", confusion.classes.len(), confusion.count)
    } else {
        "all classes".to_owned()
    };
    html! {
        h3 { "Confusions of " (confusion.method) }
        p.caption { "Rows: the class; columns: what its images are taken for, in percent; " (which) "." }
        div.scroll tabindex="0" role="region" aria-label={ "Confusions on " (dataset) } {
            table.matrix aria-label={ "Confusions on " (dataset) } {
                thead { tr { td {} @for class in &confusion.classes { th scope="col" { span { (class) } } } } }
                tbody {
                    @for (class, row) in confusion.classes.iter().zip(&confusion.shares) {
                        tr {
                            th scope="row" { (class) }
                            @for share in row {
                                td.heat style={ "--share:" (format!("{:.0}%", 85.0 * share)) } {
                                    @if *share >= 0.005 { (format!("{:.0}", 100.0 * share)) }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn mistakes(mistakes: &[Mistake]) -> Markup {
    html! {
        h3 { "Surest mistakes" }
        ul.mistakes {
            @for mistake in mistakes {
                @let says = format!("{}, taken for {} with {:.0} %", mistake.class, mistake.predicted, mistake.probability);
                li {
                    @match &mistake.thumbnail {
                        Some(picture) => { img src=(picture) alt=(says) width="96"; }
                        None => span.missing { "image not there" },
                    }
                    span { b { (mistake.class) } " taken for " b { (mistake.predicted) } (format!(", {:.0}\u{a0}%", mistake.probability)) }
                }
            }
        }
    }
}

fn pipeline(report: &Report) -> Markup {
    let counts = &report.counts;
    let says = format!("The stages of the pipeline and how their {} nodes stand: {counts}.", counts.nodes);
    html! {
        p { (says) }
        div.scroll tabindex="0" role="region" aria-label="Stages" {
            img.dag alt=(says) src={ "data:image/svg+xml;base64," (STANDARD.encode(&report.dag)) };
        }
    }
}

fn time(report: &Report) -> Markup {
    let most = report.stages.iter().map(|stage| stage.seconds.0).fold(1e-9, f64::max);
    html! {
        div.scroll tabindex="0" role="region" aria-label="Time by stage" {
            table.times {
                caption { "Time of the nodes that are up to date, by stage" }
                thead { tr {
                    th scope="col" { "Stage" } th.number scope="col" { "Nodes" } th.number scope="col" { "In all" }
                    th.number scope="col" { "Mean" } th.number scope="col" { "Longest" } td {}
                } }
                tbody {
                    @for stage in &report.stages {
                        tr {
                            th scope="row" { (stage.stage) }
                            td.number { (stage.nodes) }
                            td.number { (duration(stage.seconds.0)) }
                            td.number { (duration(stage.seconds.0 / stage.nodes as f64)) }
                            td.number { (duration(stage.seconds.1)) }
                            td.bar { span style={ "width:" (format!("{:.1}%", 100.0 * stage.seconds.0 / most)) } {} }
                        }
                    }
                }
            }
        }
    }
}

/// The runs that made what is shown, the one that made most in full.
fn runs(report: &Report) -> Markup {
    let all = &report.runs;
    let largest = all.iter().max_by_key(|one| one.made);
    let unknown = report.of_unknown_runs;
    html! {
        div.scroll tabindex="0" role="region" aria-label="Runs that made these results" {
            table.digests {
                caption { "The runs that made the results on this page, newest first" }
                thead { tr {
                    th scope="col" { "Run" } th scope="col" { "Started" } th.number scope="col" { "Results" }
                    th scope="col" { "Set" } th scope="col" { "Ended" } th scope="col" { "Commit" }
                } }
                tbody { @for MakingRun { run, made, .. } in all { tr {
                    th scope="row" { (run.id) } td { (utc(run.started)) } td.number { (made) }
                    td { (run.invocation.overrides.join(" ")) } td { (run.end) " in " (duration(run.seconds)) }
                    td { (run.commit.as_ref().map(ToString::to_string).unwrap_or_default()) }
                } } }
            }
        }
        @if unknown > 0 { p { (plural(unknown, "result was", "results were")) " made by runs that are not recorded any more." } }
        @if let Some(MakingRun { run, nodes, .. }) = largest { (one_run(run, nodes)) }
    }
}

fn one_run(run: &RunRecord, nodes: &[RunNode]) -> Markup {
    let commit = run.commit.as_ref().map(ToString::to_string).unwrap_or_else(|| "in no repository".to_owned());
    let facts = [
        ("Run", run.id.clone()),
        ("Started", utc(run.started)),
        ("Took", format!("{}, {}", duration(run.seconds), run.end)),
        ("Program", run.program()),
        ("Commit", commit),
        ("Host", run.host.clone()),
        ("Devices", run.invocation.devices.join(", ")),
        ("Command", format!("maple-pipe {}", run.invocation.arguments.join(" "))),
    ];
    html! {
        dl { @for (name, value) in facts { dt { (name) } dd { (value) } } }
        (timeline(run, nodes))
    }
}

/// The nodes of a run as bars in as many lanes as ran at once.
fn timeline(run: &RunRecord, nodes: &[RunNode]) -> Markup {
    const LANE: usize = 14;
    let start = |node: &RunNode| node.started.map_or(0.0, |started| started.duration_since(run.started).as_secs_f64());
    let mut bars: Vec<(f64, f64, &RunNode)> =
        nodes.iter().map(|node| (start(node), node.seconds.unwrap_or_default(), node)).collect();
    bars.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut lanes: Vec<f64> = Vec::new();
    let whole = run.seconds.max(1e-3);
    let mut placed = Vec::new();
    for (start, seconds, node) in bars {
        let free = lanes.iter().position(|end| *end <= start + 1e-3).unwrap_or_else(|| {
            lanes.push(0.0);
            lanes.len() - 1
        });
        lanes[free] = start + seconds;
        placed.push((free, start, seconds, node));
    }
    let mut stages: Vec<&str> = Vec::new();
    let height = lanes.len().max(1) * LANE;
    let (ran, at_once) = (plural(placed.len(), "node", "nodes"), lanes.len());
    let says = format!("{ran} ran in {}, {at_once} at most at the same time", duration(run.seconds));
    html! {
        figure {
            svg.timeline viewBox={ "0 0 1000 " (height) } preserveAspectRatio="none" role="img" aria-label=(says)
                style={ "height:" (height) "px" } {
                title { (says) }
                @for (lane, start, seconds, node) in placed {
                    @let stage = node.node.split('/').next().unwrap_or_default();
                    @let colour = stages.iter().position(|known| *known == stage).unwrap_or_else(|| { stages.push(stage); stages.len() - 1 });
                    rect.{ "stage" (colour % STAGE_COLOURS) } x=(format!("{:.2}", 1000.0 * start / whole)) y=(lane * LANE + 1)
                        width=(format!("{:.2}", (1000.0 * seconds / whole).max(0.5))) height=(LANE - 2) {
                        title { (node.node) " " (duration(seconds)) }
                    }
                }
            }
            figcaption {
                "What ran when: " (says) ". "
                @for (place, stage) in stages.iter().enumerate() { span.key { i.{ "stage" (place % STAGE_COLOURS) } {} (stage) } " " }
            }
        }
    }
}

fn provenance(report: &Report) -> Markup {
    let rows = &report.provenance;
    html! {
        div.scroll tabindex="0" role="region" aria-label="What computed the results" {
            table.digests {
                caption { "What computed the results" }
                thead { tr { th scope="col" { "Computed by" } th.number scope="col" { "Nodes" } } }
                tbody { @for (made_by, count) in &report.made_by { tr { th scope="row" { (made_by) } td.number { (count) } } } }
            }
        }
        details {
            summary { (rows.len()) " digests of what the results were made from" }
            div.scroll tabindex="0" role="region" aria-label="Digests" {
                table.digests {
                    caption { "blake3 digests" }
                    thead { tr { th scope="col" { "What" } th scope="col" { "Node or place" } th scope="col" { "Digest" } } }
                    tbody { @for [what, place, digest] in rows { tr { td { (what) } th scope="row" { (place) } td { code { (digest) } } } } }
                }
            }
        }
    }
}
