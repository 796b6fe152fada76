"""A server in the form of OpenAI's interface, for the models of a run."""

import asyncio
import json
import threading
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from fs_plugins.errors import UserError
from fs_plugins.inference.answers import Deltas, Form, classes_json
from fs_plugins.inference.requests import (
    RequestError,
    TextRequest,
    body_of,
    chat_request,
    class_request,
    text_request,
)
from fs_plugins.inference.service import Completion, Service

_MOST_BYTES = 1 << 20  # of a request
_MOST_WAITING = 64  # requests
_LONGEST_PATH = 200  # characters in the log
_LOOK_AGAIN = 0.5  # seconds until a client is looked for again

Log = Callable[[dict[str, Any]], None]


class App:
    """Answers requests of HTTP with a service.

    Args:
        service: the service.
        log: called with what a line of the log says, once for each request.
            The texts of requests and answers are no part of it.
        hosts: the names that requests may have for this machine; none for
            any.  On a loopback address they keep out web pages that call
            this machine by a name of their own.

    Attributes:
        asgi: the application for a server of ASGI.

    """

    def __init__(
        self, service: Service, log: Log, hosts: tuple[str, ...] = ()
    ) -> None:
        self._service = service
        self._log = log
        self._hosts = hosts
        self._begin = int(time.time())
        self._waiting = 0
        answers = {
            "/v1/chat/completions": self._chat,
            "/v1/completions": self._text,
            "/v1/classify": self._classify,
            "/classify": self._classify,  # as vLLM calls it
        }
        self.asgi = Starlette(
            routes=[
                Route("/v1/models", self._logged(self._models)),
                *(
                    Route(path, self._logged(answer), methods=["POST"])
                    for path, answer in answers.items()
                ),
            ],
            exception_handlers={HTTPException: self._refused},
        )

    def _logged(
        self, answer: Callable[[Request, dict[str, Any]], Awaitable[Response]]
    ) -> Callable[[Request], Awaitable[Response]]:
        """An endpoint that turns errors into answers, and writes the log."""

        async def endpoint(request: Request) -> Response:
            begin = time.monotonic()
            line: dict[str, Any] = {"path": _path_of(request)}
            try:
                self._check(request)
                self._waiting += 1
                try:
                    response = await answer(request, line)
                finally:
                    self._waiting -= 1
            except ClientDisconnect:
                response = Response(status_code=499)
            except UserError as error:
                response = _error(error)
            except Exception:
                traceback.print_exc()
                response = _error(
                    RequestError("the server has failed", status=500)
                )
            line["status"] = response.status_code
            response.background = BackgroundTask(self._end, line, begin)
            return response

        return endpoint

    async def _end(self, line: dict[str, Any], begin: float) -> None:
        """Write the log, once an answer was sent."""
        line["seconds"] = round(time.monotonic() - begin, 3)
        self._log(line)

    def _check(self, request: Request) -> None:
        """Refuse a request by a wrong name, or one too many."""
        host = _host_of(request)
        if self._hosts and host not in self._hosts:
            raise RequestError(
                f"this server is called {' or '.join(self._hosts)}, not "
                f"{host!r}",
                code="unknown_host",
                status=403,
            )
        if self._waiting >= _MOST_WAITING:
            raise RequestError(
                f"{self._waiting} requests are waiting; try again later",
                code="overloaded",
                status=503,
            )

    async def _refused(self, request: Request, error: Exception) -> Response:
        """The answer where there is no endpoint, or no such method."""
        assert isinstance(error, HTTPException)
        path = _path_of(request)
        sentence = f"{request.method} {path}: {error.detail}"
        self._log({"path": path, "status": error.status_code})
        return _error(RequestError(sentence, status=error.status_code))

    async def _models(self, _: Request, __: dict[str, Any]) -> Response:
        models = [
            {
                "id": name,
                "object": "model",
                "created": self._begin,
                "owned_by": "fs_plugins",
            }
            for name in self._service.names
        ]
        return JSONResponse({"object": "list", "data": models})

    async def _classify(
        self, request: Request, line: dict[str, Any]
    ) -> Response:
        asked = class_request(body_of(await _body(request)))
        self._note_model(line, asked.model)
        found = await run_in_threadpool(self._service.classify, asked)
        line["texts"] = len(asked.texts)
        return JSONResponse(classes_json(asked.model, found))

    async def _chat(self, request: Request, line: dict[str, Any]) -> Response:
        asked = chat_request(body_of(await _body(request)))
        return await self._answer(request, asked, line)

    async def _text(self, request: Request, line: dict[str, Any]) -> Response:
        asked = text_request(body_of(await _body(request)))
        return await self._answer(request, asked, line)

    def _note_model(self, line: dict[str, Any], name: str) -> None:
        """Have the log name a model; anything else could be of any length."""
        if name in self._service.names:
            line["model"] = name

    async def _answer(
        self, request: Request, asked: TextRequest, line: dict[str, Any]
    ) -> Response:
        self._note_model(line, asked.model)
        job = _Job(self._service, asked)
        if asked.streams:
            first = await job.texts.get()
            if isinstance(first, Exception):  # An error is no stream.
                raise first
            return StreamingResponse(
                job.events(first, line),
                media_type="text/event-stream",
                headers={"Cache-Control": "no-cache"},
            )
        while not job.task.done():
            await asyncio.wait({job.task}, timeout=_LOOK_AGAIN)
            if await request.is_disconnected():
                job.is_left.set()
        result = job.task.result()
        if isinstance(result, Exception):
            raise result
        line["tokens"] = result.answer.tokens
        return JSONResponse(job.form.whole(result))


