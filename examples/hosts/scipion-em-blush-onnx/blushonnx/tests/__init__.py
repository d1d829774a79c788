"""Tests to run inside Scipion: ``scipion3 tests blushonnx.tests.test_protocol_denoise``."""
