//! Selects the files of a repository that a model needs: the weights in one format, and the small
//! files that belong to them. Other formats, copies in `original/` and files that can run code are
//! not selected. Performs no input or output.

use crate::listing::ListedFile;
use crate::nearest::nearest;
use modelgate_model::layout::{
    ADAPTER_CONFIG, COMPANIONS, CONFIG, INDEX, PICKLES, SINGLE, part_name, split_name,
};
use modelgate_protocol::FailureKind;

/// The maximum number of names in a hint.
const SHOWN_NAMES: usize = 3;

/// The files that a model needs, as far as they are known from the listing.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NeededFiles {
    /// The small files, such as config and tokenizer, with the index of the weights if it exists.
    pub(crate) small: Vec<ListedFile>,
    pub(crate) weights: NeededWeights,
}

/// The files of the weights, or the index that names them.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NeededWeights {
    /// The weight files.
    Files(Vec<ListedFile>),
    /// The path of the index, which must be read to know the weight files.
    Index(String),
}

/// Why a repository does not contain the model.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct SelectError {
    pub(crate) kind: FailureKind,
    pub(crate) message: String,
    pub(crate) hint: String,
}

/// Selects the files of `listing` that are needed for the GGUF file `file`, or for the safetensors
/// model if `file` is `None`.
///
/// # Errors
/// The repository does not contain the model.
pub(crate) fn select(
    listing: &[ListedFile],
    file: Option<&str>,
) -> Result<NeededFiles, SelectError> {
    match file {
        Some(file) => select_gguf(listing, file),
        None => select_safetensors(listing),
    }
}

fn find(listing: &[ListedFile], path: &str) -> Option<ListedFile> {
    listing.iter().find(|file| file.path == path).cloned()
}

fn select_safetensors(listing: &[ListedFile]) -> Result<NeededFiles, SelectError> {
    let mut small: Vec<ListedFile> =
        COMPANIONS.iter().filter_map(|name| find(listing, name)).collect();
    small.extend(find(listing, ADAPTER_CONFIG));
    // the same precedence as in a folder
    let weights = match (find(listing, SINGLE), find(listing, INDEX)) {
        (Some(single), _) => NeededWeights::Files(vec![single]),
        (None, Some(index)) => {
            let path = index.path.clone();
            small.push(index);
            NeededWeights::Index(path)
        }
        (None, None) => return Err(no_weights(listing)),
    };
    match find(listing, CONFIG) {
        Some(config) => {
            small.push(config);
            Ok(NeededFiles { small, weights })
        }
        None => Err(SelectError {
            kind: FailureKind::FileNotFound,
            message: format!("the repository does not contain {CONFIG}"),
            hint: "use a repository that contains this file next to the weights".into(),
        }),
    }
}

fn select_gguf(listing: &[ListedFile], file: &str) -> Result<NeededFiles, SelectError> {
    let names = match split_name(file) {
        None => vec![file.to_owned()],
        Some((stem, count)) => (1..=count).map(|number| part_name(stem, number, count)).collect(),
    };
    let mut weights = Vec::new();
    for name in &names {
        match find(listing, name) {
            Some(part) => weights.push(part),
            None => return Err(no_such_file(listing, name)),
        }
    }
    let folder = file.rsplit_once('/').map_or(String::new(), |(folder, _)| format!("{folder}/"));
    let small = COMPANIONS.iter().filter_map(|name| find(listing, &format!("{folder}{name}")));
    Ok(NeededFiles { small: small.collect(), weights: NeededWeights::Files(weights) })
}

/// Returns the paths that end with one of `ends`, ignoring case.
fn paths_ending_in<'a>(listing: &'a [ListedFile], ends: &[&str]) -> Vec<&'a str> {
    let matches = |path: &str| ends.iter().any(|end| path.to_lowercase().ends_with(end));
    listing.iter().map(|file| file.path.as_str()).filter(|path| matches(path)).collect()
}

fn some_of(names: &[&str]) -> String {
    let more = names.len().saturating_sub(SHOWN_NAMES);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    names[..names.len().min(SHOWN_NAMES)].join(", ") + &more
}

fn no_such_file(listing: &[ListedFile], name: &str) -> SelectError {
    let others = paths_ending_in(listing, &[".gguf"]);
    let hint = match nearest(name, others.iter().copied()) {
        Some(near) => format!("use {near} if that is the file you need"),
        None if others.is_empty() => {
            "use another repository: this one contains no GGUF file".into()
        }
        None => format!("use one of the GGUF files of the repository: {}", some_of(&others)),
    };
    let message = format!("the repository does not contain {name}");
    SelectError { kind: FailureKind::FileNotFound, message, hint }
}

