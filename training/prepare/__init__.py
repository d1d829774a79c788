"""Pairs of half-maps, real or simulated, as training volumes on disk.

`structures` reads atoms; `density`, `surroundings` and `noise` are the physics of a
simulated pair and `simulate` puts them together; `emdb` and `half_maps` do the same for
real pairs; `dataset` is what both are written to and read from.
"""
