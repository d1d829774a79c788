"""Host programs: one file or folder each, and nothing else in the package knows of them."""
