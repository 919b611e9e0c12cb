//! The text of panics of the test runner whose output is closed.

use std::panic::{set_hook, take_hook};
use std::sync::Once;

/// Suppresses the text of panics because of a closed pipe from now on. The test runner panics if
/// the reader of its output ends first, for example `tee` after Ctrl-C, which is not a defect.
pub(super) fn suppress_panic_texts() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let previous = take_hook();
        set_hook(Box::new(move |panic| {
            let text = panic.payload().downcast_ref::<String>();
            if !text.is_some_and(|text| text.contains("Broken pipe")) {
                previous(panic);
            }
        }));
    });
}
