//! Cycles of a graph of files or of folders.

use super::dependencies::Dependency;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// How many names an arrow of a printed cycle shows.
const NAMES_SHOWN: usize = 3;

/// Files or folders, and the names that each takes from others.
#[derive(Debug, Default)]
pub(crate) struct Graph {
    arrows: BTreeMap<String, BTreeMap<String, BTreeSet<String>>>,
}

impl Graph {
    /// Builds the graph whose nodes `node` makes of the files that dependencies join; a file
    /// without a node is left out.
    pub(crate) fn of<'d>(
        dependencies: impl IntoIterator<Item = &'d Dependency>,
        node: impl Fn(&str) -> Option<String>,
    ) -> Graph {
        let mut graph = Graph::default();
        for dependency in dependencies {
            if let (Some(from), Some(to)) = (node(&dependency.from), node(&dependency.to))
                && from != to
            {
                let arrow = graph.arrows.entry(from).or_default().entry(to).or_default();
                arrow.insert(dependency.name.clone());
            }
        }
        graph
    }

    /// Returns a shortest cycle through every node that is in one, each cycle once, as
    /// `a.rs -> b.rs (Name) -> a.rs (Other)`: a file is followed by the one it takes the name from.
    pub(crate) fn cycles(&self) -> Vec<String> {
        let cycles: BTreeSet<Vec<&str>> =
            self.arrows.keys().filter_map(|node| self.shortest_cycle(node)).collect();
        cycles.iter().map(|cycle| self.line(cycle)).collect()
    }

    /// Returns the nodes of a shortest cycle through `start`, the least one first.
    fn shortest_cycle<'g>(&'g self, start: &'g str) -> Option<Vec<&'g str>> {
        let mut reached_from: BTreeMap<&str, &str> = BTreeMap::new();
        let mut queue = VecDeque::from([start]);
        while let Some(node) = queue.pop_front() {
            for next in self.arrows.get(node).into_iter().flat_map(BTreeMap::keys) {
                if next == start {
                    let mut cycle = vec![node];
                    while let Some(before) = reached_from.get(cycle[cycle.len() - 1]) {
                        cycle.push(before);
                    }
                    cycle.reverse();
                    let least = (0..cycle.len()).min_by_key(|&at| cycle[at])?;
                    cycle.rotate_left(least);
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

    fn line(&self, cycle: &[&str]) -> String {
        let mut line = cycle[0].to_owned();
        for (at, from) in cycle.iter().enumerate() {
            let to = cycle[(at + 1) % cycle.len()];
            let names: Vec<&str> = self.arrows[*from][to].iter().map(String::as_str).collect();
            let shown = names[..names.len().min(NAMES_SHOWN)].join(", ");
            let more = if names.len() > NAMES_SHOWN { ", .." } else { "" };
            line += &format!(" -> {to} ({shown}{more})");
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cycles(arrows: &[(&str, &str)]) -> Vec<String> {
        let dependencies: Vec<Dependency> = arrows
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
    fn a_graph_without_a_cycle_has_none() {
        assert_eq!(cycles(&[("a", "b"), ("b", "c"), ("a", "c")]), [""; 0]);
    }

    #[test]
    fn every_node_in_a_cycle_is_shown_in_a_shortest_one() {
        assert_eq!(cycles(&[("b", "a"), ("a", "b")]), ["a -> b (B) -> a (A)"]);
        let arrows = [("c", "a"), ("a", "b"), ("b", "c"), ("b", "a"), ("d", "a")];
        assert_eq!(cycles(&arrows), ["a -> b (B) -> a (A)", "a -> b (B) -> c (C) -> a (A)"]);
    }
}
