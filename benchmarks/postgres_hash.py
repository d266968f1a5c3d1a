"""PostgreSQL's hash of a text, which decides in which shard of Citus a row lies, without a server.

Source: src/common/hashfn.c of PostgreSQL (`hash_bytes`, B. Jenkins' lookup3), as `hashtext` calls it under collation C.
"""

from struct import unpack_from

_WORD = 0xFFFFFFFF


def hashtext(text: str) -> int:
    """Give what `SELECT hashtext(text)` gives: 32 bits with a sign."""
    key = text.encode()
    a = b = c = (0x9E3779B9 + len(key) + 3923095) & _WORD
    whole = len(key) // 12 * 12
    for at in range(0, whole, 12):
        first, second, third = unpack_from("<III", key, at)
        a, b, c = _mix((a + first) & _WORD, (b + second) & _WORD, (c + third) & _WORD)
    rest = key[whole:]
    first, second = unpack_from("<II", rest[:8].ljust(8, b"\0"))
    third = int.from_bytes(rest[8:], "little") << 8  # the lowest byte of c is that of the length
    hashed = _final((a + first) & _WORD, (b + second) & _WORD, (c + third) & _WORD)
    return hashed - (1 << 32) if hashed >> 31 else hashed


def shard_of(hashed: int, shards: int) -> int:
    """Give the shard of a hash: Citus cuts the range of the hashes into equal parts.

    Source: `CreateHashDistributedTableShards` in src/backend/distributed/operations/create_shards.c of Citus.
    """
    return min((hashed + (1 << 31)) // ((1 << 32) // shards), shards - 1)


def _rotated(value: int, bits: int) -> int:
    return (value << bits | value >> (32 - bits)) & _WORD


def _mix(a: int, b: int, c: int) -> tuple[int, int, int]:
    for bits in ((4, 6, 8), (16, 19, 4)):
        a = ((a - c) & _WORD) ^ _rotated(c, bits[0])
        c = (c + b) & _WORD
        b = ((b - a) & _WORD) ^ _rotated(a, bits[1])
        a = (a + c) & _WORD
        c = ((c - b) & _WORD) ^ _rotated(b, bits[2])
        b = (b + a) & _WORD
    return a, b, c


def _final(a: int, b: int, c: int) -> int:
    c = ((c ^ b) - _rotated(b, 14)) & _WORD
    a = ((a ^ c) - _rotated(c, 11)) & _WORD
    b = ((b ^ a) - _rotated(a, 25)) & _WORD
    c = ((c ^ b) - _rotated(b, 16)) & _WORD
    a = ((a ^ c) - _rotated(c, 4)) & _WORD
    b = ((b ^ a) - _rotated(a, 14)) & _WORD
    return ((c ^ b) - _rotated(b, 24)) & _WORD
