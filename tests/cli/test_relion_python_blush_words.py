"""The words that RELION and its users put on the line."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

import pytest

from blush_onnx import InputError
from blush_onnx.cli.relion.job_options import job_request
from blush_onnx.cli.relion.python_blush import relion_python_blush
from tests.cli.relion_calls import accepted, call_as_relion, log_of
from tests.hosts.test_relion import made_up_job

pytest.importorskip("gemmi", reason="gemmi reads the STAR files")

ANY_CARD = ["", "--gpu", "--gpu ", '--gpu ""', "--gpu -1", "--gpu=-1", "-g -1", "--gpu , "]
LISTS = {
    "--gpu 0": [0], "-g 0": [0], "--gpu=0": [0], "--gpu 0,1, ": [0, 1], "--gpu 0:1": [0, 1],
    "--gpu 1,1,0": [1, 0],
    # RELION adds its own words behind those of the user.
    "--gpu 1 --gpu -1 ": [1], "--gpu 1 --gpu 0, ": [0],
}  # fmt: skip


@pytest.mark.parametrize(("words", "cards"), [*((w, None) for w in ANY_CARD), *LISTS.items()])
def test_all_forms_of_gpu_are_understood(words: str, cards: list[int] | None) -> None:
    for line in (f"run.star {words}", f"run.star {words} --debug", f"{words} -s 5 run.star"):
        context = relion_python_blush.make_context("relion_python_blush", shlex.split(line))
        assert context.params["star"] == ("run.star",)
        request = job_request(context.params).engine
        assert request.card_numbers() == cards


@pytest.mark.parametrize("words", ["--gpu=all", "--gpu 0,x", "--gpu 0-3", "--gpu 0,-1"])
def test_what_is_no_list_of_cards_is_an_error(words: str) -> None:
    context = relion_python_blush.make_context("relion_python_blush", ["a.star", *words.split()])
    with pytest.raises(InputError, match="give numbers of cards, such as 0,1, or -1 alone"):
        job_request(context.params)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("run.star --nope", "No such option"),
        ("run.star --stride many", "not a valid integer"),
        ('""  --gpu -1', "nothing to denoise"),
        ("run.star other.star", "one STAR file is expected, not 2"),
    ],
)
def test_wrong_usage_is_one_line_too(words: str, message: str, project: Path) -> None:
    done = call_as_relion(words, project)
    assert not accepted(done)
    assert message in done.stderr + done.stdout
    assert (done.stderr + done.stdout).count("Error") <= 1
    assert done.stderr.count("\n") <= 1


def test_without_a_card_any_card_is_the_cpu(project: Path) -> None:
    star = made_up_job(project)
    done = call_as_relion(f"{star.name} --gpu  ", project)
    assert accepted(done), done.stderr
    assert "WARNING running on the CPU: " in log_of(star)


def test_a_list_of_cards_without_an_engine_for_them_is_an_error(project: Path) -> None:
    star = made_up_job(project)
    done = call_as_relion(f"{star.name} --gpu 0,1, ", project)
    assert not accepted(done)
    assert done.returncode == 1
    assert 'RELION_BLUSH_ARGS="--provider cpu"' in done.stderr
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr
    assert "Traceback" in log_of(star)
    assert not star.with_suffix(".mrc").exists()


def test_words_of_the_user_come_before_those_of_relion(project: Path) -> None:
    star = made_up_job(project)
    assert accepted(call_as_relion(f"{star.name} --provider cpu --gpu 0,", project))
    done = call_as_relion(f"{star.name} --require-gpu --gpu -1 ", project)
    assert "--require-gpu, but " in done.stderr


def test_all_arguments_of_the_published_program_are_taken(project: Path, tiny_model: Path) -> None:
    star = made_up_job(project)
    words = (
        f"-m {tiny_model} -s 30 -b 2 --device_timeout 5 --debug --skip-spectral-trailing --gpu -1"
    )
    assert accepted(call_as_relion(f"{star.name} {words}", project))
    long = words.replace("-m ", "--model_name ").replace("-s ", "--strides ")
    long = long.replace("-b ", "--batch_size ")
    assert accepted(call_as_relion(f"{star.name} {long}", project))
    assert "no spectral trailing" in log_of(star)
    for name in ("unfiltered", "regularised"):
        assert star.with_name(f"{star.stem}_debug_{name}.mrc").exists()


def test_without_a_job_the_model_is_checked(project: Path) -> None:
    done = call_as_relion("", project)
    assert (done.returncode, done.stderr) == (0, "")
    assert "model tiny is in place" in done.stdout
    done = call_as_relion("-m v9", project)
    assert done.returncode == 1
    assert "unknown model 'v9'" in done.stderr


def test_a_path_with_blanks_comes_in_pieces_and_is_put_together(project: Path) -> None:
    star = made_up_job(project)
    folder = project / "my job"
    folder.mkdir()
    moved = Path(shutil.move(star, folder / star.name))
    done = call_as_relion(f"my job/{star.name} --gpu -1", project)
    assert accepted(done), done.stderr
    assert "done:" in log_of(moved)
    done = call_as_relion("my other.star --gpu -1", project)
    assert done.returncode == 2
    assert "one STAR file is expected, not 2" in done.stderr
