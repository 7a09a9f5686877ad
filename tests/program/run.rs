//! What `run` prints, and what it leaves.

use std::fs;

use serde_json::Value;
use snapbox::str;

use crate::support::{PIPELINE, Project, names};

#[test]
fn a_first_run_executes_everything_and_a_second_nothing() {
    let project = Project::new();
    let arguments = ["run", PIPELINE, "--set", "axes.seed=[1]", "-j", "1"];
    project.prints(
        &arguments,
        str![[r#"
<stdout>

[TABLE]

<stderr>
        DONE [TIME] ( 1/13) data/shapes   4 classes, 32 images
        DONE [TIME] ( 2/13) captioned
        DONE [TIME] ( 3/13) shots/shapes/seed1   4 images
        DONE [TIME] ( 4/13) clip   [NUMBER]
        DONE [TIME] ( 5/13) train/shapes/coop/seed1   [NUMBER]
        DONE [TIME] ( 6/13) train/shapes/maple/seed1   [NUMBER]
        DONE [TIME] ( 7/13) zeroshot/shapes/clip/base   [NUMBER]
        DONE [TIME] ( 8/13) zeroshot/shapes/clip/novel   [NUMBER]
        DONE [TIME] ( 9/13) eval/shapes/coop/seed1/base   [NUMBER]
        DONE [TIME] (10/13) eval/shapes/coop/seed1/novel   [NUMBER]
        DONE [TIME] (11/13) eval/shapes/maple/seed1/base   [NUMBER]
        DONE [TIME] (12/13) eval/shapes/maple/seed1/novel   [NUMBER]
        DONE [TIME] (13/13) table   6 evaluations
13 nodes: 13 ran, 0 cached, 0 failed in [TIME]
wrote results/tiny+axes.seed=1-de7976
<exit code 0>

"#]],
    );
    let digests = project.digests();
    project.prints(
        &arguments,
        str![[r#"
<stdout>

[TABLE]

<stderr>
13 nodes: 0 ran, 13 cached, 0 failed in [TIME]: nothing had to run
wrote results/tiny+axes.seed=1-de7976
<exit code 0>

"#]],
    );
    assert_eq!(project.digests(), digests);
    let listed: Vec<_> = fs::read_dir(project.file("results/tiny+axes.seed=1-de7976"))
        .unwrap()
        .map(|file| file.unwrap().file_name())
        .collect();
    let results = [("table.csv", "csv"), ("table.tex", "latex"), ("table.md", "markdown"), ("table.svg", "plot")];
    assert_eq!(listed.len(), results.len(), "{listed:?}");
    for (file, output) in results {
        let stored = fs::read_to_string(project.artifact("table", output)).unwrap();
        assert_eq!(project.read(&format!("results/tiny+axes.seed=1-de7976/{file}")), stored);
    }
    let scratch = fs::read_dir(project.file(".maple/work")).unwrap().count();
    assert_eq!((scratch, fs::read_dir(project.file(".maple/partial")).unwrap().count()), (0, 0));
}

#[test]
fn the_table_shows_what_the_evaluations_measured() {
    let project = Project::after_a_run();
    let accuracy = |node: &str| -> f64 {
        let text = fs::read_to_string(project.artifact(node, "metrics")).unwrap();
        let metrics: Value = serde_json::from_str(&text).unwrap();
        let (correct, total) = (metrics["correct"].as_f64().unwrap(), metrics["total"].as_f64().unwrap());
        assert_eq!((total, metrics["accuracy"].as_f64().unwrap()), (6.0, 100.0 * correct / total));
        100.0 * correct / total
    };
    let csv = project.read("results/tiny/table.csv");
    let mut rows = 0;
    for line in csv.lines().skip(1) {
        let cells: Vec<&str> = line.split(',').collect();
        let [_, method, "shapes", metric, mean, ..] = cells[..] else { panic!("{line}") };
        let expected = |classes: &str| match method {
            "clip" => accuracy(&format!("zeroshot/shapes/clip/{classes}")),
            _ => (1..=2).map(|seed| accuracy(&format!("eval/shapes/{method}/seed{seed}/{classes}"))).sum::<f64>() / 2.0,
        };
        let expected = match metric {
            "base" | "novel" => expected(metric),
            "hm" => 2.0 / (1.0 / expected("base") + 1.0 / expected("novel")),
            other => panic!("{other}"),
        };
        assert!((mean.parse::<f64>().unwrap() - expected).abs() < 1e-4, "{line}\n{expected}");
        rows += 1;
    }
    assert_eq!(rows, 9, "{csv}");
}

#[test]
fn a_glob_selects_nodes_and_what_they_need() {
    let project = Project::new();
    let ran = project.ran(&["run", PIPELINE, "--only", "{data,shots}/*"]);
    assert_eq!(ran, names(&["data/shapes", "shots/shapes/seed1", "shots/shapes/seed2"]));
    let project = Project::new();
    assert_eq!(project.ran(&["run", PIPELINE, "--only", "shots/*2"]), names(&["data/shapes", "shots/shapes/seed2"]));
    assert!(!project.file("results").exists());
}

#[test]
fn neither_jobs_nor_threads_nor_the_folder_change_an_artifact() {
    let first = Project::after_a_run();
    for (jobs, threads) in [("1", "1"), ("1", "2"), ("3", "7")] {
        let second = Project::new();
        second.ran(&["run", PIPELINE, "--jobs", jobs, "--threads", threads]);
        assert_eq!(second.digests(), first.digests(), "{jobs} jobs, {threads} threads");
    }
    assert_eq!(first.digests().len(), 1 + 1 + 7 + 2 * 3 + 4 * 2 + 10 * 3 + 4);
}

/// A node that may take hours has all processors, whatever light nodes are queued beside it.
#[test]
fn light_nodes_take_no_share_of_the_threads() {
    let project = Project::new();
    let told =
        "\n[stage.told]\nkind = \"command\"\nrun = \"echo $MAPLE_THREADS > told\"\noutputs = { told = \"told\" }\n";
    project.write("pipelines/told.toml", &(project.read(PIPELINE) + told));
    project.ran(&["run", "pipelines/told.toml", "--only", "{told,shots/*}", "--jobs", "2", "--threads", "6"]);
    assert_eq!(fs::read_to_string(project.artifact("told", "told")).unwrap(), "6\n");
    // Its like do.
    let like = told.replace("kind", "axes = [\"seed\"]\nkind").replace("echo", "echo {seed}").replace("told]", "like]");
    project.write("pipelines/told.toml", &(project.read(PIPELINE) + &like));
    project.ran(&["run", "pipelines/told.toml", "--only", "like/*", "--jobs", "2", "--threads", "6"]);
    assert_eq!(fs::read_to_string(project.artifact("like/seed1", "told")).unwrap(), "1 3\n");
}

#[test]
fn a_result_edited_by_hand_is_written_again() {
    let project = Project::after_a_run();
    let table = project.read("results/tiny/table.csv");
    project.write("results/tiny/table.csv", "my own numbers\n");
    project.write("results/tiny/notes.txt", "kept\n");
    project.prints(
        &["run", PIPELINE],
        str![[r#"
<stdout>

[TABLE]

<stderr>
20 nodes: 0 ran, 20 cached, 0 failed in [TIME]: nothing had to run
wrote results/tiny
<exit code 0>

"#]],
    );
    assert_eq!(project.read("results/tiny/table.csv"), table);
    assert_eq!(project.read("results/tiny/notes.txt"), "kept\n");
    assert_eq!(fs::read_to_string(project.artifact("table", "csv")).unwrap(), table);
}

#[test]
fn store_and_results_go_where_they_are_told() {
    let project = Project::new();
    project.prints(
        &["run", PIPELINE, "--only", "data/*", "--store", "elsewhere", "--results", "out"],
        str![[r#"
<stderr>
        DONE [TIME] (1/1) data/shapes   4 classes, 32 images
1 node: 1 ran, 0 cached, 0 failed in [TIME]
<exit code 0>

"#]],
    );
    assert!(project.file("elsewhere/records").is_dir() && !project.file(".maple").exists());
    let printed = project.command(&["run", PIPELINE, "--only", "data/*"]).env("MAPLE_STORE", "elsewhere").output();
    assert_eq!(project.printed(printed.unwrap()).done(), names(&[]));
}

#[test]
fn every_precision_trains_and_evaluates() {
    let project = Project::after_a_run();
    let prompt = || fs::read(project.artifact("train/shapes/maple/seed1", "prompt")).unwrap();
    let mut prompts = vec![prompt()];
    for precision in ["published-fp32", "fp16", "bf16", "mixed"] {
        let set = format!("stage.train.method.precision={precision}");
        let ran = project.ran(&["run", PIPELINE, "--set", "axes.seed=[1]", "--set", &set]);
        // CoOp has no deep prompts to be rounded, but its precision is a part of what it is.
        let evaluated = ["eval/shapes/coop/seed1/base", "eval/shapes/maple/seed1/base", "train/shapes/maple/seed1"];
        assert!(names(&evaluated).is_subset(&ran), "{precision}: {ran:?}");
        let prompt = prompt();
        assert!(!prompts.contains(&prompt), "{precision}");
        prompts.push(prompt);
    }
}

#[test]
fn an_evaluation_says_what_it_took_every_image_for() {
    let project = Project::after_a_run();
    project.replace(
        PIPELINE,
        "name = \"tiny\"\n",
        "name = \"tiny\"\nresults = [\"@eval.predictions\", \"@eval.per-class\"]\n",
    );
    assert_eq!(project.ran(&["run", PIPELINE]), names(&[]));
    for output in ["predictions", "per-class"] {
        let file = format!("results/tiny/eval/shapes/maple/seed2/novel.{output}.csv");
        let stored = fs::read_to_string(project.artifact("eval/shapes/maple/seed2/novel", output)).unwrap();
        assert_eq!(project.read(&file), stored);
    }
    let csv = |node: &str, output: &str| -> Vec<Vec<String>> {
        let mut reader = csv::ReaderBuilder::new()
            .has_headers(false)
            .from_path(project.artifact(node, output))
            .unwrap_or_else(|error| panic!("{node}: {error}"));
        reader.records().map(|row| row.unwrap().iter().map(str::to_owned).collect()).collect()
    };
    let json = |node: &str, output: &str| -> Value {
        serde_json::from_str(&fs::read_to_string(project.artifact(node, output)).unwrap()).unwrap()
    };
    let names = json("data/shapes", "classes");
    for (node, classes, first) in
        [("zeroshot/shapes/clip/base", "base", 0), ("eval/shapes/maple/seed2/novel", "novel", 2)]
    {
        let (predictions, per_class) = (csv(node, "predictions"), csv(node, "per-class"));
        assert_eq!(predictions[0], ["path", "label", "class", "prediction", "predicted_class", "top5", "probability"]);
        assert_eq!(per_class[0], ["label", "class", "images", "predicted", "correct", "accuracy", "f1"]);
        let index = json("data/shapes", &format!("test-{classes}"));
        let index = index.as_array().unwrap();
        assert_eq!(predictions.len(), 1 + index.len());
        let name = |label: usize| names[first + label].as_str().unwrap();
        let mut counts = [[0; 3]; 2];
        for (row, item) in predictions[1..].iter().zip(index) {
            let [path, label, class, prediction, predicted_class, top5, probability] = &row[..] else { panic!() };
            assert_eq!((path.as_str(), label.as_str()), (item["path"].as_str().unwrap(), &*item["label"].to_string()));
            let [label, predicted] = [label, prediction].map(|number| number.parse::<usize>().unwrap());
            assert_eq!((class.as_str(), predicted_class.as_str()), (name(label), name(predicted)));
            // Of two classes, the likelier one first.
            assert_eq!(*top5, format!("{predicted} {}", 1 - predicted));
            assert!((0.5..=1.0).contains(&probability.parse::<f64>().unwrap()) && probability.len() == 8, "{row:?}");
            counts[label][0] += 1;
            counts[predicted][1] += 1;
            counts[label][2] += u64::from(label == predicted);
        }
        for (label, (row, count)) in per_class[1..].iter().zip(counts).enumerate() {
            assert_eq!(row[..2], [label.to_string(), name(label).to_owned()]);
            assert_eq!(row[2..5], count.map(|number| number.to_string()));
        }
        let metrics = json(node, "metrics");
        assert_eq!((per_class.len(), metrics["correct"].as_u64().unwrap()), (3, counts[0][2] + counts[1][2]));
        let mean =
            |column: usize| per_class[1..].iter().map(|row| row[column].parse::<f64>().unwrap()).sum::<f64>() / 2.0;
        // As many images of either class, so the mean accuracy is the accuracy.
        assert!((mean(5) - metrics["accuracy"].as_f64().unwrap()).abs() < 1e-4, "{metrics}");
        assert!((mean(6) - metrics["macro_f1"].as_f64().unwrap()).abs() < 1e-4, "{metrics}");
    }
}

/// What a run did with images and texts is what the dry run said, as far as manifests tell it, and nothing is done twice.
#[test]
fn what_is_done_with_images_and_texts_is_counted() {
    let project = Project::new();
    let manifest = project.read("manifests/shapes.toml");
    project.write("manifests/shapes.toml", &format!("{manifest}\n[counts]\nclasses = 4\ntest = 12\n"));
    let forecast = project.json(&["run", PIPELINE, "--dry-run", "--json"])["forecast"].clone();
    let numbers =
        |value: &Value| ["images_decoded", "image_passes", "text_passes"].map(|field| value[field].as_u64().unwrap());
    // Trainings of four images of two classes in two steps, 4 of them; evaluations of six images, 10 of them. Samples of two
    // seeds have four images each; test images are 12.
    assert_eq!(numbers(&forecast["passes"]), [2 * 4 + 12, 4 * 4 + 10 * 6, 4 * 2 * 2 + 10 * 2]);
    assert_eq!(numbers(&forecast["passes_by_scripts"]), [4 * 4 + 10 * 6, 4 * 4 + 10 * 6, 4 * 2 * 2 + 10 * 2]);
    assert_eq!(forecast["passes_unknown"], 1, "{forecast}");

    let finished = |arguments: &[&str]| -> Value {
        let printed = project.run(arguments);
        assert_eq!(printed.code, Some(0), "{}", printed.stderr);
        serde_json::from_str(printed.stdout.lines().last().unwrap()).unwrap()
    };
    let run = finished(&["run", PIPELINE, "--json"]);
    let [decoded, images, texts] = numbers(&run);
    // The stage that trains the model looks at 32 captioned pictures once.
    assert_eq!((run["event"].as_str(), images, texts), (Some("finished"), 32 + 76, 32 + 36));
    // Two samples may share images.
    assert!((32 + 12 + 4..=32 + 12 + 8).contains(&decoded), "{run}");
    assert!(run["bytes_read"].as_u64().unwrap() > 32 * 100, "{run}");
    let again = finished(&["run", PIPELINE, "--json"]);
    assert_eq!((numbers(&again), &again["ran"]), ([0, 0, 0], &0.into()));
}

/// The real table, of which no data is there.
#[test]
fn what_the_real_table_does_with_images_is_known_before() {
    let project = Project::new();
    let pipeline = concat!(env!("CARGO_MANIFEST_DIR"), "/pipelines/base2novel.toml");
    let forecast = |only: &str| {
        let report = project.json(&["run", pipeline, "--store", "store", "--only", only, "--dry-run", "--json"]);
        ["passes", "passes_by_scripts"].map(|whose| {
            ["images_decoded", "image_passes", "text_passes"]
                .map(|field| report["forecast"][whose][field].as_u64().unwrap())
        })
    };
    // 16 images of each of 1,098 base classes in 5 epochs and 3 seeds: 65,880 steps of 4.
    let classes = [500, 50, 19, 98, 51, 51, 50, 199, 24, 5, 51];
    let samples = 16 * 3 * classes.iter().sum::<u64>();
    let texts = 4 * 5 * 3 * classes.iter().map(|count| count * count).sum::<u64>();
    let maple = forecast("train/*/maple/*");
    assert_eq!(maple, [[samples, 5 * samples, texts], [5 * samples, 5 * samples, texts]]);
    assert_eq!(5 * samples, 4 * 65_880);
    // EuroSAT's 8,100 test images are decoded once, and run through the image tower once for both methods and all seeds. CoOp
    // trains in 2 steps of 32 images and 50 epochs, CoCoOp with each of 80 images in 10, and has prompts for every image. The
    // views of 10 epochs run through the image tower once for both.
    let (training, tests, seeds) = (2 * 32 * 50 + 80 * 10, 8_100, 3);
    let texts = seeds * 5 * (2 * 50 + 80 * 10 + 2 + tests);
    let [ours, scripts] = forecast("eval/eurosat/co*/*");
    assert_eq!(ours, [tests + seeds * 80, tests + seeds * (80 * 10 + 2 * 32 * (50 - 10)), texts]);
    let all = seeds * (training + 2 * tests);
    // CoOp's prompts run through the text tower with each of 41 batches, twice.
    assert_eq!(scripts, [all, all, texts + seeds * 5 * 2 * (41 - 1)]);
}
