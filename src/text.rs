//! Small words and columns that many messages have, and what a terminal may be shown of text from outside.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

/// `1 result`, `7 results`.
pub fn plural(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// `812 B`, `3.4 MB`.
pub fn bytes(count: u64) -> String {
    let mut value = count as f64;
    for unit in ["B", "kB", "MB", "GB"] {
        if value < 999.5 {
            return if unit == "B" || value >= 99.95 {
                format!("{value:.0} {unit}")
            } else {
                format!("{value:.1} {unit}")
            };
        }
        value /= 1000.0;
    }
    format!("{value:.1} TB")
}

/// Text from outside (a log, a class, a file's name) as a terminal may be shown it. Control characters, which could move
/// its cursor, rename its window or hide text, are shown as their pictures, e.g. `␛`, and marks that turn the direction of
/// text as `�`; line breaks and tabs stay.
pub fn visible(text: &str) -> Cow<'_, str> {
    let shown = |c: char| match c {
        '\n' | '\t' => c,
        '\0'..='\x1f' => char::from_u32(0x2400 + c as u32).unwrap_or(char::REPLACEMENT_CHARACTER),
        '\x7f' => '\u{2421}',
        '\u{80}'..='\u{9f}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
            char::REPLACEMENT_CHARACTER
        }
        _ => c,
    };
    if text.chars().all(|c| shown(c) == c) { Cow::Borrowed(text) } else { text.chars().map(shown).collect() }
}

/// What a terminal leaves of a line in which a program went back to the start to write over what stood there, as progress
/// bars do; [`visible`].
pub fn last_written(line: &str) -> Cow<'_, str> {
    let line = line.trim_end_matches('\r');
    visible(line.rsplit_once('\r').map_or(line, |(_, last)| last))
}

/// Rows whose cells stand in columns, three spaces apart.
pub fn columns(rows: &[Vec<String>]) -> String {
    let count = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..count).map(|column| width(column).unwrap_or_default()).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}"));
        format!("{}\n", cells.collect::<Vec<_>>().join("   ").trim_end())
    };
    rows.iter().map(line).collect()
}

/// How many names a sentence has.
pub const NAMED: usize = 5;

/// The first `most` of several things, and how many more there are.
pub fn few(most: usize, things: impl ExactSizeIterator<Item = String>) -> String {
    let more = things.len().saturating_sub(most);
    let named = things.take(most).collect::<Vec<_>>().join(", ");
    if more == 0 { named } else { format!("{named} and {more} more") }
}

/// `1 node`, `738 nodes`.
pub fn nodes(count: usize) -> String {
    plural(count, "node", "nodes")
}

/// `23ms`, `4.2s`, `8m 02s`, `3h 05m`.
pub fn duration(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    if seconds < 0.9995 {
        format!("{:.0}ms", seconds * 1000.0)
    } else if seconds < 59.95 {
        format!("{seconds:.1}s")
    } else if whole < 3600 {
        format!("{}m {:02}s", whole / 60, whole % 60)
    } else {
        format!("{}h {:02}m", whole / 3600, whole % 3600 / 60)
    }
}

/// `23s`, `1m 26s`, `3h 05m`: a time that goes on.
pub fn clock(seconds: u64) -> String {
    match seconds {
        ..60 => format!("{seconds}s"),
        60..3600 => format!("{}m {:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h {:02}m", seconds / 3600, seconds % 3600 / 60),
    }
}

/// `2026-11-26 12:00:00 UTC`
pub fn utc(time: jiff::Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// "did you mean `x`?" where a candidate is near, else the list of candidates; nothing without candidates.
pub fn suggestion(word: &str, candidates: &[impl AsRef<str>]) -> Option<String> {
    did_you_mean(word, candidates).or_else(|| {
        let names: Vec<String> = candidates.iter().map(|candidate| format!("`{}`", candidate.as_ref())).collect();
        (!names.is_empty()).then(|| format!("known here: {}", names.join(", ")))
    })
}

/// "did you mean `x`?" where a candidate is near.
pub fn did_you_mean(word: &str, candidates: &[impl AsRef<str>]) -> Option<String> {
    nearest(word, candidates).map(|candidate| format!("did you mean `{candidate}`?"))
}

/// The candidate that a word is most likely a slip of.
fn nearest<'c>(word: &str, candidates: &'c [impl AsRef<str>]) -> Option<&'c str> {
    let distances =
        candidates.iter().map(|candidate| (strsim::damerau_levenshtein(word, candidate.as_ref()), candidate.as_ref()));
    let near = distances.filter(|(distance, candidate)| *distance <= 1 + candidate.len().min(word.len()) / 4);
    near.min().map(|(_, candidate)| candidate)
}

