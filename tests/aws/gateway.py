"""A proxy in front of the emulator: it counts, has the limits of AWS, and fails on purpose.

The emulator runs one invocation of a function (of a version) at a time, takes payloads of any size,
never throttles, and has words of its own for what goes wrong. Here, each function has many
versions, one for each execution environment, and invocations get one that is free. What AWS says
and when: the model of Invoke in botocore, Lambda's quotas, and its troubleshooting pages.
"""

import asyncio
import base64
import collections
import io
import json
import re
import threading
import time

import aiohttp
from aiohttp import web

REQUEST_LIMIT = 6 << 20
EVENT_LIMIT = 1 << 20
RESPONSE_LIMIT = 6 << 20
ENVIRONMENTS = 80  # of each function

INVOKE = re.compile(r"/2015-03-31/functions/([^/]+)/invocations")
RESERVE = re.compile(r"/2017-10-31/functions/([^/]+)/concurrency")
SCOPE = re.compile(r"Credential=[^/]+/\d+/[^/]+/([^/]+)/aws4_request")
KILLED = "emulator: signal: killed"  # what the sandbox logs
HOP_BY_HOP = {"connection", "content-length", "host", "transfer-encoding", "keep-alive"}


class Cut(Exception):
    """Raised by a fault: the connection is cut, here and now."""


class Gateway:
    """A server in a thread of its own.

    Attributes:
        calls: requests so far, by service and method ("s3 PUT", "lambda POST").
        invocations: that began, by function.
        elsewhere: URL of what runs a function instead of the emulator.
        events: how many of them were asynchronous.
        background: asynchronous ones that are not done.
        destinations: who gets the event and the error of those that failed, by function.
        request_limit: bytes of a request.
        faults: callables that get ("before", service, request, body) before a request is passed
            on, and ("after", service, request, response) before its response is; what one
            returns, if anything, is sent instead. They may be coroutines, and may raise `Cut`.
        reserved: invocations at once, by function.
        recent: those under way that began since the last reset.
        peak, running, started: invocations at once; when the last ones started and ended.
    """

    def __init__(self):
        self.upstream = None
        self.calls = collections.Counter()
        self.invocations = collections.Counter()
        self.destinations = {}
        self.recent = set()
        self.events = 0
        self.background = set()
        self.request_limit = REQUEST_LIMIT
        self.faults = []
        self.reserved = {}
        self.running = self.peak = self.refused = 0
        self.history = []  # (time, running)
        self.elsewhere = {}
        self.free = collections.defaultdict(lambda: [str(i) for i in range(ENVIRONMENTS, 0, -1)])
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self):
        self._thread.start()
        assert self._ready.wait(30)
        return self

    def __exit__(self, *_):
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(30)

    def reset(self):
        self.recent = set()
        self.calls.clear()
        self.invocations.clear()
        self.destinations.clear()
        self.events = 0
        self.request_limit = REQUEST_LIMIT
        self.faults.clear()
        self.reserved.clear()
        self.history.clear()
        self.peak = self.refused = 0

    def _serve(self):
        asyncio.run(self._main())

    async def _main(self):
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        app = web.Application(client_max_size=1 << 30)
        app.router.add_route("*", "/{path:.*}", self._handle)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, backlog=4096)
        await site.start()
        port = site._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        connector = aiohttp.TCPConnector(limit=0)
        timeout = aiohttp.ClientTimeout(total=None)
        async with aiohttp.ClientSession(
            connector=connector, auto_decompress=False, timeout=timeout
        ) as self._session:
            self._ready.set()
            await self._stop.wait()
            await site.stop()
            await runner.cleanup()

    async def _handle(self, request):
        scope = SCOPE.search(request.headers.get("Authorization", ""))
        service = scope[1] if scope else "unsigned"
        self.calls[f"{service} {request.method}"] += 1
        body = await request.read()
        try:
            for fault in list(self.faults):
                if (response := await said(fault("before", service, request, body))) is not None:
                    return response
            response = await self._pass_on(service, request, body)
            for fault in list(self.faults):
                other = await said(fault("after", service, request, response))
                response = response if other is None else other
        except Cut:
            request.transport.abort()
            raise ConnectionResetError("cut on purpose") from None
        return response

    async def _pass_on(self, service, request, body):
        if (match := INVOKE.fullmatch(request.path)) and request.method == "POST":
            return await self._invoke(match[1], request, body)
        if (match := RESERVE.fullmatch(request.path)) and request.method == "PUT":
            self.reserved[match[1]] = json.loads(body)["ReservedConcurrentExecutions"]
        return await self._forward(request, body, request.rel_url)

    async def _forward(self, request, body, url, **more):
        headers = {k: v for k, v in request.headers.items() if k.lower() not in HOP_BY_HOP}
        async with self._session.request(
            request.method,
            self.upstream + str(url),
            data=io.BytesIO(body),
            headers=headers | more,
            allow_redirects=False,
        ) as response:
            kept = {k: v for k, v in response.headers.items() if k.lower() not in HOP_BY_HOP}
            data = await response.read()
            if request.method == "HEAD":
                kept["Content-Length"] = response.headers.get("Content-Length", "0")
            return web.Response(status=response.status, headers=kept, body=data)

    async def _invoke(self, function, request, body):
        asynchronous = request.headers.get("X-Amz-Invocation-Type") == "Event"
        limit = EVENT_LIMIT if asynchronous else self.request_limit
        if len(body) > limit:
            return error(413, "RequestTooLargeException", f"{len(body)} bytes; limit is {limit}")
        if asynchronous:
            self.events += 1
            task = asyncio.ensure_future(self._evaluate_event(function, request, body))
            self.background.add(task)
            task.add_done_callback(self.background.discard)
            return web.Response(status=202)
        if self.running >= self.reserved.get(function, ENVIRONMENTS):
            self.refused += 1
            return error(
                429,
                "TooManyRequestsException",
                "Rate Exceeded.",
                Reason="ReservedFunctionConcurrentInvocationLimitExceeded",
            )
        return await self._evaluate(function, request, body)

    async def _interface_emulator(self, url, body):
        """AWS's runtime interface emulator: one invocation at a time, and no header for errors."""
        path = "/2015-03-31/functions/function/invocations"
        async with self._session.post(url + path, data=io.BytesIO(body)) as response:
            data = await response.read()
            failed = response.status != 200 or b'"errorType"' in data[:1000]
            headers = {"X-Amz-Function-Error": "Unhandled"} if failed else {}
            return web.Response(body=data, headers=headers)

    async def _evaluate_event(self, function, request, body):
        """What Lambda does after it has taken an event: no retries, failures go to the queue."""
        response = await self._evaluate(function, request, body)
        destination = self.destinations.get(function)
        if "X-Amz-Function-Error" in response.headers and destination is not None:
            await asyncio.to_thread(destination, json.loads(body), json.loads(response.body))

    async def _evaluate(self, function, request, body):
        while not (free := self.free[function]):  # noqa: ASYNC110  # rare
            await asyncio.sleep(0.01)
        version = free.pop()
        self.running += 1
        recent = self.recent
        recent.add(token := object())
        self.invocations[function] += 1
        self.peak = max(self.peak, self.running)
        self.history.append((time.monotonic(), self.running))
        headers = {"X-Amz-Log-Type": "Tail", "X-Amz-Invocation-Type": "RequestResponse"}
        try:
            if url := self.elsewhere.get(function):
                return await self._interface_emulator(url, body)
            url = request.rel_url.update_query(Qualifier=version)
            response = await self._forward(request, body, url, **headers)
        finally:
            self.running -= 1
            recent.discard(token)
            self.history.append((time.monotonic(), self.running))
            free.append(version)
        return as_aws_says(response, request)


