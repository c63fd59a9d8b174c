"""VGG19's parameters: fetched, converted, verified, and kept in a cache as safetensors files."""
