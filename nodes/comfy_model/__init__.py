"""The bridge between ComfyUI's model classes and the core."""
