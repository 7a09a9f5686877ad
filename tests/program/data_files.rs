//! The files that say which image is what: division, lists, tables, names of classes. Each is read to its end, or refused.

use snapbox::str;

use crate::server::{ALL, Answer, Server};
use crate::support::Project;

/// Two classes with an image for each part, which all readers below name.
const IMAGES: [&str; 4] = ["cat/1.png", "cat/2.png", "dog/1.png", "dog/2.png"];

const SPLIT: &str = r#"{"train": [["cat/1.png", 0, "cat"], ["dog/1.png", 1, "dog"]], "val": [], "test": [["cat/2.png", 0, "cat"], ["dog/2.png", 1, "dog"]]}"#;

const TABLE: &str = "path,label,classname,split\ncat/1.png,0,cat,train\ndog/1.png,1,dog,train\ncat/2.png,0,cat,test\ndog/2.png,1,dog,test\n";

const CHECK: [&str; 5] = ["data", "check", "pets.toml", "--data-root", "root"];

/// A project with a data set whose manifest has this reader.
fn pets(reader: &str) -> Project {
    let project = Project::new();
    for image in IMAGES {
        project.write(&format!("root/pets/images/{image}"), "");
    }
    project.write(
        "pets.toml",
        &format!(
            "name = \"Pets\"\nfolder = \"pets\"\nimages = \"images\"\ntemplate = \"a {{}}.\"\nreader = {reader}\n"
        ),
    );
    project
}

fn with_split(text: impl AsRef<[u8]>) -> Project {
    let project = pets("{ kind = \"split-json\", file = \"split.json\" }");
    std::fs::write(project.file("root/pets/split.json"), text).unwrap();
    project
}

fn with_table(text: impl AsRef<[u8]>) -> Project {
    let project = pets("{ kind = \"csv\", file = \"table.csv\" }");
    std::fs::write(project.file("root/pets/table.csv"), text).unwrap();
    project
}

#[track_caller]
fn is_complete(project: &Project) {
    let printed = project.run(&CHECK);
    assert_eq!(printed.code, Some(0), "{}", printed.stderr);
}

