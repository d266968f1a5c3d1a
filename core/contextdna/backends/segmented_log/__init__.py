"""A write-ahead log in a folder of its own: segments of checksummed frames, and snapshots of what they led to."""

from contextdna.backends.segmented_log.log import open_segmented_log
from contextdna.backends.segmented_log.snapshots import SnapshotFolder
from contextdna.backends.segmented_log.views import LogView, look_into_log

__all__ = ["LogView", "SnapshotFolder", "look_into_log", "open_segmented_log"]
