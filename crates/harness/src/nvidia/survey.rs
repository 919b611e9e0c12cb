//! Converts the readings of NVML into the GPUs of the host. Every GPU is judged separately: an
//! error of one GPU does not affect the others.

use super::inventory::Gpu;
use super::unreadable::UnreadableGpu;
use nvml_wrapper::error::NvmlError;

/// The start of the reason if the kernel module and the libraries of the driver have different
/// versions.
pub(crate) const VERSION_MISMATCH: &str =
    "the kernel module and the libraries of the NVIDIA driver have different versions";

/// The GPUs of a host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Inventory {
    /// The GPUs that can be used, in the order of the PCI bus.
    pub(crate) gpus: Vec<Gpu>,
    /// The GPUs that NVML cannot read, in the order of their indices.
    pub(crate) unreadable: Vec<UnreadableGpu>,
    /// The reason why no GPU can be used. `None` if one can.
    pub(crate) no_gpu_reason: Option<String>,
}

impl Inventory {
    /// Returns the inventory of a host without GPUs, for this reason.
    pub(super) fn empty(reason: String) -> Inventory {
        Inventory { no_gpu_reason: Some(reason), ..Inventory::default() }
    }
}

/// The values of the driver that are the same for all GPUs.
pub(super) struct DriverReport {
    /// The version of the driver.
    pub(super) version: Result<String, NvmlError>,
    /// The newest CUDA version that the driver supports, for example `13.0`.
    pub(super) cuda: Result<String, NvmlError>,
    /// The memory of the host in bytes, which is that of a GPU without its own memory. `None` if it
    /// is unknown.
    pub(super) host_memory: Option<u64>,
}

/// The values that NVML reports for one GPU.
pub(super) struct GpuReport {
    /// The product name.
    pub(super) name: Result<String, NvmlError>,
    /// The UUID.
    pub(super) uuid: Result<String, NvmlError>,
    /// The address on the PCI bus.
    pub(super) bus_id: Result<String, NvmlError>,
    /// The total memory in bytes.
    pub(super) memory: Result<u64, NvmlError>,
    /// The compute capability, for example `9.0`.
    pub(super) compute_capability: Result<String, NvmlError>,
    /// The MIG mode; 0 if it is off.
    pub(super) mig_mode: Result<u32, NvmlError>,
}

/// Returns the reason why NVML cannot be opened.
pub(super) fn unavailable(error: &NvmlError) -> String {
    match error {
        NvmlError::LibRmVersionMismatch => format!("{VERSION_MISMATCH}: {error}"),
        NvmlError::LibloadingError(_) | NvmlError::LibraryNotFound | NvmlError::DriverNotLoaded => {
            format!("no NVIDIA driver: {error}")
        }
        _ => format!("NVML cannot be used: {error}"),
    }
}

/// Returns the GPUs of the host from the reports on them, in the order of NVML. The error of a
/// report is that of opening the GPU.
pub(super) fn survey(
    driver: &DriverReport,
    reports: Vec<Result<GpuReport, NvmlError>>,
) -> Inventory {
    let counted = reports.iter().enumerate().filter(|(_, report)| !is_inaccessible(report));
    let order = bus_order(counted.map(|(index, report)| (index, bus_id(report))).collect());
    let mut inventory = Inventory::default();
    for (ordinal, index) in (0..).zip(&order) {
        match &reports[*index] {
            Ok(report) => match readable(driver, report) {
                Ok(gpu) => inventory.gpus.push(gpu),
                Err(error) => {
                    inventory.unreadable.push(unreadable(*index, Some(ordinal), report, error));
                }
            },
            Err(error) => inventory.unreadable.push(unopened(*index, Some(ordinal), error)),
        }
    }
    for (index, report) in reports.iter().enumerate().filter(|(_, report)| is_inaccessible(report))
    {
        if let Err(error) = report {
            inventory.unreadable.push(unopened(index, None, error));
        }
    }
    inventory.unreadable.sort_by_key(|gpu| gpu.index);
    inventory.no_gpu_reason = no_gpu_reason(&inventory);
    inventory
}

