"""A job of the CCP-EM Pipeliner and of Doppio, its graphical interface (docs/pipeliner.md)."""
