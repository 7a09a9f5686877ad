//! `maple-pipe data` and `maple-pipe fewshot`: layouts, checks, imports, downloads and samples.

use std::fs;
use std::io::Write;
use std::path::Path;

use image::{ImageFormat, RgbImage};
use snapbox::str;
use tar::EntryType;

use crate::server::{ALL, Answer, Server};
use crate::support::Project;

fn picture() -> Vec<u8> {
    let mut bytes = Vec::new();
    let image = RgbImage::from_fn(8, 6, |x, y| image::Rgb([x as u8 * 30, y as u8 * 40, 9]));
    image.write_to(&mut std::io::Cursor::new(&mut bytes), ImageFormat::Png).unwrap();
    bytes
}

fn write(path: &Path, content: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

/// Two classes of EuroSAT, with two training, one validation and one test image each.
fn eurosat(root: &Path) {
    let mut parts = serde_json::Map::new();
    for (part, count) in [("train", 2), ("val", 1), ("test", 1)] {
        let mut items = Vec::new();
        for label in 0..2 {
            for place in 0..count {
                let path = format!("{label}/{part}{place}.png");
                write(&root.join("eurosat/2750").join(&path), &picture());
                items.push(serde_json::json!([path, label, format!("class {label}")]));
            }
        }
        parts.insert(part.to_owned(), items.into());
    }
    let split = serde_json::to_string(&parts).unwrap();
    write(&root.join("eurosat/split_zhou_EuroSAT.json"), split.as_bytes());
}

/// How a data set lies below the data root, from CoOp's `docs/DATASETS.md` and its loaders.
struct Layout {
    name: &'static str,
    folder: &'static str,
    /// The image folder below `folder`.
    images: &'static str,
    /// What says which image is what: a split file, lists, or class names.
    files: &'static [&'static str],
    /// A training image (of a set for testing only, a test image) of the first and of the second class, below `images`.
    samples: [&'static str; 2],
    /// How many images each part gets.
    parts: [usize; 3],
}

const fn split_file(
    name: &'static str,
    folder: &'static str,
    images: &'static str,
    files: &'static [&'static str],
    samples: [&'static str; 2],
) -> Layout {
    Layout { name, folder, images, files, samples, parts: [2, 0, 2] }
}

const fn variant(name: &'static str, folder: &'static str, images: &'static str, samples: [&'static str; 2]) -> Layout {
    Layout { name, folder, images, files: &["classnames.txt"], samples, parts: [0, 0, 2] }
}

const LISTS: [&str; 4] =
    ["variants.txt", "images_variant_train.txt", "images_variant_val.txt", "images_variant_test.txt"];

#[rustfmt::skip]
const LAYOUTS: [Layout; 15] = [
    Layout {
        name: "imagenet", folder: "imagenet", images: "images", files: &["classnames.txt"], parts: [2, 0, 2],
        samples: ["train/n01440764/n01440764_18.JPEG", "train/n01443537/n01443537_2.JPEG"],
    },
    split_file("caltech101", "caltech-101", "101_ObjectCategories", &["split_zhou_Caltech101.json"], ["accordion/image_0001.jpg", "airplanes/image_0001.jpg"]),
    split_file("oxford_pets", "oxford_pets", "images", &["split_zhou_OxfordPets.json"], ["Abyssinian_1.jpg", "american_bulldog_1.jpg"]),
    split_file("stanford_cars", "stanford_cars", ".", &["split_zhou_StanfordCars.json"], ["cars_train/00001.jpg", "cars_test/00001.jpg"]),
    split_file("flowers102", "oxford_flowers", "jpg", &["split_zhou_OxfordFlowers.json"], ["image_00001.jpg", "image_00002.jpg"]),
    split_file("food101", "food-101", "images", &["split_zhou_Food101.json"], ["apple_pie/1005649.jpg", "baby_back_ribs/1005293.jpg"]),
    Layout {
        name: "fgvc_aircraft", folder: "fgvc_aircraft", images: "images", files: &LISTS, parts: [2, 2, 2],
        samples: ["1025794.jpg", "1340192.jpg"],
    },
    split_file("sun397", "sun397", "SUN397", &["split_zhou_SUN397.json"], ["a/abbey/sun_aaalbzqrimafwbiv.jpg", "a/airplane_cabin/sun_aadqdkqaslqqoblu.jpg"]),
    split_file("dtd", "dtd", "images", &["split_zhou_DescribableTextures.json"], ["banded/banded_0002.jpg", "blotchy/blotchy_0003.jpg"]),
    split_file("eurosat", "eurosat", "2750", &["split_zhou_EuroSAT.json"], ["AnnualCrop/AnnualCrop_1.jpg", "Forest/Forest_1.jpg"]),
    split_file("ucf101", "ucf101", "UCF-101-midframes", &["split_zhou_UCF101.json"], ["Apply_Eye_Makeup/v_ApplyEyeMakeup_g01_c01.jpg", "Apply_Lipstick/v_ApplyLipstick_g01_c01.jpg"]),
    variant("imagenetv2", "imagenetv2", "imagenetv2-matched-frequency-format-val", ["0/5cc49f84.jpeg", "1/1b6e7e5c.jpeg"]),
    variant("imagenet_sketch", "imagenet-sketch", "images", ["n01440764/sketch_0.JPEG", "n01443537/sketch_0.JPEG"]),
    variant("imagenet_a", "imagenet-adversarial", "imagenet-a", ["n01440764/0.001_fish_0.5.jpg", "n01443537/0.002_fish_0.5.jpg"]),
    variant("imagenet_r", "imagenet-rendition", "imagenet-r", ["n01440764/art_0.jpg", "n01443537/art_0.jpg"]),
];