#[test]
fn nothing_may_follow_a_division() {
    let project = with_split(format!("{SPLIT}\n>>>>>>> theirs\n"));
    project.prints(
        &CHECK,
        str![[r#"
<stderr>
differs: `root/pets/split.json` is not a valid split file: trailing characters at line 2 column 1
error: data set `pets.toml` does not match its manifest: 1 mismatch
<exit code 1>

"#]],
    );
    project.prints(
        &["fewshot", "--split", "root/pets/split.json", "--shots", "1", "--seed", "1"],
        str![[r#"
<stderr>
error: `root/pets/split.json` is not a valid split file: trailing characters at line 2 column 1
<exit code 2>

"#]],
    );
    is_complete(&with_split(format!("{SPLIT}\n\n")));
}

/// Editors of Windows put a mark at the start of UTF-8 texts, and some write UTF-16.
#[test]
fn a_byte_order_mark_is_no_part_of_a_text() {
    is_complete(&with_split(format!("\u{feff}{SPLIT}")));
    is_complete(&with_table(format!("\u{feff}{TABLE}")));
    let folders = pets("{ kind = \"class-folders\", test = \".\", class_names = \"classnames.txt\" }");
    folders.write("root/pets/classnames.txt", "\u{feff}cat tabby\r\ndog terrier\r\n");
    is_complete(&folders);
    let lists = "{ kind = \"image-lists\", class_names = \"names.txt\", train = \"train.txt\", val = \"val.txt\", \
                 test = \"test.txt\", suffix = \".png\" }";
    let lists = pets(lists);
    lists.write("root/pets/names.txt", "\u{feff}cat\ndog\n");
    lists.write("root/pets/train.txt", "\u{feff}cat/1 cat\ndog/1 dog\n");
    lists.write("root/pets/val.txt", "\u{feff}");
    lists.write("root/pets/test.txt", "\u{feff}cat/2 cat\ndog/2 dog\n");
    is_complete(&lists);
    let wide: Vec<u8> = format!("\u{feff}{SPLIT}").encode_utf16().flat_map(u16::to_le_bytes).collect();
    with_split(wide).prints(
        &CHECK,
        str![[r#"
<stderr>
differs: `root/pets/split.json` is not a valid split file: it is in UTF-16: save it as UTF-8
error: data set `pets.toml` does not match its manifest: 1 mismatch
<exit code 1>

"#]],
    );
    with_table(b"path,label,classname,split\ncat/1.png,0,ch\xe2t,train\n").prints(
        &CHECK,
        str![[r#"
<stderr>
differs: `root/pets/table.csv` is not a valid table of images: line 2 is not in UTF-8: save it as UTF-8
error: data set `pets.toml` does not match its manifest: 1 mismatch
<exit code 1>

"#]],
    );
}

#[test]
fn a_page_in_place_of_a_file_is_called_a_page() {
    with_split("<!DOCTYPE html><title>Google Drive - Quota exceeded</title>").prints(
        &CHECK,
        str![[r#"
<stderr>
differs: `root/pets/split.json` is not a valid split file: it is a web page
error: data set `pets.toml` does not match its manifest: 1 mismatch
<exit code 1>

"#]],
    );
    with_table("\n<html><body>Log in</body></html>").prints(
        &CHECK,
        str![[r#"
<stderr>
differs: `root/pets/table.csv` is not a valid table of images: it is a web page
error: data set `pets.toml` does not match its manifest: 1 mismatch
<exit code 1>

"#]],
    );
    with_split("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n").prints(
        &CHECK,
        str![[r#"
<stderr>
differs: `root/pets/split.json` is not a valid split file: it is a Git LFS pointer
error: data set `pets.toml` does not match its manifest: 1 mismatch
hint: run `git lfs pull` in the repository that it is from
<exit code 1>

"#]],
    );
}

#[test]
fn a_table_that_is_none_is_told_with_its_line() {
    for (table, expected) in [
        (TABLE.replace(',', ";"), "between its columns stands a semicolon, not a comma"),
        (TABLE.replace(',', "\t"), "between its columns stands a tab, not a comma"),
        (TABLE.replace("classname", "class"), "its first line has no column `classname`"),
        (TABLE[TABLE.find('\n').unwrap() + 1..].to_owned(), "its first line has no column `path`"),
        (String::new(), "its first line has no column `path`"),
        (TABLE.replace("dog/1.png,1", "dog/1.png,one"), "line 3 has the label `one`, not an integer from 0 up"),
        (TABLE.replace("dog/1.png,1", "dog/1.png,-1"), "line 3 has the label `-1`, not an integer from 0 up"),
        (TABLE.replace("cat,test", "cat,Test"), "line 4 has the split `Test`, not `train`, `val` or `test`"),
        (TABLE.replace("dog/1.png,1", "\n\ndog/1.png,x"), "line 5 has the label `x`"),
        (TABLE.replace("cat/2.png", "cat,2.png"), "line 4 has 5 fields, but the first line has 4"),
        (TABLE.replace(",0,cat,test", ",0"), "line 4 has 2 fields, but the first line has 4"),
    ] {
        let printed = with_table(&table).run(&CHECK);
        assert!(printed.stderr.contains(&format!("is not a valid table of images: {expected}")), "{}", printed.stderr);
        let hint = "hint: its first line is `path,label,classname,split`";
        assert!(printed.stderr.contains(hint), "{}", printed.stderr);
        assert_eq!(printed.code, Some(1));
    }
    with_table(TABLE.replace(',', ";")).prints(
        &CHECK,
        str![[r#"
<stderr>
differs: `root/pets/table.csv` is not a valid table of images: between its columns stands a semicolon, not a comma
error: data set `pets.toml` does not match its manifest: 1 mismatch
hint: its first line is `path,label,classname,split`, and an image is, for example, `cat/1.jpg,0,cat,train`
<exit code 1>

"#]],
    );
    // Columns stand in any order, and others are not looked at.
    is_complete(&with_table(
        "split,note,classname,label,path\ntrain,\"a, b\",cat,0,cat/1.png\n\n test , , cat , 0 , cat/2.png \n",
    ));
}

/// A data set whose split file is at `url`, with its images in place.
fn with_source(url: &str, more: &str) -> Project {
    let project = pets("{ kind = \"split-json\", file = \"split.json\" }");
    let source = format!("\n[[source]]\nfile = \"split.json\"\nurl = \"{url}\"\n{more}");
    let manifest = project.read("pets.toml");
    project.write("pets.toml", &(manifest + &source));
    project
}

const FETCH: [&str; 5] = ["data", "fetch", "pets.toml", "--data-root", "root"];

const PAGE: &str = "<!DOCTYPE html><title>Google Drive - Quota exceeded</title>\n";

/// A server of this file, and the manifest's old address replaced by its.
fn served(project: &Project, old: &str, content: &str) -> Server {
    let server = Server::start(content.as_bytes().to_vec(), &[Answer::Whole(ALL); 3]);
    project.replace("pets.toml", old, &server.url);
    server
}

#[test]
fn an_error_page_is_no_split_file_and_decides_nothing() {
    let project = with_source("URL", "");
    let broken = served(&project, "URL", PAGE);
    let printed = project.run(&FETCH);
    let expected = format!("could not download `{}`: the server sent a web page instead of the file", broken.url);
    assert!(printed.stderr.contains(&expected) && printed.code == Some(1), "{}", printed.stderr);
    assert!(!project.file("root/SHA256SUMS").exists() && !project.file("root/pets/split.json").exists());
    let mended = served(&project, &broken.url, SPLIT);
    project.prints(
        &FETCH,
        str![[r#"
<stderr>
fetched pets.toml: root/pets
<exit code 0>

"#]],
    );
    assert!(project.read("root/SHA256SUMS").ends_with(" *pets/split.json\n"));
    // From now on it is this file and no other.
    std::fs::remove_file(project.file("root/pets/split.json")).unwrap();
    served(&project, &mended.url, &SPLIT.replace("dog/1", "dog/2"));
    let printed = project.run(&FETCH);
    assert!(printed.stderr.contains("is another file: its SHA-256 is"), "{}", printed.stderr);
    assert_eq!(printed.code, Some(2));
}

/// Earlier versions took a page for the file, and held all that came later to its digest.
#[test]
fn a_data_root_that_has_a_page_in_place_of_a_file_heals() {
    for is_there in [true, false] {
        let project = with_source("URL", "");
        let line = format!("{}  pets/split.json\n{}  other/a.txt\n", "0".repeat(64), "1".repeat(64));
        project.write("root/SHA256SUMS", &line);
        if is_there {
            project.write("root/pets/split.json", PAGE);
            project.prints(
                &CHECK,
                str![[r#"
<stderr>
differs: `root/pets/split.json` is not a valid split file: it is a web page
error: data set `pets.toml` does not match its manifest: 1 mismatch
hint: `maple-pipe data fetch pets.toml` gets what is missing
<exit code 1>

"#]],
            );
        }
        served(&project, "URL", SPLIT);
        project.prints(
            &FETCH,
            str![[r#"
<stderr>
fetched pets.toml: root/pets
<exit code 0>

"#]],
        );
        let sums = project.read("root/SHA256SUMS");
        assert!(sums.contains(" *pets/split.json\n") && sums.contains(&format!("{}  other/a.txt\n", "1".repeat(64))));
    }
}

#[test]
fn what_cannot_be_read_is_not_kept_as_the_first_content() {
    for split in ["{\"error\": \"try again later\"}", &SPLIT.replace("dog/1.png", "dog/9.png")] {
        let project = with_source("URL", "");
        served(&project, "URL", split);
        let printed = project.run(&FETCH);
        assert!(printed.stderr.contains("`pets.toml` does not match its manifest"), "{}", printed.stderr);
        assert!(!project.file("root/SHA256SUMS").exists(), "{}", printed.stderr);
    }
}

#[test]
fn a_page_that_was_saved_by_hand_is_called_a_page() {
    let project = with_source("https://example.org/split.json", "by_hand = \"needs an account\"\n");
    project.write("root/pets/split.json", PAGE);
    project.prints(
        &FETCH,
        str![[r#"
<stderr>
error: `split.json` cannot be fetched: needs an account; what lies there is a web page
hint: download https://example.org/split.json and put it at `root/pets/split.json`
<exit code 2>

"#]],
    );
    assert_eq!(project.read("root/pets/split.json"), PAGE);
}

/// A data set of some classes of another one: its split file is cut out of the published one.
#[test]
fn some_classes_of_a_published_split_are_a_data_set() {
    let project = with_source("URL", "classes = [\"dog\"]\n");
    let server = served(&project, "URL", SPLIT);
    project.prints(
        &FETCH,
        str![[r#"
<stderr>
fetched pets.toml: root/pets
<exit code 0>

"#]],
    );
    let cut = r#"{"train": [["dog/1.png", 0, "dog"]], "val": [], "test": [["dog/2.png", 0, "dog"]]}"#;
    assert_eq!(project.read("root/pets/split.json"), cut);
    assert!(!project.file("root/pets/split.json.whole").exists());
    is_complete(&project);
    // What somebody has got by hand is cut as well, if it is the published file.
    std::fs::remove_file(project.file("root/pets/split.json")).unwrap();
    project.write("root/pets/split.json.whole", SPLIT);
    project.replace("pets.toml", &server.url, "http://127.0.0.1:9/split.json");
    project
        .write("pets.toml", &format!("{}checksum = {{ md5 = \"{}\" }}\n", project.read("pets.toml"), "0".repeat(32)));
    project.prints(&FETCH, str![[r#"
<stderr>
error: `root/pets/split.json.whole` is another file: its MD5 is 42a2a742532d477a4a27e6846ec75ef0, not 00000000000000000000000000000000
hint: remove it, and fetch it again
<exit code 2>

"#]]);
    project.replace("pets.toml", &format!("checksum = {{ md5 = \"{}\" }}\n", "0".repeat(32)), "");
    assert_eq!(project.run(&FETCH).code, Some(0));
    assert_eq!(project.read("root/pets/split.json"), cut);
    std::fs::remove_file(project.file("root/pets/split.json")).unwrap();
    project.replace("pets.toml", "\"dog\"", "\"newt\"");
    project.write("root/pets/split.json.whole", SPLIT);
    project.prints(
        &FETCH,
        str![[r#"
<stderr>
error: `root/pets/split.json.whole` is not a valid split file: it has no class `newt`
<exit code 2>

"#]],
    );
}

#[test]
fn secrets_of_addresses_are_not_printed() {
    let url = "http://me:secret@127.0.0.1:9/split.json?token=secret&id=7";
    let project = with_source(url, "");
    let printed = project.run(&FETCH);
    let expected = "could not download `http://127.0.0.1:9/split.json?token=...&id=7`";
    assert!(printed.stderr.contains(expected) && !printed.stderr.contains("secret"), "{}", printed.stderr);
    project.write("p.toml", "[stage.data]\nkind = \"dataset\"\nmanifest = \"pets.toml\"\n");
    let printed = project.run(&["run", "p.toml", "--data-root", "root"]);
    let expected = "`split.json` comes from http://127.0.0.1:9/split.json?token=...&id=7";
    assert!(printed.stderr.contains(expected) && !printed.stderr.contains("secret"), "{}", printed.stderr);
    let by_hand = with_source(url, "by_hand = \"needs an account\"\n").run(&FETCH);
    assert!(by_hand.stderr.contains("...") && !by_hand.stderr.contains("secret"), "{}", by_hand.stderr);
}

fn folders() -> Project {
    let project = pets("{ kind = \"class-folders\", division = { train = 0.5, val = 0 } }");
    for class in ["cat", "dog"] {
        ["3", "4"].iter().for_each(|name| project.write(&format!("root/pets/images/{class}/{name}.JPG"), ""));
    }
    project
}

#[test]
fn images_that_are_not_read_are_counted_by_extension() {
    let project = folders();
    for name in ["a.tif", "b.tif", "c.TIFF", "d.ppm", "e.jfif", "notes.txt", ".hidden.tif", "Thumbs.db"] {
        project.write(&format!("root/pets/images/cat/{name}"), "");
    }
    // By its content, whatever it is called.
    std::fs::write(project.file("root/pets/images/dog/photo"), b"\xff\xd8\xff\xe0\0\x10JFIF").unwrap();
    project.write("root/pets/images/loose.tif", "");
    project.prints(&CHECK, str![[r#"
<stdout>
          manifest     split   on disk
classes          -         2         2
train            -         4         4
val              -         0         0
test             -         4         4
<stderr>
note: 6 files look like images and are not read: no extension 1, .jfif 1, .ppm 1, .tif 2, .tiff 1; what is read is .jpg, .jpeg, .png, .webp, .gif, .bmp
pets.toml matches its manifest
<exit code 0>

"#]]);
    project.write("p.toml", "[stage.data]\nkind = \"dataset\"\nmanifest = \"pets.toml\"\n");
    project.prints(&["run", "p.toml", "--data-root", "root"], str![[r#"
<stderr>
        DONE [TIME] (1/1) data   2 classes, 8 images; 6 files look like images and are not read: no extension 1, .jfif 1, .ppm 1, .tif 2, .tiff 1; what is read is .jpg, .jpeg, .png, .webp, .gif, .bmp
1 node: 1 ran, 0 cached, 0 failed in [TIME]
<exit code 0>

"#]]);
    project.prints(&["data", "import", "root/pets/images", "--as", "mine", "--data-root", "elsewhere"], str![[r#"
<stdout>
name = "mine"
folder = "mine"
images = "."
template = "a photo of a {}."
reader = { kind = "class-folders", division = { train = 0.5, val = 0.2, seed = 1 } }
<stderr>
note: 6 files look like images and are not read: no extension 1, .jfif 1, .ppm 1, .tif 2, .tiff 1; what is read is .jpg, .jpeg, .png, .webp, .gif, .bmp
imported elsewhere/mine: 2 classes, 8 images; save these lines as `manifests/mine.toml`, and name that file in a `dataset` stage
<exit code 0>

"#]]);
    let project = pets("{ kind = \"class-folders\", train = \"train\", test = \"test\" }");
    for path in ["train/cat/1.ppm", "train/dog/1.png", "test/cat/1.png", "test/dog/1.png"] {
        project.write(&format!("root/pets/images/{path}"), "");
    }
    project.prints(
        &CHECK,
        str![[r#"
<stderr>
differs: `root/pets/images` has no training images of class `cat`
error: data set `pets.toml` does not match its manifest: 1 mismatch
hint: 1 file looks like an image and is not read: .ppm 1; what is read is .jpg, .jpeg, .png, .webp, .gif, .bmp
<exit code 1>

"#]],
    );
}

#[test]
fn an_image_in_two_parts_is_noted() {
    let table = TABLE.replace("cat/2.png,0,cat,test", "./cat/1.png,0,cat,test\ncat/1.png,0,cat,val");
    with_table(&table).prints(
        &CHECK,
        str![[r#"
<stdout>
          manifest     split   on disk
classes          -         2         2
train            -         2         2
val              -         1         1
test             -         2         2
<stderr>
note: `val` has 1 image that `train` has, too: cat/1.png
note: `test` has 1 image that `train` has, too: ./cat/1.png
note: `test` has 1 image that `val` has, too: ./cat/1.png
pets.toml matches its manifest
<exit code 0>

"#]],
    );
    with_table(format!("{TABLE}dog/1.png,1,dog,train\n")).prints(
        &CHECK,
        str![[r#"
<stdout>
          manifest     split   on disk
classes          -         2         2
train            -         3         3
val              -         0         0
test             -         2         2
<stderr>
note: `train` has 1 image more than once: dog/1.png
pets.toml matches its manifest
<exit code 0>

"#]],
    );
    // With all images read, it is their contents that count: here all are the same.
    with_split(SPLIT).prints(
        &[&CHECK[..], &["--deep"]].concat(),
        str![[r#"
<stdout>
          manifest     split   on disk
classes          -         2         2
train            -         2         2
val              -         0         0
test             -         2         2
<stderr>
note: `train` has 1 image more than once: dog/1.png
note: `test` has 1 image more than once: dog/2.png
note: `test` has 2 images that `train` has, too: cat/2.png, dog/2.png
broken: `root/pets/images/cat/1.png` is not a valid image: it is empty
broken: `root/pets/images/dog/1.png` is not a valid image: it is empty
broken: `root/pets/images/cat/2.png` is not a valid image: it is empty
broken: `root/pets/images/dog/2.png` is not a valid image: it is empty
error: data set `pets.toml` does not match its manifest: 4 broken images
<exit code 1>

"#]],
    );
}

#[test]
fn classes_with_fewer_images_than_shots_are_noted() {
    let project = with_split(SPLIT);
    project.write(
        "p.toml",
        "[stage.data]\nkind = \"dataset\"\nmanifest = \"pets.toml\"\n\n\
         [stage.shots]\nkind = \"fewshot\"\ndataset = \"@data\"\nshots = 16\nseed = 1\n",
    );
    project.prints(
        &["run", "p.toml", "--data-root", "root", "-j", "1"],
        str![[r#"
<stderr>
        DONE [TIME] (1/2) data   2 classes, 4 images
        DONE [TIME] (2/2) shots   2 images; 2 classes have fewer than 16 training images: cat (1), dog (1)
2 nodes: 2 ran, 0 cached, 0 failed in [TIME]
<exit code 0>

"#]],
    );
    project.prints(
        &["fewshot", "--split", "root/pets/split.json", "--shots", "2", "--seed", "1"],
        str![[r#"
<stdout>
train,cat/1.png
train,dog/1.png
<stderr>
note: 2 classes have fewer than 2 training images: cat (1), dog (1)
<exit code 0>

"#]],
    );
}

/// Names that differ as tools and systems make them differ are shown beside those that are there.
#[test]
fn an_image_under_another_name_is_shown() {
    for (from, to) in [
        ("cat/1.png", r"cat\\1.png"),
        ("cat/1.png", "Cat/1.png"),
        ("dog/2.png", "images/dog/2.png"),
        ("dog/2.png", "dog/3.png"),
    ] {
        let project = with_split(SPLIT.replace(from, to));
        let name = to.replace(r"\\", "\\");
        let hint = format!("hint: `{from}` is there, and `{name}` ");
        let printed = project.run(&CHECK);
        assert_eq!(printed.stderr.contains(&hint), to != "dog/3.png", "{}", printed.stderr);
        project.write("p.toml", "[stage.data]\nkind = \"dataset\"\nmanifest = \"pets.toml\"\n");
        let printed = project.run(&["run", "p.toml", "--data-root", "root"]);
        assert!(printed.stderr.contains(&format!("root/pets/images` lacks `{name}`, which the split names")));
        assert_eq!(printed.stderr.contains(&hint), to != "dog/3.png", "{}", printed.stderr);
        let fetch = "hint: the data set is incomplete: fetch or unpack it again";
        assert_eq!(printed.stderr.contains(fetch), to == "dog/3.png", "{}", printed.stderr);
    }
    let project = with_split(SPLIT.replace("cat/", r"images\\cat\\"));
    project.prints(&CHECK, str![[r#"
<stdout>
          manifest     split   on disk
classes          -         2         1
train            -         2         1
val              -         0         0
test             -         2         1
missing: root/pets/images/images\cat\1.png
missing: root/pets/images/images\cat\2.png
<stderr>
error: data set `pets.toml` does not match its manifest: 2 missing files or folders
hint: `cat/1.png` is there, and `images\cat\1.png` has `\` in place of `/` and has a folder more at its start: rename the files, or correct the list
<exit code 1>

"#]]);
    project.write("p.toml", "[stage.data]\nkind = \"dataset\"\nmanifest = \"pets.toml\"\n");
    project.prints(&["run", "p.toml", "--data-root", "root"], str![[r#"
<stderr>
      FAILED [TIME] (1/1) data
error: `[PROJECT]/root/pets/images` lacks `images\cat\1.png` and 1 other, which the split names
hint: `cat/1.png` is there, and `images\cat\1.png` has `\` in place of `/` and has a folder more at its start: rename the files, or correct the list
1 node: 0 ran, 0 cached, 1 failed in [TIME]
<exit code 1>

"#]]);
}

#[test]
fn a_manifest_that_makes_no_sense_is_shown_with_its_line() {
    let project = with_split(SPLIT);
    project.replace("pets.toml", "a {}.", "a pet.");
    project.prints(
        &CHECK,
        str![[r#"
<stderr>
error: `template` must have one `{}` for the class name, not `a pet.`
 --> pets.toml:4:12
  |
4 | template = "a pet."
  |            ^^^^^^^^
<exit code 2>

"#]],
    );
    project.replace("pets.toml", "a pet.", "a {}.");
    project.replace("pets.toml", "\"split.json\"", "\"../split.json\"");
    project.prints(
        &CHECK,
        str![[r#"
<stderr>
error: `reader.file` must be a relative path without `..`, not `../split.json`
 --> pets.toml:5:40
  |
5 | reader = { kind = "split-json", file = "../split.json" }
  |                                        ^^^^^^^^^^^^^^^
<exit code 2>

"#]],
    );
    // Without sources, `data fetch` is no way.
    let project = with_split(SPLIT);
    project.replace("pets.toml", "\"pets\"", "\"pet\"");
    project.prints(&CHECK, str![[r#"
<stderr>
error: there is no folder `root/pet`
hint: correct `folder` in the manifest, which is below the data root, or `maple-pipe data import` brings a folder that you have
<exit code 2>

"#]]);
    project.prints(
        &FETCH,
        str![[r#"
<stderr>
error: `pets.toml` has no `[[source]]`, so it cannot be downloaded
hint: `maple-pipe data import` brings a folder that you have
<exit code 2>

"#]],
    );
    // Nor for a data set that only has the folder of a published one.
    project.write("p.toml", "[stage.data]\nkind = \"dataset\"\nmanifest = \"pets.toml\"\n");
    project.replace("pets.toml", "\"pet\"", "\"eurosat\"");
    project.prints(
        &["run", "p.toml", "--data-root", "root"],
        str![[r#"
<stderr>
error: there is no folder `root/eurosat`
 --> p.toml:1:8
  |
1 | [stage.data]
  |        ^^^^
  |
  = hint: put the data set there, so that `root/eurosat` holds `images` and `split.json`

error: 1 thing is not there
hint: without them, `--keep-going` runs what does not need them, `--only GLOB` what you name
<exit code 2>

"#]],
    );
}
