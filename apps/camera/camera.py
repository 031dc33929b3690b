"""The smallest camera app: open a bundle, read a video, write the overlay. Start your own from here.

python apps/camera/camera.py BUNDLE VIDEO OUT.mp4
"""

from __future__ import annotations

import sys
from pathlib import Path

from edge_unet.segment.camera.sinks import open_sink
from edge_unet.segment.camera.sources import SourceEndedError, SourceUri, open_source
from edge_unet.segment.overlay import draw_mask
from edge_unet.segment.segmenter import Segmenter


def main(bundle: Path, video: str, out: str) -> int:
    """Segment every frame; returns how many there were."""
    source = open_source(SourceUri.parse(video))
    sink = open_sink(f"file://{out}", source.fps)
    frames = 0
    with Segmenter.load(bundle) as segment:
        try:
            while True:
                frame = source.read()  # (H, W, 3) RGB
                result = segment(frame)
                sink.show(draw_mask(frame, result.mask, result.classes))
                frames += 1
        except SourceEndedError:
            pass
        finally:
            sink.close()
            source.close()
    return frames


if __name__ == "__main__":
    print(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3]), "frames")
