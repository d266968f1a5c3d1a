"""What agents were told stands, and whether it does: nothing lost, nothing twice, nothing out of order."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise


@dataclass(slots=True)
class Note:
    """A memory that an agent stored, or tried to; it updates each in turn, and nobody else does."""

    key: str
    """Its idempotency key, with which its every text begins."""
    text: str
    """As last acknowledged; as sent, where nothing was acknowledged yet."""
    id: str = ""
    """As acknowledged; empty where it was not."""
    version: int = 0
    unsure: list[str] = field(default_factory=list)
    """Texts of updates that were not answered for sure."""
    is_queued: bool = False
    """Whether it, or its last update, was promised for later."""


@dataclass(frozen=True, slots=True)
class Found:
    """A memory as it is there in the end."""

    id: str
    text: str
    version: int


@dataclass(slots=True)
class Said:
    """What an agent said in its session."""

    session_id: str = ""
    turns: dict[str, bool] = field(default_factory=dict)
    """In the order in which they were sent; whether they were acknowledged."""
    refused: set[str] = field(default_factory=set)
    """Those that were refused, for sure."""


@dataclass(slots=True)
class Promises:
    """What all agents were told during one fault."""

    notes: dict[str, Note] = field(default_factory=dict)
    said: dict[str, Said] = field(default_factory=lambda: defaultdict(Said))
    artifacts: dict[str, str] = field(default_factory=dict)
    """Their texts by id."""
    artifacts_refused: set[str] = field(default_factory=set)
    """Names of those that were refused, for sure."""
    misread: list[str] = field(default_factory=list)
    """What reads gave that they must not give: less, or older, than was acknowledged before."""

    @property
    def acknowledged(self) -> int:
        """How many writes were acknowledged, updates counted by themselves."""
        turns = sum(sum(said.turns.values()) for said in self.said.values())
        return sum(note.version for note in self.notes.values() if note.id) + turns + len(self.artifacts)


@dataclass(slots=True)
class Findings:
    """What is wrong in the end."""

    lost: list[str] = field(default_factory=list)
    """Acknowledged, and not there."""
    twice: list[str] = field(default_factory=list)
    """Done more than once, or done and never asked for."""
    elsewhere: list[str] = field(default_factory=list)
    """There once, but under another id than was promised."""
    out_of_order: list[str] = field(default_factory=list)
    though_refused: list[str] = field(default_factory=list)
    """Done, and the agent was told that it was refused."""

    def judge_notes(self, notes: Iterable[Note], found: Iterable[Found]) -> None:
        """Compare memories with what was told of them."""
        by_key: dict[str, list[Found]] = defaultdict(list)
        for one in found:
            by_key[key_of(one.text)].append(one)
        for note in notes:
            self._judge(note, by_key.get(note.key, []))

    def _judge(self, note: Note, there: Sequence[Found]) -> None:
        self.twice += [note.key] * (len(there) > 1)
        if not note.id:
            return
        one = next((one for one in there if one.id == note.id), None)
        if one is None:
            (self.elsewhere if there else self.lost).append(note.key)
        elif one.version < note.version or (one.text != note.text and one.text not in note.unsure):
            self.lost.append(f"{note.key}, version {note.version}")
        elif one.version > note.version + len(set(note.unsure)) or (one.version > note.version and not note.unsure):
            self.twice.append(f"{note.key}, version {one.version}")

    def judge_turns(self, said: Said, there: Sequence[str]) -> None:
        """Compare a conversation with what was told of it."""
        counted = Counter(there)
        self.lost += [text for text, is_acknowledged in said.turns.items() if is_acknowledged and not counted[text]]
        self.twice += [text for text, times in counted.items() if times > 1]
        self.though_refused += [text for text in counted if text in said.refused]
        sent = {text: place for place, text in enumerate(said.turns)}
        sure = [sent[text] for text in there if said.turns.get(text)]
        self.out_of_order += [str(later) for sooner, later in pairwise(sure) if later < sooner]

    def judge_artifacts(self, told: Mapping[str, str], there: Mapping[str, bytes]) -> None:
        """Compare the bytes of artifacts with those that were sent."""
        self.lost += [name for name, text in told.items() if there.get(name) != text.encode()]


def key_of(text: str) -> str:
    """Give the key of the note that a text is of."""
    return text.partition(" ")[0]
