//! The GPUs of a host, and which of them `cuda:0`, `cuda:1` and so on are.
//!
//! Source: the section on environment variables of NVIDIA's CUDA C++ Programming Guide. Entries are
//! indices or the first characters of UUIDs; the first that is invalid hides itself and all after
//! it; a duplicate leaves CUDA without any device. Indices are those of the PCI bus
//! (`CUDA_DEVICE_ORDER=PCI_BUS_ID`), which is what `nvidia-smi` shows.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A GPU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Gpu {
    /// Its name.
    pub name: String,
    /// Its UUID, which CUDA and NVML agree on.
    pub uuid: String,
    /// Where it is on the PCI bus.
    #[serde(default)]
    pub bus_id: String,
    /// Memory.
    pub vram_bytes: u64,
    /// Version of the driver.
    pub driver: String,
    /// The newest CUDA version that the driver supports.
    pub cuda: String,
    /// Such as `9.0`.
    pub compute_capability: String,
    /// Whether it is cut into slices (MIG mode).
    #[serde(default)]
    pub mig: bool,
}

/// Returns a compute capability as compilers expect it, such as `90` for `9.0`.
pub(crate) fn capability_digits(capability: &str) -> String {
    capability.replace('.', "")
}

/// What one ordinal of CUDA stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Slot {
    /// A whole GPU.
    Gpu(Gpu),
    /// A slice of one, by its name.
    Slice(String),
}

/// What CUDA's ordinals stand for, in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Visible {
    /// One for each ordinal.
    pub slots: Vec<Slot>,
    /// Why there are no more, where `CUDA_VISIBLE_DEVICES` is the cause.
    pub cut: Option<String>,
}

/// What CUDA's ordinals stand for on a host with these GPUs, which stand in the order of the PCI
/// bus, where `CUDA_VISIBLE_DEVICES` is `variable`.
pub fn visible(gpus: &[Gpu], variable: Option<&str>) -> Visible {
    let Some(variable) = variable else {
        return Visible { slots: gpus.iter().cloned().map(Slot::Gpu).collect(), cut: None };
    };
    let mut slots: Vec<Slot> = Vec::new();
    for entry in variable.split(',').map(str::trim) {
        match slot(gpus, entry) {
            Ok(slot) if slots.contains(&slot) => {
                let cut = format!("{entry:?} is a duplicate, which leaves CUDA without any device");
                return Visible { slots: Vec::new(), cut: Some(cut) };
            }
            Ok(slot) => slots.push(slot),
            Err(cut) => return Visible { slots, cut: Some(cut) },
        }
    }
    let cut = format!("it names {} of the host's {}", slots.len(), gpus.len());
    Visible { cut: (slots.len() < gpus.len()).then_some(cut), slots }
}

