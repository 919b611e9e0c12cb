//! The callback to which the engine sends its events.

use modelgate_protocol::Event;

/// A callback that receives events. Several threads call it concurrently while a model loads.
pub type Events<'a> = &'a (dyn Fn(Event) + Sync);
