//! Selects the GPUs of a model, and checks that a worker supports them. Pure functions of the
//! inventory and the environment variable.

use super::error::{GpuError, MissingGpu};
use super::inventory::{Gpu, HostGpus, Slot, VisibleDevices, visible};
use super::unreadable::UnreadableGpu;
use modelgate_protocol::{Device, Engine};
use std::path::Path;

/// A GPU with the device name of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assigned {
    /// The device name in the request, for example `cuda:0`.
    pub device: Device,
    /// The GPU.
    pub gpu: Gpu,
}

/// Returns the GPUs of the CUDA devices in `devices`, in the order of `devices`, for the value
/// `variable` of `CUDA_VISIBLE_DEVICES`. Errors name `model`.
///
/// # Errors
/// A device does not exist on the host, is hidden, cannot be read, or is in MIG mode.
pub fn assign(
    devices: &[Device],
    model: &str,
    host: HostGpus<'_>,
    variable: Option<&str>,
) -> Result<Vec<Assigned>, GpuError> {
    let visible = visible(host, variable);
    let mut assigned: Vec<Assigned> = Vec::new();
    for device in devices {
        let Device::Cuda(ordinal) = *device else {
            continue;
        };
        let slot = visible.slots.get(ordinal as usize);
        let slot = slot.ok_or_else(|| GpuError::Missing {
            model: model.to_owned(),
            device: *device,
            reason: missing(host, &visible, variable),
        })?;
        let gpu = complete_gpu(slot, *device, model)?;
        assigned.push(Assigned { device: *device, gpu: gpu.clone() });
    }
    Ok(assigned)
}

/// Returns the GPUs that a worker can use, for the value `variable` of `CUDA_VISIBLE_DEVICES`: the
/// visible ones without MIG slices and GPUs in MIG mode, whose memory cannot be measured, and without
/// GPUs that the driver cannot read.
///
/// # Errors
/// The reason why there are none.
pub(crate) fn usable(host: HostGpus<'_>, variable: Option<&str>) -> Result<Vec<Assigned>, String> {
    let visible = visible(host, variable);
    let complete = |(ordinal, slot): (u32, &Slot)| match slot {
        Slot::Gpu(gpu) if !gpu.mig => {
            Some(Assigned { device: Device::Cuda(ordinal), gpu: gpu.clone() })
        }
        Slot::Gpu(_) | Slot::Unreadable(_) | Slot::Slice(_) => None,
    };
    let usable: Vec<Assigned> = (0..).zip(&visible.slots).filter_map(complete).collect();
    match (usable.is_empty(), visible.slots.is_empty()) {
        (false, _) => Ok(usable),
        (true, true) => Err(missing(host, &visible, variable).to_string()),
        (true, false) => {
            Err("each visible GPU is a MIG slice, in MIG mode or cannot be read".to_owned())
        }
    }
}

/// Returns `devices` as a worker counts them if it sees only these CUDA devices, in this order.
pub(crate) fn shown(devices: &[Device]) -> Vec<Device> {
    let mut ordinals = 0..;
    let count = |device: &Device| match device {
        Device::Cpu => Device::Cpu,
        Device::Cuda(_) => Device::Cuda(ordinals.next().unwrap_or_default()),
    };
    devices.iter().map(count).collect()
}

/// Returns why a host has no GPU for an ordinal.
fn missing(host: HostGpus<'_>, visible: &VisibleDevices, variable: Option<&str>) -> MissingGpu {
    match (host.no_gpu_reason, &visible.cut, variable) {
        (Some(reason), _, _) => MissingGpu::NoGpu(reason.to_owned()),
        (None, Some(cut), Some(variable)) => MissingGpu::Hidden {
            variable: variable.to_owned(),
            shown: visible.slots.len(),
            cut: cut.clone(),
        },
        _ => {
            let is_inaccessible = |gpu: &&UnreadableGpu| gpu.ordinal.is_none();
            let inaccessible: Vec<String> =
                host.unreadable.iter().filter(is_inaccessible).map(ToString::to_string).collect();
            let accessible = visible.slots.len();
            if inaccessible.is_empty() {
                MissingGpu::TooFew(accessible)
            } else {
                MissingGpu::NoAccess { accessible, errors: inaccessible.join("; ") }
            }
        }
    }
}

