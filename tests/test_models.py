from __future__ import annotations

import json
import shutil
from pathlib import Path

import onnxruntime
import pytest

from blush_onnx import (
    Denoiser,
    InputError,
    ModelConfig,
    ModelError,
    OutputError,
    models,
    registry,
)
from blush_onnx.conversion import import_checkpoint
from tests.conftest import TINY_CHECKPOINT


def test_names_folders_and_files_all_lead_to_a_model(tiny_model: Path) -> None:
    import_checkpoint(TINY_CHECKPOINT, "mine")
    digests = {
        models.load_model(which).sha256
        for which in (tiny_model, str(tiny_model / "model.onnx"))
    }
    assert len(digests) == 1
    assert models.load_model("mine").config.name == "mine"


def test_a_bare_onnx_file_brings_its_own_description(tiny_model: Path, tmp_path: Path) -> None:
    path = shutil.copy(tiny_model / "model.onnx", tmp_path / "alone.onnx")
    model = models.load_model(path)
    assert (model.config.voxel_size, model.config.patch_size, model.config.has_mask) == (
        1.5, 64, True,
    )
    assert model.config.sha256 == model.sha256
    assert len(model.sha256) == 64


def test_the_default_is_the_environments_then_v1_0_then_the_bundled_model(
    monkeypatch: pytest.MonkeyPatch, tiny_model: Path
) -> None:
    assert models.load_model().config.name == models.bundled_default()
    import_checkpoint(TINY_CHECKPOINT, "v1.0")
    assert models.load_model().config.name == "v1.0"
    monkeypatch.setenv("BLUSH_ONNX_MODEL", str(tiny_model))
    assert models.load_model().config.name == "tiny"


def test_an_unknown_name_lists_the_known_ones() -> None:
    import_checkpoint(TINY_CHECKPOINT, "mine")
    with pytest.raises(ModelError, match=rf"'nothing'.*mine.*{models.bundled_default()}"):
        models.find_model("nothing")


def test_asking_for_v1_0_before_it_is_there_tells_how_to_get_it() -> None:
    with pytest.raises(ModelError, match=r"models fetch v1\.0"):
        models.find_model("v1.0")


def test_a_checkpoint_in_place_of_a_model_tells_how_to_import_it() -> None:
    with pytest.raises(ModelError, match="models import"):
        models.find_model(TINY_CHECKPOINT)


def test_a_shared_folder_is_found_and_ones_own_registry_goes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = import_checkpoint(TINY_CHECKPOINT, "common")
    shared = tmp_path / "site"
    shared.mkdir()
    shutil.move(str(folder), shared / "common")
    monkeypatch.setenv("BLUSH_ONNX_PATH", str(shared))
    assert models.find_model("common") == shared / "common"
    assert [m.origin for m in models.registered_models() if m.name == "common"] == ["shared"]
    with pytest.raises(ModelError, match="not yours to remove"):
        registry.remove("common")
    own = import_checkpoint(TINY_CHECKPOINT, "common")
    assert models.find_model("common") == own


def test_a_changed_file_is_refused_on_every_load(tiny_model: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_model, tmp_path / "changed")
    content = bytearray((folder / "model.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "model.onnx").write_bytes(content)
    with pytest.raises(ModelError, match="SHA-256"):
        Denoiser.load(folder)


def test_descriptions_that_make_no_sense_are_refused(tiny_model: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_model, tmp_path / "odd")
    description = json.loads((folder / "config.json").read_text())
    for change, message in (
        ({"schema_version": 99}, "schema version 99"),
        ({"voxel_size": -1}, "make no sense"),
        ({"patch_size": "large"}, "not a model description"),
        ({"patch_size": 64.5}, "not a model description"),
        ({"voxel_size": "1.5"}, "not a model description"),
        ({"sha256": 5}, "not a model description"),
        ({"sha256": None}, "lacks the checksum"),
    ):
        (folder / "config.json").write_text(json.dumps({**description, **change}))
        with pytest.raises(ModelError, match=message):
            models.load_model(folder)
    (folder / "config.json").write_text("[]")
    with pytest.raises(ModelError, match="not a model description"):
        models.load_model(folder)
    (folder / "config.json").write_bytes(b"\xff\xfe")
    with pytest.raises(ModelError, match="not valid JSON"):
        models.load_model(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(ModelError, match="not valid JSON"):
        models.load_model(folder)


def test_foreign_onnx_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("no graph")
    with pytest.raises(ModelError, match="not an ONNX model|metadata are missing"):
        models.load_model(tmp_path / "text.onnx")


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden", "a b", "x" * 65])
def test_names_that_could_not_be_a_folder_are_refused(name: str) -> None:
    with pytest.raises(InputError, match="cannot be a model's name"):
        registry.check_name(name)


def test_a_name_is_not_taken_twice_unless_asked() -> None:
    import_checkpoint(TINY_CHECKPOINT, "mine")
    with pytest.raises(InputError, match="registered already"):
        import_checkpoint(TINY_CHECKPOINT, "mine")
    import_checkpoint(TINY_CHECKPOINT, "mine", overwrite=True)
    assert [p.name for p in models.home().iterdir() if p.is_dir()] == ["mine"]


def test_removing_forgets_a_model() -> None:
    folder = import_checkpoint(TINY_CHECKPOINT, "mine")
    assert registry.remove("mine") == folder
    assert not folder.exists()
    with pytest.raises(ModelError, match="unknown model"):
        registry.remove("mine")


def test_a_registry_that_cannot_be_written_names_the_variable_that_moves_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("BLUSH_ONNX_HOME", str(tmp_path / "file" / "below"))
    with pytest.raises(OutputError, match="BLUSH_ONNX_HOME"):
        import_checkpoint(TINY_CHECKPOINT, "mine")


def test_the_description_in_the_graph_is_that_in_the_file(tiny_model: Path) -> None:
    session = onnxruntime.InferenceSession(
        (tiny_model / "model.onnx").read_bytes(), providers=["CPUExecutionProvider"]
    )
    inside = ModelConfig.from_graph(session.get_modelmeta().custom_metadata_map, "graph")
    outside = models.load_model(tiny_model).config
    assert inside.graph_metadata() == outside.graph_metadata()
