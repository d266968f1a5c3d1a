# ruff: noqa: E501, RUF001 - texts of many scripts, each on a line
"""The estimate of tokens errs high for every sort of text, and not absurdly."""

import pytest

from contextdna.domain.tokens import estimate_tokens

TEXTS = [
    (
        "english prose",
        "The team moved the nightly backup to another region, because the old one was slow on Mondays. Nobody noticed until the restore took two hours; since then a small copy is kept close by, and the alarm goes off after twenty minutes.",
        50,
    ),
    (
        "german prose",
        "Gestern haben wir die Größe der Warteschlange geändert, weil die Übertragung über Nacht häufig länger dauerte als vorgesehen; künftig prüft der Dienst selbst, ob genügend Plätze frei sind.",
        57,
    ),
    (
        "french prose",
        "La sauvegarde nocturne de la base de données de facturation s'est terminée avec succès, mais l'équipe a dû relancer le traitement après un échec du réseau.",
        44,
    ),
    (
        "spanish prose",
        "La copia de seguridad nocturna de la base de datos terminó con éxito y el equipo confirmó que no faltaba ningún registro.",
        36,
    ),
    (
        "python",
        "def retry(call, *, times: int = 3) -> Result:\n    for attempt in range(times):\n        try:\n            return call()\n        except TimeoutError as error:\n            log.warning('attempt %d failed: %s', attempt, error)\n    raise GaveUp(times)\n",
        74,
    ),
    (
        "sql",
        "SELECT r.id, r.level, COUNT(*) AS hits FROM records r JOIN grants g ON g.record_id = r.id\nWHERE r.project_id = :project AND r.deleted_us IS NULL ORDER BY r.seq DESC LIMIT 50;",
        60,
    ),
    ("log", "2026-03-01T12:07:07.123Z ERROR [worker-3] 10.0.3.17:8443 req=9f3a00b1 status=503 took=1742ms", 68),
    (
        "json of numbers",
        '{"p50_ms": [1.25, 3.871, 12.04, 7.5], "n": 10000,\n  "p95_ms": [4.125, 9.3, 40.77, 19.02]}',
        77,
    ),
    ("csv", "17,23.29,3,ok\n18,24.66,4,ok\n19,26.03,5,ok\n20,27.40,6,failed\n", 53),
    ("hex", "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08", 60),
    ("base64", "3q2+7wABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4fICEiIyQlJicoKSorLC0uLzAxMjM0", 57),
    ("uuid", "1b4e28ba-2fa1-11d2-883f-0016d3cca427 6fa459ea-ee8a-3ca4-894e-db77e160355e", 65),
    (
        "paths",
        "/usr/lib/python3.11/site-packages/app/driver.py:236 C:\\Users\\maria\\Temp\\x1.log https://example.org/a/b?c=d&e=f#g",
        56,
    ),
    ("signs", "!@#$%^&*()_+{}|:<>?~`-=[];',./ => != && || ::= <<>>", 29),
    ("emoji", "🎉🚀✅ done 🎉🎉 👍🏽", 29),
    ("russian", "Резервное копирование базы данных завершилось успешно, потерь нет.", 25),
    ("chinese", "昨晚的数据库备份已经成功完成，团队确认没有丢失任何记录。", 43),
    ("japanese", "昨夜のデータベースのバックアップは正常に完了しました。", 30),
    ("arabic", "اكتملت النسخة الاحتياطية لقاعدة البيانات الليلة الماضية بنجاح.", 53),
    ("hindi", "कल रात डेटाबेस का बैकअप सफलतापूर्वक पूरा हुआ।", 48),
    ("thai", "การสำรองฐานข้อมูลเมื่อคืนเสร็จสมบูรณ์แล้ว", 44),
    ("greek", "Το νυχτερινό αντίγραφο ασφαλείας ολοκληρώθηκε με επιτυχία.", 57),
]
"""(sort, text, its tokens in the vocabulary of 32,000 that docs/decisions/0021 names)."""
_ANY = 1.6
_PROSE = 1.35


@pytest.mark.parametrize(("sort", "text", "tokens"), TEXTS)
def test_the_estimate_is_no_less_than_the_count_and_not_much_more(sort: str, text: str, tokens: int) -> None:
    assert tokens <= estimate_tokens(text) <= tokens * (_PROSE if "prose" in sort else _ANY)


def test_the_estimate_takes_any_text() -> None:
    assert estimate_tokens("") == 1
    assert estimate_tokens("\x00\ud800\x7f") > 3
