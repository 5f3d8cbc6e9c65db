"""The feature server as an ASGI application: what all routes share, and the table of routes.

Request ids, tokens, limits, errors, logs and metrics are here, once; what is answered belongs to the handlers, and
sockets and signals to `server`.
"""

from __future__ import annotations

import asyncio
import secrets
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus
from itertools import count
from typing import TYPE_CHECKING, Any

from starlette.exceptions import HTTPException
from starlette.routing import Route, Router

from feature_store.errors import FeatureStoreError
from feature_store.serving.auth import Tokens
from feature_store.serving.calls import CLOSE, Call, Disconnected, Endpoint, Receive, Reply, Scope, Send
from feature_store.serving.documents import Documents
from feature_store.serving.feast_contract import FeastContract
from feature_store.serving.health import Health
from feature_store.serving.limits import Limits
from feature_store.serving.logs import JsonLog
from feature_store.serving.metrics import CONTENT_TYPE as METRICS_TYPE
from feature_store.serving.metrics import Metrics
from feature_store.serving.online_features import OnlineFeatures
from feature_store.serving.probes import Probe
from feature_store.serving.problems import CONTENT_TYPE as PROBLEM_TYPE
from feature_store.serving.problems import HttpError, body_of, http_error
from feature_store.serving.served import Served
from feature_store.store import FeatureStore

if TYPE_CHECKING:
    from feature_store.definitions.loading import LoadedDefinitions

REFRESH_SECONDS = 10.0
"""How often the catalog is read again: within this time the server knows what was applied."""

_OPEN_PATHS = frozenset({"/health", "/health/live", "/health/ready", "/metrics", "/openapi.json", "/docs"})
_LOG_SECONDS = 0.2
_PROMOTE_SECONDS = 0.5
_LONGEST_ID = 128
_GONE = 499
_LONGEST_DETAIL = 4_000


