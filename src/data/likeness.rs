//! Names in lists that differ from what is there as systems and tools make names differ.

use std::collections::HashMap;

use unicode_normalization::UnicodeNormalization;

/// Says of the first absent name for which something alike is there what that is, and how the names differ: by `\` in place
/// of `/`, by letters that Unicode can write in two ways, by case, or by the first folder. Paths are relative to the image
/// folder, with `/`.
pub fn alike<'a>(absent: impl IntoIterator<Item = &'a str>, there: impl IntoIterator<Item = String>) -> Option<String> {
    let (mut whole, mut rest) = (HashMap::new(), HashMap::new());
    for name in there {
        let form = form(&name);
        if let Some(tail) = without_first(&form) {
            rest.entry(tail.to_owned()).or_insert_with(|| name.clone());
        }
        whole.entry(form).or_insert(name);
    }
    absent.into_iter().find_map(|absent| {
        let form = form(absent);
        let short = without_first(&form);
        let (found, folder) = match whole.get(&form) {
            Some(found) => (found, None),
            None => match short.and_then(|short| whole.get(short)) {
                Some(found) => (found, Some("has a folder more at its start")),
                None => (rest.get(&form)?, Some("lacks the first folder")),
            },
        };
        let ways = ways(absent, found).into_iter().chain(folder).collect::<Vec<_>>().join(" and ");
        Some(format!("`{found}` is there, and `{absent}` {ways}"))
    })
}

/// What all spellings of a name have in common.
fn form(name: &str) -> String {
    let parts: Vec<&str> = name.split(['/', '\\']).filter(|part| !matches!(*part, "" | ".")).collect();
    // Lower case can take an accent apart.
    parts.join("/").nfc().collect::<String>().to_lowercase().nfc().collect()
}

fn without_first(form: &str) -> Option<&str> {
    form.split_once('/').map(|(_, rest)| rest)
}

/// How a name is spelled otherwise than the one that is there, folders aside.
fn ways(absent: &str, found: &str) -> Vec<&'static str> {
    let composed = |name: &str| name.nfc().collect::<String>();
    let file = |name: &str| name.rsplit(['/', '\\']).next().unwrap_or_default().to_owned();
    let mut ways = Vec::new();
    if absent.contains('\\') && !found.contains('\\') {
        ways.push("has `\\` in place of `/`");
    }
    let is_composed = |name: &str| composed(name) == name;
    if is_composed(absent) != is_composed(found) {
        ways.push("writes its accents in the other way of Unicode (NFC, NFD)");
    }
    let (absent, found) = (composed(&absent.replace('\\', "/")), composed(&found.replace('\\', "/")));
    if !absent.ends_with(&found) && !found.ends_with(&absent) || file(&absent) != file(&found) {
        ways.push("differs in upper and lower case");
    }
    ways
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_people_take_for_the_same_are_found() {
        let there = ["a/1.png", "Cat/2.png", "cafe\u{301}/3.png", "train/dog/4.png", "back\\5.png"];
        let said = |absent: &str| alike(["none.png", absent], there.map(str::to_owned)).unwrap_or_default();
        for (absent, expected) in [
            (r"a\1.png", r"`a/1.png` is there, and `a\1.png` has `\` in place of `/`"),
            ("cat/2.png", "`Cat/2.png` is there, and `cat/2.png` differs in upper and lower case"),
            ("Cat/2.PNG", "`Cat/2.png` is there, and `Cat/2.PNG` differs in upper and lower case"),
            (
                "caf\u{e9}/3.png",
                "`cafe\u{301}/3.png` is there, and `caf\u{e9}/3.png` writes its accents in the other way of Unicode (NFC, NFD)",
            ),
            ("images/a/1.png", "`a/1.png` is there, and `images/a/1.png` has a folder more at its start"),
            ("dog/4.png", "`train/dog/4.png` is there, and `dog/4.png` lacks the first folder"),
            (
                r"images\cat\2.png",
                r"`Cat/2.png` is there, and `images\cat\2.png` has `\` in place of `/` and differs in upper and lower case and has a folder more at its start",
            ),
            ("a/2.png", ""),
            ("1.jpg", ""),
        ] {
            assert_eq!(said(absent), expected);
        }
    }
}
