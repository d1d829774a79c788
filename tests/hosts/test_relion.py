from __future__ import annotations

import dataclasses
import gzip
import shutil
import tracemalloc
from pathlib import Path

import mrcfile
import numpy as np
import numpy.typing as npt
import pytest

from blush_onnx import Denoiser, InputError, conversion, transforms
from blush_onnx.checkpoint import read_checkpoint
from blush_onnx.hosts.relion import read_job, reconstruct, solve
from tests.python_without import run_python

pytest.importorskip("gemmi", reason="gemmi reads the STAR files")

JOBS_WITH_A_RESULT = [
    "r31_pad1_final", "r31_pad1_it001_h1", "r31_pad1_it014_h1", "r31_pad2_it002_h1",
    "r5_body_final_b2", "r5_body_it003_h1_b1", "r5_box96_it001_h1", "r5_class3d_it001_c1",
    "r5_class3d_it008_c1", "r5_helix_pad2_it002_h1", "r5_noisy_final", "r5_noisy_it003_h1",
    "r5_pad1_final", "r5_pad1_it010_h1", "r5_pad2_it007_h1",
]  # fmt: skip
BOX, CURRENT, PIXEL_SIZE = 32, 26, 3.5
FSC = np.clip(1.2 - np.arange(17) / 10, 0, 1)
TAU2 = np.where(np.arange(17) < 13, 1e-3 / (1 + np.arange(17)), 0)


def write_array(
    path: Path, values: npt.NDArray[np.number], dtype: npt.DTypeLike = np.float32
) -> None:
    with mrcfile.new(path, overwrite=True) as mrc:
        mrc.set_data(values.astype(dtype))


def star_text(root: str, **changes: object) -> str:
    fields: dict[str, object] = {
        "ExtReconsDataReal": f"{root}_data_real.mrc",
        "ExtReconsDataImag": f"{root}_data_imag.mrc",
        "ExtReconsWeight": f"{root}_weight.mrc",
        "ExtReconsResult": f"{root}.mrc",
        "ExtReconsResultStarfile": f"{root}_out.star",
        "Tau2FudgeFactor": 1.5,
        "PaddingFactor": 1,
        "ReferenceDimensionality": 3,
        "OriginalImageSize": BOX,
        "CurrentImageSize": CURRENT,
        "PixelSize": PIXEL_SIZE,
        "ParticleDiameter": 90,
    }
    spectra = {"tau2": TAU2, "fsc": FSC}
    for name in spectra:
        spectra[name] = np.asarray(changes.pop(name, spectra[name]))
    fields |= changes
    lines = ["# version 50001", "", "data_external_reconstruct_general", ""]
    lines += [f"_rln{name}  {value}" for name, value in fields.items() if value is not None]
    lines += ["", "data_external_reconstruct_tau2", "", "loop_", "_rlnSpectralIndex #1",
              "_rlnReferenceTau2 #2", "_rlnGoldStandardFsc #3"]
    rows = zip(spectra["tau2"], spectra["fsc"], strict=True)
    lines += [f"{i} {tau2:.6e} {fsc:.6f}" for i, (tau2, fsc) in enumerate(rows)]
    return "\n".join(lines) + "\n"


