"""Cards and processors shared fairly between jobs on one machine.

A refinement program starts several jobs at the same moment, one for each half
or class, and none of them knows of the others.
"""
