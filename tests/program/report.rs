//! `report`: one page.

use std::fs;

use snapbox::str;

use maple_pipe::evaluation::{Calibration, PredictionRow};
use maple_pipe::files::read_csv;

use crate::numbers::{PIPELINE, project};
use crate::support::{self, Project};

/// A report on the tiny project.
fn report(project: &Project) -> String {
    assert_eq!(project.run(&["report", support::PIPELINE, "-o", "report.html"]).code, Some(0));
    project.read("report.html")
}

#[test]
fn a_report_is_one_file_and_trusts_no_name() {
    let project = project();
    project.replace(PIPELINE, "MaPLe\" }", "<script>alert(1)</script>\" }");
    project.run(&["run", PIPELINE, "--keep-going"]);
    project.prints(
        &["report", PIPELINE],
        str![[r#"
<stderr>
wrote results/numbers/report.html
<exit code 0>

"#]],
    );
    let html = project.read("results/numbers/report.html");
    assert!(html.contains("&lt;script&gt;alert(1)&lt;/script&gt;") && !html.contains("<script>alert(1)"));
    assert!(html.contains("11 up to date") || html.contains("12 up to date"), "{}", &html[..html.len().min(9000)]);
    assert!(html.contains("missing") && html.contains("1 of 2 seeds"));
    // CoOp's base accuracy on EuroSAT is more than a point below the paper's.
    assert!(html.contains("-1.19!</span>"), "{html}");
    assert!(!html.contains("src=\"http") && !html.contains("<link"));
    // An empty store gives a report, too.
    fs::remove_dir_all(project.file(".maple")).unwrap();
    assert_eq!(project.run(&["report", PIPELINE, "-o", "empty.html"]).code, Some(0));
}

/// CLIP has one evaluation of each half of the classes, CoOp and MaPLe one for each of two seeds.
#[test]
fn a_report_compares_methods_and_says_how_sure_they_are() {
    let project = Project::after_a_run();
    let html = report(&project);
    // A matrix for each column, HM first; MaPLe less CoOp in its last row.
    let headings: Vec<&str> = html.split("aria-label=\"Methods beside each other, ").skip(1).step_by(2).collect();
    let headings: Vec<&str> = headings.iter().map(|part| part.split('"').next().unwrap()).collect();
    assert_eq!(headings, ["HM", "Novel", "Base"]);
    let compared = project.json(&["compare", support::PIPELINE, "maple", "coop", "--json"]);
    let column = compared[0]["columns"].as_array().unwrap().iter().find(|column| column["metric"] == "novel").unwrap();
    let sentence = compared[0]["sentences"][1].as_str().unwrap();
    assert!(html.contains(sentence), "{sentence}");
    let difference = column["difference"].as_f64().unwrap();
    assert!(html.contains(&format!("{difference:+.2}")), "{difference}");

    assert_eq!(html.matches("<svg class=\"reliability\"").count(), 6);
    let errors = [1, 2].map(|seed| {
        let path = project.artifact(&format!("eval/shapes/coop/seed{seed}/novel"), "predictions");
        let rows: Vec<PredictionRow<'static>> = read_csv(&path).unwrap();
        Calibration::of(rows.iter().map(|row| (row.probability, row.label == row.prediction))).error().unwrap()
    });
    let (mean, deviation) = (errors.iter().sum::<f64>() / 2.0, (errors[0] - errors[1]).abs() / 2.0);
    let row = html.split("<th scope=\"row\">coop</th><td>novel</td>").nth(1).unwrap().split("</tr>").next().unwrap();
    assert!(row.contains(&format!("{mean:.2}<span class=\"std\"> ± {deviation:.2}</span>")), "{row}, {errors:?}");
}

#[test]
fn a_report_shows_features_in_a_plane_and_the_same_one_each_time() {
    let project = Project::after_a_run();
    let without = report(&project);
    assert!(!without.contains("id=\"features\""));
    let features =
        "[stage.features]\nkind = \"features\"\naxes = [\"dataset\"]\ndataset = \"@data\"\nweights = \"@clip\"\n";
    let pipeline = project.read(support::PIPELINE) + "\n" + features;
    project.write(
        support::PIPELINE,
        &pipeline.replacen("name = \"tiny\"\n", "name = \"tiny\"\nresults = [\"@table\", \"@features\"]\n", 1),
    );
    assert_eq!(project.ran(&["run", support::PIPELINE]), support::names(&["features/shapes"]));
    let plane = |html: String| {
        let section = html.split("<section id=\"features\"").nth(1).unwrap().split("</section>").next().unwrap();
        section.to_owned()
    };
    let found = plane(report(&project));
    assert!(found.contains("<title>shapes: all 4 classes</title>") && found.contains(" % of the variance"), "{found}");
    // A point for each of three test images of each class, and one for each class beside the plot.
    assert_eq!(found.matches("<circle").count(), 4 * 3 + 4, "{found}");
    assert_eq!(plane(report(&project)), found);
}
