//! From keys to meaning: every value is checked here, once.

use super::error::{ManifestError, Place, nearest};
use super::read::{
    OneOrMany, RawExpect, RawGeneration, RawManifest, RawMessage, RawModel, RawPart, RawRange,
    Spanned,
};
use super::units::{parse_bytes, parse_duration};
use super::{ByteRange, DeviceChoice, Expect, LoadTime, Model, PerplexityBound, Question, Source};
use crate::predict;
use modelgate_protocol::{ContentPart, Device, Message, Scheme};
use std::collections::HashSet;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

const SCHEMA: u32 = 1;
const DEFAULT_DEADLINE: Duration = Duration::from_secs(45 * 60);
const DEFAULT_STALL: Duration = Duration::from_secs(2 * 60);
const DEFAULT_MAX_TOKENS: u32 = 64;
/// The longest context that a manifest may ask for; no model of today goes beyond it.
const LONGEST_CONTEXT: u32 = 1 << 22;
/// An id is part of file names.
const LONGEST_ID: usize = 100;
/// Ids ending so are made by the planner, not by a manifest's author.
const RESERVED_VARIANT: &str = "@synthetic";

type Result<T> = std::result::Result<T, ManifestError>;

/// Checks every value and gives the models.
pub(super) fn resolve(raw: RawManifest, place: Place<'_>) -> Result<Vec<Model>> {
    if *raw.schema.get_ref() != SCHEMA {
        return Err(ManifestError::at(
            place,
            raw.schema.span(),
            format!("schema is {}, expected {SCHEMA}", raw.schema.get_ref()),
            "this version of modelgate reads manifests of schema 1",
        ));
    }
    if raw.model.is_empty() {
        return Err(ManifestError::at(
            place,
            raw.schema.span(),
            "the manifest has no model: expected at least one [[model]]",
            "three lines make a model: id, repo or path, quantization",
        ));
    }
    let mut seen = HashSet::new();
    raw.model
        .into_iter()
        .map(|model| {
            let id = model.get_ref().id.clone();
            let model = Resolver { place }.model(model)?;
            if seen.insert(model.id.clone()) {
                return Ok(model);
            }
            Err(ManifestError::at(
                place,
                id.span(),
                format!("id \"{}\" stands twice", model.id),
                "ids are distinct; variants of a model differ after an @, as in \
                 \"my-model@q8_0\"",
            ))
        })
        .collect()
}

struct Resolver<'a> {
    place: Place<'a>,
}

