"""What a host must know of a model: its description in config.json and in the graph itself."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from blush_onnx.errors import ModelError

SCHEMA_VERSION = 1
"""Stands for the method's constants, too (window, margins, which patches are skipped): a model that
needs others gets another version. docs/embedding.md has the list for hosts in other languages."""
METADATA_PREFIX = "blush_onnx."

_KINDS: dict[str, Any] = {
    "name": str, "voxel_size": (int, float), "patch_size": int, "has_mask": bool, "licence": str,
    "training": str, "storage": str, "source_sha256": str, "sha256": (str, type(None)),
    "proof": Mapping, "self_test": Mapping,
}  # fmt: skip


@dataclass(frozen=True)
class ModelConfig:
    """What a host must know of a model.

    Attributes
    ----------
    name : str
    voxel_size : float
        Å per voxel that the network works at.
    patch_size : int
        Side of its patches, voxels.
    has_mask : bool
        Whether it predicts a solvent mask.
    licence, training : str
        One line each.
    storage : str
        Precision of the stored weights, ``float16`` or ``float32``.
    source_sha256 : str
        Checksum of the checkpoint the model was made from.
    sha256 : str or None
        Checksum of model.onnx; None where only the graph's own metadata is known.
    proof, self_test : mapping
        How the graph was compared with the checkpoint, and the answers that
        ``blush-onnx doctor`` compares with; empty where not known.
    """

    name: str
    voxel_size: float
    patch_size: int
    has_mask: bool
    licence: str = "unknown"
    training: str = "unknown"
    storage: str = "float32"
    source_sha256: str = "unknown"
    sha256: str | None = None
    schema_version: int = SCHEMA_VERSION
    proof: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    self_test: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], origin: str) -> ModelConfig:
        """Configuration from parsed JSON.

        Parameters
        ----------
        values : mapping
        origin : str
            Where it came from, for errors.

        Raises
        ------
        ModelError
            Something needed is missing or of another schema version.
        """
        if not isinstance(values, Mapping):
            raise ModelError(f"{origin} is not a model description: no object of fields")
        version = values.get("schema_version")
        if version != SCHEMA_VERSION:
            raise ModelError(
                f"{origin}: schema version {version!r}, this release reads {SCHEMA_VERSION}; "
                "import the checkpoint again, or update blush-onnx"
            )
        known = {field.name for field in dataclasses.fields(cls)}
        try:
            config = cls(**{key: value for key, value in values.items() if key in known})
        except TypeError as error:
            raise ModelError(f"{origin} is not a model description: {error}") from error
        for field, kind in _KINDS.items():
            value = getattr(config, field)
            if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
                raise ModelError(f"{origin} is not a model description: {field} is {value!r}")
        if not (0.1 <= config.voxel_size <= 20 and 32 <= config.patch_size <= 512):
            raise ModelError(
                f"{origin}: voxel size {config.voxel_size} Å and patch side "
                f"{config.patch_size} voxels make no sense"
            )
        return config

    @classmethod
    def from_graph(cls, metadata: Mapping[str, str], origin: str) -> ModelConfig:
        """Configuration from an ONNX graph's own metadata.

        Raises
        ------
        ModelError
            The graph was not written by blush-onnx.
        """
        try:
            own = {
                key[len(METADATA_PREFIX) :]: json.loads(value)
                for key, value in metadata.items()
                if key.startswith(METADATA_PREFIX)
            }
        except ValueError as error:
            raise ModelError(f"{origin} has metadata that are not JSON: {error}") from error
        if not own:
            raise ModelError(f"{origin} is not a model of blush-onnx: its metadata are missing")
        return cls.from_dict(own, origin)

    def require_graph(self, sides: Sequence[object], outputs: Collection[str]) -> None:
        """Refuse a graph that is not the one described.

        Parameters
        ----------
        sides : sequence of int
            Of its patches, voxels.
        outputs : collection of str
            Their names.

        Raises
        ------
        ModelError
            The patches or the outputs are others.
        """
        if list(sides) != [self.patch_size] * 3 or ("mask_logit" in outputs) != self.has_mask:
            raise ModelError(
                f"the description (patches of {self.patch_size}, "
                f"{'a' if self.has_mask else 'no'} mask) is not that of the session's graph "
                f"(patches of {list(sides)}, outputs {', '.join(sorted(outputs))})"
            )

    def graph_metadata(self) -> dict[str, Any]:
        """What is written into the graph itself."""
        left_out = ("sha256", "proof", "self_test")
        return {
            METADATA_PREFIX + key: value
            for key, value in dataclasses.asdict(self).items()
            if key not in left_out
        }