def made_up_job(folder: Path, tag: str = "_half1", padding: float = 1, **changes: object) -> Path:
    """A job with random sums, weights that fall with the frequency, zeros beyond the sphere."""
    root = f"run_it003{tag}_class001_external_reconstruct"
    folder.mkdir(parents=True, exist_ok=True)
    side = round(BOX * padding)
    rng = np.random.default_rng(5)
    sums = np.fft.rfftn(rng.standard_normal((side,) * 3)) / BOX**2
    k = np.fft.fftfreq(side, 1 / side)
    r = np.sqrt(k[:, None, None] ** 2 + k[:, None] ** 2 + np.arange(side // 2 + 1.0) ** 2)
    inside = r <= CURRENT * padding / 2  # RELION fills the sphere with its border
    weight = np.where(inside, rng.uniform(0.5, 1.5, r.shape) * 3e3 / (1 + r), 0)
    write_array(folder / f"{root}_data_real.mrc", np.where(inside, sums.real * weight, 0))
    write_array(folder / f"{root}_data_imag.mrc", np.where(inside, sums.imag * weight, 0))
    write_array(folder / f"{root}_weight.mrc", weight)
    star = folder / f"{root}.star"
    star.write_text(star_text(root, PaddingFactor=padding, **changes), encoding="utf-8")
    return star


def by_definition(star: Path, folder: Path) -> dict[str, npt.NDArray[np.float64]]:
    """Both reconstructions over the whole padded array, in double precision."""
    job = read_job(star, folder=folder)
    arrays = [mrcfile.read(p).astype(float) for p in (job.data_real, job.data_imag, job.weight)]
    data, weight = arrays[0] + 1j * arrays[1], arrays[2]
    side = len(weight)
    k = np.fft.fftfreq(side, 1 / side)
    r = np.sqrt(k[:, None, None] ** 2 + k[:, None] ** 2 + np.arange(side // 2 + 1.0) ** 2)
    shell = r.astype(int)
    margin = np.bincount(shell.ravel(), weight.ravel()) / np.bincount(shell.ravel()) * 0.001
    prior = 1 / (job.tau2 * job.tau2_fudge * job.padding**3 + 1e-20)
    if not job.tau2.any():
        denominator = margin[shell]
    else:
        denominator = np.interp(r, np.arange(len(prior)) * job.padding, prior)
    data = np.where(r < job.current_size * job.padding / 2, data, 0) * BOX**2
    found = {}
    for name, added in (("unfiltered", margin[shell]), ("regularised", denominator)):
        volume = np.fft.ifftshift(np.fft.irfftn(data / (weight + added + 1e-30)))
        start = side // 2 - BOX // 2
        volume = volume[(slice(start, start + BOX),) * 3]
        x = np.arange(BOX) - BOX // 2
        distance = np.sqrt(x[:, None, None] ** 2 + x[:, None] ** 2 + x**2)
        found[name] = volume / np.sinc(distance / (BOX * job.padding)) ** 2
    return found


def distance(ours: npt.NDArray[np.floating], reference: npt.NDArray[np.floating]) -> float:
    return float(np.linalg.norm(ours - reference) / np.linalg.norm(reference))


@pytest.mark.parametrize(
    ("padding", "current"), [(1, CURRENT), (1.5, CURRENT), (2, CURRENT), (1, 25), (2, 25), (2, BOX)]
)
@pytest.mark.parametrize("spectra", [{}, {"tau2": np.zeros(17)}])
def test_pruned_reconstructions_are_those_of_the_whole_array(
    padding: float, current: int, spectra: dict[str, object], tmp_path: Path
) -> None:
    star = made_up_job(tmp_path, padding=padding, CurrentImageSize=current, **spectra)
    expected = by_definition(star, tmp_path)
    maps = reconstruct(read_job(star, folder=tmp_path))
    assert maps.unfiltered is not None
    # Single precision: rounding is 1e-7, summed over some 1e4 elements.
    assert distance(maps.unfiltered, expected["unfiltered"]) < 2e-6
    assert distance(maps.regularised, expected["regularised"]) < 2e-6
    assert bool(maps.notes) == bool(spectra)


def test_a_classification_has_no_unfiltered_map(tmp_path: Path) -> None:
    star = made_up_job(tmp_path, "", padding=2, fsc=0 * FSC)
    maps = reconstruct(read_job(star, folder=tmp_path))
    assert maps.unfiltered is None
    assert distance(maps.regularised, by_definition(star, tmp_path)["regularised"]) < 2e-6


def test_threads_do_not_change_a_reconstruction(tmp_path: Path) -> None:
    job = read_job(made_up_job(tmp_path, padding=2), folder=tmp_path)
    one, three = reconstruct(job, threads=1), reconstruct(job, threads=3)
    np.testing.assert_array_equal(one.unfiltered, three.unfiltered)
    np.testing.assert_array_equal(one.regularised, three.regularised)


def test_scipys_transforms_change_a_reconstruction_by_rounding_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("scipy")
    job = read_job(made_up_job(tmp_path, padding=2), folder=tmp_path)
    before = reconstruct(job).regularised
    monkeypatch.setattr(transforms, "SCIPY_FROM", 2)
    assert distance(reconstruct(job).regularised, before) < 1e-6


def test_a_reconstruction_takes_less_than_twice_the_cube_of_weights(tmp_path: Path) -> None:
    box, root = 128, "run_it003_half1_class001_external_reconstruct"
    shells = np.ones(box // 2 + 1)
    changes = {"OriginalImageSize": box, "CurrentImageSize": box, "PaddingFactor": 2}
    star = tmp_path / f"{root}.star"
    star.write_text(star_text(root, tau2=shells, fsc=shells, **changes), encoding="utf-8")
    for part in ("data_real", "data_imag", "weight"):
        write_array(tmp_path / f"{root}_{part}.mrc", np.ones((2 * box, 2 * box, box + 1)))
    job = read_job(star, folder=tmp_path)
    tracemalloc.start()
    try:
        maps = reconstruct(job, threads=2)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    cube = (2 * box - 1) ** 2 * box * 4
    # Half a cube of complex numbers, two maps of a quarter each, and some planes a thread.
    assert maps.unfiltered is not None
    assert peak < 1.7 * cube


def test_arrays_of_another_byte_order_or_type_are_read(tmp_path: Path) -> None:
    job = read_job(made_up_job(tmp_path), folder=tmp_path)
    before = reconstruct(job)
    write_array(job.data_real, mrcfile.read(job.data_real), ">f4")
    np.testing.assert_array_equal(reconstruct(job).regularised, before.regularised)
    write_array(job.weight, np.ones_like(mrcfile.read(job.weight)))
    before = reconstruct(job)
    write_array(job.weight, mrcfile.read(job.weight), np.int16)
    np.testing.assert_array_equal(reconstruct(job).regularised, before.regularised)


@pytest.mark.parametrize(
    ("folder", "tag", "fsc", "mode"),
    [
        ("job", "_half1", FSC, "refine"),
        ("job", "_half2", 0 * FSC, "refine"),
        ("job", "", FSC, "refine_final"),
        ("job", "", 0 * FSC, "classification"),
        ("half1_test", "", 0 * FSC, "classification"),
    ],
)
def test_the_mode_comes_from_the_files_name_and_its_fsc(
    folder: str, tag: str, fsc: npt.NDArray[np.float64], mode: str, tmp_path: Path
) -> None:
    star = made_up_job(tmp_path / folder, tag, fsc=fsc)
    assert read_job(star, folder=tmp_path / folder).mode == mode


def test_a_half_gets_its_reference_and_a_final_job_its_own_map(
    tiny_denoiser: Denoiser, tmp_path: Path
) -> None:
    half = read_job(made_up_job(tmp_path / "half"), folder=tmp_path / "half")
    solution = solve(half, reconstruct(half), tiny_denoiser)
    assert solution.result.shape == (BOX,) * 3
    assert solution.denoised is None
    final = read_job(made_up_job(tmp_path / "final", ""), folder=tmp_path / "final")
    solution = solve(final, reconstruct(final), tiny_denoiser)
    np.testing.assert_array_equal(solution.result, reconstruct(final).regularised)
    assert solution.denoised is not None


def test_a_half_without_fsc_is_cut_off_below_the_current_size(
    tiny_denoiser: Denoiser, tmp_path: Path
) -> None:
    job = read_job(made_up_job(tmp_path, fsc=0 * FSC), folder=tmp_path)
    solution = solve(job, reconstruct(job), tiny_denoiser)
    assert solution.regularised.cut_off == CURRENT // 2 - 2
    assert any("FSC is zero" in note for note in solution.notes)


def test_old_jobs_take_pixel_size_and_diameter_from_the_caller(tmp_path: Path) -> None:
    star = made_up_job(tmp_path, PixelSize=None, ParticleDiameter=None)
    with pytest.raises(InputError, match="lacks rlnPixelSize; RELION 3.1"):
        read_job(star, folder=tmp_path)
    job = read_job(star, folder=tmp_path, pixel_size=3.0, particle_diameter=100.0)
    assert (job.pixel_size, job.particle_diameter) == (3.0, 100.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ReferenceDimensionality": 2}, "2-D references"),
        ({"PixelSize": 0}, "rlnPixelSize is 0"),
        ({"PixelSize": "nan"}, "rlnPixelSize is nan"),
        ({"OriginalImageSize": 30}, "17 values, expected 16"),
        ({"ExtReconsWeight": None}, "lacks rlnExtReconsWeight"),
    ],
)
def test_jobs_that_cannot_be_done_are_refused(
    change: dict[str, object], message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        read_job(made_up_job(tmp_path, **change), folder=tmp_path)


def test_files_that_are_no_jobs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read_job(tmp_path / "none.star")
    (tmp_path / "other.star").write_text("data_other\n\n_rlnX 1\n")
    with pytest.raises(InputError, match="not a reconstruction job"):
        read_job(tmp_path / "other.star")
    (tmp_path / "text.star").write_text("no star")
    with pytest.raises(InputError, match="not a readable STAR file"):
        read_job(tmp_path / "text.star")


def test_without_gemmi_the_error_names_the_extra(tmp_path: Path) -> None:
    star = made_up_job(tmp_path)
    code = (
        "import sys\nfrom blush_onnx import BlushError\n"
        "from blush_onnx.hosts.relion import read_job\n"
        "try:\n    read_job(sys.argv[1])\nexcept BlushError as error:\n    print(error)"
    )
    done = run_python(code, without=["gemmi"], arguments=[str(star)])
    assert "pip install 'blush-onnx[relion]'" in done.stdout, done.stderr
    # Whoever sets RELION up is told at once, not in the first iteration.
    code = "from blush_onnx.cli.relion.python_blush import main\nmain([])"
    done = run_python(code, without=["gemmi"])
    assert done.returncode == 1
    assert "pip install 'blush-onnx[relion]'" in done.stderr


@pytest.mark.filterwarnings("ignore:Data array contains", "ignore:invalid value")
def test_arrays_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    job = read_job(made_up_job(tmp_path), folder=tmp_path)
    weight = mrcfile.read(job.weight)
    for values, message in (
        (weight[:-1], "the job asks for"),
        (np.where(weight == weight.max(), np.nan, weight), "NaN or infinite"),
        (np.where(weight == weight.max(), np.inf, weight), "NaN or infinite"),
        (np.where(weight == weight.max(), -1, weight), "below zero"),
        (weight * 1j, "complex64 values"),
    ):
        write_array(job.weight, values, np.complex64 if np.iscomplexobj(values) else np.float32)
        with pytest.raises(InputError, match=message):
            reconstruct(job)
    write_array(job.weight, weight)
    write_array(job.data_imag, np.where(weight == weight.max(), np.nan, 0))
    with pytest.raises(InputError, match=r"imag.mrc has values that are NaN"):
        reconstruct(job)
    with pytest.raises(InputError, match="larger than the box"):
        reconstruct(dataclasses.replace(job, current_size=BOX + 2))
    job.weight.write_bytes(b"no map")
    with pytest.raises(InputError, match="not a readable MRC"):
        reconstruct(job)
    job.weight.unlink()
    with pytest.raises(InputError, match="does not exist"):
        reconstruct(job)


@pytest.fixture(scope="module")
def starter(external_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Denoiser:
    """The network that the results were made with."""
    checkpoint = read_checkpoint(external_data / "models" / "starter.ckpt")
    folder = tmp_path_factory.mktemp("starter")
    conversion.write_model_folder(folder, *conversion.build_model(checkpoint, "starter"))
    return Denoiser.load(folder, provider="openvino")


@pytest.mark.external_data
@pytest.mark.openvino
@pytest.mark.slow
@pytest.mark.parametrize("name", JOBS_WITH_A_RESULT)
def test_jobs_that_relion_wrote_get_the_published_maps(
    name: str, external_data: Path, tmp_path: Path, starter: Denoiser
) -> None:
    for path in (external_data / "relion" / "jobs" / name).iterdir():
        if path.suffix == ".gz":
            (tmp_path / path.stem).write_bytes(gzip.decompress(path.read_bytes()))
        else:
            shutil.copy(path, tmp_path)
    given = {"pixel_size": 3.0, "particle_diameter": 170.0} if name.startswith("r31") else {}
    job = read_job(next(tmp_path.glob("*.star")), folder=tmp_path, **given)
    maps = reconstruct(job)
    solution = solve(job, maps, starter)
    result = mrcfile.read(tmp_path / "result.mrc")
    source = maps.regularised if maps.unfiltered is None else maps.unfiltered
    if solution.denoised is None:
        error = np.linalg.norm(solution.result - result) / np.linalg.norm(result - source)
        assert error < 1e-3
    else:
        assert distance(solution.result, result) < 1e-5
        denoised = mrcfile.read(tmp_path / "denoised.mrc")
        error = np.linalg.norm(solution.denoised - denoised)
        assert error / np.linalg.norm(denoised - source) < 1e-3
