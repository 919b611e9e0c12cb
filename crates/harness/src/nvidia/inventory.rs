//! The GPUs of a host, and the GPUs to which `cuda:0`, `cuda:1` and so on refer.
//!
//! Source: the section on environment variables of NVIDIA's CUDA C++ Programming Guide. Entries are
//! indices or prefixes of UUIDs. The first invalid entry hides itself and all later entries. A
//! duplicate hides all devices. Indices follow the PCI bus (`CUDA_DEVICE_ORDER=PCI_BUS_ID`), as in
//! the output of `nvidia-smi`. A GPU that the driver cannot read keeps its index.

use super::unreadable::UnreadableGpu;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A GPU of the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Gpu {
    /// The product name, for example `NVIDIA H100 80GB HBM3`.
    pub name: String,
    /// The UUID that both CUDA and NVML report.
    pub uuid: String,
    /// The address on the PCI bus, for example `00000000:0F:00.0`.
    #[serde(default)]
    pub bus_id: String,
    /// The total memory in bytes.
    pub vram_bytes: u64,
    /// Whether `vram_bytes` is the memory of the host, which the GPU uses instead of its own.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unified_memory: bool,
    /// The version of the driver, for example `580.65.06`.
    pub driver: String,
    /// The newest CUDA version that the driver supports, for example `13.0`.
    pub cuda: String,
    /// The compute capability, for example `9.0`.
    pub compute_capability: String,
    /// Whether MIG mode is on, which divides the GPU into slices.
    #[serde(default)]
    pub mig: bool,
}

/// Returns a compute capability in the form that compilers expect, for example `90` for `9.0`.
pub(crate) fn capability_digits(capability: &str) -> String {
    capability.replace('.', "")
}

/// The GPUs of a host.
#[derive(Debug, Clone, Copy)]
pub struct HostGpus<'a> {
    /// The GPUs that the driver reads, in the order of the PCI bus.
    pub gpus: &'a [Gpu],
    /// The GPUs that the driver cannot read.
    pub unreadable: &'a [UnreadableGpu],
    /// The reason why the host has no GPU. `None` if it has one.
    pub no_gpu_reason: Option<&'a str>,
}

impl HostGpus<'_> {
    /// Returns the GPUs to which the process has access, in the order of the PCI bus.
    fn slots(&self) -> Vec<Slot> {
        let mut readable = self.gpus.iter();
        let mut slots = Vec::new();
        for ordinal in 0.. {
            let unreadable = self.unreadable.iter().find(|gpu| gpu.ordinal == Some(ordinal));
            let slot = match unreadable {
                Some(gpu) => Some(Slot::Unreadable(gpu.clone())),
                None => readable.next().cloned().map(Slot::Gpu),
            };
            match slot {
                Some(slot) => slots.push(slot),
                None => break,
            }
        }
        slots
    }
}

/// The GPU or slice of one CUDA ordinal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Slot {
    /// A complete GPU.
    Gpu(Gpu),
    /// A GPU that the driver cannot read.
    Unreadable(UnreadableGpu),
    /// A MIG slice, by its name.
    Slice(String),
}

impl Slot {
    /// Returns the UUID of the GPU. `None` if it is unknown, and for a slice.
    fn uuid(&self) -> Option<&str> {
        match self {
            Slot::Gpu(gpu) => Some(&gpu.uuid),
            Slot::Unreadable(gpu) => gpu.uuid.as_deref(),
            Slot::Slice(_) => None,
        }
    }
}

/// The devices that a CUDA program sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VisibleDevices {
    /// The GPU or slice of each CUDA ordinal.
    pub slots: Vec<Slot>,
    /// The reason why `CUDA_VISIBLE_DEVICES` hides the remaining devices. `None` if it hides none.
    pub cut: Option<String>,
}