/// Returns the GPU of a slot.
///
/// # Errors
/// The GPU cannot be read, is in MIG mode, or is a MIG slice: its memory cannot be measured.
fn complete_gpu<'a>(slot: &'a Slot, device: Device, model: &str) -> Result<&'a Gpu, GpuError> {
    let model = model.to_owned();
    match slot {
        Slot::Gpu(gpu) if !gpu.mig => Ok(gpu),
        Slot::Gpu(gpu) => Err(GpuError::MigMode { model, device, gpu: Box::new(gpu.clone()) }),
        Slot::Unreadable(gpu) => {
            Err(GpuError::Unreadable { model, device, gpu: Box::new(gpu.clone()) })
        }
        Slot::Slice(name) => Err(GpuError::MigSlice { model, device, slice: name.clone() }),
    }
}

/// Checks that the worker was built for these devices and not for a newer driver.
pub(crate) fn check_worker(
    engine: &Engine,
    program: &Path,
    assigned: &[Assigned],
) -> Result<(), GpuError> {
    let program = program.to_owned();
    let Engine { name, compute_capability, cuda, .. } = engine;
    if compute_capability.is_none() && cuda.is_none() && !assigned.is_empty() {
        return Err(GpuError::WithoutCuda { program, engine: name.clone() });
    }
    for Assigned { device, gpu } in assigned {
        if let Some(built) = compute_capability
            && *built != gpu.compute_capability
        {
            return Err(GpuError::ComputeCapability {
                program,
                built: built.clone(),
                device: *device,
                gpu: Box::new(gpu.clone()),
            });
        }
        if let Some(built) = cuda
            && version(built) > version(&gpu.cuda)
        {
            return Err(GpuError::CudaVersion {
                program,
                built: built.clone(),
                gpu: Box::new(gpu.clone()),
            });
        }
    }
    Ok(())
}

