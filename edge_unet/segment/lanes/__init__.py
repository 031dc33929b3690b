"""Lanes from a mask of their paint: instances, curves on the ground and in the image, offset, departure, scores.

On the ground x is metres to the right of the vehicle's middle and y metres ahead of it.
"""
