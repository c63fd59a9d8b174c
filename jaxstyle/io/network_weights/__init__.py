"""VGG19's weights: fetched, converted, verified, and kept in a cache as safetensors files."""
