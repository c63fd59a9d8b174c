"""HTML pages about runs: one file each, complete in itself, to be kept and sent."""
