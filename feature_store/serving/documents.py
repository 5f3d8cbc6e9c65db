"""What the server tells of itself: the list of features, the OpenAPI document, and the page that shows it.

Each says what the caller's token may read, and is made once per catalog for all tokens that may read the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from feature_store.catalog import Catalog
from feature_store.serving import openapi
from feature_store.serving.answers import encode
from feature_store.serving.auth import Access
from feature_store.serving.calls import Call, Reply
from feature_store.serving.listing import listing
from feature_store.serving.served import Served

_PAGE_POLICY = (b"content-security-policy", b"default-src 'none'; style-src 'unsafe-inline'")
_MOST = 100
"""Documents that are kept."""


class Documents:
    """Answers with documents.

    Args:
        served: What is served.
        tokens: Whether requests need a token.
    """

    def __init__(self, served: Served, *, tokens: bool) -> None:
        self._served = served
        self._tokens = tokens
        self._catalog: Catalog | None = None
        self._made: dict[tuple[str, frozenset[str] | None], Reply] = {}
        self._making = asyncio.Semaphore(1)

    async def features(self, call: Call) -> Reply:
        """Answers `GET /v1/features`."""
        return await self._document("features", call.access, self._listing)

    async def openapi(self, call: Call) -> Reply:
        """Answers `GET /openapi.json`."""
        return await self._document("openapi", call.access, self._openapi)

    async def page(self, call: Call) -> Reply:
        """Answers `GET /docs`."""
        return await self._document("page", call.access, self._page)

    async def _document(self, name: str, access: Access, make: Callable[[Access], Reply]) -> Reply:
        key = (name, access.read)
        # One at a time: a large catalog makes a document of megabytes.
        async with self._making:
            catalog = self._served.catalog
            if self._catalog is not catalog:
                self._catalog = catalog
                self._made.clear()
            reply = self._made.get(key)
            if reply is None:
                reply = await asyncio.to_thread(make, access)
                if self._served.catalog is catalog and len(self._made) < _MOST:
                    self._made[key] = reply
        return reply

    def _listing(self, access: Access) -> Reply:
        return Reply(encode(listing(self._served, access)))

    def _openapi(self, access: Access) -> Reply:
        return Reply(encode(self._open_document(access)))

    def _page(self, access: Access) -> Reply:
        text = openapi.page(self._open_document(access))
        return Reply(text.encode(), b"text/html; charset=utf-8", headers=(_PAGE_POLICY,))

    def _open_document(self, access: Access) -> dict[str, object]:
        groups = (group for group in self._served.catalog.groups.values() if access.may_read(group.name))
        return openapi.document(groups, tokens=self._tokens)
