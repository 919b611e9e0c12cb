//! Requests to the worker, and chat messages.

use modelgate_protocol::{
    ContentPart, Device, Evidence, GenerationRequest, Message, ModelFiles, PROTOCOL_VERSION,
    Request, Scheme,
};

/// Returns a request to load `files` on the CPU without generation. The engine chooses the context
/// length.
pub fn load(files: ModelFiles, quantization: Scheme) -> Request {
    Request {
        protocol: PROTOCOL_VERSION,
        model: files.root.display().to_string(),
        files,
        evidence: Evidence::Real,
        quantization,
        devices: vec![Device::Cpu],
        device_limit: None,
        context: None,
        generations: Vec::new(),
        perplexity_text: None,
    }
}

/// Returns a chat message that consists of one text.
pub fn message(role: &str, text: &str) -> Message {
    Message { role: role.into(), content: vec![ContentPart::Text(text.into())] }
}

/// Returns a generation request with one user message. `text` is also its name.
pub fn question(text: &str, max_tokens: u32) -> GenerationRequest {
    GenerationRequest {
        name: text.into(),
        messages: vec![message("user", text)],
        tokens: Vec::new(),
        max_tokens,
    }
}
