"""What the agents of the demo know: an online bookshop, its architecture, and the week its checkout timed out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Text:
    """One memory of the story."""

    key: str
    memory_type: str
    importance: float
    content: str


@dataclass(frozen=True, slots=True)
class Question:
    """What an agent asks, and the memory that answers it."""

    text: str
    answer: str
    """Key of the memory that must come first."""


POOL: Final = "pool"
PRIVATE_TEXT: Final = (
    "Personal note: before telling anyone I want to be sure that the leaked staging password in commit 4f1c was never "
    "valid in production. Ask Ines from security on Thursday, in person."
)
PRIVATE_QUESTION: Final = "was the leaked staging password valid in production?"
TASK: Final = "Find out why checkout times out under load since the Tuesday deploy, and propose a fix."
LEARNING: Final = (
    "The checkout timeouts came from refund workers that kept a database connection while they waited for the payment "
    "provider. Returning the connection before the remote call brought the p99 from 9.4 s back to 310 ms."
)
LEARNING_QUESTION: Final = "what brought the checkout latency back to normal?"

TEXTS: Final = (
    Text(
        "services",
        "fact",
        0.7,
        "The bookshop runs as seven services: storefront, catalogue, search, basket, checkout, pricing and "
        "shipping. Only checkout and pricing may talk to the payment provider.",
    ),
    Text(
        "events",
        "decision",
        0.7,
        "We publish order events through an outbox table that is read by a relay, and never directly from request "
        "handlers: a crash between commit and publish lost 212 orders in March.",
    ),
    Text(
        "idempotency",
        "decision",
        0.8,
        "Every call to the payment provider carries an idempotency key made of the order id and the attempt "
        "number, so that a retry cannot charge a customer twice.",
    ),
    Text(
        POOL,
        "failure_pattern",
        0.9,
        "Since the Tuesday deploy of checkout 4.12 the service times out under load: the database connection pool "
        "is exhausted. All 40 connections are held by refund workers, and requests wait.",
    ),
    Text(
        "deploy",
        "event",
        0.6,
        "Tuesday 14:05 UTC: checkout 4.12 went to production with the new refund worker. Error budget alerts "
        "began at 14:31, when the evening traffic of Asia came on top.",
    ),
    Text(
        "rollback",
        "procedure",
        0.8,
        "To roll back a service, run `ship rollback SERVICE --to VERSION`, then watch the canary for ten minutes. "
        "Migrations are not undone: a release must work with the schema before and after it.",
    ),
    Text(
        "migration",
        "constraint",
        0.7,
        "Schema changes go in two releases: first add, backfill and write both; later, when no reader is left, "
        "remove. A migration that locks a table for over two seconds is refused by the pipeline.",
    ),
    Text(
        "search-index",
        "fact",
        0.5,
        "The search index is rebuilt every night from the catalogue. During the day changes arrive through the "
        "catalogue's change feed within about 30 seconds.",
    ),
    Text(
        "search-typos",
        "optimization",
        0.5,
        "Storing trigrams only for titles and authors, and not for descriptions, made the search index four times "
        "smaller; typo tolerance stayed the same in the relevance test.",
    ),
    Text(
        "price-cache",
        "lesson",
        0.7,
        "Caching prices for an hour sold 1,900 copies at an expired discount. Prices are now cached for 60 "
        "seconds, and a price change evicts its entry at once.",
    ),
    Text(
        "pricing-owner",
        "fact",
        0.4,
        "Pricing belongs to the team Tamarind; on call this week is Joost. Their service level is 99.95 percent "
        "of quotes in under 80 ms.",
    ),
    Text(
        "tax",
        "constraint",
        0.6,
        "Sales tax is computed by the shipping address and frozen at the moment of payment; a later change of "
        "address never changes the tax of a paid order.",
    ),
    Text(
        "basket-store",
        "decision",
        0.5,
        "Baskets live in Redis with an expiry of 14 days and are copied to PostgreSQL when the customer logs in. "
        "Losing an anonymous basket is acceptable, losing a named one is not.",
    ),
    Text(
        "images",
        "success_pattern",
        0.4,
        "Serving cover images as AVIF with a WebP fallback cut the storefront's largest contentful paint from 3.1 "
        "s to 1.8 s on slow phones.",
    ),
    Text(
        "retries",
        "lesson",
        0.7,
        "Retries without jitter turned a ten-second outage of shipping into forty minutes: all clients came back "
        "in the same second. We use full jitter and at most three attempts.",
    ),
    Text(
        "timeouts",
        "constraint",
        0.7,
        "Timeouts shrink along the call chain: storefront 3 s, checkout 2 s, pricing 500 ms. A callee's timeout "
        "is never longer than what is left of its caller's.",
    ),
    Text(
        "flags",
        "procedure",
        0.5,
        "Feature flags have an owner and an end date. A flag older than 90 days fails the build, which is how we "
        "got rid of 61 dead branches.",
    ),
    Text(
        "load-test",
        "fact",
        0.6,
        "The load test replays the traffic of the last Black Friday at 1.5 times its speed: 2,300 orders a "
        "minute, one in thirty with a refund within the hour.",
    ),
    Text(
        "logs",
        "constraint",
        0.8,
        "Logs never hold names, addresses or card data. Order ids are fine. The log pipeline drops a line that "
        "looks like a card number and pages the owner of the service.",
    ),
    Text(
        "dashboards",
        "reference",
        0.4,
        "The incident dashboard shows four things for every service: rate, errors, duration and saturation. "
        "Saturation of connection pools was added after this incident.",
    ),
    Text(
        "backup",
        "fact",
        0.6,
        "PostgreSQL backups are restored into an empty cluster every Sunday and compared by row counts and "
        "checksums; a backup that was never restored does not count as one.",
    ),
    Text(
        "oncall",
        "preference",
        0.5,
        "The on-call engineer hands over at 10:00 local time with three sentences: what broke, what is still "
        "open, what to watch. No handover on Fridays after 15:00.",
    ),
    Text(
        "shipping-labels",
        "failure_pattern",
        0.5,
        "The label printer's driver hangs when a recipient's name holds an emoji; shipping replaces what the "
        "carrier's character set lacks before it prints.",
    ),
    Text(
        "review",
        "preference",
        0.4,
        "Changes to payment code need two reviewers, one of them from the team Juniper, and a test that fails "
        "without the change.",
    ),
)

QUESTIONS: Final = (
    Question("Why does checkout time out since the deploy on Tuesday?", POOL),
    Question("How can a service be rolled back?", "rollback"),
    Question("How do we avoid charging a customer twice?", "idempotency"),
)