/// Returns the major and minor number of a version, in a form that compares correctly.
fn version(text: &str) -> (u32, u32) {
    let mut numbers = text.split('.').map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::super::inventory::tests::{gpu, unreadable};
    use super::super::survey::VERSION_MISMATCH;
    use super::*;
    use crate::reportable::Reportable;
    use modelgate_protocol::{Failure, FailureKind, Stage};

    /// The GPUs of a host, and the reason if there are none.
    struct Host(Vec<Gpu>, Option<&'static str>);

    impl Host {
        fn gpus(&self) -> HostGpus<'_> {
            HostGpus { gpus: &self.0, unreadable: &[], no_gpu_reason: self.1 }
        }
    }

    fn host(gpus: Vec<Gpu>, no_gpu_reason: Option<&'static str>) -> Host {
        Host(gpus, no_gpu_reason)
    }

    fn two() -> Host {
        host(vec![gpu("GPU-a"), gpu("GPU-b")], None)
    }

    fn refusal(devices: &[Device], host: &Host, variable: Option<&str>) -> Failure {
        assign(devices, "m", host.gpus(), variable).expect_err("refused").to_failure()
    }

    #[test]
    fn gpus_have_the_order_of_the_request_without_the_cpu() {
        let devices = [Device::Cuda(1), Device::Cpu, Device::Cuda(0)];
        let assigned = assign(&devices, "m", two().gpus(), None).expect("both GPUs exist");
        let pairs: Vec<_> =
            assigned.iter().map(|assigned| (assigned.device, assigned.gpu.uuid.as_str())).collect();
        assert_eq!(pairs, [(Device::Cuda(1), "GPU-b"), (Device::Cuda(0), "GPU-a")]);
        let swapped = assign(&[Device::Cuda(0)], "m", two().gpus(), Some("1")).expect("GPU-b");
        assert_eq!(swapped[0].gpu.uuid, "GPU-b");
        let none = host(Vec::new(), Some("no NVIDIA driver"));
        assert_eq!(assign(&[Device::Cpu], "m", none.gpus(), None).expect("no GPU"), Vec::new());
    }

    #[test]
    fn a_missing_device_is_refused_with_its_cause() {
        let rows = [
            (host(Vec::new(), Some("no NVIDIA driver: NVML")), None, "no NVIDIA driver", "driver"),
            (
                host(Vec::new(), Some("the driver reports no GPU")),
                None,
                "reports no GPU",
                "container",
            ),
            (two(), None, "m needs GPU cuda:2, which is not available: the host has 2", "cuda:0"),
            (two(), Some(""), "CUDA_VISIBLE_DEVICES=\"\" shows 0 devices", "unset"),
            (two(), Some("0,-1"), "CUDA_VISIBLE_DEVICES=\"0,-1\" shows 1 device: \"-1\"", "unset"),
            (two(), Some("1"), "shows 1 device: it lists 1 of the 2 GPUs of the host", "unset"),
        ];
        for (host, variable, expected, hint) in rows {
            let failure = refusal(&[Device::Cuda(2)], &host, variable);
            assert_eq!(
                (failure.kind, failure.stage),
                (FailureKind::DeviceNotFound, Stage::Prepare)
            );
            assert!(failure.message.contains(expected), "expected {expected:?} in {failure}");
            assert!(failure.hint.contains(hint), "expected {hint:?} in {}", failure.hint);
        }
    }

    #[test]
    fn only_a_model_that_needs_an_unreadable_gpu_is_refused() {
        let gpus = [gpu("GPU-a"), gpu("GPU-b")];
        let mut unreadable = [unreadable(1, Some(1), None), unreadable(3, None, None)];
        let assign = |device, unreadable: &[UnreadableGpu]| {
            let host = HostGpus { gpus: &gpus, unreadable, no_gpu_reason: None };
            assign(&[device], "m", host, None).map_err(|error| error.to_failure())
        };
        for (ordinal, uuid) in [(0, "GPU-a"), (2, "GPU-b")] {
            let assigned = assign(Device::Cuda(ordinal), &unreadable).expect("readable");
            assert_eq!(assigned[0].gpu.uuid, uuid);
        }
        assert_eq!(assign(Device::Cpu, &unreadable).expect("no GPU"), Vec::new());
        let failure = assign(Device::Cuda(1), &unreadable).expect_err("unreadable");
        assert_eq!((failure.kind, failure.stage), (FailureKind::DeviceNotFound, Stage::Prepare));
        let expected = "m needs GPU cuda:1, which cannot be used: GPU 1: device fell off the bus";
        assert_eq!(failure.message, expected);
        assert!(failure.hint.contains("nvidia-smi -q -i 1"), "{}", failure.hint);
        let failure = assign(Device::Cuda(3), &unreadable).expect_err("no access");
        let expected = "the process has access to 3 GPUs; GPU 3: device fell off the bus";
        assert!(failure.message.ends_with(expected), "{failure}");
        assert!(failure.hint.contains("scheduler"), "{}", failure.hint);
        unreadable[0].mig = true;
        let failure = assign(Device::Cuda(1), &unreadable).expect_err("MIG mode");
        assert!(failure.hint.contains("nvidia-smi -i 1 -mig 0"), "{}", failure.hint);
    }

    #[test]
    fn a_driver_with_two_versions_has_its_own_hint() {
        let reason = format!("{VERSION_MISMATCH}: RM detects a mismatch");
        let host = HostGpus { gpus: &[], unreadable: &[], no_gpu_reason: Some(&reason) };
        let failure = assign(&[Device::Cuda(0)], "m", host, None).expect_err("no GPU").to_failure();
        assert!(failure.message.contains(VERSION_MISMATCH), "{failure}");
        assert!(failure.hint.starts_with("restart the host"), "{}", failure.hint);
    }

    #[test]
    fn mig_slices_are_refused_by_name() {
        let failure = refusal(&[Device::Cuda(0)], &two(), Some("MIG-5c1f"));
        assert!(failure.message.contains("sets to MIG-5c1f, a MIG slice"), "{failure}");
        assert!(failure.hint.contains("a complete GPU"), "{}", failure.hint);
        let cut = host(vec![Gpu { mig: true, ..gpu("GPU-a") }, gpu("GPU-b")], None);
        let failure = refusal(&[Device::Cuda(0)], &cut, None);
        assert!(failure.message.contains("NVIDIA H100 (GPU-a) in MIG mode"), "{failure}");
        assert!(failure.hint.contains("nvidia-smi -mig 0"), "{}", failure.hint);
        assert!(
            assign(&[Device::Cuda(1)], "m", cut.gpus(), None).is_ok(),
            "only a requested GPU is refused"
        );
    }

    #[test]
    fn usable_gpus_are_visible_and_complete() {
        let mig = || Gpu { mig: true, ..gpu("GPU-c") };
        let mixed = host(vec![mig(), gpu("GPU-a"), gpu("GPU-b")], None);
        let names = |host: &Host, variable| {
            usable(host.gpus(), variable).map(|gpus| {
                let name = |usable: &Assigned| format!("{} {}", usable.device, usable.gpu.uuid);
                gpus.iter().map(name).collect::<Vec<String>>().join(", ")
            })
        };
        let none = host(Vec::new(), Some("no NVIDIA driver: NVML"));
        let rows = [
            (&mixed, None, Ok("cuda:1 GPU-a, cuda:2 GPU-b")),
            (&mixed, Some("2,1"), Ok("cuda:0 GPU-b, cuda:1 GPU-a")),
            (
                &mixed,
                Some("0"),
                Err("each visible GPU is a MIG slice, in MIG mode or cannot be read"),
            ),
            (
                &mixed,
                Some("MIG-5c1f"),
                Err("each visible GPU is a MIG slice, in MIG mode or cannot be read"),
            ),
            (
                &mixed,
                Some(""),
                Err("CUDA_VISIBLE_DEVICES=\"\" shows 0 devices: an empty entry shows no GPU"),
            ),
            (&none, None, Err("no NVIDIA driver: NVML")),
        ];
        for (host, variable, expected) in rows {
            let expected = expected.map(str::to_owned).map_err(str::to_owned);
            assert_eq!(names(host, variable), expected, "{variable:?}");
        }
    }

    fn engine(compute_capability: Option<&str>, cuda: Option<&str>) -> Engine {
        Engine {
            name: "e".into(),
            version: "1".into(),
            build: "release".into(),
            compute_capability: compute_capability.map(str::to_owned),
            cuda: cuda.map(str::to_owned),
        }
    }

    #[test]
    fn a_worker_for_another_gpu_or_driver_is_refused() {
        let one = [Assigned { device: Device::Cuda(0), gpu: gpu("GPU-a") }];
        let program = Path::new("/w");
        for (capability, cuda) in [("9.0", "13.0"), ("9.0", "12.8")] {
            check_worker(&engine(Some(capability), Some(cuda)), program, &one)
                .expect("a suitable worker");
        }
        check_worker(&engine(None, Some("13.0")), program, &one).expect("kernels for any GPU");
        check_worker(&engine(None, None), program, &[]).expect("no GPU is requested");
        let rows = [
            (engine(None, None), "/w (engine e) was built without CUDA", "--features cuda"),
            (
                engine(Some("8.0"), Some("13.0")),
                "built for compute capability 8.0, and cuda:0 (NVIDIA H100, GPU-a) has 9.0",
                "CUDA_COMPUTE_CAP=90",
            ),
            (
                engine(Some("9.0"), Some("13.1")),
                "built with CUDA 13.1, and the driver 580.1 of this host supports CUDA up to 13.0",
                "a newer driver",
            ),
            (engine(Some("9.0"), Some("14.0")), "built with CUDA 14.0", "13.0 or older"),
        ];
        for (engine, expected, hint) in rows {
            let failure = check_worker(&engine, program, &one).expect_err("refused").to_failure();
            assert_eq!(failure.kind, FailureKind::DeviceMismatch);
            assert!(failure.message.contains(expected), "expected {expected:?} in {failure}");
            assert!(failure.hint.contains(hint), "expected {hint:?} in {}", failure.hint);
        }
    }
}