/// "did you mean `x`?" about a path that leads to nothing, where there is a near one: it is another up to the first part that
/// is not there, and has the same parts behind it.
pub fn similar_path(path: &Path) -> Option<String> {
    let missing = path.ancestors().take_while(|part| std::fs::symlink_metadata(part).is_err()).last()?;
    let folder = missing.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let entries = std::fs::read_dir(folder).ok()?.flatten();
    let names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    let near = nearest(missing.file_name()?.to_str()?, &names)?;
    let behind = path.strip_prefix(missing).unwrap_or(Path::new(""));
    let other = missing.with_file_name(near).join(behind);
    // A trailing `/` comes of nothing behind it.
    let other: PathBuf = other.components().collect();
    other.exists().then(|| format!("did you mean `{}`?", other.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_well() {
        let cases = [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (99_949, "99.9 kB"),
            (99_950, "100 kB"),
            (3_400_000, "3.4 MB"),
        ];
        for (count, text) in cases {
            assert_eq!(bytes(count), text);
        }
    }

    #[test]
    fn nothing_from_outside_steers_a_terminal() {
        let cases = [
            ("plain ä\tb\n", "plain ä\tb\n"),
            ("\x1b[31mred\x1b[0m", "␛[31mred␛[0m"),
            ("\x1b]0;title\x07", "␛]0;title␇"),
            ("a\x08\x7f\0", "a␈␡␀"),
            ("\u{9b}2J", "�2J"),
            ("a\u{202e}b\u{2066}", "a�b�"),
        ];
        for (text, shown) in cases {
            assert_eq!(visible(text), shown);
        }
    }

    #[test]
    fn a_line_is_what_was_written_last() {
        for (line, last) in
            [("a", "a"), ("10%\r20%", "20%"), ("10%\r20%\r", "20%"), ("\r\r", ""), ("1\r\x1b[K2", "␛[K2")]
        {
            assert_eq!(last_written(line), last);
        }
    }

    #[test]
    fn suggests_the_near_path() {
        let folder = tempfile::tempdir().unwrap();
        let at = |path: &str| folder.path().join(path);
        std::fs::create_dir_all(at("methods")).unwrap();
        std::fs::write(at("methods/maple.toml"), "").unwrap();
        for slip in ["methods/mapel.toml", "method/maple.toml"] {
            let expected = format!("did you mean `{}`?", at("methods/maple.toml").display());
            assert_eq!(similar_path(&at(slip)), Some(expected), "{slip}");
        }
        for far in ["methods/coop.toml", "method/coop.toml", "elsewhere/maple.toml"] {
            assert_eq!(similar_path(&at(far)), None, "{far}");
        }
    }

    #[test]
    fn suggests_the_near_and_lists_the_far() {
        assert_eq!(suggestion("mapel", &["coop", "maple"]).unwrap(), "did you mean `maple`?");
        assert_eq!(suggestion("xyz", &["coop", "maple"]).unwrap(), "known here: `coop`, `maple`");
        assert_eq!(suggestion("xyz", &[] as &[&str]), None);
    }

    #[test]
    fn durations_read_well() {
        let cases = [
            (0.0234, "23ms"),
            (0.9999, "1.0s"),
            (4.24, "4.2s"),
            (59.96, "1m 00s"),
            (482.0, "8m 02s"),
            (11100.0, "3h 05m"),
        ];
        for (seconds, text) in cases {
            assert_eq!(duration(seconds), text);
        }
        for (seconds, text) in
            [(0, "0s"), (59, "59s"), (60, "1m 00s"), (86, "1m 26s"), (3599, "59m 59s"), (3600, "1h 00m")]
        {
            assert_eq!(clock(seconds), text);
        }
    }
}
