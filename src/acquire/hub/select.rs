//! Which files of a repository a model needs: its weights in one format, and the small files beside
//! them; no other formats, no copies in `original/`, nothing that can run code. Pure.

use super::listing::Listed;
use crate::acquire::local::{self, COMPANIONS, CONFIG, INDEX, SINGLE};
use modelgate_protocol::FailureKind;

/// The files that a model needs, as far as they are known before any is read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Needed<'a> {
    /// Config, tokenizer and the like, and the index of the weights where there is one.
    pub(super) small: Vec<&'a Listed>,
    pub(super) weights: Weights<'a>,
}

/// Where the weights are.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Weights<'a> {
    /// In these files.
    Files(Vec<&'a Listed>),
    /// In the files that this index names.
    Index(&'a Listed),
}

/// A repository that has not what is asked for: the class, what, and the remedy.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Lacking {
    pub(super) kind: FailureKind,
    pub(super) what: String,
    pub(super) hint: String,
}

/// The files of `listing` that are needed for the GGUF file `file`, or for the safetensors model.
///
/// # Errors
/// There is no such model in the repository.
pub(super) fn needed<'a>(listing: &'a [Listed], file: Option<&str>) -> Result<Needed<'a>, Lacking> {
    match file {
        Some(file) => gguf(listing, file),
        None => safetensors(listing),
    }
}

fn find<'a>(listing: &'a [Listed], path: &str) -> Option<&'a Listed> {
    listing.iter().find(|file| file.path == path)
}

fn safetensors(listing: &[Listed]) -> Result<Needed<'_>, Lacking> {
    let mut small: Vec<&Listed> =
        COMPANIONS.iter().filter_map(|name| find(listing, name)).collect();
    let weights = match (find(listing, INDEX), find(listing, SINGLE)) {
        (Some(index), _) => {
            small.push(index);
            Weights::Index(index)
        }
        (None, Some(single)) => Weights::Files(vec![single]),
        (None, None) => return Err(no_weights(listing)),
    };
    match find(listing, CONFIG) {
        Some(config) => {
            small.push(config);
            Ok(Needed { small, weights })
        }
        None => Err(Lacking {
            kind: FailureKind::FileNotFound,
            what: format!("the repository has no {CONFIG}"),
            hint: "a model's repository holds it beside the weights: name another one".into(),
        }),
    }
}

fn gguf<'a>(listing: &'a [Listed], file: &str) -> Result<Needed<'a>, Lacking> {
    let names = match local::split_name(file) {
        None => vec![file.to_owned()],
        Some((stem, count)) => {
            (1..=count).map(|number| local::part_name(stem, number, count)).collect()
        }
    };
    let mut weights = Vec::new();
    for name in &names {
        match find(listing, name) {
            Some(part) => weights.push(part),
            None => return Err(no_such_file(listing, name)),
        }
    }
    let folder = file.rsplit_once('/').map_or(String::new(), |(folder, _)| format!("{folder}/"));
    let beside = COMPANIONS.iter().filter_map(|name| find(listing, &format!("{folder}{name}")));
    Ok(Needed { small: beside.collect(), weights: Weights::Files(weights) })
}

fn named<'a>(listing: &'a [Listed], ends: &[&str]) -> Vec<&'a str> {
    let is = |path: &str| ends.iter().any(|end| path.to_lowercase().ends_with(end));
    listing.iter().map(|file| file.path.as_str()).filter(|path| is(path)).collect()
}

fn some_of(names: &[&str]) -> String {
    let more =
        if names.len() > 3 { format!(" and {} more", names.len() - 3) } else { String::new() };
    names[..names.len().min(3)].join(", ") + &more
}

