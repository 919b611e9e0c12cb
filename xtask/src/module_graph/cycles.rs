//! Cycles in a graph of files or folders.

use super::dependencies::Dependency;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// The maximum number of names that are printed for each edge of a cycle.
const MAX_NAMES_SHOWN: usize = 3;

/// A graph of files or folders. An edge contains the names that one node uses from another.
#[derive(Debug, Default)]
pub(crate) struct Graph {
    edges: BTreeMap<String, BTreeMap<String, BTreeSet<String>>>,
}

impl Graph {
    /// Creates the graph of `dependencies`. `node` returns the node of a file; files without a node
    /// are omitted.
    pub(crate) fn of<'d>(
        dependencies: impl IntoIterator<Item = &'d Dependency>,
        node: impl Fn(&str) -> Option<String>,
    ) -> Graph {
        let mut graph = Graph::default();
        for dependency in dependencies {
            if let (Some(from), Some(to)) = (node(&dependency.from), node(&dependency.to))
                && from != to
            {
                let edge = graph.edges.entry(from).or_default().entry(to).or_default();
                edge.insert(dependency.name.clone());
            }
        }
        graph
    }

    /// Returns a shortest cycle through each node of a cycle, without duplicates. Each is formatted
    /// as `a.rs -> b.rs (Name) -> a.rs (Other)`: `a.rs` uses `Name` from `b.rs`.
    pub(crate) fn cycles(&self) -> Vec<String> {
        let cycles: BTreeSet<Vec<&str>> =
            self.edges.keys().filter_map(|node| self.shortest_cycle(node)).collect();
        cycles.iter().map(|cycle| self.format_cycle(cycle)).collect()
    }

    /// Returns the nodes of a shortest cycle through `start`, rotated so that the first node in
    /// alphabetical order is first. `None` if there is no cycle.
    fn shortest_cycle<'g>(&'g self, start: &'g str) -> Option<Vec<&'g str>> {
        let mut reached_from: BTreeMap<&str, &str> = BTreeMap::new();
        let mut queue = VecDeque::from([start]);
        while let Some(node) = queue.pop_front() {
            for next in self.edges.get(node).into_iter().flat_map(BTreeMap::keys) {
                if next == start {
                    let mut cycle = vec![node];
                    while let Some(before) = reached_from.get(cycle[cycle.len() - 1]) {
                        cycle.push(before);
                    }
                    cycle.reverse();
                    let first = (0..cycle.len()).min_by_key(|&at| cycle[at])?;
                    cycle.rotate_left(first);
                    return Some(cycle);
                }
                if !reached_from.contains_key(next.as_str()) {
                    reached_from.insert(next, node);
                    queue.push_back(next);
                }
            }
        }
        None
    }

    fn format_cycle(&self, cycle: &[&str]) -> String {
        let mut line = cycle[0].to_owned();
        for (at, from) in cycle.iter().enumerate() {
            let to = cycle[(at + 1) % cycle.len()];
            let names: Vec<&str> = self.edges[*from][to].iter().map(String::as_str).collect();
            let shown = names[..names.len().min(MAX_NAMES_SHOWN)].join(", ");
            let more = if names.len() > MAX_NAMES_SHOWN { ", .." } else { "" };
            line += &format!(" -> {to} ({shown}{more})");
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cycles(edges: &[(&str, &str)]) -> Vec<String> {
        let dependencies: Vec<Dependency> = edges
            .iter()
            .map(|(from, to)| Dependency {
                from: (*from).to_owned(),
                to: (*to).to_owned(),
                name: to.to_uppercase(),
            })
            .collect();
        Graph::of(&dependencies, |file| Some(file.to_owned())).cycles()
    }

    #[test]
    fn an_acyclic_graph_has_no_cycles() {
        assert_eq!(cycles(&[("a", "b"), ("b", "c"), ("a", "c")]), [""; 0]);
    }

    #[test]
    fn a_shortest_cycle_is_returned_for_each_node() {
        assert_eq!(cycles(&[("b", "a"), ("a", "b")]), ["a -> b (B) -> a (A)"]);
        let edges = [("c", "a"), ("a", "b"), ("b", "c"), ("b", "a"), ("d", "a")];
        assert_eq!(cycles(&edges), ["a -> b (B) -> a (A)", "a -> b (B) -> c (C) -> a (A)"]);
    }
}