/// Returns the reason why no GPU can be used. `None` if one can.
fn no_gpu_reason(inventory: &Inventory) -> Option<String> {
    if !inventory.gpus.is_empty() {
        return None;
    }
    let errors: Vec<String> = inventory.unreadable.iter().map(ToString::to_string).collect();
    Some(if errors.is_empty() {
        "the driver reports no GPU".to_owned()
    } else {
        format!("NVML cannot read any GPU: {}", errors.join("; "))
    })
}

/// Returns whether the process has no access to the GPU (control groups, permissions of the device
/// files). CUDA does not count such a GPU, and NVML does: see `nvmlDeviceGetCount_v2`.
fn is_inaccessible(report: &Result<GpuReport, NvmlError>) -> bool {
    matches!(report, Err(NvmlError::NoPermission | NvmlError::OperatingSystem))
}

fn bus_id(report: &Result<GpuReport, NvmlError>) -> Option<&str> {
    report.as_ref().ok()?.bus_id.as_deref().ok()
}

/// Returns indices in the order of the PCI bus. An index without an address keeps its place,
/// because NVML usually has the same order.
fn bus_order(gpus: Vec<(usize, Option<&str>)>) -> Vec<usize> {
    let mut known: Vec<(&str, usize)> =
        gpus.iter().filter_map(|(index, bus_id)| Some(((*bus_id)?, *index))).collect();
    known.sort_unstable();
    let mut known = known.into_iter();
    let place = |(index, bus_id): (usize, Option<&str>)| match bus_id {
        Some(_) => known.next().map_or(index, |(_, index)| index),
        None => index,
    };
    gpus.into_iter().map(place).collect()
}

/// Returns the GPU of a report.
///
/// # Errors
/// The first value that NVML cannot read, with its error.
fn readable(driver: &DriverReport, report: &GpuReport) -> Result<Gpu, String> {
    let mig = value("the MIG mode", &is_on(&report.mig_mode))?;
    let (vram_bytes, unified_memory) = match (&report.memory, driver.host_memory) {
        (Err(NvmlError::NotSupported), Some(bytes)) if !mig => (bytes, true),
        (memory, _) => {
            let what = if mig { "the memory of a GPU in MIG mode" } else { "the memory" };
            (value(what, memory)?, false)
        }
    };
    Ok(Gpu {
        name: value("the name", &report.name)?,
        uuid: value("the UUID", &report.uuid)?,
        bus_id: value("the address on the PCI bus", &report.bus_id)?,
        vram_bytes,
        unified_memory,
        driver: value("the version of the driver", &driver.version)?,
        cuda: value("the CUDA version of the driver", &driver.cuda)?,
        compute_capability: value("the compute capability", &report.compute_capability)?,
        mig,
    })
}

/// Returns the value of a reading.
///
/// # Errors
/// The error of the reading, with the name of the value.
fn value<T: Clone, E: std::fmt::Display>(what: &str, reading: &Result<T, E>) -> Result<T, String> {
    match reading {
        Ok(value) => Ok(value.clone()),
        Err(error) => Err(format!("{what} cannot be read: {error}")),
    }
}

/// Returns whether MIG mode is on. Most GPUs and older drivers have no such mode, which they report
/// as an error; any other error leaves the mode unknown.
fn is_on(mode: &Result<u32, NvmlError>) -> Result<bool, &NvmlError> {
    match mode {
        Ok(mode) => Ok(*mode != 0),
        Err(
            NvmlError::NotSupported
            | NvmlError::FunctionNotFound
            | NvmlError::FailedToLoadSymbol(_),
        ) => Ok(false),
        Err(error) => Err(error),
    }
}

fn unreadable(
    index: usize,
    ordinal: Option<u32>,
    report: &GpuReport,
    error: String,
) -> UnreadableGpu {
    let known = |reading: &Result<String, NvmlError>| reading.as_ref().ok().cloned();
    UnreadableGpu {
        index: number(index),
        ordinal,
        name: known(&report.name),
        uuid: known(&report.uuid),
        bus_id: known(&report.bus_id),
        mig: is_on(&report.mig_mode).unwrap_or(false),
        error,
    }
}

