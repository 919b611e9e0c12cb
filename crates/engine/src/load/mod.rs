//! From open files to resident weights: which tensors are needed, which are missing, misshapen or left
//! over, what each becomes, and the inventory of the result.

mod allocate;
mod decode;
mod fill;
mod filled;
mod inspect;
mod inventory;
mod job;
mod left_over;
mod load_meter;
mod make_on_device;
mod pieces;
mod plan;
mod run;
mod source_names;
mod staging_pool;
mod target;
mod unusable;

pub(crate) use plan::Plan;
