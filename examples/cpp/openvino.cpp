// The network on OpenVINO's C++ API.
#include <algorithm>
#include <memory>

#include <openvino/openvino.hpp>

#include "model.hpp"

namespace blush {

Model load_model(const std::string &path, int threads) {
    ov::Core core;
    const std::shared_ptr<ov::Model> graph = core.read_model(path);
    // The metadata of an ONNX file come under this name.
    Model model = describe([&graph](const std::string &key) {
        const std::vector<std::string> place{"framework", key};
        return graph->has_rt_info(place) ? graph->get_rt_info<std::string>(place) : std::string();
    });

    const auto side = std::size_t(model.patch_size);
    const ov::PartialShape one_patch = ov::Shape{1, side, side, side};
    graph->reshape({{"grid", one_patch}, {"local_std", one_patch}});
    ov::AnyMap options{
        ov::hint::inference_precision(ov::element::f32),  // it would take bfloat16 by itself
        ov::num_streams(1),
    };
    if (threads > 0) options.insert(ov::inference_num_threads(threads));
    ov::CompiledModel compiled = core.compile_model(graph, "CPU", options);

    model.network = [request = compiled.create_infer_request(), has_mask = model.has_mask](
                        const Volume &grid, const Volume &local_std, Volume &density,
                        Volume &mask_logit) mutable {
        const auto give = [&request](const char *name, const Volume &volume) {
            std::copy(volume.values.begin(), volume.values.end(),
                      request.get_tensor(name).data<float>());
        };
        const auto take = [&request](const char *name, Volume &volume) {
            std::copy_n(request.get_tensor(name).data<float>(), volume.values.size(),
                        volume.values.begin());
        };
        give("grid", grid);
        give("local_std", local_std);
        request.infer();
        take("density", density);
        if (has_mask) take("mask_logit", mask_logit);
    };
    return model;
}

}  // namespace blush