/// A miniature of a data set: an image of each of two classes, which is in every part that the data set has.
fn miniature(root: &Path, layout: &Layout) {
    let folder = root.join(layout.folder);
    let samples = layout.samples;
    samples.iter().for_each(|path| write(&folder.join(layout.images).join(path), &picture()));
    let file = |name: &str, text: String| write(&folder.join(name), text.as_bytes());
    match layout.files {
        [split] if split.ends_with(".json") => {
            let part = [(samples[0], 0, "first class"), (samples[1], 1, "second class")];
            file(split, serde_json::json!({ "train": part, "val": [], "test": part }).to_string());
        }
        ["classnames.txt"] => {
            file("classnames.txt", "n01440764 first class\nn01443537 second class\n".to_owned());
            for path in samples {
                write(&folder.join(layout.images).join(path.replace("train/", "val/")), &picture());
            }
        }
        [names, lists @ ..] => {
            file(names, "first class\nsecond class\n".to_owned());
            let image = |path: &str| path.strip_suffix(".jpg").unwrap().to_owned();
            let text = format!("{} first class\n{} second class\n", image(samples[0]), image(samples[1]));
            lists.iter().for_each(|list| file(list, text.clone()));
        }
        [] => unreachable!("every layout has one"),
    }
}

/// Each published layout as a pipeline's `dataset` stage reads it. The counts and the split file's checksum are those of
/// the real data, so a manifest without them is made of each.
#[test]
fn fifteen_layouts_are_read() {
    let project = Project::new();
    let root = project.file("root");
    for layout in &LAYOUTS {
        miniature(&root, layout);
        let name = layout.name;
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("data-manifests/{name}.toml"));
        let text = fs::read_to_string(shipped).unwrap();
        let mut table: toml::Table = toml::from_str(&text).unwrap();
        let _ = ["counts", "source"].map(|key| table.remove(key));
        table.get_mut("reader").unwrap().as_table_mut().unwrap().remove("sha256");
        project.write(&format!("manifests/{name}.toml"), &table.to_string());
    }
    let names = LAYOUTS.map(|layout| format!("\"{}\"", layout.name)).join(", ");
    let pipeline = format!(
        "[axes]\ndataset = [{names}]\n\n[stage.data]\nkind = \"dataset\"\naxes = [\"dataset\"]\n\
         manifest = \"../manifests/{{dataset}}.toml\"\n"
    );
    project.write("pipelines/layouts.toml", &pipeline);
    let ran = project.ran(&["run", "pipelines/layouts.toml", "--data-root", "root"]);
    assert_eq!(ran.len(), 15);
    for Layout { name, images, samples, parts, .. } in &LAYOUTS {
        let json = |output: &str| -> serde_json::Value {
            let path = project.artifact(&format!("data/{name}"), output);
            serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
        };
        let count = |output: &str| json(output).as_array().unwrap().len();
        assert_eq!(json("classes"), serde_json::json!(["first class", "second class"]), "{name}");
        assert_eq!([count("train"), count("val"), count("test-all")], *parts, "{name}");
        assert_eq!([count("test-base"), count("test-novel")], [1, 1], "{name}");
        let trained = if parts[0] > 0 { json("train") } else { json("test-all") };
        let expected = Path::new(images).join(samples[1]).to_string_lossy().trim_start_matches("./").to_owned();
        assert_eq!(trained[1]["path"], expected, "{name}");
    }
}

