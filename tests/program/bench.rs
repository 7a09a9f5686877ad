//! `maple-pipe bench`.

use std::fs;

use serde_json::{Value, json};
use snapbox::str;

use crate::support::{PIPELINE, Project};

#[test]
fn the_dag_is_measured() {
    let project = Project::new();
    let printed = project.run(&["bench", "dag", "--nodes", "1", "--files", "30", "--runs", "1", "--json"]);
    assert_eq!(printed.code, Some(0), "{}", printed.stderr);
    let report: Value = serde_json::from_str(&printed.stdout).unwrap();
    assert_eq!((&report["nodes"], &report["nodes_of_a_seed"]), (&254.into(), &243.into()));
    let rows = report["rows"].as_array().unwrap();
    let first = rows.iter().find(|row| row["what"] == "first run").unwrap();
    let back = rows.iter().find(|row| row["what"] == "the parameter set back").unwrap();
    assert!(first["maple_pipe"].as_f64().unwrap() > 0.0 && back["maple_pipe"].as_f64().unwrap() > 0.0);
    assert!(report["peak_memory"].as_u64().unwrap() > 1 << 20);
}

/// A program that takes longer than it may with its first run is killed, with what it has started, and does nothing else.
#[test]
fn a_slow_program_beside_it_is_given_up() {
    let project = Project::new();
    let started = project.file("started");
    let script = format!("[ \"$1\" = --version ] && exit\nsleep 1000 &\necho $! > '{}'\nwait\n", started.display());
    project.write_program("slow", &script);
    let bench = ["bench", "dag", "--nodes", "1", "--files", "30", "--runs", "1", "--limit", "1"];
    let report = project.json(&[&bench[..], &["--peers", "snakemake=./slow", "--json"]].concat());
    assert_eq!(report["peers"], json!(["snakemake"]));
    assert_eq!(
        (&report["rows"][0]["what"], &report["rows"][0]["snakemake"]),
        (&"first run".into(), &json!({"over": 1.0}))
    );
    assert_eq!(report["rows"][1].get("snakemake"), None);
    let started = fs::read_to_string(started).unwrap();
    let line = format!("/proc/{}/cmdline", started.trim());
    let start = std::time::Instant::now();
    while fs::read_to_string(&line).is_ok_and(|line| line.contains("sleep")) {
        assert!(start.elapsed().as_secs() < 10, "what it has started is still alive");
        std::thread::yield_now();
    }
}

