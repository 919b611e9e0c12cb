//! The Jinja tags that transformers adds to the language.

/// Replaces the tags `generation` and `endgeneration` with `with` and `endwith`. In transformers,
/// the tags mark the text that a model has generated (`AssistantTracker`), and render their content
/// in a separate scope, as `with` does.
pub(super) fn without_generation_tags(template: &str) -> String {
    let mut out = String::with_capacity(template.len());
    let mut rest = template;
    while let Some(at) = rest.find("{%") {
        let (before, tag) = rest.split_at(at);
        let inner = tag[2..].trim_start_matches(['-', '+']).trim_start();
        let renamed = [("generation", "with"), ("endgeneration", "endwith")];
        let renamed = renamed.into_iter().find_map(|(name, renamed)| {
            let end = inner.strip_prefix(name)?;
            let closed = end.trim_start().trim_start_matches(['-', '+']).starts_with("%}");
            closed.then_some((renamed, end))
        });
        out.push_str(before);
        rest = match renamed {
            Some((renamed, end)) => {
                out.push_str(&tag[..tag.len() - inner.len()]);
                out.push_str(renamed);
                end
            }
            None => {
                out.push_str("{%");
                &tag[2..]
            }
        };
    }
    out.push_str(rest);
    out
}
