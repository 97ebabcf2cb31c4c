"""The ComfyUI node pack. ComfyUI imports this file by its path and asks it for the nodes."""

WEB_DIRECTORY = "./web"


async def comfy_entrypoint():
    """What ComfyUI calls. The import waits until then: tests and tools come past this file without ComfyUI."""
    from .nodes.extension import DreamLayerExtension  # noqa: PLC0415

    return DreamLayerExtension()
