"""A write-ahead log in a folder of its own: segments of checksummed frames, and snapshots of what they led to."""

from contextdna.backends.segmented_log.log import open_segmented_log
from contextdna.backends.segmented_log.snapshots import SnapshotFolder

__all__ = ["SnapshotFolder", "open_segmented_log"]