/// Returns a GPU that NVML cannot open.
fn unopened(index: usize, ordinal: Option<u32>, error: &NvmlError) -> UnreadableGpu {
    UnreadableGpu {
        index: number(index),
        ordinal,
        name: None,
        uuid: None,
        bus_id: None,
        mig: false,
        error: error.to_string(),
    }
}

/// Converts an index of NVML, which counts in 32 bits.
fn number(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GB: u64 = 1_000_000_000;

    fn driver() -> DriverReport {
        DriverReport {
            version: Ok("580.1".into()),
            cuda: Ok("13.0".into()),
            host_memory: Some(128 * GB),
        }
    }

    /// Returns the report on a GPU with this bus address, which is also in its UUID.
    fn report(bus: &str) -> GpuReport {
        GpuReport {
            name: Ok("NVIDIA H100".into()),
            uuid: Ok(format!("GPU-{bus}")),
            bus_id: Ok(bus.into()),
            memory: Ok(85 * GB),
            compute_capability: Ok("9.0".into()),
            mig_mode: Ok(0),
        }
    }

    fn uuids(inventory: &Inventory) -> Vec<&str> {
        inventory.gpus.iter().map(|gpu| gpu.uuid.as_str()).collect()
    }

    /// Returns the index, ordinal and error of each unreadable GPU.
    fn errors(inventory: &Inventory) -> Vec<(u32, Option<u32>, &str)> {
        let all = inventory.unreadable.iter();
        all.map(|gpu| (gpu.index, gpu.ordinal, gpu.error.as_str())).collect()
    }

    #[test]
    fn a_lost_gpu_keeps_its_number_and_does_not_affect_the_others() {
        let reports = vec![Ok(report("1")), Err(NvmlError::GpuLost), Ok(report("3"))];
        let inventory = survey(&driver(), reports);
        assert_eq!(uuids(&inventory), ["GPU-1", "GPU-3"]);
        let lost = "device fell off the bus or has otherwise become inacessible";
        assert_eq!(errors(&inventory), [(1, Some(1), lost)]);
        assert_eq!(inventory.no_gpu_reason, None);
        // a GPU that is lost between two calls
        let reading = GpuReport { memory: Err(NvmlError::GpuLost), ..report("2") };
        let inventory = survey(&driver(), vec![Ok(report("1")), Ok(reading)]);
        assert_eq!(uuids(&inventory), ["GPU-1"]);
        let expected = format!("the memory cannot be read: {lost}");
        assert_eq!(errors(&inventory), [(1, Some(1), expected.as_str())]);
        assert_eq!(
            inventory.unreadable[0].to_string(),
            format!("GPU 1 (NVIDIA H100, GPU-2): {expected}")
        );
    }

    #[test]
    fn a_gpu_to_which_the_process_has_no_access_has_no_number() {
        let reports = vec![
            Err(NvmlError::NoPermission),
            Ok(report("1")),
            Err(NvmlError::OperatingSystem),
            Err(NvmlError::GpuLost),
        ];
        let inventory = survey(&driver(), reports);
        assert_eq!(uuids(&inventory), ["GPU-1"]);
        let ordinals: Vec<_> = errors(&inventory).iter().map(|gpu| (gpu.0, gpu.1)).collect();
        assert_eq!(ordinals, [(0, None), (2, None), (3, Some(1))]);
    }

    #[test]
    fn gpus_are_in_the_order_of_the_bus_and_unknown_addresses_keep_their_places() {
        let reports = vec![Ok(report("8")), Err(NvmlError::Unknown), Ok(report("4"))];
        let inventory = survey(&driver(), reports);
        assert_eq!(uuids(&inventory), ["GPU-4", "GPU-8"]);
        assert_eq!(inventory.unreadable[0].ordinal, Some(1));
    }

    #[test]
    fn a_gpu_without_its_own_memory_has_the_memory_of_the_host() {
        let unified = || GpuReport { memory: Err(NvmlError::NotSupported), ..report("1") };
        let inventory = survey(&driver(), vec![Ok(unified()), Ok(report("2"))]);
        let memory: Vec<_> =
            inventory.gpus.iter().map(|gpu| (gpu.vram_bytes, gpu.unified_memory)).collect();
        assert_eq!(memory, [(128 * GB, true), (85 * GB, false)]);
        let unknown = DriverReport { host_memory: None, ..driver() };
        let inventory = survey(&unknown, vec![Ok(unified())]);
        let expected = "the memory cannot be read: the requested operation is not available on the \
                        target device";
        assert_eq!(errors(&inventory), [(0, Some(0), expected)]);
    }

    #[test]
    fn a_gpu_in_mig_mode_counts_once_and_needs_no_permission() {
        let on = GpuReport { mig_mode: Ok(1), ..report("1") };
        let inventory = survey(&driver(), vec![Ok(on), Ok(report("2"))]);
        let modes: Vec<_> = inventory.gpus.iter().map(|gpu| gpu.mig).collect();
        assert_eq!(modes, [true, false]);
        for error in [NvmlError::NoPermission, NvmlError::NotSupported] {
            let on = GpuReport { mig_mode: Ok(1), memory: Err(error), ..report("1") };
            let inventory = survey(&driver(), vec![Ok(on), Ok(report("2"))]);
            assert_eq!(uuids(&inventory), ["GPU-2"]);
            let gpu = &inventory.unreadable[0];
            assert!(gpu.mig && gpu.ordinal == Some(0), "{gpu:?}");
            assert!(gpu.error.starts_with("the memory of a GPU in MIG mode cannot"), "{gpu}");
        }
    }

    #[test]
    fn an_unsupported_mode_means_no_mig_and_other_errors_are_returned() {
        assert!(matches!(is_on(&Ok(1)), Ok(true)));
        assert!(matches!(is_on(&Ok(0)), Ok(false)));
        let symbol = NvmlError::FailedToLoadSymbol("nvmlDeviceGetMigMode".into());
        for error in [NvmlError::NotSupported, NvmlError::FunctionNotFound, symbol] {
            assert!(matches!(is_on(&Err(error)), Ok(false)));
        }
        assert!(matches!(is_on(&Err(NvmlError::GpuLost)), Err(NvmlError::GpuLost)));
    }

    #[test]
    fn the_reason_for_a_host_without_gpus_names_every_error() {
        let none = survey(&driver(), Vec::new());
        assert_eq!(none.no_gpu_reason.as_deref(), Some("the driver reports no GPU"));
        let without_cuda = DriverReport { cuda: Err(NvmlError::LibraryNotFound), ..driver() };
        let inventory = survey(&without_cuda, vec![Ok(report("1")), Err(NvmlError::GpuLost)]);
        assert_eq!(uuids(&inventory), Vec::<&str>::new());
        let reason = inventory.no_gpu_reason.expect("a reason");
        for part in [
            "cannot read any GPU: GPU 0 (NVIDIA H100, GPU-1): the CUDA version of the driver \
             cannot be read: a shared library couldn't be found or loaded",
            "; GPU 1: device fell off the bus",
        ] {
            assert!(reason.contains(part), "expected {part:?} in {reason}");
        }
    }

    #[test]
    fn a_driver_that_does_not_work_differs_from_a_missing_driver() {
        for (error, expected) in [
            (NvmlError::DriverNotLoaded, "no NVIDIA driver: NVIDIA driver is not loaded"),
            (NvmlError::LibraryNotFound, "no NVIDIA driver: a shared library"),
            (NvmlError::LibRmVersionMismatch, VERSION_MISMATCH),
            (NvmlError::NoPermission, "NVML cannot be used: the current user does not have"),
        ] {
            let reason = unavailable(&error);
            assert!(reason.starts_with(expected), "expected {expected:?} in {reason}");
        }
    }
}
