"""What an app developer takes out of a bundle: sources that run its artifact, with its constants filled in.

`sources` holds them as they are copied; a file whose name ends in .template is filled from the manifest's values.
"""

from __future__ import annotations

from edge_unet.targets.integration.write import FOLDER, write_integration

__all__ = ["FOLDER", "write_integration"]