impl Resolver<'_> {
    fn error<T>(
        &self,
        span: Range<usize>,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> Result<T> {
        Err(ManifestError::at(self.place, span, message, hint))
    }

    fn model(&self, raw: Spanned<RawModel>) -> Result<Model> {
        let span = raw.span();
        let raw = raw.into_inner();
        if let Some(synthetic) = raw.synthetic.filter(|value| *value.get_ref()) {
            return self.error(
                synthetic.span(),
                "synthetic models are not supported by this version",
                "remove the key",
            );
        }
        let id = self.id(&raw.id)?;
        let source = self.source(&id, span, (raw.repo, raw.path, raw.file, raw.revision))?;
        let model = Model {
            id,
            source,
            quantization: self.scheme(&raw.quantization)?,
            device: self.device(raw.device)?,
            context: self.context(raw.context)?,
            deadline: self.duration(raw.deadline.as_ref())?.unwrap_or(DEFAULT_DEADLINE),
            stall: self.duration(raw.stall.as_ref())?.unwrap_or(DEFAULT_STALL),
            generations: self.generations(raw.generation)?,
            expect: Expect::default(),
        };
        let expect = self.expect(&model, raw.expect)?;
        Ok(Model { expect, ..model })
    }

    fn id(&self, id: &Spanned<String>) -> Result<String> {
        let text = id.get_ref();
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        let well_formed =
            text.starts_with(plain) && text.chars().all(|c| plain(c) || "._@-".contains(c));
        if !well_formed || text.len() > LONGEST_ID {
            return self.error(
                id.span(),
                format!("id \"{text}\" is malformed"),
                "an id is at most 100 lower-case letters, digits and . _ @ -, and begins with a \
                 letter or digit",
            );
        }
        if text.ends_with(RESERVED_VARIANT) {
            return self.error(
                id.span(),
                format!("id \"{text}\" ends with {RESERVED_VARIANT}, which is reserved"),
                "synthetic = true in the model's own entry plans its synthetic variant",
            );
        }
        Ok(text.clone())
    }

    #[allow(clippy::type_complexity)] // the four keys that together say where a model is
    fn source(
        &self,
        id: &str,
        span: Range<usize>,
        keys: (
            Option<Spanned<String>>,
            Option<Spanned<PathBuf>>,
            Option<Spanned<String>>,
            Option<Spanned<String>>,
        ),
    ) -> Result<Source> {
        match keys {
            (Some(repo), None, file, revision) => Ok(Source::Hub {
                repo: self.repo(&repo)?,
                revision: revision.map_or_else(|| Ok("main".to_owned()), |r| self.revision(&r))?,
                file: file.map(|file| self.file(&file)).transpose()?,
            }),
            (None, Some(path), None, None) => {
                if path.get_ref().as_os_str().is_empty() {
                    return self.error(path.span(), "path is empty", "name a folder or GGUF file");
                }
                Ok(Source::Local { path: path.into_inner() })
            }
            (None, Some(_), Some(key), _) => self.error(
                key.span(),
                "file goes with repo, not with path",
                "path may itself name a GGUF file",
            ),
            (None, Some(_), _, Some(key)) => {
                self.error(key.span(), "revision goes with repo, not with path", "remove it")
            }
            (Some(repo), Some(_), _, _) => self.error(
                repo.span(),
                format!("model \"{id}\" has both repo and path"),
                "give one: a hub repository or a local path",
            ),
            (None, None, _, _) => self.error(
                span,
                format!("model \"{id}\" has neither repo nor path"),
                "give repo = \"owner/name\" for a hub repository, or path = \"DIR or FILE.gguf\"",
            ),
        }
    }

    fn repo(&self, repo: &Spanned<String>) -> Result<String> {
        let text = repo.get_ref();
        let part = |part: &str| {
            !part.is_empty()
                && !part.starts_with('.')
                && part.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
        };
        match text.split_once('/') {
            Some((owner, name)) if part(owner) && part(name) => Ok(text.clone()),
            _ => self.error(
                repo.span(),
                format!("repo \"{text}\" is malformed: expected \"owner/name\""),
                "it is the last part of the model page's address",
            ),
        }
    }

    fn revision(&self, revision: &Spanned<String>) -> Result<String> {
        let text = revision.get_ref();
        let sound = !text.is_empty()
            && !text.split('/').any(|part| part.is_empty() || part.starts_with('.'))
            && text.chars().all(|c| c.is_ascii_alphanumeric() || "._-/".contains(c));
        if sound {
            Ok(text.clone())
        } else {
            self.error(
                revision.span(),
                format!("revision \"{text}\" is malformed"),
                "expected a branch, a tag or a commit",
            )
        }
    }

    fn file(&self, file: &Spanned<String>) -> Result<String> {
        let text = file.get_ref();
        let inside = !text.split('/').any(|part| part.is_empty() || part == "." || part == "..");
        if inside && text.to_lowercase().ends_with(".gguf") {
            Ok(text.clone())
        } else {
            self.error(
                file.span(),
                format!("file \"{text}\" is no GGUF file of the repository"),
                "expected a name such as \"model-q4_k_m.gguf\"; a safetensors model needs no file",
            )
        }
    }

    fn scheme(&self, name: &Spanned<String>) -> Result<Scheme> {
        let text = name.get_ref().as_str();
        if let Some(scheme) = Scheme::from_name(text) {
            return Ok(scheme);
        }
        let instead = match text.to_lowercase().as_str() {
            "nf4" | "fp4" | "int4" | "4bit" | "awq" | "gptq" => Some("q4_k"),
            "int8" | "8bit" | "fp8" | "llm.int8" => Some("q8_0"),
            _ => None,
        };
        let names: Vec<_> = Scheme::ALL.iter().map(|scheme| scheme.name()).collect();
        let message =
            format!("quantization \"{text}\" is not supported; supported are {}", names.join(", "));
        let hint = match (instead, nearest(text, names)) {
            (Some(name), _) => {
                format!("\"{text}\" is another library's format; use \"{name}\" instead")
            }
            (None, Some(name)) => format!("the nearest is \"{name}\""),
            (None, None) => "\"q4_k\" is the usual one for 4 bits, \"q8_0\" for 8".into(),
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
                "expected at least one of cuda, cuda:N, cpu; or leave the key out",
            );
        }
        if let [one] = names.as_slice()
            && one == "auto"
        {
            return Ok(DeviceChoice::Auto);
        }
        let mut devices = Vec::new();
        for name in names {
            let Some(parsed) = parse_device(name) else {
                return self.error(
                    device.span(),
                    format!("device \"{name}\" is not known"),
                    "expected cuda, cuda:N, cpu, auto, or a list such as [\"cuda:0\", \"cpu\"]",
                );
            };
            if devices.contains(&parsed) {
                return self.error(
                    device.span(),
                    format!("device \"{name}\" stands twice in the list"),
                    "name each device once",
                );
            }
            devices.push(parsed);
        }
        Ok(DeviceChoice::Listed(devices))
    }

    fn context(&self, context: Option<Spanned<u32>>) -> Result<Option<u32>> {
        let Some(context) = context else {
            return Ok(None);
        };
        match *context.get_ref() {
            n @ 1..=LONGEST_CONTEXT => Ok(Some(n)),
            n => self.error(
                context.span(),
                format!("context is {n}, expected 1 to {LONGEST_CONTEXT}"),
                "it is the number of tokens of prompt and answer together",
            ),
        }
    }

    fn duration(&self, text: Option<&Spanned<String>>) -> Result<Option<Duration>> {
        let Some(text) = text else {
            return Ok(None);
        };
        match parse_duration(text.get_ref()) {
            Ok(duration) => Ok(Some(duration)),
            Err(message) => self.error(text.span(), message, "write the unit out"),
        }
    }

    fn expect(&self, model: &Model, raw: RawExpect) -> Result<Expect> {
        let load_time = match raw.load_time {
            None => LoadTime::default(),
            Some(raw) => {
                let cached = self.duration(raw.cached.as_ref())?;
                let first = self.duration(raw.first.as_ref())?;
                if let (Some(cached), Some(first_time), Some(key)) = (cached, first, &raw.first)
                    && first_time < cached
                {
                    return self.error(
                        key.span(),
                        "load_time.first is shorter than load_time.cached",
                        "first holds the download and the load, cached the load alone",
                    );
                }
                LoadTime { cached, first }
            }
        };
        let vram_span = raw.vram.as_ref().map(Spanned::span);
        let ram_span = raw.ram.as_ref().map(Spanned::span);
        let perplexity = match raw.perplexity {
            None => PerplexityBound::default(),
            Some(raw) => {
                if let Some(max) = &raw.max
                    && (!max.get_ref().is_finite() || *max.get_ref() <= 1.0)
                {
                    return self.error(
                        max.span(),
                        format!("perplexity.max is {}, expected more than 1", max.get_ref()),
                        "a perplexity of 1 is a model that is never surprised",
                    );
                }
                PerplexityBound { max: raw.max.map(Spanned::into_inner), text: raw.text }
            }
        };
        let expect = Expect {
            load_time,
            vram: raw.vram.map(|range| self.range(range)).transpose()?,
            ram: raw.ram.map(|range| self.range(range)).transpose()?,
            perplexity,
        };
        if let (Some(span), DeviceChoice::Listed(devices)) = (&vram_span, &model.device)
            && devices.iter().all(|device| *device == Device::Cpu)
        {
            return self.error(
                span.clone(),
                "expect.vram of a model on the CPU could never be met: it takes no device memory",
                "use expect.ram",
            );
        }
        self.refuse_impossible(model, &expect, vram_span, ram_span)?;
        Ok(expect)
    }

    /// Refuses a range that no load of the model could satisfy, where its shapes are known now.
    fn refuse_impossible(
        &self,
        model: &Model,
        expect: &Expect,
        vram: Option<Range<usize>>,
        ram: Option<Range<usize>>,
    ) -> Result<()> {
        let Source::Hub { repo, .. } = &model.source else {
            return Ok(());
        };
        let Some(Ok(config)) = crate::known::config(repo) else {
            return Ok(());
        };
        let DeviceChoice::Listed(devices) = &model.device else {
            return Ok(());
        };
        match (vram.or(ram), predict::impossible(&config, model, expect, devices)) {
            (Some(span), Some(impossible)) => self.error(span, impossible.message, impossible.hint),
            _ => Ok(()),
        }
    }

    fn range(&self, range: Spanned<RawRange>) -> Result<ByteRange> {
        let span = range.span();
        let RawRange { min, max } = range.into_inner();
        let bytes = |text: &Option<Spanned<String>>| match text {
            None => Ok(None),
            Some(text) => match parse_bytes(text.get_ref()) {
                Ok(bytes) => Ok(Some(bytes)),
                Err(message) => self.error(text.span(), message, "write the unit out"),
            },
        };
        let (low, high) = (bytes(&min)?, bytes(&max)?);
        match (low, high) {
            (None, None) => self.error(span, "the range is empty", "give min, max or both"),
            (Some(low), Some(high)) if low > high => self.error(
                span,
                "the range is impossible: min is above max",
                "exchange them, or mend the unit",
            ),
            (_, Some(0)) => {
                self.error(span, "the range is impossible: max is 0", "no load takes no memory")
            }
            (Some(0), None) => self.error(
                span,
                "the range is no bound: at least 0",
                "give a max, or a min above 0: a check that cannot fail proves nothing",
            ),
            (low, high) => Ok(ByteRange { min: low.unwrap_or(0), max: high.unwrap_or(u64::MAX) }),
        }
    }

    fn generations(&self, raw: Option<Spanned<OneOrMany<RawGeneration>>>) -> Result<Vec<Question>> {
        let Some(raw) = raw else {
            return Ok(Vec::new());
        };
        let span = raw.span();
        let OneOrMany(list) = raw.into_inner();
        if list.is_empty() {
            return self.error(
                span,
                "generation is an empty list",
                "leave the key out to ask the built-in questions",
            );
        }
        let mut names = HashSet::new();
        let mut questions = Vec::with_capacity(list.len());
        for (index, raw) in list.into_iter().enumerate() {
            let name_span = raw.name.as_ref().map_or_else(|| span.clone(), Spanned::span);
            let question = self.question(index, raw)?;
            if !names.insert(question.name.clone()) {
                return self.error(
                    name_span,
                    format!("generation \"{}\" stands twice", question.name),
                    "give each a name of its own",
                );
            }
            questions.push(question);
        }
        Ok(questions)
    }

    fn question(&self, index: usize, raw: RawGeneration) -> Result<Question> {
        let messages = match (raw.prompt, raw.messages) {
            (Some(prompt), None) => vec![Message {
                role: "user".into(),
                content: vec![ContentPart::Text(self.text(&prompt, "prompt")?)],
            }],
            (None, Some(messages)) => {
                let span = messages.span();
                let list = messages.into_inner();
                if list.is_empty() {
                    return self.error(span, "messages is an empty list", "give at least one");
                }
                list.into_iter().map(|raw| self.message(raw)).collect::<Result<_>>()?
            }
            _ => {
                return self.error(
                    raw.expect.span(),
                    "a generation has either prompt or messages",
                    "prompt is short for one message of the user",
                );
            }
        };
        let max_tokens = match raw.max_tokens {
            None => DEFAULT_MAX_TOKENS,
            Some(n) if (1..=LONGEST_CONTEXT).contains(n.get_ref()) => n.into_inner(),
            Some(n) => {
                return self.error(
                    n.span(),
                    format!("max_tokens is {}, expected 1 to {LONGEST_CONTEXT}", n.get_ref()),
                    "it is the length of the longest answer",
                );
            }
        };
        let expect = raw.expect.get_ref().0.clone();
        if expect.is_empty() || expect.iter().any(|answer| answer.trim().is_empty()) {
            return self.error(
                raw.expect.span(),
                "expect is empty: an answer that any text satisfies proves nothing",
                "give the words of which one must stand in the answer, such as [\"Paris\"]",
            );
        }
        let name = match &raw.name {
            Some(name) => self.text(name, "name")?,
            None => format!("question-{}", index + 1),
        };
        Ok(Question { name, messages, max_tokens, expect })
    }

    fn message(&self, raw: RawMessage) -> Result<Message> {
        let role = raw.role.get_ref().clone();
        if !["system", "user", "assistant"].contains(&role.as_str()) {
            return self.error(
                raw.role.span(),
                format!("role \"{role}\" is not known"),
                "expected system, user or assistant",
            );
        }
        let span = raw.content.span();
        let OneOrMany(parts) = raw.content.into_inner();
        if parts.is_empty() {
            return self.error(span, "content is empty", "give a text");
        }
        let content = parts
            .into_iter()
            .map(|part| match part {
                RawPart::Text(text) => Ok(ContentPart::Text(text)),
                RawPart::Image(path) => self.no_tower(&path, "image"),
                RawPart::Audio(path) => self.no_tower(&path, "audio"),
            })
            .collect::<Result<_>>()?;
        Ok(Message { role, content })
    }

    fn no_tower<T>(&self, path: &Spanned<PathBuf>, medium: &str) -> Result<T> {
        self.error(
            path.span(),
            format!("{medium} input is not supported: no model is loaded with a tower for it"),
            "this version evaluates the text part of every model",
        )
    }

    fn text(&self, text: &Spanned<String>, key: &str) -> Result<String> {
        if text.get_ref().trim().is_empty() {
            return self.error(text.span(), format!("{key} is empty"), "give a text");
        }
        Ok(text.get_ref().clone())
    }
}

/// `cpu`, `cuda` (the first), or `cuda:N`.
pub(crate) fn parse_device(name: &str) -> Option<Device> {
    match name {
        "cpu" => Some(Device::Cpu),
        "cuda" => Some(Device::Cuda(0)),
        _ => name.strip_prefix("cuda:")?.parse().ok().map(Device::Cuda),
    }
}
