"""Protocols of this plugin."""

from .protocol_denoise import ProtBlushOnnxDenoise as ProtBlushOnnxDenoise
