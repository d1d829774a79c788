"""Time and memory of the network, of maps and of what is around them, ours beside the published."""
