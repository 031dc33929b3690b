"""python -m edge_unet.cli"""

from edge_unet.cli import main

main()
