//! The devices of a model: those that the manifest names, otherwise the device that suits its size,
//! as soon as the size is known.

use crate::acquire::ReadyModel;
use crate::admission::{
    ChosenDevice, DeviceNeed, DeviceOffer, OfferedGpu, Refusal, TokenBytes, choose_device,
    device_need, largest, named_device,
};
use crate::host::Host;
use crate::measurement::Headers;
use crate::nvidia::{self, Assigned};
use crate::plan::ModelJob;
use crate::reportable::{BoxedReportable, Reportable};
use crate::settings::Settings;
use modelgate_model::{Config, role};
use modelgate_protocol::{Device, FailureKind, Role, Stage};
use std::error::Error;
use std::fmt;

/// The devices of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Placement {
    /// The devices.
    pub(super) devices: Vec<Device>,
    /// Why they were chosen. `None` if the manifest names them.
    pub(super) reason: Option<String>,
}

/// The host and the settings that decide placements.
#[derive(Clone, Copy)]
pub(super) struct Placing<'a> {
    /// The settings of the run.
    pub(super) settings: &'a Settings,
    /// The host of the run.
    pub(super) host: &'a Host,
}

impl Placing<'_> {
    /// Returns the placement of a model whose files are not opened yet. `None` if it depends on
    /// them.
    ///
    /// # Errors
    /// No device is suitable.
    pub(super) fn before_files(&self, job: &ModelJob) -> Result<Option<Placement>, Refusal> {
        if let Some(devices) = job.named_devices() {
            return Ok(Some(Placement { devices: devices.to_vec(), reason: None }));
        }
        match job.known_config() {
            Some(config) => self.of_config(job, config).map(Some),
            None => Ok(named_device(&self.offer()).map(Placement::of)),
        }
    }

    /// Returns the placement of a model with this config.
    ///
    /// # Errors
    /// No device is suitable.
    pub(super) fn of_config(&self, job: &ModelJob, config: Config) -> Result<Placement, Refusal> {
        self.of_need(need_of_config(job, config))
    }

    /// Returns the placement of a model with these GGUF files.
    ///
    /// # Errors
    /// No device is suitable.
    pub(super) fn of_files(
        &self,
        job: &ModelJob,
        ready: &ReadyModel,
    ) -> Result<Placement, Refusal> {
        self.of_need(need_of_files(ready, expects_vram(job)))
    }

    /// Returns the GPU on which a worker may have to run a model. `None` for a model on the CPU, and
    /// for a model without a suitable device.
    pub(super) fn expected_gpu(&self, job: &ModelJob) -> Option<Assigned> {
        let device = match self.before_files(job).ok()? {
            Some(placement) => *placement.devices.first()?,
            None => largest(self.offer().gpus.as_deref().ok()?)?.device,
        };
        let visible = self.settings.visible_devices.as_deref();
        let assigned = nvidia::assign(&[device], &job.spec.id, self.host.gpus(), visible);
        assigned.ok()?.into_iter().next()
    }

    fn of_need(&self, need: DeviceNeed) -> Result<Placement, Refusal> {
        choose_device(&self.offer(), need).map(Placement::of)
    }

    fn offer(&self) -> DeviceOffer {
        let visible = self.settings.visible_devices.as_deref();
        let offered = |Assigned { device, gpu }: Assigned| OfferedGpu {
            device,
            name: gpu.name,
            total: gpu.vram_bytes,
        };
        DeviceOffer {
            variable: self.settings.device,
            gpus: nvidia::usable(self.host.gpus(), visible)
                .map(|gpus| gpus.into_iter().map(offered).collect()),
            limit: self.settings.vram_limit,
            host_bytes_per_s: self.host.memory_bytes_per_s,
        }
    }
}

impl Placement {
    fn of(chosen: ChosenDevice) -> Placement {
        Placement { devices: vec![chosen.device], reason: Some(chosen.reason) }
    }
}

/// An error of the worker for a GPU that was chosen because of the size of a model. The manifest does
/// not require this GPU, so that the hint also names the CPU.
#[derive(Debug)]
pub(super) struct ChosenGpuError(pub(super) BoxedReportable);

impl fmt::Display for ChosenGpuError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Error for ChosenGpuError {}

impl Reportable for ChosenGpuError {
    fn stage(&self) -> Stage {
        self.0.stage()
    }

    fn kind(&self) -> FailureKind {
        self.0.kind()
    }

    fn hint(&self) -> String {
        format!("{}; or set `device = \"cpu\"` to load the model on the CPU", self.0.hint())
    }
}

fn expects_vram(job: &ModelJob) -> bool {
    job.spec.expect.memory.vram.is_some()
}

fn need_of_config(job: &ModelJob, config: Config) -> DeviceNeed {
    device_need(&job.load_spec(config, &[], None), expects_vram(job))
}

