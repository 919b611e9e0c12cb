//! Tasks of the repository: `cargo xtask docs` writes the reference pages of `docs/reference`.

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;
use xtask::{Repository, pages};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match &arguments[..] {
        [task] if task == "docs" => write_pages(),
        _ => Err("expected the argument `docs`".into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn write_pages() -> Result<(), Box<dyn Error + Send + Sync>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let repository = Repository::read(&root)?;
    for page in pages(&root, &repository.sources)? {
        let path = root.join(&page.path);
        let result = path.parent().map_or(Ok(()), std::fs::create_dir_all);
        let result = result.and_then(|()| std::fs::write(&path, &page.text));
        result.map_err(|error| format!("{}: {error}", path.display()))?;
        println!("{}", page.path);
    }
    Ok(())
}