fn no_weights(listing: &[ListedFile]) -> SelectError {
    let message =
        |found: &str| format!("the repository contains neither {INDEX} nor {SINGLE}{found}");
    let ggufs = paths_ending_in(listing, &[".gguf"]);
    if !ggufs.is_empty() {
        return SelectError {
            kind: FailureKind::FileNotFound,
            message: message("; it contains GGUF files"),
            hint: format!("set `file` to one of the GGUF files: {}", some_of(&ggufs)),
        };
    }
    let pickles = paths_ending_in(listing, &PICKLES);
    if !pickles.is_empty() {
        return SelectError {
            kind: FailureKind::Unsupported,
            message: message(&format!("; it contains pickle files ({})", some_of(&pickles))),
            hint: "use a repository or a revision with safetensors files; or convert the files to \
                   safetensors: pickle files are refused because reading them can run code"
                .into(),
        };
    }
    SelectError {
        kind: FailureKind::FileNotFound,
        message: message(""),
        hint: "use the repository that contains the weights of the model".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content_hash::ContentHash;

    fn listing(paths: &[&str]) -> Vec<ListedFile> {
        let file = |path: &&str| ListedFile {
            path: (*path).into(),
            bytes: 1,
            hash: ContentHash::GitBlob("0".repeat(40)),
        };
        paths.iter().map(file).collect()
    }

    /// Returns the names of the small files and of the weights.
    fn names(needed: &NeededFiles) -> (Vec<String>, Vec<String>) {
        let paths =
            |files: &[ListedFile]| files.iter().map(|file| file.path.clone()).collect::<Vec<_>>();
        let weights = match &needed.weights {
            NeededWeights::Files(files) => paths(files),
            NeededWeights::Index(path) => vec![path.clone()],
        };
        (paths(&needed.small), weights)
    }

    #[test]
    fn one_format_is_selected_from_a_repository_with_several() {
        let listing = listing(&[
            ".gitattributes",
            "LICENSE",
            "README.md",
            "config.json",
            "consolidated.safetensors",
            "generation_config.json",
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
            "model.safetensors.index.json",
            "original/consolidated.00.pth",
            "original/tokenizer.model",
            "pytorch_model.bin",
            "spk_dict.pt",
            "tokenizer.json",
            "tokenizer.model",
            "tokenizer_config.json",
        ]);
        let needed = select(&listing, None).expect("a model");
        let (mut small, weights) = names(&needed);
        small.sort();
        assert_eq!(weights, [INDEX]);
        let expected = [
            "config.json",
            "generation_config.json",
            INDEX,
            "tokenizer.json",
            "tokenizer_config.json",
        ];
        assert_eq!(small, expected);
    }

    #[test]
    fn a_single_file_takes_precedence_over_an_older_index() {
        let listing = listing(&["config.json", INDEX, "model.safetensors", ADAPTER_CONFIG]);
        let needed = select(&listing, None).expect("a model");
        let expected = vec![ADAPTER_CONFIG.to_owned(), "config.json".to_owned()];
        assert_eq!(names(&needed), (expected, vec!["model.safetensors".to_owned()]));
    }

    #[test]
    fn any_part_of_a_split_file_selects_all_parts() {
        let listing = listing(&[
            "q4/m-00001-of-00002.gguf",
            "q4/m-00002-of-00002.gguf",
            "q8/m.gguf",
            "q4/tokenizer.json",
            "config.json",
        ]);
        let split = select(&listing, Some("q4/m-00002-of-00002.gguf")).expect("a model");
        let (small, weights) = names(&split);
        assert_eq!(small, ["q4/tokenizer.json"]);
        assert_eq!(weights, ["q4/m-00001-of-00002.gguf", "q4/m-00002-of-00002.gguf"]);
        let single = select(&listing, Some("q8/m.gguf")).expect("a model");
        assert_eq!(names(&single), (Vec::new(), vec!["q8/m.gguf".to_owned()]));
        let error = select(&listing, Some("q8/n.gguf")).expect_err("no such file");
        assert_eq!(error.kind, FailureKind::FileNotFound);
        assert!(error.hint.contains("q8/m.gguf"), "{error:?}");
    }

    #[test]
    fn a_repository_without_a_model_gets_a_hint_that_depends_on_its_files() {
        for (paths, kind, hint) in [
            (&["config.json", "a.gguf"][..], FailureKind::FileNotFound, "a.gguf"),
            (&["config.json", "pytorch_model.bin"], FailureKind::Unsupported, "run code"),
            (&["README.md"], FailureKind::FileNotFound, "weights"),
            (&["model.safetensors"], FailureKind::FileNotFound, "next to"),
        ] {
            let listing = listing(paths);
            let error = select(&listing, None).expect_err("no model");
            assert_eq!(error.kind, kind, "{paths:?}");
            assert!(error.hint.contains(hint), "{error:?}");
        }
    }
}
