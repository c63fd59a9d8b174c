"""The live page of `jaxstyle serve`, built with Gradio."""
