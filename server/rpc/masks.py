"""Read which fields of a message an update sets."""

from collections.abc import Collection

from google.protobuf.field_mask_pb2 import FieldMask

from server.core.errors import InvalidRequest


def masked(mask: FieldMask, known: Collection[str]) -> frozenset[str]:
    """The fields that a mask names; none for an empty one. Errors: InvalidRequest, naming those that can be set."""
    unknown = sorted(set(mask.paths) - set(known))
    if unknown:
        raise InvalidRequest(f"update_mask names {', '.join(unknown)}; what can be set is: {', '.join(known)}")
    return frozenset(mask.paths)