class FeatureServer:
    """The application.

    Args:
        store: The feature store to serve.
        definitions: On-demand features, feature services, and the groups that may be pushed to; None for none.
        tokens: Who may do what.
        limits: What one request may ask for.
        log: Gets a line per request.

    Raises:
        RegistryError: If the registry does not answer.
    """

    def __init__(
        self,
        store: FeatureStore,
        definitions: LoadedDefinitions | None,
        *,
        tokens: Tokens,
        limits: Limits,
        log: JsonLog,
    ) -> None:
        self.log = log
        self._tokens = tokens
        self.limits = limits
        self._metrics = Metrics()
        self._served = Served(store, definitions, self._metrics)
        self._metrics.catalog_age.set_function(self._served.age)
        self._registry = Probe(self._served.refresh)
        self.health = Health({"online_store": Probe(store.online.ping), "registry": self._registry}, log)
        self._in_work = 0
        self._bytes_in_work = 0
        self._id_prefix = secrets.token_hex(6).encode()
        self._numbers = count(1)
        online = OnlineFeatures(self._served, self._metrics, self.limits)
        feast = FeastContract(self._served, online, self._metrics, self.limits)
        # To find a route takes the router as long as all limits together: what is asked all the time is found at once.
        self._hot: dict[str, Callable[[Call], Awaitable[Reply]]] = {
            "/v1/online-features": online,
            "/get-online-features": feast.features,
        }
        self._router = Router(self._routes(online, feast), lifespan=self._lifespan, redirect_slashes=False)
        self._paths = frozenset(route.path for route in self._router.routes if isinstance(route, Route))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request, or one message of the server's life cycle."""
        scope["app"] = self
        if scope["type"] != "http":
            await self._router(scope, receive, send)
            return
        started = time.perf_counter()
        call = scope["feature_server.call"] = self._call(scope, receive)
        self._in_work += 1
        held = call.announced()
        self._bytes_in_work += held
        try:
            reply = await self._reply(scope, call, receive, send)
            self._bytes_in_work += len(reply.body)
            held += len(reply.body)
            # An answer is in work until its client has taken it.
            await self._send(reply, call, send)
        except Disconnected:
            reply = None
        finally:
            self._in_work -= 1
            self._bytes_in_work -= held
        self._account(scope, call, reply, time.perf_counter() - started)

    async def _reply(self, scope: Scope, call: Call, receive: Receive, send: Send) -> Reply:
        try:
            self._check_load()
            token = call.headers.get(b"authorization")
            is_open = scope["path"] in _OPEN_PATHS
            call.access = self._tokens.known(token) if is_open else self._tokens.access(token)
            hot = self._hot.get(scope["path"]) if scope["method"] == "POST" else None
            if hot is not None:
                return await hot(call)
            await self._router(scope, receive, send)
            assert call.reply is not None  # every route is an endpoint, all else is an exception
        except HttpError as error:
            return _problem(error, call)
        except HTTPException as error:
            return _problem(_routing_error(error, scope), call)
        except FeatureStoreError as error:
            answer = http_error(error)
            if answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
                call.notes["error"] = str(error)
            return _problem(answer, call)
        except Disconnected:
            raise
        except Exception:  # noqa: BLE001 - a bug: the log says where, the client only that there is one
            call.notes["error"] = traceback.format_exc()
            detail = f"The server failed; its log says more about request {call.request_id}."
            return _problem(HttpError(HTTPStatus.INTERNAL_SERVER_ERROR, detail), call)
        return call.reply

    def _check_load(self) -> None:
        if self._in_work > self.limits.requests:
            raise _busy(f"The server has {self.limits.requests:,} requests in work")
        if self._bytes_in_work > self.limits.work_bytes:
            raise _busy(f"The requests in work hold {self.limits.work_bytes:,} bytes")

    def _call(self, scope: Scope, receive: Receive) -> Call:
        headers = dict(scope["headers"])
        given = headers.get(b"x-request-id", b"")
        # Printable only: what comes from outside must not write to the log as it likes.
        if given and len(given) <= _LONGEST_ID and given.isascii() and given.decode("ascii").isprintable():
            request_id = given.decode("ascii")
        else:
            request_id = (b"%s-%x" % (self._id_prefix, next(self._numbers))).decode("ascii")
        return Call(headers, request_id, receive, self.limits)

    async def _send(self, reply: Reply, call: Call, send: Send) -> None:
        headers = [
            (b"content-type", reply.content_type),
            (b"content-length", b"%d" % len(reply.body)),
            (b"x-request-id", call.request_id.encode("ascii")),
            *reply.headers,
        ]
        if self.health.draining and CLOSE not in reply.headers:
            headers.append(CLOSE)
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        await send({"type": "http.response.body", "body": reply.body})

    def _account(self, scope: Scope, call: Call, reply: Reply | None, seconds: float) -> None:
        status = _GONE if reply is None else reply.status
        path = scope["path"]
        route = path if path in self._paths else "other"
        self._metrics.answered(route, status, seconds)
        failed = status >= HTTPStatus.INTERNAL_SERVER_ERROR
        if self.log.requests or failed:
            self.log.write(
                "error" if failed else "info",
                "request",
                request_id=call.request_id,
                method=scope["method"],
                route=route,
                status=status,
                milliseconds=round(seconds * 1000, 3),
                caller=call.access.name,
                **call.notes,
            )

    def _routes(self, online: OnlineFeatures, feast: FeastContract) -> list[Route]:
        documents = Documents(self._served, tokens=bool(self._tokens))
        return [
            Route("/v1/online-features", Endpoint(online), methods=["POST"]),
            Route("/get-online-features", Endpoint(feast.features), methods=["POST"]),
            Route("/push", Endpoint(feast.push), methods=["POST"]),
            Route("/write-to-online-store", Endpoint(feast.write), methods=["POST"]),
            Route("/v1/features", Endpoint(documents.features), methods=["GET"]),
            Route("/health/live", Endpoint(self.health.live), methods=["GET"]),
            Route("/health/ready", Endpoint(self.health.ready), methods=["GET"]),
            Route("/health", Endpoint(self.health.ready), methods=["GET"]),
            Route("/metrics", Endpoint(self._exposition), methods=["GET"]),
            Route("/openapi.json", Endpoint(documents.openapi), methods=["GET"]),
            Route("/docs", Endpoint(documents.page), methods=["GET"]),
        ]

    async def _exposition(self, call: Call) -> Reply:
        del call
        self._metrics.in_work.set(self._in_work)
        return Reply(self._metrics.exposition(), METRICS_TYPE.encode("ascii"))

    @asynccontextmanager
    async def _lifespan(self, app: Any) -> AsyncIterator[None]:
        del app
        for error in await asyncio.to_thread(self._served.warm_up):
            self.log.write("error", "a part is not ready", reason=str(error))
        work = (self._refresh(), self._promote(), self._flush_log())
        background = [asyncio.create_task(task) for task in work]
        try:
            yield
        finally:
            for task in background:
                task.cancel()
            await asyncio.gather(*background, return_exceptions=True)
            self._served.reads.close()
            await self._served.store.online.aclose()
            self.log.flush()

    async def _refresh(self) -> None:
        while True:
            await asyncio.sleep(REFRESH_SECONDS)
            failure = await self._registry.failure()
            if failure:
                self.log.write("warning", "the catalog could not be read again", reason=failure)

    async def _promote(self) -> None:
        """Brings rows online whose time has come, for readers that ask the online store themselves."""
        while True:
            await asyncio.sleep(_PROMOTE_SECONDS)
            try:
                await asyncio.to_thread(self._served.promote)
            except FeatureStoreError as error:
                self.log.write("warning", "rows whose time has come are not online yet", reason=str(error))

    async def _flush_log(self) -> None:
        while True:
            await asyncio.sleep(_LOG_SECONDS)
            self.log.flush()


def _busy(why: str) -> HttpError:
    detail = f"{why}: try again, or add servers."
    return HttpError(HTTPStatus.SERVICE_UNAVAILABLE, detail, ((b"retry-after", b"1"),))


def _problem(error: HttpError, call: Call) -> Reply:
    if len(error.detail) > _LONGEST_DETAIL:
        # What was wrong may have been quoted, and as long as a body may be.
        half = _LONGEST_DETAIL // 2
        error = HttpError(error.status, f"{error.detail[:half]} ... {error.detail[-half:]}", error.headers)
    return Reply(body_of(error, call.request_id), PROBLEM_TYPE, error.status.value, error.headers)


def _routing_error(error: HTTPException, scope: Scope) -> HttpError:
    status = HTTPStatus(error.status_code)
    headers = tuple(
        (name.lower().encode("ascii"), value.encode("ascii")) for name, value in (error.headers or {}).items()
    )
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = (error.headers or {}).get("Allow", "")
        return HttpError(status, f"{scope['method']} is not answered here: use {allowed}.", headers)
    return HttpError(status, "There is nothing at this path: /docs shows what there is.", headers)