class _Job:
    """An answer that a thread is writing.

    Args:
        service: what answers.
        asked: the request.

    Attributes:
        texts: the text so far, after each token; at the end the whole
            answer, or an error.
        task: returns the whole answer, or an error.
        form: the form of the answer.
        is_left: whether nobody waits for the answer any longer.

    """

    def __init__(self, service: Service, asked: TextRequest) -> None:
        self._service = service
        self._asked = asked
        self._loop = asyncio.get_running_loop()
        self.texts: asyncio.Queue[str | Completion | Exception] = (
            asyncio.Queue()
        )
        self.form = Form(asked.model, not isinstance(asked.asked, str))
        self.is_left = threading.Event()
        self.task = asyncio.ensure_future(run_in_threadpool(self._work))

    def _work(self) -> Completion | Exception:
        result: Completion | Exception
        try:
            result = self._service.complete(self._asked, self._seen)
        except Exception as error:
            result = error
        self._loop.call_soon_threadsafe(self.texts.put_nowait, result)
        return result

    def _seen(self, text: str) -> bool:
        self._loop.call_soon_threadsafe(self.texts.put_nowait, text)
        return self.is_left.is_set()

    async def events(
        self, item: str | Completion | Exception, line: dict[str, Any]
    ) -> AsyncIterator[str]:
        """The parts of the answer, as events that a server sends.

        Args:
            item: what came first of ``texts``.
            line: what the log says of the request.

        """
        deltas, form = Deltas(self._asked.stop), self.form
        try:
            if form.is_chat:
                yield _event(form.begin())
            while isinstance(item, str):
                part = deltas.next(item)
                if part:
                    yield _event(form.part(part))
                item = await self.texts.get()
            if isinstance(item, Exception):
                if not isinstance(item, UserError):
                    traceback.print_exception(item)
                yield _event(_error_json(item))
                return
            line["tokens"] = item.answer.tokens
            yield _event(form.end(deltas.last(item.answer.text), item))
            if self._asked.counts:
                yield _event(form.usage(item))
            yield "data: [DONE]\n\n"
        finally:
            self.is_left.set()


def _event(content: dict[str, Any]) -> str:
    return f"data: {json.dumps(content, ensure_ascii=False)}\n\n"


def _path_of(request: Request) -> str:
    """The path of a request, cut to a length for the log."""
    return str(request.scope["path"])[:_LONGEST_PATH]


def _host_of(request: Request) -> str | None:
    """What a request calls this machine; None if that is no name."""
    try:
        return urlsplit(f"//{request.headers.get('host', '')}").hostname
    except ValueError:
        return None


async def _body(request: Request) -> bytes:
    """The body of a request.

    Raises:
        RequestError: it is too long.

    """
    data = b""
    async for part in request.stream():
        data += part
        if len(data) > _MOST_BYTES:
            raise RequestError(
                f"the request has more than {_MOST_BYTES} bytes",
                code="request_too_large",
                status=413,
            )
    return data


def _error(error: Exception) -> JSONResponse:
    status = error.status if isinstance(error, RequestError) else 400
    return JSONResponse(_error_json(error), status)


def _error_json(error: Exception) -> dict[str, Any]:
    """An error in OpenAI's form."""
    is_known = isinstance(error, UserError)
    status = getattr(error, "status", 400 if is_known else 500)
    kind = "invalid_request_error" if status < 500 else "server_error"
    return {
        "error": {
            "message": str(error) if is_known else "the server has failed",
            "type": kind,
            "param": getattr(error, "param", None),
            "code": getattr(error, "code", None),
        }
    }
