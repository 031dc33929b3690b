"""The small networks as fixtures."""

from small_networks import frames_real, make_net, make_recipe

__all__ = ["frames_real", "make_net", "make_recipe"]
