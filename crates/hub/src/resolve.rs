//! Resolves a revision to its commit. If the hub does not show the repository, a similar name is
//! searched for the hint.

use crate::client::HubClient;
use crate::error::HubError;
use crate::job::Job;
use crate::nearest::nearest;
use crate::request_context::RequestContext;
use crate::retry::with_retries;
use modelgate_protocol::FailureKind;

/// Returns the commit of the revision. A full commit hash needs no request.
///
/// # Errors
/// The hub cannot be reached or does not show the revision.
pub(crate) async fn resolve(client: &HubClient, job: &Job) -> Result<String, HubError> {
    if job.names_commit() {
        return Ok(job.source.revision.clone());
    }
    let context = job.context(&job.source.revision);
    let mut result = with_retries(&job.settings, || client.commit(&context)).await;
    if let Err(error) = &mut result
        && matches!(error.kind, FailureKind::RepositoryNotFound | FailureKind::TokenMissing)
        && let Some(near) = similar_repository(client, job, &context).await
    {
        error.hint = format!("use {near} if that is the model you need; or {}", error.hint);
    }
    result
}

/// Returns the name of a similar repository: a known one, or one of the same owner.
async fn similar_repository(
    client: &HubClient,
    job: &Job,
    context: &RequestContext<'_>,
) -> Option<String> {
    if let Some(known) = job.known_repository() {
        return Some(known.to_owned());
    }
    let (owner, name) = job.source.repo.split_once('/')?;
    let repositories = client.repositories(context, owner).await;
    let names = repositories.iter().filter_map(|repo| repo.split_once('/').map(|(_, name)| name));
    let near = nearest(name, names.filter(|other| *other != name))?;
    Some(format!("{owner}/{near}"))
}
