//! Writes the reference pages of `docs/reference`.

use std::error::Error;
use std::path::Path;
use xtask::{Repository, pages};

/// Writes every generated page to the repository at `root`, and prints its path.
///
/// # Errors
/// A source file cannot be read or parsed, or a page cannot be written.
pub(crate) fn write(root: &Path) -> Result<(), Box<dyn Error + Send + Sync>> {
    let repository = Repository::read(root)?;
    for page in pages(root, &repository.sources)? {
        let path = root.join(&page.path);
        let result = path.parent().map_or(Ok(()), std::fs::create_dir_all);
        let result = result.and_then(|()| std::fs::write(&path, &page.text));
        result.map_err(|error| format!("{}: {error}", path.display()))?;
        println!("{}", page.path);
    }
    Ok(())
}
