//! Nodes that are not up to date, by the reason that they share.

use std::collections::HashMap;

use super::change::Change;
use super::explain::{Explanation, FEW};
use crate::text::few;

/// Nodes with the same reason.
#[derive(Debug)]
pub struct Group<'a> {
    /// E.g. `changed: parameters.shots 16 -> 8`; a value stands in it if it is the same for all.
    pub reason: String,
    /// Their names, in the order given.
    pub nodes: Vec<&'a str>,
}

/// Groups nodes by what is missing or changed. Those that wait are one group, whatever they wait for, and those that are
/// blocked are another: the last ones. Fresh ones are left out.
pub fn group<'a>(explained: impl IntoIterator<Item = (&'a str, Explanation<'a>)>) -> Vec<Group<'a>> {
    const WAITING: &str = "waiting for stale nodes";
    const BLOCKED: &str = "blocked: something that they need is not there";
    let mut places: HashMap<String, usize> = HashMap::new();
    let mut groups: Vec<(Vec<Shared>, Group<'a>)> = Vec::new();
    for (node, explanation) in explained {
        let (general, changes) = match explanation {
            Explanation::UpToDate { .. } => continue,
            Explanation::UpstreamStale { .. } => (WAITING.to_owned(), Vec::new()),
            Explanation::Blocked { .. } => (BLOCKED.to_owned(), Vec::new()),
            Explanation::Changed { changes } => {
                let paths: Vec<&str> = changes.iter().map(|change| change.path.as_str()).collect();
                (format!("changed: {}", paths.join(", ")), changes.iter().map(Shared::new).collect())
            }
            other => (other.to_string(), Vec::new()),
        };
        let place = *places.entry(general).or_insert_with_key(|general| {
            groups.push((changes.clone(), Group { reason: general.clone(), nodes: Vec::new() }));
            groups.len() - 1
        });
        let (shared, group) = &mut groups[place];
        for (shared, own) in shared.iter_mut().zip(changes) {
            if shared.text != own.text {
                shared.text.clone_from(&shared.path);
            }
        }
        group.nodes.push(node);
    }
    let named = groups.into_iter().map(|(shared, group)| match shared.is_empty() {
        true => group,
        false => {
            Group { reason: format!("changed: {}", few(FEW, shared.into_iter().map(|change| change.text))), ..group }
        }
    });
    let mut groups: Vec<Group<'_>> = named.collect();
    groups.sort_by_key(|group| [WAITING, BLOCKED].iter().position(|last| group.reason == *last));
    groups
}

/// What the nodes of a group have in common of one change.
#[derive(Clone, Debug)]
struct Shared {
    path: String,
    /// The whole change as long as all agree, then the path alone.
    text: String,
}

impl Shared {
    fn new(change: &Change) -> Shared {
        Shared { path: change.path.clone(), text: change.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_value_stands_in_the_reason_if_all_share_it() {
        let changed = |seed: i64, shots: i64| {
            let change = |path: &str, before: i64, now: i64| Change {
                path: path.to_owned(),
                before: Some(json!(before)),
                now: Some(json!(now)),
            };
            Explanation::Changed {
                changes: vec![change("parameters.seed", 1, seed), change("parameters.shots", 16, shots)],
            }
        };
        let blocked = || Explanation::Blocked { absent: vec!["there is no folder `x`"] };
        let waiting = || Explanation::UpstreamStale { causes: vec!["a"] };
        let groups = group([
            ("e", blocked()),
            ("a", changed(2, 8)),
            ("c", waiting()),
            ("b", changed(3, 8)),
            ("d", Explanation::NeverRun),
        ]);
        let shown: Vec<(&str, &[&str])> = groups.iter().map(|group| (&*group.reason, &*group.nodes)).collect();
        let expected: [(&str, &[&str]); 4] = [
            ("changed: parameters.seed, parameters.shots 16 -> 8", &["a", "b"]),
            ("never run", &["d"]),
            ("waiting for stale nodes", &["c"]),
            ("blocked: something that they need is not there", &["e"]),
        ];
        assert_eq!(shown, expected);
    }
}