def as_aws_says(response, request):
    """The response of the emulator, in the words of AWS."""
    log = base64.b64decode(response.headers.pop("X-Amz-Log-Result", "")).decode(errors="replace")
    number = response.headers.get("x-amzn-requestid", "0000")
    if "X-Amz-Function-Error" in response.headers:
        said = json.loads(response.body)["errorMessage"]
        if "timed out" in said:
            return failure(number, "Sandbox.Timedout", f"Error: {said}")
        if "died" in said and KILLED in log:
            return failure(number, "Runtime.ExitError", "Error: Runtime exited: signal: killed")
        if "init failed" in said:
            return failure(number, "Runtime.ImportModuleError", f"Error: {said}")
        if "died" in said:
            return failure(number, "Runtime.ExitError", "Error: Runtime exited with error: exit")
    if len(response.body) > RESPONSE_LIMIT:
        return failure(
            number,
            "Function.ResponseSizeTooLarge",
            f"Response payload size exceeded maximum allowed payload size ({RESPONSE_LIMIT} bytes)",
        )
    return response


def failure(number, kind, message):
    said = {"errorType": kind, "errorMessage": f"RequestId: {number} {message}"}
    return web.json_response(said, headers={"X-Amz-Function-Error": "Unhandled"})


def error(status, code, message, **more):
    """An error of a JSON service."""
    body = {"Type": "User", "message": message, "Message": message, "__type": code, **more}
    return web.json_response(body, status=status, headers={"x-amzn-ErrorType": code})


def s3_error(status, code, message):
    """An error of S3."""
    text = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message></Error>"
    return web.Response(status=status, text=text, content_type="application/xml")


async def said(result):
    return await result if asyncio.iscoroutine(result) else result
