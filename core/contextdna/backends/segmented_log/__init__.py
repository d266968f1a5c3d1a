"""A write-ahead log in a folder of its own: segments of checksummed frames."""

from contextdna.backends.segmented_log.log import SegmentedLog, open_segmented_log

__all__ = ["SegmentedLog", "open_segmented_log"]
