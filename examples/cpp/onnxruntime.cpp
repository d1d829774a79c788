// The network on ONNX Runtime's C++ API.
#include <algorithm>
#include <array>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <vector>

#include <onnxruntime_cxx_api.h>

#include "model.hpp"

namespace blush {

namespace {

Ort::Value tensor(const Volume &volume) {
    const std::array<std::int64_t, 4> shape{1, volume.shape[0], volume.shape[1], volume.shape[2]};
    const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
    auto *values = const_cast<float *>(volume.values.data());  // inputs are only read
    return Ort::Value::CreateTensor<float>(memory, values, volume.values.size(), shape.data(),
                                           shape.size());
}

}  // namespace

Model load_model(const std::string &path, int threads) {
    Ort::SessionOptions options;
    if (threads > 0) options.SetIntraOpNumThreads(threads);
    auto environment = std::make_shared<Ort::Env>(ORT_LOGGING_LEVEL_WARNING, "blush");
    auto session = std::make_shared<Ort::Session>(*environment,
                                                  std::filesystem::path(path).c_str(), options);
    const Ort::ModelMetadata metadata = session->GetModelMetadata();
    Model model = describe([&metadata](const std::string &key) {
        Ort::AllocatorWithDefaultOptions allocator;
        const auto found = metadata.LookupCustomMetadataMapAllocated(key.c_str(), allocator);
        return found ? std::string(found.get()) : std::string();
    });

    model.network = [environment, session, has_mask = model.has_mask](
                        const Volume &grid, const Volume &local_std, Volume &density,
                        Volume &mask_logit) {
        const std::array<const char *, 2> inputs{"grid", "local_std"};
        const std::array<const char *, 2> outputs{"density", "mask_logit"};
        const std::array<Ort::Value, 2> given{tensor(grid), tensor(local_std)};
        const auto found = session->Run(Ort::RunOptions{nullptr}, inputs.data(), given.data(), 2,
                                        outputs.data(), has_mask ? 2 : 1);
        const auto take = [](const Ort::Value &from, Volume &to) {
            std::copy_n(from.GetTensorData<float>(), to.values.size(), to.values.begin());
        };
        take(found[0], density);
        if (has_mask) take(found[1], mask_logit);
    };
    return model;
}

}  // namespace blush
