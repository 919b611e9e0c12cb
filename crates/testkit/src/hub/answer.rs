//! The responses of the hub, without faults.

use super::repository::{File, Repository};
use super::request::Request;
use super::state::State;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;

/// The number of entries on a page of a file listing.
const ENTRIES_PER_PAGE: usize = 5;

/// An HTTP response.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Arc<Vec<u8>>,
    /// The bytes of the body to send.
    pub(super) range: Range<u64>,
}

impl Answer {
    pub(super) fn new(status: u16, headers: &[(&str, &str)], body: &str) -> Answer {
        let headers = headers.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        let range = 0..body.len() as u64;
        let body = Arc::new(body.as_bytes().to_vec());
        Answer { status, headers: headers.collect(), body, range }
    }

    fn json(value: &serde_json::Value) -> Answer {
        Answer::new(200, &[("Content-Type", "application/json")], &value.to_string())
    }

    /// Returns an error response in the format of huggingface.co.
    fn refusal(status: u16, code: &str, message: &str) -> Answer {
        let mut headers = vec![("X-Error-Message", message)];
        if !code.is_empty() {
            headers.push(("X-Error-Code", code));
        }
        Answer::new(status, &headers, &serde_json::json!({ "error": message }).to_string())
    }
}

/// Returns the response to `request`. `storage` is the address of large files.
pub(super) fn answer(state: &State, request: &Request, storage: SocketAddr) -> Answer {
    let (path, query) = request.target.split_once('?').unwrap_or((&request.target, ""));
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    if request.to_storage {
        return stored(state, request, &parts);
    }
    match parts[..] {
        ["api", "models"] => models(state, query),
        ["api", "models", owner, name, endpoint @ ("revision" | "tree"), revision] => {
            info_or_tree(state, request, &format!("{owner}/{name}"), endpoint, revision, query)
        }
        [owner, name, "resolve", revision, ..] => {
            let path = parts[4..].join("/");
            resolve(state, request, &format!("{owner}/{name}"), revision, &path, storage)
        }
        _ => Answer::refusal(404, "", "Not Found"),
    }
}

fn models(state: &State, query: &str) -> Answer {
    let author = query.split('&').find_map(|pair| pair.strip_prefix("author="));
    let owned = state.repositories.iter().filter(|repository| {
        author.is_none_or(|author| repository.name.starts_with(&format!("{author}/")))
    });
    Answer::json(&owned.map(|repository| serde_json::json!({ "id": repository.name })).collect())
}

/// Returns the repository at `revision`. If it does not exist or the token is unknown, returns the
/// error response.
fn find<'a>(
    state: &'a State,
    request: &Request,
    name: &str,
    revision: &str,
) -> Result<&'a Repository, Answer> {
    let token = request.header("authorization");
    let is_known = |token: &str| {
        state.tokens.iter().any(|(known, _)| token.strip_prefix("Bearer ") == Some(known))
    };
    if token.as_deref().is_some_and(|token| !is_known(token)) {
        return Err(Answer::refusal(401, "", "Invalid credentials in Authorization header"));
    }
    let found = state.repositories.iter().find(|repository| repository.name == name);
    let Some(repository) = found else {
        return Err(match token {
            None => Answer::refusal(401, "RepoNotFound", "Invalid username or password."),
            Some(_) => Answer::refusal(404, "RepoNotFound", "Repository not found"),
        });
    };
    if revision != "main" && revision != repository.commit {
        let message = format!("Invalid rev id: {revision}");
        return Err(Answer::refusal(404, "RevisionNotFound", &message));
    }
    Ok(repository)
}

