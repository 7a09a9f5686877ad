//! Small words and columns that many messages have.

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
    let distances =
        candidates.iter().map(|candidate| (strsim::damerau_levenshtein(word, candidate.as_ref()), candidate.as_ref()));
    let near = distances.filter(|(distance, candidate)| *distance <= 1 + candidate.len().min(word.len()) / 4);
    near.min().map(|(_, candidate)| format!("did you mean `{candidate}`?"))
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
    }
}