#[test]
fn a_check_says_what_is_there_and_what_is_not() {
    let project = Project::new();
    eurosat(&project.file("root"));
    let data = ["--data-root", "root"];
    project.write(
        "mine.toml",
        "name = \"Mine\"\nfolder = \"eurosat\"\nimages = \"2750\"\ntemplate = \"a {}.\"\n\
         reader = { kind = \"split-json\", file = \"split_zhou_EuroSAT.json\" }\ncounts = { classes = 2, train = 4, val = 2, test = 2 }\n",
    );
    let check = |extra: &[&'static str]| [&["data", "check", "mine.toml"], &data[..], extra].concat();
    project.prints(
        &check(&["--deep"]),
        str![[r#"
<stdout>
          manifest     split   on disk
classes          2         2         2
train            4         4         4
val              2         2         2
test             2         2         2
<stderr>
note: `train` has 3 images more than once: 0/train1.png, 1/train0.png, 1/train1.png
note: `val` has 1 image more than once: 1/val0.png
note: `val` has 2 images that `train` has, too: 0/val0.png, 1/val0.png
note: `test` has 1 image more than once: 1/test0.png
note: `test` has 2 images that `train` has, too: 0/test0.png, 1/test0.png
note: `test` has 2 images that `val` has, too: 0/test0.png, 1/test0.png
mine.toml matches its manifest, and every image decodes
<exit code 0>

"#]],
    );
    project.prints(
        &check(&["--per-class"]),
        str![[r#"
<stdout>
label,classname,train,train_on_disk,val,val_on_disk,test,test_on_disk
0,class 0,2,2,1,1,1,1
1,class 1,2,2,1,1,1,1
<stderr>
mine.toml matches its manifest
<exit code 0>

"#]],
    );
    fs::remove_file(project.file("root/eurosat/2750/1/test0.png")).unwrap();
    project.write("root/eurosat/2750/0/train1.png", "no image");
    project.prints(
        &check(&["--deep"]),
        str![[r#"
<stdout>
          manifest     split   on disk
classes          2         2         2
train            4         4         4
val              2         2         2
test             2         2         1
missing: root/eurosat/2750/1/test0.png
<stderr>
note: `train` has 2 images more than once: 1/train0.png, 1/train1.png
note: `val` has 1 image more than once: 1/val0.png
note: `val` has 2 images that `train` has, too: 0/val0.png, 1/val0.png
note: `test` has 1 image that `train` has, too: 0/test0.png
note: `test` has 1 image that `val` has, too: 0/test0.png
broken: `root/eurosat/2750/0/train1.png` is not a valid image: The image format could not be determined
error: data set `mine.toml` does not match its manifest: 1 missing file or folder, 1 broken image
<exit code 1>

"#]],
    );
    // The published split file is another one.
    project.prints(
        &["data", "check", "eurosat", "--data-root", "root"],
        str![[r#"
<stdout>
          manifest     split   on disk
classes         10         2         2
train        13500         4         4
val           5400         2         2
test          8100         2         1
missing: root/eurosat/2750/1/test0.png
<stderr>
differs: `root/eurosat/split_zhou_EuroSAT.json` is not the published file: its SHA-256 is [DIGEST], not [DIGEST]
differs: `root/eurosat/split_zhou_EuroSAT.json` has 2 classes, not 10
differs: `root/eurosat/split_zhou_EuroSAT.json` has 4 training images, not 13500
differs: `root/eurosat/split_zhou_EuroSAT.json` has 2 validation images, not 5400
differs: `root/eurosat/split_zhou_EuroSAT.json` has 2 test images, not 8100
differs: `root/eurosat/2750` holds 7 files, but 27000 images are needed
error: data set `eurosat` does not match its manifest: 6 mismatches, 1 missing file or folder
hint: `maple-pipe data fetch eurosat` gets what is missing
<exit code 1>

"#]],
    );
    project.prints(
        &["data", "check", "dtd", "--data-root", "root"],
        str![[r#"
<stderr>
error: there is no folder `root/dtd`
hint: `maple-pipe data fetch dtd` gets the data set, `maple-pipe data import` brings a folder that you have
<exit code 2>

"#]],
    );
    project.prints(
        &["data", "check", "eurosta", "--data-root", "root"],
        str![[r#"
<stderr>
error: there is no data set `eurosta`
hint: did you mean `eurosat`?
<exit code 2>

"#]],
    );
}

#[test]
fn many_missing_files_are_named_and_summed_up() {
    let project = Project::new();
    let mut rows = String::from("path,label,classname,split\n");
    for class in 0..8 {
        for place in 0..3 {
            rows +=
                &format!("./{class}/{place}.png,{class},class {class},{}\n", if place == 0 { "test" } else { "train" });
        }
    }
    project.write("root/many/table.csv", &rows);
    for path in ["0/0.png", "0/1.png", "0/2.png", "1/0.png"] {
        write(&project.file(&format!("root/many/{path}")), &picture());
    }
    project.write(
        "many.toml",
        "name = \"Many\"\nfolder = \"many\"\ntemplate = \"a {}.\"\nreader = { kind = \"csv\", file = \"table.csv\" }\n",
    );
    project.prints(
        &["data", "check", "many.toml", "--data-root", "root"],
        str![[r#"
<stdout>
          manifest     split   on disk
classes          -         8         2
train            -        16         2
val              -         0         0
test             -         8         2
missing: root/many/1/1.png
missing: root/many/1/2.png
missing: root/many/2/1.png
missing: root/many/2/2.png
missing: root/many/3/1.png
missing: root/many/3/2.png
missing: root/many/4/1.png
missing: root/many/4/2.png
missing: root/many/5/1.png
missing: root/many/5/2.png
missing: root/many/6/1.png
missing: root/many/6/2.png
missing: root/many/7/1.png
missing: root/many/7/2.png
missing: root/many/2/0.png
missing: root/many/3/0.png
missing: root/many/4/0.png
missing: root/many/5/0.png
missing: root/many/6/0.png
missing: root/many/7/0.png
<stderr>
6 of 8 are missing in `root/many`: 2, 3, 4, 5, 6 and 1 more
2 of 3 are missing in `root/many/1`: 1.png, 2.png
error: data set `many.toml` does not match its manifest: 20 missing files or folders
<exit code 1>

"#]],
    );
    project.prints(
        &["data", "check", "many.toml", "--per-class", "--data-root", "root"],
        str![[r#"
<stdout>
label,classname,train,train_on_disk,val,val_on_disk,test,test_on_disk
0,class 0,2,2,0,0,1,1
1,class 1,2,0,0,0,1,1
2,class 2,2,0,0,0,1,0
3,class 3,2,0,0,0,1,0
4,class 4,2,0,0,0,1,0
5,class 5,2,0,0,0,1,0
6,class 6,2,0,0,0,1,0
7,class 7,2,0,0,0,1,0
<stderr>
6 of 8 are missing in `root/many`: 2, 3, 4, 5, 6 and 1 more
2 of 3 are missing in `root/many/1`: 1.png, 2.png
error: data set `many.toml` does not match its manifest: 20 missing files or folders
<exit code 1>

"#]],
    );
}

/// Class folders that `classnames.txt` has and the images lack are named, and the folder that has too little is blamed.
#[test]
fn class_folders_that_are_not_there_are_named() {
    let project = Project::new();
    for path in ["train/n1/a.png", "train/n2/a.png", "val/n1/a.png", "val/n1/b.png"] {
        write(&project.file(&format!("root/net/images/{path}")), &picture());
    }
    project.write("root/net/classnames.txt", "n1 tench\nn2 goldfish\n");
    project.write(
        "net.toml",
        "name = \"Net\"\nfolder = \"net\"\nimages = \"images\"\ntemplate = \"a {}.\"\n\
         counts = { classes = 2, train = 2, test = 4, test_per_class = 2 }\n\
         reader = { kind = \"class-folders\", train = \"train\", test = \"val\", class_names = \"classnames.txt\" }\n",
    );
    project.prints(
        &["data", "check", "net.toml", "--data-root", "root"],
        str![[r#"
<stdout>
          manifest     split   on disk
classes          2         2         2
train            2         2         2
val              -         0         0
test             4         2         2
missing: root/net/images/val/n2
<stderr>
differs: `root/net/images/val` has 2 test images, not 4
differs: `root/net/images/val` has not 2 test images of each class: goldfish (0)
error: data set `net.toml` does not match its manifest: 2 mismatches, 1 missing file or folder
<exit code 1>

"#]],
    );
}

/// A pipeline says where a split file can be had: there is no other way to the published division.
#[test]
fn a_pipeline_says_where_a_split_file_comes_from() {
    let project = Project::new();
    fs::create_dir_all(project.file("root/eurosat/2750")).unwrap();
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("data-manifests/eurosat.toml");
    project.write("manifests/eurosat.toml", &fs::read_to_string(shipped).unwrap());
    project.write(
        "pipelines/net.toml",
        "[axes]\ndataset = [\"eurosat\"]\n\n[stage.data]\nkind = \"dataset\"\naxes = [\"dataset\"]\n\
         manifest = \"../manifests/{dataset}.toml\"\n",
    );
    project.prints(
        &["run", "pipelines/net.toml", "--data-root", "root"],
        str![[r#"
<stderr>
error: `root/eurosat` lacks `split_zhou_EuroSAT.json`
 --> pipelines/net.toml:4:8
  |
4 | [stage.data]
  |        ^^^^
  |
  = hint: `maple-pipe data fetch eurosat` gets it, or put the data set there, so that `root/eurosat` holds `2750` and `split_zhou_EuroSAT.json`; `split_zhou_EuroSAT.json` comes from https://drive.usercontent.google.com/download?id=1Ip7yaCWFi0eaOFUGga0lUdVi_DDQth1o&export=download&confirm=t

error: 1 thing is not there
hint: without them, `--keep-going` runs what does not need them, `--only GLOB` what you name
<exit code 2>

"#]],
    );
}

#[test]
fn data_sets_are_listed() {
    let project = Project::new();
    miniature(&project.file("root"), &LAYOUTS[13]);
    // What cannot be read is said in its row, and the others are listed all the same.
    fs::create_dir_all(project.file("root/eurosat/2750")).unwrap();
    fs::create_dir_all(project.file("root/eurosat/split_zhou_EuroSAT.json")).unwrap();
    project.prints(
        &["data", "list", "--data-root", "root"],
        str![[r#"
<stdout>
data set          classes    images  state
imagenet             1000   1331167  not there
caltech101            100      8242  not there
oxford_pets            37      7349  not there
stanford_cars         196     16185  not there
flowers102            102      8189  not there
food101               101    101000  not there
fgvc_aircraft         100     10000  not there
sun397                397     39700  not there
dtd                    47      5640  not there
eurosat                10     27000  unreadable: could not read `root/eurosat/split_zhou_EuroSAT.json`: Is a directory (os error 21)
ucf101                101     13320  not there
imagenetv2           1000     10000  not there
imagenet_sketch      1000     50889  not there
imagenet_a            200      7500  incomplete: root/imagenet-adversarial
imagenet_r            200     30000  not there
caltech101-20          20      1027  not there
<exit code 0>

"#]],
    );
}

#[test]
fn data_sets_are_listed_for_programs_and_without_a_data_root() {
    let project = Project::new();
    miniature(&project.file("root"), &LAYOUTS[13]);
    let lines = project.run(&["data", "list", "--json", "--data-root", "root"]).stdout;
    let sets: Vec<serde_json::Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(sets.len(), 16);
    assert_eq!(
        sets[13],
        serde_json::json!({
            "name": "imagenet_a", "classes": 200, "images": 7500, "state": "incomplete",
            "folder": "root/imagenet-adversarial", "error": null
        })
    );
    let printed = project.run(&["data", "list"]);
    assert!(
        printed
            .stdout
            .starts_with("data set          classes    images  state\nimagenet             1000   1331167  -\n")
    );
    assert_eq!(
        printed.stderr,
        "hint: give `--data-root FOLDER` or set MAPLE_DATA, and the list says which data sets are there\n"
    );
}

/// A user's own folder of class folders, and one with a table.
#[test]
fn own_folders_are_imported_with_a_manifest_of_five_lines() {
    let project = Project::new();
    for class in ["red kite", "wren"] {
        for place in 0..5 {
            write(&project.file(&format!("birds/{class}/{place}.png")), &picture());
        }
    }
    project.prints(
        &["data", "import", "birds", "--data-root", "root"],
        str![[r#"
<stdout>
name = "birds"
folder = "birds"
images = "."
template = "a photo of a {}."
reader = { kind = "class-folders", division = { train = 0.5, val = 0.2, seed = 1 } }
<stderr>
imported root/birds: 2 classes, 10 images; save these lines as `manifests/birds.toml`, and name that file in a `dataset` stage
<exit code 0>

"#]],
    );
    assert!(project.file("root/birds").symlink_metadata().unwrap().is_symlink());
    let table =
        "path,label,classname,split\na.png,0,cat,train\nb.png,1,dog,train\nc.png,0,cat,test\nd.png,1,dog,test\n";
    project.write("pets/table.csv", table);
    ["a", "b", "c", "d"].iter().for_each(|name| write(&project.file(&format!("pets/{name}.png")), &picture()));
    let import = ["data", "import", "pets", "--as", "my_pets", "--copy", "--data-root", "root"];
    let printed = project.run(&import);
    assert_eq!(printed.code, Some(0), "{}", printed.stderr);
    project.write("manifests/my_pets.toml", &printed.stdout);
    project.write(
        "pipelines/own.toml",
        "[axes]\ndataset = [\"my_pets\"]\n\n[stage.data]\nkind = \"dataset\"\naxes = [\"dataset\"]\n\
         manifest = \"../manifests/{dataset}.toml\"\n",
    );
    project.prints(
        &["run", "pipelines/own.toml", "--data-root", "root"],
        str![[r#"
<stderr>
        DONE [TIME] (1/1) data/my_pets   2 classes, 4 images
1 node: 1 ran, 0 cached, 0 failed in [TIME]
<exit code 0>

"#]],
    );
    fs::remove_file(project.file("pets/c.png")).unwrap();
    project.prints(
        &["data", "import", "pets", "--as", "fewer_pets", "--data-root", "root"],
        str![[r#"
<stdout>
missing: pets/c.png
<stderr>
error: data set `fewer_pets` does not match its manifest: 1 missing file or folder
<exit code 1>

"#]],
    );
    assert!(!project.file("root/fewer_pets").exists());
    project.prints(&["data", "import", "manifests", "--data-root", "root"], str![[r#"
<stderr>
error: `manifests` is no data set that is known
hint: it needs class folders, `train/` and `test/` with class folders, or one .csv file with the columns path, label, classname and split; a published data set lacks files: name it with `--as`
<exit code 2>

"#]]);
    assert!(!project.file("root/manifests").exists());
}

/// A tar of these members.
fn tar(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, content) in members {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        // A path that leaves the folder is one that the library would not write.
        header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
        header.set_cksum();
        builder.append(&header, *content).unwrap();
    }
    builder.into_inner().unwrap()
}

/// A tar with a picture and these links.
fn tar_with_links(picture: &[u8], links: &[(&str, EntryType, &str)]) -> tar::Builder<Vec<u8>> {
    let mut builder = tar::Builder::new(Vec::new());
    add(&mut builder, "data/pictures/cat/a.png", EntryType::Regular, "", picture);
    links.iter().for_each(|(path, kind, target)| add(&mut builder, path, *kind, target, b""));
    builder
}

fn add(builder: &mut tar::Builder<Vec<u8>>, path: &str, kind: EntryType, target: &str, content: &[u8]) {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(kind);
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    header.as_ustar_mut().unwrap().linkname[..target.len()].copy_from_slice(target.as_bytes());
    header.set_path(path).unwrap();
    header.set_cksum();
    builder.append(&header, content).unwrap();
}

/// A tar with a picture, a member `data/link` of this kind, and a member below that.
fn tar_with_link(picture: &[u8], kind: EntryType, target: &str) -> Vec<u8> {
    let mut builder = tar_with_links(picture, &[("data/link", kind, target)]);
    add(&mut builder, "data/link/b.png", EntryType::Regular, "", picture);
    builder.into_inner().unwrap()
}

/// A zip of these members and links.
fn zip(members: &[(&str, &[u8])], links: &[(&str, &str)]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (path, content) in members {
        writer.start_file(*path, zip::write::SimpleFileOptions::default()).unwrap();
        writer.write_all(content).unwrap();
    }
    for (path, target) in links {
        writer.add_symlink(*path, *target, zip::write::SimpleFileOptions::default()).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A manifest whose one archive is at `url`.
fn from(project: &Project, url: &str, more: &str) {
    project.write(
        "net.toml",
        &format!(
            "name = \"Net\"\nfolder = \"net\"\nimages = \"pictures\"\ntemplate = \"a {{}}.\"\n\
             reader = {{ kind = \"class-folders\", test = \".\" }}\n\n[[source]]\nfile = \"net.tar.gz\"\nurl = \"{url}\"\n\
             unpack = {{ \"data/pictures\" = \"pictures\" }}\n{more}"
        ),
    );
}

const FETCH: [&str; 5] = ["data", "fetch", "net.toml", "--data-root", "root"];

/// What the data set's folder has.
fn left(project: &Project) -> Vec<String> {
    let entries = fs::read_dir(project.file("root/net")).unwrap();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_server_that_is_busy_is_asked_again() {
    let project = Project::new();
    let content = gzip(&tar(&[("data/pictures/cat/a.png", &picture())]));
    let busy = Answer::Status("503 Service Unavailable");
    let server = Server::start(content, &[busy, Answer::Range(100), busy, Answer::Range(ALL)]);
    from(&project, &server.url, "");
    // A name that is given twice is one data set.
    project.prints(
        &["data", "fetch", "net.toml", "net.toml", "--data-root", "root"],
        str![[r#"
<stderr>
fetched net.toml: root/net
<exit code 0>

"#]],
    );
    assert_eq!(server.asked(), ["", "", "bytes=100-", "bytes=100-"]);
}

/// A data set with a split of three images, out of an archive.
fn incomplete(project: &Project, more: &str, answers: &[Answer]) -> Server {
    let names = ["cat/a.png", "cat/b.png", "dog/c.png"];
    let content = tar(&names
        .map(|name| (format!("data/pictures/{name}"), picture()))
        .each_ref()
        .map(|(name, bytes)| (name.as_str(), bytes.as_slice())));
    let server = Server::start(gzip(&content), answers);
    let split = r#"{"train": [["cat/a.png", 0, "cat"], ["dog/c.png", 1, "dog"]], "val": [], "test": [["cat/b.png", 0, "cat"]]}"#;
    project.write("root/net/split.json", split);
    from(project, &server.url, more);
    project.replace(
        "net.toml",
        "{ kind = \"class-folders\", test = \".\" }",
        "{ kind = \"split-json\", file = \"split.json\" }",
    );
    server
}

/// A folder that lacks images is filled from the archive; what is in it stays.
#[test]
fn what_is_missing_is_fetched_again() {
    let project = Project::new();
    let server = incomplete(&project, "", &[Answer::Whole(ALL); 2]);
    assert_eq!(project.run(&FETCH).code, Some(0));
    fs::remove_dir_all(project.file("root/net/pictures/dog")).unwrap();
    fs::remove_file(project.file("root/net/pictures/cat/b.png")).unwrap();
    project.write("root/net/pictures/cat/a.png", "changed");
    project.write("root/net/pictures/notes.txt", "mine");
    project.prints(
        &["data", "check", "net.toml", "--data-root", "root"],
        str![[r#"
<stdout>
          manifest     split   on disk
classes          -         2         1
train            -         2         1
val              -         0         0
test             -         1         0
missing: root/net/pictures/dog/c.png
missing: root/net/pictures/cat/b.png
<stderr>
error: data set `net.toml` does not match its manifest: 2 missing files or folders
hint: `maple-pipe data fetch net.toml` gets what is missing
<exit code 1>

"#]],
    );
    project.prints(
        &FETCH,
        str![[r#"
<stderr>
net.toml is incomplete (root/net/pictures/cat/b.png, root/net/pictures/dog/c.png), so that `net.tar.gz` is needed again
fetched net.toml: root/net
<exit code 0>

"#]],
    );
    assert_eq!(fs::read(project.file("root/net/pictures/dog/c.png")).unwrap(), picture());
    assert_eq!(project.read("root/net/pictures/cat/a.png"), "changed");
    assert_eq!(project.read("root/net/pictures/notes.txt"), "mine");
    assert_eq!(left(&project), ["pictures", "split.json"]);
    assert_eq!(server.asked().len(), 2);
    project.prints(
        &FETCH,
        str![[r#"
<stderr>
net.toml is there already: root/net
<exit code 0>

"#]],
    );
}

/// A split file that is not the published one is not replaced, but said.
#[test]
fn a_split_file_that_is_another_is_not_fetched_over() {
    let project = Project::new();
    eurosat(&project.file("root"));
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("data-manifests/eurosat.toml");
    let text = fs::read_to_string(shipped).unwrap();
    let without_counts = &text[..text.find("[counts]").unwrap()];
    project.write("eurosat.toml", &format!("{without_counts}{}", &text[text.rfind("[[source]]").unwrap()..]));
    for command in ["check", "fetch"] {
        let printed = project.run(&["data", command, "eurosat.toml", "--data-root", "root"]);
        printed.is(match command {
            "check" => str![[r#"
<stdout>
          manifest     split   on disk
classes          -         2         2
train            -         4         4
val              -         2         2
test             -         2         2
<stderr>
differs: `root/eurosat/split_zhou_EuroSAT.json` is not the published file: its SHA-256 is [DIGEST], not [DIGEST]
error: data set `eurosat.toml` does not match its manifest: 1 mismatch
hint: `maple-pipe data fetch eurosat.toml` says how to get what is missing
<exit code 1>

"#]],
            _ => str![[r#"
<stderr>
eurosat.toml is incomplete (root/eurosat/split_zhou_EuroSAT.json), so that `split_zhou_EuroSAT.json` is needed again
error: `root/eurosat/split_zhou_EuroSAT.json` is another file: its SHA-256 is [DIGEST], not [DIGEST]
hint: remove it, and fetch it again
<exit code 2>

"#]],
        });
    }
}

#[test]
fn what_no_source_has_is_said() {
    let project = Project::new();
    incomplete(&project, "", &[Answer::Whole(ALL); 2]);
    project.replace("root/net/split.json", "cat/b.png", "cat/x.png");
    project.prints(
        &FETCH,
        str![[r#"
<stderr>
net.toml is incomplete (root/net/pictures/cat/x.png), so that `net.tar.gz` is needed again
error: `net.toml` does not match its manifest, although all its sources are there
hint: `maple-pipe data check net.toml` says what is wrong
<exit code 1>

"#]],
    );
}

#[test]
fn what_is_missing_and_must_be_had_by_hand_is_said() {
    let project = Project::new();
    let server = incomplete(&project, "by_hand = \"needs an account\"\n", &[]);
    project.replace("net.toml", &server.url, "https://example.org/net.tar.gz");
    write(&project.file("root/net/pictures/cat/a.png"), &picture());
    project.prints(
        &["data", "check", "net.toml", "--data-root", "root"],
        str![[r#"
<stdout>
          manifest     split   on disk
classes          -         2         1
train            -         2         1
val              -         0         0
test             -         1         0
missing: root/net/pictures/dog/c.png
missing: root/net/pictures/cat/b.png
<stderr>
error: data set `net.toml` does not match its manifest: 2 missing files or folders
hint: `maple-pipe data fetch net.toml` says how to get what is missing
<exit code 1>

"#]],
    );
    project.prints(
        &FETCH,
        str![[r#"
<stderr>
net.toml is incomplete (root/net/pictures/cat/b.png, root/net/pictures/dog/c.png), so that `net.tar.gz` is needed again
error: `net.tar.gz` cannot be fetched: needs an account
hint: download https://example.org/net.tar.gz and put it at `root/net/net.tar.gz`, and fetch again to unpack it
<exit code 2>

"#]],
    );
}

#[test]
fn an_archive_is_fetched_in_pieces_and_unpacked() {
    let project = Project::new();
    let content = gzip(&tar(&[("data/pictures/cat/a.png", &picture()), ("data/readme", b"not wanted")]));
    let missing = Answer::Status("404 Not Found");
    let server = Server::start(content, &[missing, Answer::Range(100), missing, Answer::Range(ALL)]);
    from(&project, &server.url, "");
    // Nothing came of the first attempt, and a part of the file of the second.
    assert_eq!(project.run(&FETCH).code, Some(1));
    assert!(!project.file("root/net").exists());
    assert_eq!(project.run(&FETCH).code, Some(1));
    assert_eq!(left(&project), ["net.tar.gz.part", "net.tar.gz.part.version"]);
    project.prints(
        &FETCH,
        str![[r#"
<stderr>
fetched net.toml: root/net
<exit code 0>

"#]],
    );
    assert_eq!(server.asked(), ["", "", "bytes=100-", "bytes=100-"]);
    assert_eq!(fs::read(project.file("root/net/pictures/cat/a.png")).unwrap(), picture());
    assert_eq!(left(&project), ["pictures"]);
    // Nobody published its digest, so the first one counts.
    assert!(project.read("root/SHA256SUMS").contains(" *net/net.tar.gz"));
    project.prints(
        &FETCH,
        str![[r#"
<stderr>
net.toml is there already: root/net
<exit code 0>

"#]],
    );
}

#[test]
fn zips_and_plain_tars_are_unpacked_links_included() {
    let picture = picture();
    let zip = zip(&[("data/pictures/cat/a.png", &picture)], &[("data/pictures/cat/b.png", "a.png")]);
    let tar = tar(&[("data/pictures/cat/a.png", &picture), ("data/pictures/cat/b.png", &picture)]);
    for content in [zip, tar] {
        let project = Project::new();
        let server = Server::start(content, &[Answer::Whole(ALL)]);
        from(&project, &server.url, "");
        let printed = project.run(&FETCH);
        assert_eq!(printed.code, Some(0), "{}", printed.stderr);
        assert_eq!(fs::read(project.file("root/net/pictures/cat/b.png")).unwrap(), picture);
    }
}

#[test]
fn dangerous_and_damaged_archives_leave_nothing() {
    let picture = picture();
    let good = ("data/pictures/cat/a.png", picture.as_slice());
    let whole = gzip(&tar(&[good]));
    let zeros = vec![0; 64 << 20];
    let links = |links: &[(&str, &str)]| {
        let links: Vec<_> = links.iter().map(|(path, target)| (*path, EntryType::Symlink, *target)).collect();
        tar_with_links(&picture, &links).into_inner().unwrap()
    };
    let later = links(&[("data/pictures/out", "later/../../escaped"), ("data/pictures/later", "../..")]);
    let around = links(&[("data/pictures/x/up", "../../.."), ("data/pictures/out", "y/../x/up/../../escaped")]);
    let moved = links(&[("data/pictures/out", "../other/cat"), ("data/other/cat", "../pictures/cat")]);
    let through = links(&[("data/real", "pictures"), ("data/pictures/out", "../real/cat")]);
    let cases = [
        ("a way through a later link", later, "leads out of the folder"),
        ("a way down, up, and through a link", around, "leads out of the folder"),
        ("a link outside once its folder has moved", moved, "leads out of the folder"),
        ("a link that comes back into its folder", through, "leads out of the folder"),
        ("a link to nothing", links(&[("data/pictures/b.png", "c.png")]), "leads out of the folder"),
        ("a member above", gzip(&tar(&[good, ("../escaped", b"x")])), "leaves the folder"),
        ("an absolute member", gzip(&tar(&[good, ("/tmp/escaped", b"x")])), "leaves the folder"),
        ("a bomb", gzip(&tar(&[good, ("data/zeros", &zeros)])), "far larger than images could be"),
        ("cut off", whole[..whole.len() - 20].to_vec(), "archive"),
        ("no archive", b"log in".to_vec(), "archive"),
        ("lacking a part", gzip(&tar(&[("data/other/a.png", &picture)])), "it has no `data/pictures`"),
        ("a zip's member above", zip(&[good, ("../escaped", b"x")], &[]), "leaves the folder"),
        ("a zip's link outside", zip(&[good], &[("data/link", "../../escaped")]), "leads out of the folder"),
        ("a zip's bomb", zip(&[good, ("data/zeros", &zeros)], &[]), "far larger than images could be"),
        ("a zip cut off", zip(&[good], &[])[..100].to_vec(), "archive"),
        ("a link outside", tar_with_link(&picture, EntryType::Symlink, "/etc"), "leads out of the folder"),
        ("a second name outside", tar_with_link(&picture, EntryType::Link, "../../x"), "leaves the folder"),
        ("a way through a link", tar_with_link(&picture, EntryType::Symlink, "pictures"), "leaves the folder"),
        ("a device", tar_with_link(&picture, EntryType::Char, ""), "neither file, folder nor link"),
    ];
    for (what, content, expected) in cases {
        let project = Project::new();
        let server = Server::start(content, &[Answer::Whole(ALL)]);
        from(&project, &server.url, "");
        let printed = project.run(&FETCH);
        assert_eq!(printed.code, Some(2), "{what}: {}", printed.stderr);
        assert!(printed.stderr.contains(expected), "{what}: {}", printed.stderr);
        assert!(left(&project).is_empty(), "{what}");
        assert!(!project.file("root/escaped").exists() && !Path::new("/tmp/escaped").exists(), "{what}");
    }
    let project = Project::new();
    let server = Server::start(whole, &[Answer::Whole(ALL)]);
    from(&project, &server.url, &format!("checksum = {{ md5 = \"{}\" }}\n", "0".repeat(32)));
    let printed = project.run(&FETCH);
    assert!(printed.stderr.contains("is another file: its MD5 is"), "{}", printed.stderr);
    assert!(printed.stderr.contains("find another copy, and put it at `root/net/net.tar.gz`"), "{}", printed.stderr);
    assert!(!project.file("root/net/pictures").exists());
}

/// `gzip` ignores zeros behind the last member, which tapes and some servers add.
#[test]
fn zeros_may_follow_what_is_compressed() {
    let (first, second) = (tar(&[("data/pictures/cat/a.png", &picture())]), vec![0; 512]);
    for (what, expected) in [(vec![0; 700], Some(0)), (b"\0\0rest".to_vec(), Some(2))] {
        let project = Project::new();
        let content = [gzip(&first), gzip(&second), what].concat();
        let server = Server::start(content, &[Answer::Whole(ALL)]);
        from(&project, &server.url, "");
        let printed = project.run(&FETCH);
        assert_eq!(printed.code, expected, "{}", printed.stderr);
    }
}

/// One archive a class in an archive, as ImageNet's training images come.
#[test]
fn archives_in_an_archive_are_unpacked_into_folders_of_their_names() {
    let project = Project::new();
    let classes = ["n01440764", "n01443537"].map(|class| (format!("{class}.tar"), tar(&[("a.png", &picture())])));
    let content = tar(&classes.each_ref().map(|(name, content)| (name.as_str(), content.as_slice())));
    let digest = "0".repeat(32);
    let hand = format!("by_hand = \"needs an account\"\nchecksum = {{ md5 = \"{digest}\" }}\ninner = \"*.tar\"\n");
    from(&project, "https://example.org", &hand);
    project.replace("net.toml", "{ \"data/pictures\" = \"pictures\" }", "{ \".\" = \"pictures\" }");
    write(&project.file("root/net/net.tar.gz"), &content);
    project.prints(
        &FETCH,
        str![[r#"
<stderr>
error: `root/net/net.tar.gz` is another file: its MD5 is b0a31efd6e23e8c3b32dcf11a17e3194, not 00000000000000000000000000000000
hint: remove it, and fetch it again
<exit code 2>

"#]],
    );
    let found = project.run(&FETCH).stderr;
    let found = found.split("its MD5 is ").nth(1).unwrap().split(',').next().unwrap().to_owned();
    project.replace("net.toml", &digest, &found);
    project.prints(
        &FETCH,
        str![[r#"
<stderr>
fetched net.toml: root/net
<exit code 0>

"#]],
    );
    for class in ["n01440764", "n01443537"] {
        assert_eq!(fs::read(project.file(&format!("root/net/pictures/{class}/a.png"))).unwrap(), picture());
    }
    assert_eq!(left(&project), ["net.tar.gz", "pictures"]);
}

/// An archive that a person has to unpack is at least compared with its checksum.
#[test]
fn an_archive_that_is_there_is_compared_with_its_checksum() {
    let project = Project::new();
    let more =
        format!("by_hand = \"unpack it\"\nchecksum = {{ md5 = \"{}\" }}\ngives = [\"pictures\"]\n", "0".repeat(32));
    from(&project, "https://example.org", &more);
    project.replace("net.toml", "unpack = { \"data/pictures\" = \"pictures\" }\n", "");
    write(&project.file("root/net/net.tar.gz"), b"abc");
    project.prints(
        &FETCH,
        str![[r#"
<stderr>
error: `root/net/net.tar.gz` is another file: its MD5 is 900150983cd24fb0d6963f7d28e17f72, not 00000000000000000000000000000000
hint: remove it, and fetch it again
<exit code 2>

"#]],
    );
    project.replace("net.toml", &"0".repeat(32), "900150983cd24fb0d6963f7d28e17f72");
    project.prints(
        &FETCH,
        str![[r#"
<stderr>
error: Net lacks `root/net/pictures`, or a part of it
hint: download net.tar.gz from https://example.org, which is there and whole: unpack it
<exit code 2>

"#]],
    );
}

#[test]
fn what_must_be_had_by_hand_is_said() {
    let project = Project::new();
    from(&project, "https://example.org/net.tar.gz", "by_hand = \"needs an account\"\n");
    project.prints(
        &FETCH,
        str![[r#"
<stderr>
error: `net.tar.gz` cannot be fetched: needs an account
hint: download https://example.org/net.tar.gz and put it at `root/net/net.tar.gz`, and fetch again to unpack it
<exit code 2>

"#]],
    );
    write(&project.file("root/net/net.tar.gz"), &gzip(&tar(&[("data/pictures/cat/a.png", &picture())])));
    project.prints(
        &FETCH,
        str![[r#"
<stderr>
fetched net.toml: root/net
<exit code 0>

"#]],
    );
    // It was not downloaded, so it stays.
    assert!(project.file("root/net/net.tar.gz").exists());
}

#[test]
fn a_sample_is_printed_without_images() {
    let project = Project::new();
    let split = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/data/fewshot.synthetic_split.json");
    fs::copy(split, project.file("split.json")).unwrap();
    let sample = ["fewshot", "--split", "split.json", "--shots", "1", "--seed", "2", "--classes", "novel"];
    project.prints(
        &sample,
        str![[r#"
<stdout>
train,Class_T17/train_17_045.jpg
train,Class_L13/train_13_036.jpg
train,Class_E12/train_12_001.jpg
train,Class_R11/train_11_032.jpg
train,Class_G18/train_18_037.jpg
train,Class_K10/train_10_009.jpg
train,Class_S14/train_14_033.jpg
train,Class_N19/train_19_001.jpg
train,Class_F15/train_15_042.jpg
train,Class_M16/train_16_021.jpg
val,Class_R11/val_11_001.jpg
val,Class_F15/val_15_005.jpg
val,Class_G18/val_18_000.jpg
val,Class_E12/val_12_000.jpg
val,Class_N19/val_19_001.jpg
val,Class_K10/val_10_002.jpg
val,Class_T17/val_17_002.jpg
val,Class_L13/val_13_000.jpg
val,Class_M16/val_16_001.jpg
val,Class_S14/val_14_001.jpg
<exit code 0>

"#]],
    );
    let table = project.run(&[&["fewshot", "list"], &sample[1..]].concat());
    assert!(table.stdout.starts_with("path,label,classname,split\n"), "{}{}", table.stdout, table.stderr);
    assert_eq!(table.stdout.lines().count(), 1 + project.run(&sample).stdout.lines().count());
}
