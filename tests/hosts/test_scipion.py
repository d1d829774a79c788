"""The plugin for Scipion, loaded, listed and run by Scipion without its windows."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.hosts.environments import make_environment

PLUGIN = Path(__file__).parent.parent.parent / "examples" / "hosts" / "scipion-em-blush-onnx"
PACKAGES = ("scipion-pyworkflow==3.11.7", "scipion-em==3.11.1", "scipion-app==3.8.3")

TELL = """
import json
import pyworkflow as pw
from pyworkflow.gui.project.viewprotocols_extra import ProtocolTreeConfig
from scipion.install.funcs import Environment
from scipion.install.plugin_funcs import PluginInfo, PluginRepository

domain = pw.Config.getDomain()
plugin = domain.getPlugins()["blushonnx"]
protocol = domain.getProtocols()["ProtBlushOnnxDenoise"]

def place_of(name, node):
    for child in node.childs:
        if child.value == name:
            return []
        found = place_of(name, child)
        if found is not None:
            return [str(child.text), *found]

trees = ProtocolTreeConfig.load(domain, plugin.__path__[0] + "/../no.conf")
environment = Environment(args=[])
plugin.Plugin.defineBinaries(environment)
(target,) = [t for t in environment._targetList if t.getName().startswith("blush")]
installed = PluginInfo(pipName="scipion-em-blush-onnx", remote=False).getPluginClass()
print(json.dumps({
    "installer": installed.getName(),
    "installb": [k for k, v in PluginRepository.getBinToPluginDict().items() if v == "blushonnx"],
    "label": protocol._label,
    "references": sorted(plugin._bibtex),
    "viewers": [v.__name__ for v in domain.getViewers().values() if protocol in v._targets],
    "place": place_of("ProtBlushOnnxDenoise", trees["Protocols SPA"]),
    "missing": plugin.Plugin.validateInstallation(),
    "commands": [str(c._cmd) for c in target._commandList],
    "makes": [path for c in target._commandList for path in c._targets],
    "program": plugin.Plugin.getProgram(),
}))
"""


class Scipion:
    """An installation with an empty home and this plugin."""

    def __init__(self, python: Path, home: Path) -> None:
        self.python = python
        self.home = home
        (home / "config").mkdir(parents=True)
        write = "from pyworkflow.protocol import HostConfig; HostConfig.writeBasic({!r})"
        done = self.run("-c", write.format(str(home / "config" / "hosts.conf")))
        assert done.returncode == 0, done.stderr

    def run(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run Python as Scipion's own start script would."""
        own = {
            "SCIPION_DOMAIN": "pwem", "SCIPION_HOME": str(self.home),
            "SCIPION_USER_DATA": str(self.home / "data"),
            "PATH": os.pathsep.join((str(self.python.parent), os.environ["PATH"])),
        }
        return subprocess.run(
            [str(self.python), *arguments], env={**os.environ, **own, **variables}, cwd=self.home,
            capture_output=True, text=True, timeout=300, check=False,
        )


@pytest.fixture(scope="session")
def scipion(tmp_path_factory: pytest.TempPathFactory) -> Scipion:
    python = make_environment("scipion", *PACKAGES, temporary=tmp_path_factory)
    subprocess.run(
        # Not editable: Scipion's installer does not find plugins in which hatchling is so.
        [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps",
         "--force-reinstall", PLUGIN],
        check=True,
    )
    return Scipion(python, tmp_path_factory.mktemp("scipion") / "home")


@pytest.fixture(scope="session")
def told(scipion: Scipion) -> dict[str, Any]:
    done = scipion.run("-c", TELL)
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


@pytest.mark.hosts
def test_scipion_finds_the_protocol_its_viewer_and_its_reference(told: dict[str, Any]) -> None:
    assert told["label"] == "blush denoise half-maps"
    assert told["viewers"] == ["ReportViewer"]
    assert told["references"] == ["Kimanius2024"]


@pytest.mark.hosts
def test_the_protocol_is_listed_among_those_after_refinement(told: dict[str, Any]) -> None:
    assert told["place"] == ["3D", "Postprocess"]


@pytest.mark.hosts
def test_the_program_is_installed_where_the_protocol_looks_for_it(told: dict[str, Any]) -> None:
    assert told["program"] in told["makes"]
    assert any("pip install 'blush-onnx[cpu,report]==" in command for command in told["commands"])
    assert "BLUSH_ONNX_PROGRAM" in " ".join(told["missing"])


@pytest.mark.hosts
def test_scipions_installer_knows_the_plugin_and_the_programs_name(told: dict[str, Any]) -> None:
    assert told["installer"] == "blushonnx"
    assert told["installb"] == ["blushonnx-0.1.0", "blushonnx"]


@pytest.mark.hosts
def test_the_plugins_own_tests_pass(scipion: Scipion, tiny_model: Path, tmp_path: Path) -> None:
    program = tmp_path / "a folder" / "blush-onnx"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m blush_onnx "$@"\n')
    program.chmod(0o755)
    done = scipion.run(
        "-m", "unittest", "blushonnx.tests.test_protocol_denoise",
        BLUSH_ONNX_PROGRAM=str(program), BLUSH_ONNX_TEST_MODEL=str(tiny_model),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Ran 3 tests" in done.stderr
