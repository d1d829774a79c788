"""RELION refinements of simulated particles, with and without Blush, held against the truth.

Particles are projections of an atomic model under a CTF and white noise; their
poses start a known rotation and shift away from the true ones and are refined by
local searches. As the truth is known, a refinement is judged by the FSC of its
half-maps with the true map, not by the FSC of the halves with each other alone.

    python -m benchmarks refinement --structure MODEL.cif.gz --work FOLDER
    python -m benchmarks refinement --work FOLDER --table --plot curves.png
"""
