//! `maple-pipe data` and `maple-pipe fewshot`: layouts, checks, imports, downloads and samples.

use std::fs;
use std::io::Write;
use std::path::Path;

use image::{ImageFormat, RgbImage};
use maple_pipe::data::{Reader, catalogue};
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

/// A miniature tree of a shipped data set in its published layout: two classes with two training, one validation and one
/// test image each, as far as it has such parts.
fn miniature(root: &Path, name: &str) {
    let manifest = catalogue::find(name).unwrap();
    let folder = root.join(&manifest.folder);
    let images = folder.join(&manifest.images);
    let classes = ["n01440764 first class", "n01443537 second class"];
    match &manifest.reader {
        Reader::SplitJson { file, .. } => {
            let prefix = manifest.parts.first().map_or(String::new(), |part| format!("{part}/"));
            manifest.parts.iter().for_each(|part| fs::create_dir_all(images.join(part)).unwrap());
            let mut parts = serde_json::Map::new();
            for (part, count) in [("train", 2), ("val", 1), ("test", 1)] {
                let mut items = Vec::new();
                for label in 0..2 {
                    for place in 0..count {
                        let path = format!("{prefix}{label}/{part}{place}.png");
                        write(&images.join(&path), &picture());
                        items.push(serde_json::json!([path, label, format!("class {label}")]));
                    }
                }
                parts.insert(part.to_owned(), items.into());
            }
            write(&folder.join(file), serde_json::to_string(&parts).unwrap().as_bytes());
        }
        Reader::ClassFolders(folders) => {
            write(&folder.join("classnames.txt"), classes.join("\n").as_bytes());
            for part in [&folders.train, &folders.val, &folders.test].into_iter().flatten() {
                for (label, class) in classes.iter().enumerate() {
                    let class = class.split_once(' ').unwrap().0.to_owned();
                    let class = if folders.numbered { label.to_string() } else { class };
                    write(&images.join(part).join(class).join("a.png"), &picture());
                }
            }
        }
        Reader::ImageLists(lists) => {
            write(&folder.join(&lists.class_names), b"707-320\nBoeing 717\n");
            for (place, list) in [&lists.train, &lists.val, &lists.test].into_iter().enumerate() {
                write(&folder.join(list), format!("0{place} 707-320\n1{place} Boeing 717\n").as_bytes());
                for label in 0..2 {
                    write(&images.join(format!("{label}{place}{}", lists.suffix)), &picture());
                }
            }
        }
        Reader::Csv { .. } => panic!("no shipped data set has a table"),
    }
}

const NAMES: [&str; 15] = [
    "imagenet",
    "caltech101",
    "oxford_pets",
    "stanford_cars",
    "flowers102",
    "food101",
    "fgvc_aircraft",
    "sun397",
    "dtd",
    "eurosat",
    "ucf101",
    "imagenetv2",
    "imagenet_sketch",
    "imagenet_a",
    "imagenet_r",
];

/// Each layout as a pipeline's `dataset` stage reads it. The counts and the split file's checksum are those of the real
/// data, so a manifest without them is made of each.
#[test]
fn fifteen_layouts_are_read() {
    let project = Project::new();
    let root = project.file("root");
    for name in NAMES {
        miniature(&root, name);
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("data-manifests/{name}.toml"));
        let text = fs::read_to_string(shipped).unwrap();
        let mut table: toml::Table = toml::from_str(&text).unwrap();
        let _ = ["counts", "source"].map(|key| table.remove(key));
        table.get_mut("reader").unwrap().as_table_mut().unwrap().remove("sha256");
        project.write(&format!("manifests/{name}.toml"), &table.to_string());
    }
    let names = NAMES.map(|name| format!("\"{name}\"")).join(", ");
    let pipeline = format!(
        "[axes]\ndataset = [{names}]\n\n[stage.data]\nkind = \"dataset\"\naxes = [\"dataset\"]\n\
         manifest = \"../manifests/{{dataset}}.toml\"\n"
    );
    project.write("pipelines/layouts.toml", &pipeline);
    let ran = project.ran(&["run", "pipelines/layouts.toml", "--data-root", "root"]);
    assert_eq!(ran.len(), 15);
    for name in NAMES {
        let json = |output: &str| -> serde_json::Value {
            let path = project.artifact(&format!("data/{name}"), output);
            serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
        };
        let images = |output: &str| json(output).as_array().unwrap().len();
        let classes = json("classes");
        assert_eq!(classes.as_array().unwrap().len(), 2, "{name}");
        let is_imagenet = name.starts_with("imagenet");
        let first = match name {
            name if name.starts_with("imagenet") => "first class",
            "fgvc_aircraft" => "707-320",
            _ => "class 0",
        };
        assert_eq!(classes[0], first, "{name}");
        let expected = match name {
            "imagenet" => (2, 0, 2),
            _ if is_imagenet => (0, 0, 2),
            "fgvc_aircraft" => (2, 2, 2),
            _ => (4, 2, 2),
        };
        assert_eq!((images("train"), images("val"), images("test-all")), expected, "{name}");
        assert_eq!((images("test-base"), images("test-novel")), (1, 1), "{name}");
    }
}

