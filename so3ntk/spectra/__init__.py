"""What a kernel learns first, how much data it needs, whether a deep network trains."""

__all__: list[str] = []
