"""python -m edge_unet.cli."""

from edge_unet.cli import main

if __name__ == "__main__":
    main()
