//! Loading of weights from open files into memory: selects the needed tensors, reports tensors that
//! are missing, have a wrong shape or are left over, converts each tensor, and makes an inventory
//! of the loaded tensors.

mod allocate;
mod decode;
mod inspect;
mod inventory;
mod job;
mod left_over;
mod load_meter;
mod load_tensor;
mod loaded_tensor;
mod pieces;
mod plan;
mod random_on_device;
mod run;
mod source_names;
mod staging_pool;
mod target;
mod unusable;

pub(crate) use plan::Plan;
