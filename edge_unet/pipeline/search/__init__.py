"""`edge-unet search`: a plan of edge_unet for a latency budget. Only `start` may be imported where torch is not."""

from edge_unet.pipeline.search.start import SearchOptions, search

__all__ = ["SearchOptions", "search"]