#[test]
fn a_program_that_is_not_there_is_told() {
    let project = Project::new();
    project.run(&["bench", "dag", "--peers", "dvc=./nowhere"]).is(str![[r#"
<stderr>
error: `[PROJECT]/nowhere` cannot be started
hint: `pip install` of that name gets it; `--peers dvc=FILE` names the program
<exit code 2>

"#]]);
    project.run(&["bench", "dag", "--peers", "make"]).is(str![[r#"
<stderr>
error: invalid value 'make' for '--peers <NAMES>': `make` is none of `ninja`, `snakemake`, `dvc`

For more information, try '--help'.
<exit code 2>

"#]]);
}

#[test]
fn images_are_measured() {
    let project = Project::new();
    let folder = ["bench", "images", "data/shapes/images", "--size", "32", "--threads", "1", "--runs", "1"];
    let report = project.json(&[&folder[..], &["--busy", "0", "--python", "nowhere", "--json"]].concat());
    assert_eq!((&report["images"], &report["rows"][0]["pillow"]), (&32.into(), &Value::Null));
    for rate in ["decoded", "from_files", "from_prepared"] {
        assert!(report["rows"][0][rate].as_f64().unwrap() > 0.0, "{report}");
    }
    for share in ["waits_for_prepared", "waits_for_files"] {
        assert!((0.0..=1.0).contains(&report[share].as_f64().unwrap()), "{report}");
    }
}

/// The methods of the project, on the embedded model.
const TINY: [&str; 8] = ["--arch", "tiny", "--device", "cpu", "--runs", "1", "--threads", "2"];

fn method(project: &Project, name: &str, options: &str) {
    let training = "[training]\nepochs = 1\nbatch_size = 2\nlearning_rate = 0.01\n";
    project.write(&format!("{name}.toml"), &format!("{options}\n{training}"));
}

/// Floating-point operations of one step, reckoned by hand: those of a vision transformer of four blocks over 17 positions and
/// `prompts` more, 128 wide; forward, and backward with the same where `learned`.
fn of_images(images: u64, prompts: u64, learned: bool) -> u64 {
    let (width, patches, embedding) = (128, 16, 32);
    let positions = 1 + patches + prompts;
    let (square, back) = (2 * width * width, u64::from(learned));
    let block = 12 * positions * square;
    // The last block reads its first position alone.
    let last = (1 + 2 * positions + 1 + 8) * square;
    let scores = |queries: u64| 4 * queries * positions * width;
    let attention = 3 * scores(positions) + scores(1);
    let linear = 3 * block + last + 2 * width * embedding;
    // Attention goes back by five products, and forward by two.
    images * (2 * patches * width * 3 * 64 + (1 + back) * linear + attention + back * attention * 5 / 2)
}

/// The same of a text transformer of three blocks, 64 wide, that works on `shared` positions of all classes, on the `own`
/// positions of each; forward and backward.
fn of_texts(shared: u64, own: &[u64]) -> u64 {
    let (width, embedding) = (64, 32);
    let (classes, all, longest) = (own.len() as u64, own.iter().sum::<u64>(), *own.iter().max().unwrap());
    let square = 2 * width * width;
    let linear = 2 * 12 * (shared + all) * square + 2 * (shared + all) * square + 10 * classes * square;
    let fused = 2 * 4 * shared * shared * width;
    let to_shared = |queries: u64| 2 * 2 * queries * shared * width;
    let to_own = |queries: u64| 2 * 2 * queries * longest * width;
    let products =
        2 * (to_shared(classes * longest) + to_own(classes * longest)) + to_shared(classes) + to_own(classes);
    // Both sides of these products have a derivative; weights have none.
    2 * (linear + 2 * classes * width * embedding) + fused + fused * 5 / 2 + 3 * products
}

#[test]
fn a_step_is_measured_and_its_operations_counted() {
    let project = Project::new();
    method(&project, "vpt", "learner = 'vpt'\nvision_context_length = 2\nvision_depth = 2");
    method(&project, "coop", "learner = 'coop'\ncontext_length = 3");
    let step = ["bench", "step", "--method", "vpt.toml,coop.toml", "--classes", "2", "--batch", "3", "--json"];
    let rows = project.json(&[&step[..], &TINY].concat());
    // Products of the features of three images with those of two classes, and the derivative by the one that is learned.
    let logits = 2 * 2 * 3 * 2 * 32;
    // `dog` has one token, `great white cat` three; a full stop and the end of the text stand behind them.
    let expected = [of_images(3, 2, true) + logits, of_images(3, 0, false) + of_texts(4, &[3, 5]) + logits];
    for ((row, name), flops) in rows.as_array().unwrap().iter().zip(["vpt.toml", "coop.toml"]).zip(expected) {
        assert_eq!(row["at_once"], 1);
        assert_eq!((&row["method"], &row["classes"], &row["batch"]), (&name.into(), &2.into(), &3.into()));
        assert_eq!((&row["precision"], &row["device"], &row["arch"]), (&"fp32".into(), &"cpu".into(), &"tiny".into()));
        assert_eq!((&row["threads"], &row["kernels"]), (&2.into(), &Value::Null));
        for time in ["seconds", "image_seconds", "optimizer_seconds", "peak_flops_per_second", "start_seconds"] {
            assert!(row[time].as_f64().unwrap() > 0.0, "{row}");
        }
        assert!(row["waiting_seconds"].as_f64().unwrap() <= row["seconds"].as_f64().unwrap(), "{row}");
        assert_eq!(row["text_seconds"].as_f64().unwrap() > 0.0, name == "coop.toml", "{row}");
        assert!(row["operations"].as_u64().unwrap() > 50 && row["peak_bytes"].as_u64().unwrap() > 1 << 20, "{row}");
        assert_eq!(row["flops"], flops, "{row}");
    }
}

/// What one of several processes does takes longer where they share a processor; what it does is the same.
#[test]
fn what_is_measured_may_be_one_of_several_at_once() {
    let project = Project::new();
    for (what, method, seconds) in
        [("step", "pipelines/methods/coop.toml", "seconds"), ("eval", "clip", "text_seconds")]
    {
        let measure = ["bench", what, "--method", method, "--classes", "3", "--batch", "2", "--at-once", "3", "--json"];
        let rows = project.json(&[&measure[..], &TINY].concat());
        assert_eq!((&rows[0]["at_once"], rows[0]["batch"].as_u64()), (&3.into(), Some(2)), "{rows}");
        assert!(rows[0][seconds].as_f64().unwrap() > 0.0, "{rows}");
    }
    let table = ["bench", "step", "--method", "pipelines/methods/coop.toml", "--classes", "3", "--batch", "2"];
    let table = project.run(&[&table[..], &["--at-once", "2"], &TINY].concat());
    assert_eq!(table.stdout.lines().next(), Some("tiny on cpu, one of 2 at once with 2 threads each; medians of 1"));
}

/// Learners behind the towers see features: of a batch of three their steps are products with what is learned of each class.
#[test]
fn a_step_on_features_runs_through_no_tower() {
    let project = Project::new();
    let training = "[training]\nepochs = 1\nbatch_size = 32\nlearning_rate = 0.01\n";
    let learners = ["zs-lp", "clip-adapter", "tip-adapter"];
    for learner in learners {
        project
            .write(&format!("{learner}.toml"), &format!("learner = \"{learner}\"\nprecision = \"fp32\"\n{training}"));
    }
    let named = learners.map(|learner| format!("{learner}.toml")).join(",");
    let step = ["bench", "step", "--method", &named, "--classes", "2", "--batch", "3", "--json"];
    let rows = project.json(&[&step[..], &TINY].concat());
    // Of 32 numbers each: two classes with and without a derivative; a fourth of the numbers and back, with those by their
    // inputs, between fixed texts; fixed texts, and the keys of 16 images of each class with their votes.
    let (images, embedding, classes) = (3, 32, 2);
    let product = |inner: u64, outer: u64| 2 * images * inner * outer;
    let adapter = 2 * product(embedding, embedding / 4) + product(embedding / 4, embedding);
    let expected = [
        2 * product(embedding, classes),
        adapter + 2 * product(embedding / 4, embedding) + 2 * product(embedding, classes),
        product(embedding, classes) + 2 * product(embedding, 16 * classes) + 2 * product(16 * classes, classes),
    ];
    for (row, flops) in rows.as_array().unwrap().iter().zip(expected) {
        let apart = ["image_seconds", "text_seconds", "waiting_seconds"].map(|time| row[time].as_f64().unwrap());
        assert_eq!((apart, &row["batch"], &row["flops"]), ([0.0; 3], &3.into(), &flops.into()), "{row}");
        assert!(row["seconds"].as_f64().unwrap() > 0.0, "{row}");
    }
}

#[test]
fn an_evaluation_is_measured_beside_the_bare_tower() {
    let project = Project::new();
    let eval = ["bench", "eval", "--method", "pipelines/methods/coop.toml,clip", "--classes", "3", "--batch", "2"];
    let rows = project.json(&[&eval[..], &["--precision", "bf16", "--json"], &TINY].concat());
    for (row, name) in rows.as_array().unwrap().iter().zip(["pipelines/methods/coop.toml", "clip"]) {
        assert_eq!((&row["method"], &row["precision"], &row["batch"]), (&name.into(), &"bf16".into(), &2.into()));
        let number = |field: &str| row[field].as_f64().unwrap();
        let ratio = number("images_per_second") / number("tower_images_per_second");
        assert!((number("ratio") / ratio - 1.0).abs() < 1e-9, "{row}");
        assert!(number("features_images_per_second") > number("images_per_second"), "{row}");
        assert!(number("text_seconds") > 0.0, "{row}");
    }
    let table = project.run(&[&["bench", "eval", "--method", "clip", "--classes", "3"][..], &TINY].concat());
    let lines: Vec<&str> = table.stdout.lines().collect();
    assert_eq!(lines[0], "tiny on cpu, 2 threads; medians of 1");
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let header = "method precision classes batch images/s tower ratio features text memory";
    assert_eq!(words(lines[2]), words(header));
    assert_eq!((words(lines[3])[..4].join(" "), table.code), ("clip fp16 3 100".to_owned(), Some(0)));
}

#[test]
fn what_cannot_be_measured_is_told() {
    let project = Project::new();
    let told = |arguments: &[&str], expected: &str| {
        let printed = project.run(&[&["bench"], arguments].concat());
        assert_eq!((printed.code, printed.stdout.as_str()), (Some(2), ""), "{}", printed.stderr);
        assert!(printed.stderr.contains(expected), "{}", printed.stderr);
    };
    told(
        &["step", "--arch", "ViT-B/17"],
        "error: there is no architecture `ViT-B/17`\nhint: these are known: `ViT-B/16`, `ViT-B/32`, `ViT-L/14`, `RN50`, ",
    );
    told(&["eval", "--method", "mapel"], "error: no method `mapel` ships\nhint: did you mean `maple`?\n");
    told(&["step", "--method", "clip"], "error: the method `clip` is not trained, so it has no steps\nhint: ");
    told(&["step", "--arch", "RN50", "--method", "vpt"], "error: ");
    told(&["step", "--classes", "0"], "error: invalid value '0' for '--classes <NUMBERS>'");
    told(&["step", "--device", "gpu"], "there is no device `gpu`");
    told(&["step", "--precision", "fp64"], "[possible values: fp32, published-fp32, fp16, bf16, mixed]");
    project.write("bad.toml", "learner = 'coop'\n");
    told(&["step", "--method", "bad.toml"], "error: missing key `context_length`\n --> bad.toml:1:1\n");
    // Whatever cards there are, none has this number.
    let printed = project.run(&["bench", "step", "--arch", "tiny", "--method", "coop", "--device", "cuda:999"]);
    assert_eq!((printed.code, printed.stdout.lines().count()), (Some(2), 3));
    assert!(printed.stderr.contains("`cuda:999`") && printed.stderr.contains("hint: "), "{}", printed.stderr);
}

#[test]
fn all_methods_that_fit_are_measured() {
    let project = Project::new();
    let all = ["bench", "step", "--method", "all", "--classes", "2", "--batch", "1", "--precision", "fp32"];
    let printed = project.run(&[&all[..], &TINY].concat());
    let methods: Vec<&str> = printed.stdout.lines().skip(3).filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!((methods, printed.code), (vec!["coop", "cocoop", "kgcoop", "prograd"], Some(0)), "{}", printed.stderr);
    for deep in ["vpt", "language", "ivlp", "maple", "promptsrc", "tcp"] {
        assert!(printed.stderr.contains(&format!("left out: `{deep}`: ")), "{}", printed.stderr);
    }
}

#[test]
fn the_time_of_a_pipeline_is_projected_without_its_data() {
    let project = Project::new();
    let table = ["bench", "table", PIPELINE, "--device", "cpu", "--runs", "1", "--threads", "1"];
    let refused = project.run(&table);
    assert_eq!((refused.code, refused.stdout.as_str()), (Some(2), ""));
    assert!(
        refused.stderr.starts_with("error: nothing of this pipeline can be projected\nhint: "),
        "{}",
        refused.stderr
    );

    let manifest = project.read("manifests/shapes.toml");
    project.write("manifests/shapes.toml", &format!("{manifest}\n[counts]\nclasses = 4\ntest = 12\n"));
    std::fs::remove_dir_all(project.file("data/shapes")).unwrap();
    let report = project.json(&[&table[..], &["--json"]].concat());
    let row = |method: &str| report["rows"].as_array().unwrap().iter().find(|row| row["method"] == method).unwrap();
    // Two seeds; two of four classes with two images each, in batches of two.
    for (method, counts) in [("clip", [0, 0, 2, 12]), ("coop", [2, 4, 4, 24]), ("maple", [2, 4, 4, 24])] {
        let count = |field: &str| row(method)[field].as_u64().unwrap();
        assert_eq!(["trainings", "steps", "evaluations", "images"].map(count), counts, "{report}");
        let time = |field: &str| row(method)[field].as_f64().unwrap();
        let sum = time("training_seconds") + time("evaluation_seconds") + time("start_seconds");
        assert!((time("seconds") - sum).abs() < 1e-9 && time("evaluation_seconds") > 0.0, "{report}");
    }
    let step = report["steps"].as_array().unwrap().iter().find(|step| step["method"] == "coop").unwrap();
    let expected = 4.0 * step["seconds"].as_f64().unwrap();
    assert!((row("coop")["training_seconds"].as_f64().unwrap() - expected).abs() < 1e-9, "{report}");
    assert_eq!((&report["not_counted"], report["steps"].as_array().unwrap().len()), (&1.into(), 2));
    let total: f64 = ["clip", "coop", "maple"].iter().map(|method| row(method)["seconds"].as_f64().unwrap()).sum();
    assert!((report["seconds"].as_f64().unwrap() - total).abs() < 1e-9, "{report}");

    let both = project.json(&[&table[..], &["--at-once", "2", "--json"]].concat());
    let row = both["rows"].as_array().unwrap().iter().find(|row| row["method"] == "coop").unwrap();
    let step = both["steps"].as_array().unwrap().iter().find(|step| step["method"] == "coop").unwrap();
    let expected = 4.0 / 2.0 * step["seconds"].as_f64().unwrap();
    assert!((row["training_seconds"].as_f64().unwrap() - expected).abs() < 1e-9 && both["at_once"] == 2, "{both}");

    let printed = project.run(&[&table[..], &["--only", "zeroshot/*/*/base"]].concat());
    let lines: Vec<&str> = printed.stdout.lines().collect();
    assert_eq!(lines[0], "tiny on cpu, one node after another");
    assert!(lines[3].starts_with("clip     0           0       0ms    1             6"), "{}", printed.stdout);
    assert_eq!(lines.last(), Some(&"not counted in: 1 node, of which nothing is measured"));
    assert_eq!((printed.stderr.as_str(), printed.code), ("measuring the evaluation of clip with 2 classes\n", Some(0)));
}

/// Of a learner that works on features, steps on features are projected, and what it does before them or in their place.
#[test]
fn the_time_of_trainings_on_features_is_projected() {
    let project = Project::after_a_run();
    project.write("pipelines/behind.toml", super::feature_learners::STAGES);
    super::feature_learners::write_methods(&project);
    let manifest = project.read("manifests/shapes.toml");
    project.write("manifests/shapes.toml", &format!("{manifest}\n[counts]\nclasses = 4\ntest = 12\nval = 4\n"));
    let table =
        ["bench", "table", "pipelines/behind.toml", "--device", "cpu", "--runs", "1", "--threads", "1", "--json"];
    let report = project.json(&[&table[..], &["--set", "axes.seed=[1]", "--only", "behind*/*"]].concat());
    let all = |name: &str| report[name].as_array().unwrap().clone();
    let of = |rows: Vec<Value>| -> Vec<Value> { rows.into_iter().map(|row| row["method"].clone()).collect() };
    let mut fitted = of(all("fits"));
    fitted.sort_by_key(ToString::to_string);
    assert_eq!(fitted, ["linear-probe", "tip-adapter", "zs-lp"]);
    for (method, steps) in [("linear-probe", 0), ("zs-lp", 6), ("tip-adapter", 6)] {
        let row = |rows: &str| all(rows).into_iter().find(|row| row["method"] == method);
        let (projected, seconds) =
            (row("rows").unwrap(), |row: Option<Value>| row.map(|row| row["seconds"].as_f64().unwrap()));
        assert_eq!((&projected["trainings"], &projected["steps"]), (&1.into(), &steps.into()), "{report}");
        assert_eq!(seconds(row("steps")).is_some(), steps > 0, "{report}");
        let expected = seconds(row("fits")).unwrap() + f64::from(steps) * seconds(row("steps")).unwrap_or_default();
        assert!((projected["training_seconds"].as_f64().unwrap() - expected).abs() < 1e-9, "{report}");
    }
}

/// The name of published weights tells the model, wherever it stands; nothing is measured on a card that is not there.
#[test]
fn published_weights_that_are_not_there_are_known_by_their_name() {
    let project = Project::new();
    let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/pipelines/base2novel.toml");
    let table = ["bench", "table", shipped, "--device", "cuda:999", "--data-root", "data"];
    let printed = project.run(&table);
    assert_eq!((printed.code, printed.stdout.as_str()), (Some(2), ""));
    assert!(printed.stderr.contains("`cuda:999`"), "{}", printed.stderr);
    let weights = ["train", "eval", "features"].map(|kind| format!("defaults.{kind}.weights=mine.pt"));
    let own: Vec<&str> = weights.iter().flat_map(|weights| ["--set", weights]).collect();
    let printed = project.run(&[&table[..], &own].concat());
    assert_eq!(printed.code, Some(2));
    assert!(printed.stderr.contains("are not known before its weights are there\nhint: "), "{}", printed.stderr);
}
