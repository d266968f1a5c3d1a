"""Who asks too often, or tries too many tokens, waits; others do not."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.http.attacked import attacked, message

pytestmark = pytest.mark.anyio

PING = message("ping")


async def test_who_tries_many_tokens_must_wait_but_not_who_has_a_good_one(tmp_path: Path) -> None:
    async with attacked(tmp_path, auth_failures_per_min=3) as target:
        token = await target.token("ann")
        assert (await target.send(token, PING)).status == 200
        answers = [
            await target.send(f"cdna_guess_{number}", PING, headers={"x-forwarded-for": f"192.0.2.{number}"})
            for number in range(5)
        ]
        assert [answer.status for answer in answers] == [401, 401, 401, 429, 429]
        assert answers[-1].code == "auth_failures_too_many"
        assert int(answers[-1].headers["retry-after"]) > 0
        assert (await target.send(token, PING)).status == 200


async def test_who_asks_too_often_must_wait_and_is_audited_once(tmp_path: Path) -> None:
    async with attacked(tmp_path, rate_burst=5, rate_per_s=0.1) as target:
        token = await target.token("ann")
        answers = [await target.send(token, PING) for _ in range(8)]
        assert [answer.status for answer in answers] == [200] * 5 + [429] * 3
        assert answers[-1].code == "rate_limited"
        assert int(answers[-1].headers["retry-after"]) > 0
        await target.audited("ann", "rate_limited")
        assert len(await target.entries("ann")) == 1
        assert (await target.send(await target.token("bob"), PING)).status == 200
