//! Python scripts are separate from data: the files in `fixtures` are embedded or compared with.

use crate::document::Document;
use crate::finding::Finding;

const DATA: &str = "fixtures/";

/// Reports Python scripts in `fixtures`.
pub fn python_location(documents: &[Document]) -> Vec<Finding> {
    let scripts = documents.iter().map(|document| &document.path);
    let scripts = scripts.filter(|path| path.starts_with(DATA) && path.ends_with(".py"));
    scripts
        .map(|path| Finding::new(path, "is a script among data, expected in `scripts`"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_among_the_fixtures_is_reported() {
        let paths = ["fixtures/golden/tiny.py", "scripts/golden/tiny.py", "fixtures/models.toml"];
        let found = python_location(&paths.map(|path| Document::of(path, "")));
        assert_eq!(
            found,
            [Finding::new(paths[0], "is a script among data, expected in `scripts`")]
        );
    }
}
