//! Tests of the manifests that come with the project: their models, devices and quantizations.

use modelgate_harness::embedded::bundled;
use modelgate_harness::manifest::{DeviceChoice, Manifest, Model, Source};
use modelgate_protocol::Device;
use modelgate_testkit::workers::fixture;

fn default_manifest() -> Manifest {
    Manifest::parse(bundled::MANIFEST, bundled::MANIFEST_NAME, None).expect("a valid manifest")
}

fn is_on(model: &Model, device: Device) -> bool {
    model.device == DeviceChoice::Listed(vec![device])
}

#[test]
fn the_default_manifest_has_tiny_models_on_the_cpu_and_primary_models_on_a_gpu() {
    let manifest = default_manifest();
    let (tiny, primary): (Vec<&Model>, Vec<&Model>) =
        manifest.models.iter().partition(|model| model.source.repo().is_none());
    assert!(tiny.iter().all(|model| is_on(model, Device::Cpu)));
    let ids = tiny.iter().map(|model| model.id.as_str());
    let expected =
        ["tiny-llama", "tiny-llama@q8_0", "tiny-llama@q4_k", "tiny-mixtral", "tiny-qwen2.5-omni"];
    assert_eq!(ids.collect::<Vec<_>>(), expected);
    assert!(primary.iter().all(|model| is_on(model, Device::Cuda(0))));
    let ids = ["llama-3.1-70b-instruct", "qwen2.5-omni-7b", "mixtral-8x22b-instruct-v0.1"];
    let expected: Vec<String> =
        ids.iter().flat_map(|id| [(*id).to_owned(), format!("{id}@synthetic")]).collect();
    assert_eq!(
        primary.iter().map(|model| &model.id).collect::<Vec<_>>(),
        expected.iter().collect::<Vec<_>>()
    );
}

#[test]
fn the_gpu_manifest_has_the_tiny_models_of_the_default_manifest() {
    let path = fixture("manifests/tiny-cuda.toml");
    let on_gpu = Manifest::open(&path).expect("a valid manifest");
    let on_cpu = default_manifest();
    let tiny = on_cpu.models.iter().filter(|model| model.source.repo().is_none());
    let tiny: Vec<&Model> = tiny.collect();
    assert_eq!(on_gpu.models.len(), tiny.len());
    for (model, expected) in on_gpu.models.iter().zip(tiny) {
        assert_eq!(model.id, expected.id);
        assert!(is_on(model, Device::Cuda(0)), "{}", model.id);
        assert_eq!(model.quantization, expected.quantization, "{}", model.id);
        assert_eq!(model.context, expected.context, "{}", model.id);
        assert_eq!(model.generations, expected.generations, "{}", model.id);
        assert_eq!(model.expect.perplexity.max, expected.expect.perplexity.max, "{}", model.id);
        assert_eq!(model.expect.load_time, expected.expect.load_time, "{}", model.id);
        let (Source::Local { path: file }, Source::Local { path: embedded }) =
            (&model.source, &expected.source)
        else {
            panic!("{}: not a local model", model.id);
        };
        let folder = path.parent().expect("a folder");
        let model_path = folder.join(file).canonicalize().expect("the model");
        assert_eq!(model_path, fixture("").join(embedded).canonicalize().expect("the model"));
    }
}
