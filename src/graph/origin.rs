//! What computed the results behind a node.

use std::collections::BTreeMap;

use petgraph::graph::NodeIndex;

use super::Graph;
use crate::store::Record;

/// The kinds of processor and card behind a node's result, each with how many of the nodes that it needs, itself included,
/// were made on it. Nodes that need no libtorch do not count: every machine makes the same of them.
pub fn kinds<'r>(
    graph: &Graph,
    index: NodeIndex,
    record: &dyn Fn(NodeIndex) -> Option<&'r Record>,
) -> BTreeMap<String, usize> {
    let mut kinds = BTreeMap::new();
    for needed in graph.up_to(index) {
        if let Some(kind) = record(needed).and_then(|record| record.made_by.as_ref()?.kind()) {
            *kinds.entry(kind).or_default() += 1;
        }
    }
    kinds
}

/// One line about a result that was made on several kinds of processor or card, so that its last digits are of no one machine;
/// nothing where there is one kind.
pub fn mixed(kinds: &BTreeMap<String, usize>) -> Option<String> {
    let list =
        kinds.iter().map(|(kind, count)| format!("{kind} ({count} {})", if *count == 1 { "node" } else { "nodes" }));
    let list = list.collect::<Vec<_>>().join(", ");
    (kinds.len() > 1).then(|| format!("Made on {} kinds of processor or card: {list}.", kinds.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_kinds_are_said_in_one_line() {
        let one = BTreeMap::from([("AMD EPYC with AVX512".to_owned(), 3)]);
        assert_eq!((mixed(&BTreeMap::new()), mixed(&one)), (None, None));
        let two = BTreeMap::from([("AMD EPYC with AVX512".to_owned(), 3), ("NVIDIA H100".to_owned(), 1)]);
        let line = "Made on 2 kinds of processor or card: AMD EPYC with AVX512 (3 nodes), NVIDIA H100 (1 node).";
        assert_eq!(mixed(&two).unwrap(), line);
    }
}
