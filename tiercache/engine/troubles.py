"""The kinds of trouble that are kept from requests: the logger that tells of each, and what it means."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final, NamedTuple

HTTP: Final = "tiercache.http"
DATA: Final = "tiercache.data"
L2: Final = "tiercache.l2"
LEDGER: Final = "tiercache.ledger"
DATABASE: Final = "tiercache.database"
CONFIG: Final = "tiercache.config"
WRITES: Final = "tiercache.writes"
EXPLAIN: Final = "tiercache.debug"

LOGGERS: Final = MappingProxyType(
    {
        HTTP: "requests and responses: what an app did, and what a client was kept from noticing",
        DATA: "stores of data: what loaders did, and which values could not be kept",
        L2: "values in the shared tier: reads, writes, leases, the circuit breaker",
        LEDGER: "invalidations: syncs, the bus, purges that are not confirmed",
        DATABASE: "changes in databases that cannot be told or read",
        WRITES: "write-behind: the queue, the workers, writes that the database does not take",
        CONFIG: "what a configuration says without effect, at level INFO when an app is wrapped; and, as a warning, a "
        "`cached` that stands above the decorator with the path, and is never asked",
        EXPLAIN: "a block for each request, with `debug=True` or `TIERCACHE_DEBUG=1`, at level DEBUG",
    }
)
"""All loggers, with what each is about. They are children of `tiercache`."""


class Trouble(NamedTuple):
    """One kind of trouble."""

    logger: str
    meaning: str


TROUBLES: Final = MappingProxyType(
    {
        "shared tier unreachable, serving from L1 alone": Trouble(
            LEDGER,
            "syncs with Redis fail. The reason follows: refused, wrong password, no scripting. `it answers again` "
            "tells when it is over",
        ),
        "bus of the shared tier cut off": Trouble(
            LEDGER,
            "the subscription was lost while syncs go on: purges are heard within the staleness bound, not at once",
        ),
        "sync for a request": Trouble(
            LEDGER,
            'a rule with `consistency="strong"` or `"session"` could not ask Redis within `strong_wait`; the app was '
            "called",
        ),
        "purge not confirmed, queued": Trouble(
            LEDGER,
            "Redis has not confirmed a purge, which holds in this process and is repeated; `confirmed` tells when it "
            "is through",
        ),
        "purge of a template": Trouble(
            LEDGER,
            "a tag such as `product:{id}` was purged, under which nothing is stored: rules fill their templates, and a "
            "purge names what came of it, `product:7`",
        ),
        "purges lost at the end": Trouble(
            LEDGER,
            "the process ended, or the cache was closed, before Redis had confirmed purges, and a last attempt failed: "
            "purge again, with `tiercache purge` say",
        ),
        "purges stay in this process": Trouble(
            LEDGER,
            "Memcached is used without a ledger: purges reach L1 and L2 for the process that makes them, and no other "
            "one. Give `ledger`, the URL of a Redis",
        ),
        "purge not repeated": Trouble(
            LEDGER, "a purge with `settle` could not be repeated; what failed stands beside it"
        ),
        "invalidation by a request": Trouble(LEDGER, "an error that was kept from the client: report it"),
        "listener": Trouble(LEDGER, "an error that was kept from the thread that hears invalidations: report it"),
        "change of unknown rows": Trouble(
            DATABASE,
            "a statement changed rows of a watched class, and it could not be told which: what stands for them was "
            "purged",
        ),
        "tags of a change": Trouble(
            DATABASE,
            "a function that gives the tags of an instance failed; what stands for unknown rows was purged: mend it",
        ),
        "purge after a commit": Trouble(
            DATABASE, "a purge after a commit failed for a reason that is no trouble of Redis: report it"
        ),
        "database listener": Trouble(
            DATABASE,
            "the listener of PostgreSQL cannot read the outbox; the reason follows, and it tries again. `it listens "
            "again` tells when it is over",
        ),
        "database changes unknown": Trouble(
            DATABASE, "it is not known what has changed in PostgreSQL, and everything was purged"
        ),
        "L2 read": Trouble(L2, "a read failed or was too slow for `l2_budget`; the request went on without"),
        "L2 write": Trouble(L2, "a write failed or was too slow for `l2_budget`; the response had left already"),
        "value too large for L2": Trouble(
            L2, "a response is larger than an item of Memcached may be (its option `-I`), and is kept in L1 alone"
        ),
        "unreadable value in L2": Trouble(
            L2, "bytes that are corrupt, or of another version of tiercache; counted as a miss"
        ),
        "L2 in trouble, left alone": Trouble(
            L2, "the circuit breaker has opened; `it answers again` tells when it has closed"
        ),
        "lease": Trouble(
            L2,
            "a lease could not be taken or given back: this process filled without, or the lease ended by itself",
        ),
        "write-behind queue": Trouble(
            WRITES, "a worker could not ask Redis for jobs, or acknowledge them; they are written again"
        ),
        "write-behind: database away": Trouble(
            WRITES,
            "the database cannot be reached or has no time: the same writes are tried again until it has; `it takes "
            "writes again` tells when",
        ),
        "write-behind: write refused": Trouble(
            WRITES,
            "the database, or the function that writes, refused a write; after some attempts it is kept aside",
        ),
        "write-behind: durability unknown": Trouble(
            WRITES, "Redis does not tell whether it keeps what it acknowledges: make sure that it does"
        ),
        "write-behind: value of another type": Trouble(
            WRITES,
            "what waits for the database was written by another version of the app; readers get what the database has",
        ),
        "write-behind worker": Trouble(WRITES, "an error that was kept from a worker: report it"),
        "session not read": Trouble(
            L2, "the store of sessions did not answer; the request went on with an empty session that is not saved"
        ),
        "session not saved": Trouble(
            L2, "the store of sessions did not answer; the request failed, since its changes would have been lost"
        ),
        "app failed, answered stale": Trouble(
            HTTP,
            "the app raised, and a response within its `stale_if_error` went out in place of the error: mend the app",
        ),
        "app failed behind its answer": Trouble(
            HTTP, "the app raised after its answer had been replaced by a stored one: mend the app"
        ),
        "said in a thread without its request": Trouble(
            HTTP,
            "`tag()`, `no_store()` or `ttl()` was called in a thread of a pool, as by `run_in_executor` or Falcon's "
            "`sync_to_async`, into which the request does not follow. Nobody heard it: what was made is stored without "
            "the tag. Give the pool `tiercache.carry(function)`, or use `asyncio.to_thread`",
        ),
        "response not stored": Trouble(HTTP, "an error that was kept from the client: report it"),
        "request not explained": Trouble(HTTP, "an error in what `debug` writes; the request went on: report it"),
        "value not kept": Trouble(
            DATA,
            "the caller has its value, but neither tier does: what it says is wrong with it, most often `type=` or "
            "`codec=` is missing, or a function for its tags raised",
        ),
        "loader failed, answered stale": Trouble(
            DATA, "a loader raised, and a value within its `stale_if_error` was given in place of the error: mend it"
        ),
        "load behind": Trouble(
            DATA, "a load behind an answer failed or could not start; what failed stands beside it"
        ),
        "fill without its client": Trouble(
            HTTP, "a fill behind an answer failed; where it says so, the app raised: mend the app"
        ),
    }
)
"""By the kind that log lines begin with, and that `stats()["swallowed"]` counts by."""