/// Returns the need of a model from the headers of its files. Blocks of GGUF files are not converted,
/// so that they have the same size on a GPU; the KV cache is not known. If the headers are
/// unreadable, each token reads all bytes of the files.
fn need_of_files(ready: &ReadyModel, expects_vram: bool) -> DeviceNeed {
    let device_bytes =
        ready.acquired.files.iter().map(|file| file.bytes).fold(0, u64::saturating_add);
    let Some(Headers::Read { tensors, .. }) = &ready.acquired.headers else {
        return DeviceNeed { device_bytes, token_bytes: device_bytes, expects_vram };
    };
    let is_tied = !tensors.iter().any(|tensor| role(&tensor.name, &tensor.shape) == Role::Output);
    let mut token_bytes = TokenBytes::new(ready.experts, is_tied);
    for tensor in tensors {
        let elements =
            tensor.shape.iter().fold(1, |product: u64, size| product.saturating_mul(*size));
        let bytes = tensor.dtype.bytes(elements).unwrap_or(0);
        token_bytes.add(role(&tensor.name, &tensor.shape), bytes);
    }
    DeviceNeed { device_bytes, token_bytes: token_bytes.sum, expects_vram }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Manifest;
    use crate::measurement::{Acquired, HeaderTensor};
    use crate::nvidia::Gpu;
    use crate::settings::Environment;
    use modelgate_hub::local_files;
    use modelgate_model::layout;
    use modelgate_protocol::DType;
    use modelgate_testkit::workers::fixture;

    /// Returns a model with these tensors (name, shape, type) in a file of the test data.
    fn ready(tensors: &[(&str, &[u64], DType)], experts: Option<(u64, u64)>) -> ReadyModel {
        let path = fixture("golden/llama_cpp/tiny-llama-q4_k_m.gguf");
        let files = layout::files(&path).expect("a model");
        let tensors = tensors.iter().map(|(name, shape, dtype)| HeaderTensor {
            name: (*name).to_owned(),
            file: "m.gguf".to_owned(),
            shape: shape.to_vec(),
            dtype: dtype.clone(),
        });
        let headers = Headers::Read { tensors: tensors.collect(), file_type: None };
        let files_of_report = local_files(&files).expect("files");
        let acquired =
            Acquired { headers: Some(headers), files: files_of_report, ..Acquired::default() };
        ReadyModel { files, acquired, experts }
    }

    #[test]
    fn the_need_of_gguf_files_follows_from_their_headers() {
        let dense: &[(&str, &[u64], DType)] = &[
            ("token_embd.weight", &[512, 256], DType::Q8_0),
            ("blk.0.attn_q.weight", &[256, 256], DType::Q4K),
            ("output_norm.weight", &[256], DType::F32),
        ];
        let linear = 256 * 256 / 256 * 144 + 256 * 4;
        let embedding = 512 * 256 / 32 * 34;
        let need = need_of_files(&ready(dense, None), false);
        assert_eq!(need.token_bytes, embedding + linear, "the embedding is also the output matrix");
        let bytes = std::fs::metadata(fixture("golden/llama_cpp/tiny-llama-q4_k_m.gguf"));
        assert_eq!(need.device_bytes, bytes.expect("a file").len());

        let mut untied = dense.to_vec();
        untied.push(("output.weight", &[512, 256], DType::Q8_0));
        let need = need_of_files(&ready(&untied, None), true);
        assert_eq!(need.token_bytes, embedding + linear, "of the embedding, only one row is read");
        assert!(need.expects_vram);

        untied.push(("blk.0.ffn_up_exps.weight", &[8, 256, 256], DType::Q8_0));
        let need = need_of_files(&ready(&untied, Some((2, 8))), false);
        let selected = 2 * 256 * 256 / 32 * 34;
        assert_eq!(need.token_bytes, embedding + linear + selected);
    }

    #[test]
    fn a_synthetic_variant_is_placed_on_the_device_of_its_model() {
        let text = "schema = 1\n[[model]]\nid = \"m\"\nquantization = \"q4_k\"\n\
                    repo = \"meta-llama/Llama-3.1-70B-Instruct\"\nsynthetic = true\n";
        let manifest = Manifest::parse(text, "test", None).expect("a manifest");
        let settings = Settings::resolve(&Environment::default()).expect("settings");
        let gpu = |gigabytes: u64| Gpu {
            name: "GPU".into(),
            uuid: format!("GPU-{gigabytes}"),
            bus_id: "0".into(),
            vram_bytes: gigabytes * 1_000_000_000,
            unified_memory: false,
            driver: "580.1".into(),
            cuda: "13.0".into(),
            compute_capability: "9.0".into(),
            mig: false,
        };
        // the memory of two GPUs, and the chosen device; the bandwidth allows 2.56 tokens/s
        for (gigabytes, device) in [([24, 80], Device::Cuda(1)), ([8, 24], Device::Cpu)] {
            let host = Host {
                gpus: gigabytes.map(gpu).to_vec(),
                no_gpu_reason: None,
                memory_bytes_per_s: Some(100_000_000_000),
                ..Host::inspect()
            };
            let placing = Placing { settings: &settings, host: &host };
            let placed = |index: usize| {
                let job = ModelJob::plan(&manifest.models[index], &manifest);
                let placement = placing.before_files(&job).expect("a device").expect("decided");
                let gpu = placing.expected_gpu(&job).map(|assigned| assigned.device);
                assert_eq!(gpu, Some(device).filter(|device| device.is_cuda()));
                placement
            };
            assert_eq!(placed(0), placed(1));
            assert_eq!(placed(0).devices, [device]);
        }
    }

    #[test]
    fn every_token_reads_all_bytes_of_files_with_unreadable_headers() {
        let mut ready = ready(&[], None);
        ready.acquired.headers = Some(Headers::Unreadable { message: "damaged".to_owned() });
        let need = need_of_files(&ready, false);
        assert_eq!(need.token_bytes, need.device_bytes);
        assert!(need.device_bytes > 0);
    }
}