/// Returns the information about a repository (`endpoint` "revision"), or a page of its file
/// listing ("tree").
fn info_or_tree(
    state: &State,
    request: &Request,
    name: &str,
    endpoint: &str,
    revision: &str,
    query: &str,
) -> Answer {
    let repository = match find(state, request, name, revision) {
        Ok(repository) => repository,
        Err(refusal) => return refusal,
    };
    if endpoint == "revision" {
        return Answer::json(&repository.info());
    }
    let tree = repository.tree();
    let from: usize = query
        .split('&')
        .find_map(|pair| pair.strip_prefix("cursor=")?.parse().ok())
        .unwrap_or_default();
    let to = tree.len().min(from + ENTRIES_PER_PAGE);
    let mut answer = Answer::json(&tree[from..to].into());
    if to < tree.len() {
        let host = request.header("host").unwrap_or_default();
        let path = request.target.split('?').next().unwrap_or_default();
        let next = format!("<http://{host}{path}?recursive=true&cursor={to}>; rel=\"next\"");
        answer.headers.push(("Link".into(), next));
    }
    answer
}

/// Returns the error response if the repository is gated and the token has no access to it. `None`
/// if access is allowed.
fn refused_as_gated(state: &State, request: &Request, repository: &Repository) -> Option<Answer> {
    if !repository.gated {
        return None;
    }
    let message = format!(
        "Access to model {} is restricted. You must have access to it and be authenticated to \
         access it. Please log in.",
        repository.name
    );
    let Some(token) = request.header("authorization") else {
        return Some(Answer::refusal(401, "GatedRepo", &message));
    };
    let has_access = state.tokens.iter().any(|(known, repositories)| {
        token.strip_prefix("Bearer ") == Some(known) && repositories.contains(&repository.name)
    });
    (!has_access).then(|| Answer::refusal(403, "GatedRepo", &message))
}

/// Returns a small file, or the redirect to a large file.
fn resolve(
    state: &State,
    request: &Request,
    name: &str,
    revision: &str,
    path: &str,
    storage: SocketAddr,
) -> Answer {
    let repository = match find(state, request, name, revision) {
        Ok(repository) => repository,
        Err(refusal) => return refusal,
    };
    if let Some(refusal) = refused_as_gated(state, request, repository) {
        return refusal;
    }
    let Some(file) = repository.files.get(path) else {
        return Answer::refusal(404, "EntryNotFound", "Entry not found");
    };
    let mut headers = vec![
        ("ETag".to_owned(), format!("\"{}\"", file.etag())),
        ("X-Repo-Commit".to_owned(), repository.commit.clone()),
    ];
    let Some(sha256) = &file.sha256 else {
        return content(request, file, headers);
    };
    let bytes = file.content.len();
    headers.push(("X-Linked-Etag".into(), format!("\"{sha256}\"")));
    headers.push(("X-Linked-Size".into(), bytes.to_string()));
    if repository.xet {
        headers.push(("X-Xet-Hash".into(), sha256.clone()));
    }
    let blob = &file.blob_id;
    let location = format!("http://{storage}/{blob}?name={path}&signature=not-to-be-shown");
    headers.push(("Location".into(), location));
    Answer { headers, ..Answer::new(302, &[], "") }
}

/// Returns a large file from the storage address, which needs no authorization.
fn stored(state: &State, request: &Request, parts: &[&str]) -> Answer {
    let mut files = state.repositories.iter().flat_map(|repository| repository.files.values());
    match files.find(|file| parts == [file.blob_id.as_str()]) {
        Some(file) => content(request, file, Vec::new()),
        None => Answer::new(403, &[], "<Error><Code>AccessDenied</Code></Error>"),
    }
}

/// Returns the content of a file, or the requested range of it.
fn content(request: &Request, file: &File, mut headers: Vec<(String, String)>) -> Answer {
    headers.push(("Accept-Ranges".into(), "bytes".into()));
    let all = file.content.len() as u64;
    let body = Arc::clone(&file.content);
    match request.range(all) {
        Some(range) if range.start >= range.end => {
            headers.push(("Content-Range".into(), format!("bytes */{all}")));
            Answer { status: 416, headers, body, range: 0..0 }
        }
        Some(range) => {
            let (from, to) = (range.start, range.end - 1);
            headers.push(("Content-Range".into(), format!("bytes {from}-{to}/{all}")));
            Answer { status: 206, headers, body, range }
        }
        None => Answer { status: 200, headers, body, range: 0..all },
    }
}
