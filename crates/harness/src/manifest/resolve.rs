//! Interprets the keys: each value is validated here, once.

use super::error::{ManifestError, ManifestText};
use super::model::{DeviceChoice, Expect, Model, SYNTHETIC_VARIANT};
use super::read::{OneOrMany, RawManifest, RawModel, Spanned};
use super::resolver::{MAX_CONTEXT, MAX_ID_BYTES, Resolver, Result};
use super::source::SourceKeys;
use modelgate_hub::nearest;
use modelgate_protocol::Scheme;
use std::collections::HashSet;
use std::time::Duration;

/// The supported version of the manifest format.
const SCHEMA: u32 = 1;
const DEFAULT_DEADLINE: Duration = Duration::from_secs(45 * 60);
const DEFAULT_STALL: Duration = Duration::from_secs(2 * 60);

/// Validates every value, and returns the models.
pub(super) fn resolve(raw: RawManifest, manifest: ManifestText<'_>) -> Result<Vec<Model>> {
    if *raw.schema.get_ref() != SCHEMA {
        return Err(ManifestError::at(
            manifest,
            raw.schema.span(),
            format!("schema is {}, expected {SCHEMA}", raw.schema.get_ref()),
            "set schema to 1",
        ));
    }
    if raw.model.is_empty() {
        return Err(ManifestError::at(
            manifest,
            raw.schema.span(),
            "the manifest has no model: expected at least one [[model]]",
            "add a model with id, repo or path, and quantization",
        ));
    }
    let (mut ids, mut models) = (HashSet::new(), Vec::new());
    for raw in raw.model {
        let id = raw.get_ref().id.clone();
        let resolved = Resolver { manifest }.models(raw)?;
        // no other id has the suffix of synthetic variants, so variants are distinct if models are
        if !ids.insert(id.get_ref().clone()) {
            return Err(ManifestError::at(
                manifest,
                id.span(),
                format!("id \"{}\" is duplicated", id.get_ref()),
                "use a different id; variants of a model differ after an @, for example \
                 \"my-model@q8_0\"",
            ));
        }
        models.extend(resolved);
    }
    Ok(models)
}

impl Resolver<'_> {
    /// Returns the model of an entry, and its synthetic variant if the entry requests one.
    fn models(&self, raw: Spanned<RawModel>) -> Result<Vec<Model>> {
        let span = raw.span();
        let raw = raw.into_inner();
        let id = self.id(&raw.id)?;
        let weights = self.weights(&raw)?;
        let keys =
            SourceKeys { repo: raw.repo, path: raw.path, file: raw.file, revision: raw.revision };
        let source = self.source(&id, span, keys)?;
        let model = Model {
            id,
            source,
            tokenizer: self.tokenizer(raw.tokenizer)?,
            weights,
            quantization: self.scheme(&raw.quantization)?,
            device: self.device(raw.device)?,
            context: self.context(raw.context)?,
            deadline: self.duration(raw.deadline.as_ref())?.unwrap_or(DEFAULT_DEADLINE),
            stall: self.duration(raw.stall.as_ref())?.unwrap_or(DEFAULT_STALL),
            generations: self.generations(raw.generation)?,
            expect: Expect::default(),
        };
        let expect = self.expect(&model, raw.expect)?;
        let model = Model { expect, ..model };
        let variant = match raw.synthetic {
            Some(requested) if *requested.get_ref() => {
                Some(self.variant(&model, requested.span())?)
            }
            _ => None,
        };
        Ok(std::iter::once(model).chain(variant).collect())
    }

    fn id(&self, id: &Spanned<String>) -> Result<String> {
        let text = id.get_ref();
        let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        let well_formed =
            text.starts_with(is_plain) && text.chars().all(|c| is_plain(c) || "._@-".contains(c));
        if !well_formed || text.len() > MAX_ID_BYTES {
            return self.error(
                id.span(),
                format!("id \"{text}\" is malformed"),
                "use at most 100 lower-case letters, digits and . _ @ -, beginning with a letter \
                 or digit",
            );
        }
        if text.ends_with(SYNTHETIC_VARIANT) {
            return self.error(
                id.span(),
                format!("id \"{text}\" ends with {SYNTHETIC_VARIANT}, which is reserved"),
                "set `synthetic = true` in the entry of the model to add its synthetic variant",
            );
        }
        Ok(text.clone())
    }

    fn scheme(&self, name: &Spanned<String>) -> Result<Scheme> {
        let text = name.get_ref().as_str();
        if let Some(scheme) = Scheme::from_name(text) {
            return Ok(scheme);
        }
        let substitute = match text.to_lowercase().as_str() {
            "nf4" | "fp4" | "int4" | "4bit" | "awq" | "gptq" => Some("q4_k"),
            "int8" | "8bit" | "fp8" | "llm.int8" => Some("q8_0"),
            _ => None,
        };
        let names: Vec<_> = Scheme::all().map(Scheme::name).collect();
        let joined = |schemes: &[Scheme]| {
            schemes.iter().map(|scheme| scheme.name()).collect::<Vec<_>>().join(", ")
        };
        let message = format!(
            "quantization \"{text}\" is not supported: expected one of {}; or, for GGUF files, one of {}",
            joined(&Scheme::UNIFORM),
            joined(&Scheme::GGUF_ONLY)
        );
        let hint = match (substitute, nearest(text, names)) {
            (Some(name), _) => {
                format!("use \"{name}\" instead: \"{text}\" is the format of another library")
            }
            (None, Some(name)) => format!("use \"{name}\", which is the nearest supported name"),
            (None, None) => "use \"q4_k\" for 4 bits, or \"q8_0\" for 8 bits".into(),
        };
        self.error(name.span(), message, hint)
    }

    fn device(&self, device: Option<Spanned<OneOrMany<String>>>) -> Result<DeviceChoice> {
        let Some(device) = device else {
            return Ok(DeviceChoice::Auto);
        };
        let names = &device.get_ref().0;
        if names.is_empty() {
            return self.error(
                device.span(),
                "device is an empty list",
                "list at least one of cuda, cuda:N, cpu; or remove the key",
            );
        }
        if let [one] = names.as_slice()
            && one == "auto"
        {
            return Ok(DeviceChoice::Auto);
        }
        let mut devices = Vec::new();
        for name in names {
            let Ok(parsed) = name.parse() else {
                return self.error(
                    device.span(),
                    format!("device \"{name}\" is not known"),
                    "use cuda, cuda:N, cpu or auto",
                );
            };
            devices.push(parsed);
        }
        if devices.len() > 1 {
            return self.error(
                device.span(),
                format!(
                    "device lists {} devices, expected one: placement over several devices is not \
                     supported yet",
                    devices.len()
                ),
                "list one device; or set `device = \"auto\"`",
            );
        }
        Ok(DeviceChoice::Listed(devices))
    }

    fn context(&self, context: Option<Spanned<u32>>) -> Result<Option<u32>> {
        let Some(context) = context else {
            return Ok(None);
        };
        match *context.get_ref() {
            n @ 1..=MAX_CONTEXT => Ok(Some(n)),
            n => self.error(
                context.span(),
                format!("context is {n}, expected 1 to {MAX_CONTEXT}"),
                "set it to the number of tokens of prompt and answer together",
            ),
        }
    }
}
