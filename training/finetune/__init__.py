"""A model trained further on the two half-maps of one's own data, kept only if that helped."""