/// What one entry stands for.
///
/// # Errors
/// Why it is invalid.
fn slot(gpus: &[Gpu], entry: &str) -> Result<Slot, String> {
    let ends_here = "which hides it and all later entries";
    if entry.is_empty() {
        return Err("an empty entry shows no GPU".into());
    }
    if let Ok(index) = entry.parse::<i64>() {
        let gpu = usize::try_from(index).ok().and_then(|index| gpus.get(index));
        return gpu.cloned().map(Slot::Gpu).ok_or_else(|| {
            format!("{entry:?} is not the index of one of the {} GPUs, {ends_here}", gpus.len())
        });
    }
    if entry.starts_with("MIG-") {
        return Ok(Slot::Slice(entry.to_owned()));
    }
    let begins = |gpu: &&Gpu| {
        let head = gpu.uuid.get(..entry.len());
        entry.len() > "GPU-".len() && head.is_some_and(|head| head.eq_ignore_ascii_case(entry))
    };
    let mut matching = gpus.iter().filter(begins);
    match (matching.next(), matching.next()) {
        (Some(gpu), None) => Ok(Slot::Gpu(gpu.clone())),
        (Some(_), Some(_)) => {
            Err(format!("{entry:?} is the beginning of more than one UUID, {ends_here}"))
        }
        (None, _) => Err(format!("{entry:?} is not a GPU of this host, {ends_here}")),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// An H100 with this UUID.
    pub(crate) fn gpu(uuid: &str) -> Gpu {
        Gpu {
            name: "NVIDIA H100".into(),
            uuid: uuid.into(),
            bus_id: "00000000:0F:00.0".into(),
            vram_bytes: 85_000_000_000,
            driver: "580.1".into(),
            cuda: "13.0".into(),
            compute_capability: "9.0".into(),
            mig: false,
        }
    }

    fn host() -> Vec<Gpu> {
        ["GPU-aa11", "GPU-aa22", "GPU-bb33"].map(gpu).to_vec()
    }

    /// UUIDs in the order of CUDA's ordinals, and why there are no more.
    fn seen(variable: Option<&str>) -> (Vec<String>, String) {
        let visible = visible(&host(), variable);
        let name = |slot| match slot {
            Slot::Gpu(gpu) => gpu.uuid,
            Slot::Slice(name) => name,
        };
        (visible.slots.into_iter().map(name).collect(), visible.cut.unwrap_or_default())
    }

    #[test]
    fn without_the_variable_all_are_seen_in_the_order_of_the_bus() {
        assert_eq!(seen(None).0, ["GPU-aa11", "GPU-aa22", "GPU-bb33"]);
        assert_eq!(seen(None).1, "");
    }

    #[test]
    fn every_form_of_an_entry_is_understood() {
        for (variable, uuids) in [
            ("0,1,2", vec!["GPU-aa11", "GPU-aa22", "GPU-bb33"]),
            ("2, 0", vec!["GPU-bb33", "GPU-aa11"]),
            ("GPU-bb33,GPU-aa11", vec!["GPU-bb33", "GPU-aa11"]),
            ("GPU-b", vec!["GPU-bb33"]),
            ("GPU-AA2", vec!["GPU-aa22"]),
            ("MIG-5c1f,1", vec!["MIG-5c1f", "GPU-aa22"]),
        ] {
            assert_eq!(seen(Some(variable)).0, uuids, "{variable}");
        }
        assert_eq!(seen(Some("0,1,2")).1, "", "nothing is hidden");
        assert_eq!(seen(Some("2")).1, "it names 1 of the host's 3");
    }

    #[test]
    fn an_invalid_entry_hides_itself_and_all_after_it() {
        for (variable, uuids, says) in [
            ("", vec![], "an empty entry shows no GPU"),
            ("-1", vec![], "\"-1\" is not the index of one of the 3 GPUs"),
            ("1,-1,0", vec!["GPU-aa22"], "\"-1\" is not the index"),
            ("0,3,1", vec!["GPU-aa11"], "\"3\" is not the index of one of the 3 GPUs"),
            ("0,,1", vec!["GPU-aa11"], "an empty entry"),
            ("2,GPU-aa,1", vec!["GPU-bb33"], "\"GPU-aa\" begins the UUID of more than one GPU"),
            ("GPU-cc", vec![], "\"GPU-cc\" is no GPU of this host"),
            ("GPU-", vec![], "\"GPU-\" is no GPU of this host"),
            ("all", vec![], "\"all\" is no GPU of this host"),
        ] {
            let (found, cut) = seen(Some(variable));
            assert_eq!(found, uuids, "{variable}");
            assert!(cut.contains(says), "{variable}: expected {says:?} in {cut:?}");
        }
    }

    #[test]
    fn a_device_named_twice_leaves_none() {
        for variable in ["0,0", "1,GPU-aa22", "MIG-1,MIG-1"] {
            let (found, cut) = seen(Some(variable));
            assert!(found.is_empty(), "{variable}");
            assert!(cut.contains("is a duplicate"), "{cut}");
        }
    }
}