fn no_such_file(listing: &[Listed], name: &str) -> Lacking {
    let others = named(listing, &[".gguf"]);
    let hint = match crate::manifest::nearest(name, others.iter().copied()) {
        Some(near) => format!("is {near} meant?"),
        None if others.is_empty() => "the repository has no GGUF file".into(),
        None => format!("it has {}", some_of(&others)),
    };
    Lacking { kind: FailureKind::FileNotFound, what: format!("the repository has no {name}"), hint }
}

fn no_weights(listing: &[Listed]) -> Lacking {
    let what = |found: &str| format!("the repository has neither {INDEX} nor {SINGLE}{found}");
    let ggufs = named(listing, &[".gguf"]);
    if !ggufs.is_empty() {
        return Lacking {
            kind: FailureKind::FileNotFound,
            what: what(", but GGUF files"),
            hint: format!("name one of them with `file`: it has {}", some_of(&ggufs)),
        };
    }
    let pickles = named(listing, &local::PICKLES);
    if !pickles.is_empty() {
        return Lacking {
            kind: FailureKind::Unsupported,
            what: what(&format!(", but pickle files ({})", some_of(&pickles))),
            hint: "pickle files can run code when they are read, and are refused: look for a \
                   repository or a revision with safetensors, or convert them"
                .into(),
        };
    }
    Lacking {
        kind: FailureKind::FileNotFound,
        what: what(""),
        hint: "name the repository that holds the model's weights".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::acquire::hub::listing::ContentHash;

    fn listing(paths: &[&str]) -> Vec<Listed> {
        let file = |path: &&str| Listed {
            path: (*path).into(),
            bytes: 1,
            hash: ContentHash::GitBlob("0".repeat(40)),
        };
        paths.iter().map(file).collect()
    }

    /// The names of the small files and of the weights.
    fn names(needed: &Needed<'_>) -> (Vec<String>, Vec<String>) {
        let of = |files: &[&Listed]| files.iter().map(|file| file.path.clone()).collect();
        let weights = match &needed.weights {
            Weights::Files(files) => of(files),
            Weights::Index(index) => of(&[index]),
        };
        (of(&needed.small), weights)
    }

    #[test]
    fn of_a_repository_with_everything_twice_one_format_is_taken() {
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
        let needed = needed(&listing, None).expect("a model");
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
    fn any_part_of_a_split_file_names_them_all() {
        let listing = listing(&[
            "q4/m-00001-of-00002.gguf",
            "q4/m-00002-of-00002.gguf",
            "q8/m.gguf",
            "q4/tokenizer.json",
            "config.json",
        ]);
        let split = needed(&listing, Some("q4/m-00002-of-00002.gguf")).expect("a model");
        let (small, weights) = names(&split);
        assert_eq!(small, ["q4/tokenizer.json"]);
        assert_eq!(weights, ["q4/m-00001-of-00002.gguf", "q4/m-00002-of-00002.gguf"]);
        let whole = needed(&listing, Some("q8/m.gguf")).expect("a model");
        assert_eq!(names(&whole), (Vec::new(), vec!["q8/m.gguf".to_owned()]));
        let lacking = needed(&listing, Some("q8/n.gguf")).expect_err("no such file");
        assert_eq!(lacking.kind, FailureKind::FileNotFound);
        assert!(lacking.hint.contains("q8/m.gguf"), "{lacking:?}");
    }

    #[test]
    fn what_is_no_model_is_told_by_what_it_has() {
        for (paths, kind, says) in [
            (&["config.json", "a.gguf"][..], FailureKind::FileNotFound, "a.gguf"),
            (&["config.json", "pytorch_model.bin"], FailureKind::Unsupported, "run code"),
            (&["README.md"], FailureKind::FileNotFound, "weights"),
            (&["model.safetensors"], FailureKind::FileNotFound, "beside"),
        ] {
            let listing = listing(paths);
            let lacking = needed(&listing, None).expect_err("no model");
            assert_eq!(lacking.kind, kind, "{paths:?}");
            assert!(lacking.hint.contains(says), "{lacking:?}");
        }
    }
}
