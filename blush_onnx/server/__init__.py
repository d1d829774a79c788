"""One warm process for hosts in other languages: docs/serving.md is its protocol."""
