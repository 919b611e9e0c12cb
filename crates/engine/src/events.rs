//! Where the engine sends its events.

use modelgate_protocol::Event;

/// Receives events. Called from several threads at once while a model loads.
pub type Events<'a> = &'a (dyn Fn(Event) + Sync);
