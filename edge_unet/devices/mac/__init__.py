"""What runs on a Mac: copy bench_coreml.py there beside the bundles. It imports nothing of edge_unet."""
