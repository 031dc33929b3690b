"""What runs on a device: opens artifacts, checks golden frames, times them. Standard library and numpy only.

The folder is packed as it stands into a zipapp and pushed to the device, so nothing in it may import the rest of the
package, its modules find each other by relative imports, and all of it is Python 3.8. It reads job.json and writes
result.json; `probe` tells what machine it is. Runtimes are imported only where a subject needs one.
"""