#[test]
fn a_check_says_what_is_there_and_what_is_not() {
    let project = Project::new();
    miniature(&project.file("root"), "eurosat");
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
             found  manifest
classes          2         2
train            4         4
val              2         2
test             2         2
<stderr>
mine.toml is as its manifest says, and every image decodes
<exit code 0>

"#]],
    );
    project.prints(
        &check(&["--per-class"]),
        str![[r#"
<stdout>
label,classname,train,val,test
0,class 0,2,1,1
1,class 1,2,1,1
<stderr>
mine.toml is as its manifest says
<exit code 0>

"#]],
    );
    fs::remove_file(project.file("root/eurosat/2750/1/test0.png")).unwrap();
    project.write("root/eurosat/2750/0/train1.png", "no image");
    project.prints(
        &check(&["--deep"]),
        str![[r#"
<stdout>
             found  manifest
classes          2         2
train            4         4
val              2         2
test             2         2
<stderr>
missing: root/eurosat/2750/1/test0.png
broken: `root/eurosat/2750/0/train1.png` is not a valid image: The image format could not be determined
error: data set `mine.toml` is not as its manifest says: 0 different, 1 missing, 1 broken
<exit code 1>

"#]],
    );
    // The published split file is another one.
    project.prints(
        &["data", "check", "eurosat", "--data-root", "root"],
        str![[r#"
<stdout>
             found  manifest
classes          2        10
train            4     13500
val              2      5400
test             2      8100
<stderr>
differs: `root/eurosat/split_zhou_EuroSAT.json` is not the published file: its SHA-256 is [DIGEST], not [DIGEST]
differs: `root/eurosat/split_zhou_EuroSAT.json` has 2 classes, not 10
differs: `root/eurosat/split_zhou_EuroSAT.json` has 4 training images, not 13500
differs: `root/eurosat/split_zhou_EuroSAT.json` has 2 validation images, not 5400
differs: `root/eurosat/split_zhou_EuroSAT.json` has 2 test images, not 8100
differs: `root/eurosat/2750` holds 7 files, but 27000 images are needed
missing: root/eurosat/2750/1/test0.png
error: data set `eurosat` is not as its manifest says: 6 different, 1 missing, 0 broken
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
fn data_sets_are_listed() {
    let project = Project::new();
    miniature(&project.file("root"), "imagenet_a");
    project.prints(
        &["data", "list", "--data-root", "root"],
        str![[r#"
<stdout>
imagenet         1000 classes  1331167 images  not there
caltech101        100 classes     8242 images  not there
oxford_pets        37 classes     7349 images  not there
stanford_cars     196 classes    16185 images  not there
flowers102        102 classes     8189 images  not there
food101           101 classes   101000 images  not there
fgvc_aircraft     100 classes    10000 images  not there
sun397            397 classes    39700 images  not there
dtd                47 classes     5640 images  not there
eurosat            10 classes    27000 images  not there
ucf101            101 classes    13320 images  not there
imagenetv2       1000 classes    10000 images  not there
imagenet_sketch  1000 classes    50889 images  not there
imagenet_a        200 classes     7500 images  incomplete: root/imagenet-adversarial
imagenet_r        200 classes    30000 images  not there
caltech101-20      20 classes     1027 images  not there
<exit code 0>

"#]],
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
imported root/birds: 2 classes, 10 images; keep these lines as the manifest of a `dataset` stage
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

#[test]
fn an_archive_is_fetched_in_pieces_and_unpacked() {
    let project = Project::new();
    let content = gzip(&tar(&[("data/pictures/cat/a.png", &picture()), ("data/readme", b"not wanted")]));
    let server = Server::start(content, &[Answer::Range(100), Answer::Status("503 Busy"), Answer::Range(ALL)]);
    from(&project, &server.url, "");
    let printed = project.run(&FETCH);
    assert_eq!(printed.code, Some(2), "{}", printed.stderr);
    assert!(!project.file("root/net/pictures").exists());
    project.prints(
        &FETCH,
        str![[r#"
<stderr>
fetched net.toml: root/net
<exit code 0>

"#]],
    );
    assert_eq!(server.asked(), ["", "bytes=100-", "bytes=100-"]);
    assert_eq!(fs::read(project.file("root/net/pictures/cat/a.png")).unwrap(), picture());
    let left: Vec<_> =
        fs::read_dir(project.file("root/net")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["pictures"]);
    // Nobody published its digest, so the first one counts.
    assert!(project.read("root/SHA256SUMS").contains("  net/net.tar.gz"));
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
        ("no archive", b"<html>log in</html>".to_vec(), "archive"),
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
        let left = fs::read_dir(project.file("root/net")).unwrap().count();
        assert_eq!(left, 0, "{what}");
        assert!(!project.file("root/escaped").exists() && !Path::new("/tmp/escaped").exists(), "{what}");
    }
    let project = Project::new();
    let server = Server::start(whole, &[Answer::Whole(ALL)]);
    from(&project, &server.url, &format!("checksum = {{ md5 = \"{}\" }}\n", "0".repeat(32)));
    let printed = project.run(&FETCH);
    assert!(printed.stderr.contains("is another file: its MD5 is"), "{}", printed.stderr);
    assert!(!project.file("root/net/pictures").exists());
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