/// Returns the devices that CUDA shows on a `host` if `CUDA_VISIBLE_DEVICES` has the value
/// `variable`.
pub fn visible(host: HostGpus<'_>, variable: Option<&str>) -> VisibleDevices {
    let gpus = host.slots();
    let Some(variable) = variable else {
        return VisibleDevices { slots: gpus, cut: None };
    };
    let mut slots: Vec<Slot> = Vec::new();
    for entry in variable.split(',').map(str::trim) {
        match slot(&gpus, entry) {
            Ok(slot) if slots.contains(&slot) => {
                let cut = format!("{entry:?} is a duplicate, which hides all devices");
                return VisibleDevices { slots: Vec::new(), cut: Some(cut) };
            }
            Ok(slot) => slots.push(slot),
            Err(cut) => return VisibleDevices { slots, cut: Some(cut) },
        }
    }
    let cut = format!("it lists {} of the {} GPUs of the host", slots.len(), gpus.len());
    VisibleDevices { cut: (slots.len() < gpus.len()).then_some(cut), slots }
}

/// Returns the GPU or slice of one entry.
///
/// # Errors
/// The reason why the entry is invalid.
fn slot(gpus: &[Slot], entry: &str) -> Result<Slot, String> {
    let consequence = "which hides it and all later entries";
    if entry.is_empty() {
        return Err("an empty entry shows no GPU".into());
    }
    if let Ok(index) = entry.parse::<i64>() {
        let gpu = usize::try_from(index).ok().and_then(|index| gpus.get(index));
        return gpu.cloned().ok_or_else(|| {
            format!("{entry:?} is not the index of one of the {} GPUs, {consequence}", gpus.len())
        });
    }
    if entry.starts_with("MIG-") {
        return Ok(Slot::Slice(entry.to_owned()));
    }
    let matches_entry = |gpu: &&Slot| {
        let prefix = gpu.uuid().and_then(|uuid| uuid.get(..entry.len()));
        entry.len() > "GPU-".len()
            && prefix.is_some_and(|prefix| prefix.eq_ignore_ascii_case(entry))
    };
    let mut matching = gpus.iter().filter(matches_entry);
    match (matching.next(), matching.next()) {
        (Some(gpu), None) => Ok(gpu.clone()),
        (Some(_), Some(_)) => {
            Err(format!("{entry:?} is the beginning of more than one UUID, {consequence}"))
        }
        (None, _) => Err(format!("{entry:?} is not a GPU of this host, {consequence}")),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Returns an H100 with this UUID.
    pub(crate) fn gpu(uuid: &str) -> Gpu {
        Gpu {
            name: "NVIDIA H100".into(),
            uuid: uuid.into(),
            bus_id: "00000000:0F:00.0".into(),
            vram_bytes: 85_000_000_000,
            unified_memory: false,
            driver: "580.1".into(),
            cuda: "13.0".into(),
            compute_capability: "9.0".into(),
            mig: false,
        }
    }

    /// Returns a GPU that the driver cannot read.
    pub(crate) fn unreadable(
        index: u32,
        ordinal: Option<u32>,
        uuid: Option<&str>,
    ) -> UnreadableGpu {
        UnreadableGpu {
            index,
            ordinal,
            name: None,
            uuid: uuid.map(str::to_owned),
            bus_id: None,
            mig: false,
            error: "device fell off the bus".into(),
        }
    }

    fn host() -> Vec<Gpu> {
        ["GPU-aa11", "GPU-aa22", "GPU-bb33"].map(gpu).to_vec()
    }

    /// Returns the UUIDs in the order of CUDA ordinals, and the reason why there are no more.
    fn resolve(variable: Option<&str>) -> (Vec<String>, String) {
        resolve_with(&[], variable)
    }

    /// Like [`resolve`], on a host with these GPUs in addition. An unreadable GPU has the name
    /// `error`.
    fn resolve_with(unreadable: &[UnreadableGpu], variable: Option<&str>) -> (Vec<String>, String) {
        let gpus = host();
        let host = HostGpus { gpus: &gpus, unreadable, no_gpu_reason: None };
        let visible = visible(host, variable);
        let name = |slot| match slot {
            Slot::Gpu(gpu) => gpu.uuid,
            Slot::Unreadable(_) => "error".to_owned(),
            Slot::Slice(name) => name,
        };
        (visible.slots.into_iter().map(name).collect(), visible.cut.unwrap_or_default())
    }

    #[test]
    fn without_the_variable_all_gpus_are_visible_in_bus_order() {
        assert_eq!(resolve(None).0, ["GPU-aa11", "GPU-aa22", "GPU-bb33"]);
        assert_eq!(resolve(None).1, "");
    }

    #[test]
    fn every_form_of_an_entry_is_resolved() {
        for (variable, uuids) in [
            ("0,1,2", vec!["GPU-aa11", "GPU-aa22", "GPU-bb33"]),
            ("2, 0", vec!["GPU-bb33", "GPU-aa11"]),
            ("GPU-bb33,GPU-aa11", vec!["GPU-bb33", "GPU-aa11"]),
            ("GPU-b", vec!["GPU-bb33"]),
            ("GPU-AA2", vec!["GPU-aa22"]),
            ("MIG-5c1f,1", vec!["MIG-5c1f", "GPU-aa22"]),
        ] {
            assert_eq!(resolve(Some(variable)).0, uuids, "{variable}");
        }
        assert_eq!(resolve(Some("0,1,2")).1, "", "nothing is hidden");
        assert_eq!(resolve(Some("2")).1, "it lists 1 of the 3 GPUs of the host");
    }

    #[test]
    fn an_invalid_entry_hides_itself_and_all_after_it() {
        for (variable, uuids, expected) in [
            ("", vec![], "an empty entry shows no GPU"),
            ("-1", vec![], "\"-1\" is not the index of one of the 3 GPUs"),
            ("1,-1,0", vec!["GPU-aa22"], "\"-1\" is not the index"),
            ("0,3,1", vec!["GPU-aa11"], "\"3\" is not the index of one of the 3 GPUs"),
            ("0,,1", vec!["GPU-aa11"], "an empty entry"),
            ("2,GPU-aa,1", vec!["GPU-bb33"], "\"GPU-aa\" is the beginning of more than one UUID"),
            ("GPU-cc", vec![], "\"GPU-cc\" is not a GPU of this host"),
            ("GPU-", vec![], "\"GPU-\" is not a GPU of this host"),
            ("all", vec![], "\"all\" is not a GPU of this host"),
        ] {
            let (found, cut) = resolve(Some(variable));
            assert_eq!(found, uuids, "{variable}");
            assert!(cut.contains(expected), "{variable}: expected {expected:?} in {cut:?}");
        }
    }

    #[test]
    fn a_duplicate_entry_in_cuda_visible_devices_hides_all_devices() {
        for variable in ["0,0", "1,GPU-aa22", "MIG-1,MIG-1"] {
            let (found, cut) = resolve(Some(variable));
            assert!(found.is_empty(), "{variable}");
            assert!(cut.contains("is a duplicate"), "{cut}");
        }
    }
    #[test]
    fn a_gpu_that_cannot_be_read_keeps_its_number() {
        let lost = unreadable(1, Some(1), Some("GPU-cc44"));
        let hidden = unreadable(4, None, None);
        let all = [lost, hidden];
        for (variable, uuids) in [
            (None, vec!["GPU-aa11", "error", "GPU-aa22", "GPU-bb33"]),
            (Some("2,1"), vec!["GPU-aa22", "error"]),
            (Some("GPU-cc"), vec!["error"]),
            (Some("GPU-bb,3"), vec![]),
        ] {
            assert_eq!(resolve_with(&all, variable).0, uuids, "{variable:?}");
        }
        let (_, cut) = resolve_with(&all, Some("4"));
        assert!(cut.contains("not the index of one of the 4 GPUs"), "{cut}");
        let last = [unreadable(3, Some(3), None)];
        assert_eq!(resolve_with(&last, Some("3,0")).0, ["error", "GPU-aa11"]);
    }
}
