"""Analyse results: the report, in the web browser."""

import webbrowser
from pathlib import Path

from pyworkflow.viewer import DESKTOP_TKINTER, View, Viewer

from ..protocols import ProtBlushOnnxDenoise


class ReportView(View):
    """A page of the file system."""

    def __init__(self, path):
        self.path = path

    def show(self):
        """Open it in the web browser."""
        webbrowser.open(self.path.resolve().as_uri())


class ReportViewer(Viewer):
    """Opens report.html of a finished protocol."""

    _label = "blush-onnx report"
    _targets = [ProtBlushOnnxDenoise]
    _environments = [DESKTOP_TKINTER]

    def _visualize(self, obj, **_):
        path = Path(obj._getExtraPath("report.html"))
        if path.exists():
            return [ReportView(path)]
        return [self.infoMessage("There is no report: the protocol was told not to write one.")]
