"""Segment frames with a bundle on whatever runtime it is for: `Segmenter.load(bundle)(frame)`. No torch."""
