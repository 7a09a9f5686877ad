//! `maple-pipe compare`: two methods in pairs.

use snapbox::str;

use crate::support::{PIPELINE, Project};

/// Evaluations that commands leave, with accuracies of three data sets and two seeds.
fn measured() -> Project {
    let project = Project::new();
    let mut text =
        "[axes]\ndataset = [\"a\", \"b\", \"c\"]\nmethod = [\"clip\", \"ours\", \"theirs\"]\nseed = [1, 2]\n\
                    [stage.table]\nkind = \"table\"\ncaption = \"Made up.\"\nevals = [\"@clip\", \"@trained\"]\n\
                    labels = { ours = \"Ours\", theirs = \"Theirs\" }\n"
            .to_owned();
    for (stage, axes, filter) in [
        ("clip", "\"dataset\", \"method\"", "only = { method = \"clip\" }"),
        ("trained", "\"dataset\", \"method\", \"seed\"", "exclude = { method = \"clip\" }"),
    ] {
        let file = if stage == "clip" { "{dataset}-{method}" } else { "{dataset}-{method}-{seed}" };
        text += &format!(
            "[stage.{stage}]\nkind = \"command\"\naxes = [{axes}]\n{filter}\nrun = \"cp inputs/metrics metrics.json\"\n\
             inputs = {{ metrics = \"metrics/{file}.json\" }}\noutputs = {{ metrics = \"metrics.json\" }}\n"
        );
    }
    project.write("made_up.toml", &text);
    for (dataset, clip, ours, theirs) in [
        ("a", 50.0, [61.0, 63.0], [60.0, 60.0]),
        ("b", 70.0, [81.5, 80.5], [80.0, 80.0]),
        ("c", 40.0, [45.0, 43.0], [46.0, 44.0]),
    ] {
        let write = |name: &str, accuracy: f64| {
            let path = format!("metrics/{dataset}-{name}.json");
            project.write(&path, &format!("{{\"accuracy\": {accuracy}, \"classes\": \"all\"}}"));
        };
        write("clip", clip);
        for seed in [1, 2] {
            write(&format!("ours-{seed}"), ours[seed - 1]);
            write(&format!("theirs-{seed}"), theirs[seed - 1]);
        }
    }
    project
}

#[test]
fn two_methods_are_compared_over_data_sets_and_seeds() {
    let project = measured();
    let compare = ["compare", "made_up.toml", "ours", "Theirs"];
    project.prints(
        &compare,
        str![[r#"
<stderr>
error: `ours` and `theirs` have no data set in common of which both are measured
hint: `maple-pipe table made_up.toml` shows what is there
<exit code 2>

"#]],
    );
    project.ran(&["run", "made_up.toml"]);
    project.prints(&compare, str![[r#"
<stdout>
table: ours beside theirs

           data sets   ours    theirs   difference   95 % interval    better / equal / worse   p        with seeds   p
accuracy   3           62.33   61.67    +0.67        -1.00 to +2.00   2 / 0 / 1                0.7500   6            0.4375

Over 3 data sets (6 pairs with seeds), the accuracy of Ours is 0.67 points above that of Theirs (95 % interval from -1.00 to +2.00, bootstrap over data sets; Wilcoxon signed-rank test over data sets, p = 0.7500).

What this does not show: that a method is better on other data sets than these, or with other
hyper-parameters. Seeds of one data set share its classes and test images, so the pairs with seeds and
the images tell of these data sets alone; with few data sets no p-value can be small. Whoever compares
many methods finds some small p-value by chance.
<exit code 0>

"#]]);
    project.prints(&["compare", "made_up.toml", "ours", "clip"], str![[r#"
<stdout>
table: ours beside clip

           data sets   ours    clip    difference   95 % interval     better / equal / worse   p        with seeds   p
accuracy   3           62.33   53.33   +9.00        +4.00 to +12.00   3 / 0 / 0                0.2500   6            0.0312

Over 3 data sets (6 pairs with seeds), the accuracy of Ours is 9.00 points above that of clip (95 % interval from +4.00 to +12.00, bootstrap over data sets; Wilcoxon signed-rank test over data sets, p = 0.2500).

What this does not show: that a method is better on other data sets than these, or with other
hyper-parameters. Seeds of one data set share its classes and test images, so the pairs with seeds and
the images tell of these data sets alone; with few data sets no p-value can be small. Whoever compares
many methods finds some small p-value by chance.
<exit code 0>

"#]]);
    let report = project.json(&[&compare[..], &["--json"]].concat());
    let column = &report[0]["columns"][0];
    assert_eq!(
        (&report[0]["methods"], &column["metric"]),
        (&serde_json::json!(["ours", "theirs"]), &"accuracy".into())
    );
    assert_eq!(column["better_equal_worse"], serde_json::json!([2, 0, 1]));
    assert_eq!(column["datasets"][0]["differences"], serde_json::json!([1.0, 3.0]));
    assert_eq!((&column["p_datasets"], &column["images"]), (&0.75.into(), &serde_json::Value::Null));

    for (methods, expected) in [
        (
            ["ours", "ours"],
            str![[r#"
<stderr>
error: `ours` is compared with itself
hint: name two methods
<exit code 2>

"#]],
        ),
        (
            ["ours", "their"],
            str![[r#"
<stderr>
error: no table has the method `their`
hint: did you mean `theirs`?
<exit code 2>

"#]],
        ),
    ] {
        project.prints(&[&["compare", "made_up.toml"], &methods[..]].concat(), expected);
    }
}

/// What both take an image for is in their predictions.
#[test]
fn two_methods_are_compared_over_images() {
    let project = Project::after_a_run();
    let report = project.json(&["compare", PIPELINE, "maple", "coop", "--json"]);
    let metrics: Vec<&str> =
        report[0]["columns"].as_array().unwrap().iter().map(|column| column["metric"].as_str().unwrap()).collect();
    assert_eq!(metrics, ["base", "novel", "hm"]);
    for column in report[0]["columns"].as_array().unwrap() {
        let images = &column["images"];
        let count = |field: &str| images[field].as_u64();
        let all: Option<u64> =
            ["both", "first_alone", "second_alone", "neither"].iter().map(|field| count(field)).sum();
        // Two of the four classes with three test images each; a harmonic mean has no images.
        assert_eq!(all, if column["metric"] == "hm" { None } else { Some(6) }, "{column}");
    }
    let text = project.run(&["compare", PIPELINE, "maple", "coop"]).stdout;
    assert!(text.contains("\nimages right with   both   maple alone   coop alone   neither   p\nbase  "), "{text}");
}
