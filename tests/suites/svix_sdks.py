"""Walks the surface of the Svix shape with Svix's Python SDK, 1.x or 2.x. Called by svix_sdks.sh with the daemon's URL and a
token of an organization."""

import concurrent.futures
import datetime
import http.server
import json
import os
import queue
import sys
import threading
import time
import traceback
import uuid

import svix
from svix import Svix, SvixOptions, Webhook, WebhookVerificationError
from svix import models
from svix.api import (
    ApplicationListOptions,
    EndpointListOptions,
    EventTypeListOptions,
    MessageAttemptListByEndpointOptions,
    MessageAttemptListByMsgOptions,
    MessageGetOptions,
    MessageListOptions,
    MessagePollerConsumerPollOptions,
    MessagePollerPollOptions,
)
from svix.api.operational_webhook_endpoint import OperationalWebhookEndpointListOptions as OperationalListOptions
from svix.exceptions import HttpError, HTTPValidationError

URL, TOKEN = sys.argv[1:3]
IS_SECOND = svix.__version__.startswith("2.")
ARRIVAL_S = 30
# Messages of the list that is walked while more arrive.
LISTED = int(os.environ.get("SVIX_LISTED_MESSAGES", 2_000 if IS_SECOND else 400))
SENDERS = 8


def equal(found, expected):
    if found != expected:
        raise AssertionError(f"{found!r} is not {expected!r}")


def refused(status, call):
    """The error of a call, which must have this status and be one of the SDK's own."""
    try:
        call()
    except HTTPValidationError as error:
        equal(422, status)
        assert error.detail, error
        return error
    except HttpError as error:
        equal(error.status_code, status)
        assert error.code and error.detail, error
        return error
    raise AssertionError(f"nothing was refused with {status}")


class Receiver:
    """A receiver that answers with the next of `statuses`, or 200."""

    def __init__(self):
        self.requests, self.statuses = queue.Queue(), queue.Queue()
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                receiver.requests.put((dict(self.headers.items()), body))
                status = 200 if receiver.statuses.empty() else receiver.statuses.get()
                self.send_response(status)
                self.send_header("content-length", "2")
                self.end_headers()
                self.wfile.write(b"ok")

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/in"

    def verified(self, secret):
        """The next request, whose signature the SDK verifies: its headers and its payload."""
        headers, body = self.requests.get(timeout=ARRIVAL_S)
        Webhook(secret).verify(body, headers)
        try:
            Webhook(secret).verify(body + b" ", headers)
        except WebhookVerificationError:
            return {name.lower(): value for name, value in headers.items()}, json.loads(body)
        raise AssertionError("an altered body was verified")


def eventually(look):
    end = time.monotonic() + ARRIVAL_S
    while time.monotonic() < end:
        found = look()
        if found:
            return found
        time.sleep(0.1)
    raise AssertionError("it never came true")


def pages(ask):
    """All items of a list by its iterator, and back by its previous iterator."""
    forward, iterator = [], None
    while True:
        page = ask(iterator)
        forward.extend(page.data)
        if page.done:
            break
        iterator = page.iterator
    back, iterator = [], "-" + forward[-1].id
    while True:
        page = ask(iterator)
        back = page.data + back
        if page.done:
            break
        iterator = page.prev_iterator
    equal([item.id for item in back], [item.id for item in forward[:-1]])
    return forward


def endpoint_in(**members):
    if not IS_SECOND and "event_types" in members:
        members["filter_types"] = members.pop("event_types")
    return models.EndpointIn(**members)


class Walk:
    def __init__(self):
        self.svix = Svix(TOKEN, SvixOptions(server_url=URL))
        self.uid = f"app-{uuid.uuid4()}"
        self.receiver = Receiver()

    def applications(self):
        api = self.svix.application
        app = api.create(models.ApplicationIn(name="Acme", uid=self.uid, metadata={"plan": "pro"}, throttle_rate=50))
        equal((app.uid, app.name, app.metadata), (self.uid, "Acme", {"plan": "pro"}))
        equal(api.get(app.id), api.get(self.uid))
        equal(api.get_or_create(models.ApplicationIn(name="x", uid=self.uid)).id, app.id)
        equal(refused(409, lambda: api.create(models.ApplicationIn(name="x", uid=self.uid))).code, "conflict")
        equal(api.patch(self.uid, models.ApplicationPatch(name="Acme 2")).name, "Acme 2")
        equal(refused(404, lambda: api.get("no-such-app")).code, "not_found")
        others = [api.create(models.ApplicationIn(name=f"other {n}")) for n in range(3)]
        listed = pages(lambda at: api.list(ApplicationListOptions(limit=2, iterator=at)))
        assert {other.id for other in others} <= {app.id for app in listed}
        for other in others:
            api.delete(other.id)
        refused(404, lambda: api.get(others[0].id))
        refused(422, lambda: api.create(models.ApplicationIn(name="x", uid="a b")))
        stranger = Svix("pr_nobody", SvixOptions(server_url=URL))
        equal(refused(401, lambda: stranger.application.get(app.id)).code, "authentication_failed")

    def event_types(self):
        api = self.svix.event_type
        self.type = f"invoice.paid.{uuid.uuid4().hex}"
        schemas = {"1": {"type": "object", "examples": [{"id": 7}]}}
        made = api.create(models.EventTypeIn(name=self.type, description="An invoice was paid", schemas=schemas))
        equal((made.name, made.archived, made.deprecated), (self.type, False, False))
        equal(refused(409, lambda: api.create(models.EventTypeIn(name=self.type, description=""))).code, "event_type_exists")
        equal(api.get(self.type).schemas, schemas)
        equal(api.patch(self.type, models.EventTypePatch(description="Paid")).description, "Paid")
        names = [item.name for item in api.list(EventTypeListOptions(limit=250)).data]
        assert self.type in names and names == sorted(names), names
        other = f"other.{uuid.uuid4().hex}"
        api.create(models.EventTypeIn(name=other, description=""))
        api.delete(other)
        assert other not in [item.name for item in api.list(EventTypeListOptions(limit=250)).data]
        equal(api.get(other).archived, True)

    def endpoints(self):
        api = self.svix.endpoint
        made = api.create(
            self.uid,
            endpoint_in(url=self.receiver.url, event_types=[self.type], uid="ep-1", metadata={"a": "b"}, headers={"X-One": "1"}),
        )
        self.endpoint = made.id
        equal((made.url, made.uid, made.metadata), (self.receiver.url, "ep-1", {"a": "b"}))
        equal(api.get(self.uid, "ep-1"), made)
        equal(made.event_types if IS_SECOND else made.filter_types, [self.type])
        replace = api.upsert if IS_SECOND else api.update
        body = models.EndpointUpsertIn if IS_SECOND else models.EndpointUpdate
        types = {"event_types" if IS_SECOND else "filter_types": [self.type]}
        put = replace(self.uid, made.id, body(url=self.receiver.url, uid="ep-1", description="d", **types))
        equal((put.description, put.metadata), ("d", {}))
        equal(api.patch(self.uid, made.id, models.EndpointPatch(description="e")).description, "e")
        equal(api.get_headers(self.uid, made.id).headers, {"X-One": "1"})
        set_headers = api.set_headers if IS_SECOND else api.update_headers
        set_headers(self.uid, made.id, models.EndpointHeadersIn(headers={"X-One": "1", "Authorization": "x"}))
        headers = api.get_headers(self.uid, made.id)
        equal((headers.headers, headers.sensitive), ({"X-One": "1"}, ["Authorization"]))
        api.patch_headers(self.uid, made.id, models.EndpointHeadersPatchIn(headers={"X-Two": "2"}))
        equal(api.get_headers(self.uid, made.id).headers, {"X-One": "1", "X-Two": "2"})
        api.rotate_secret(self.uid, made.id, models.EndpointSecretRotateIn())
        self.secret = api.get_secret(self.uid, made.id).key
        assert self.secret.startswith("whsec_")
        refused(422, lambda: api.create(self.uid, endpoint_in(url="ftp://example.com")))
        refused(422, lambda: api.create(self.uid, endpoint_in(url=self.receiver.url, event_types=["no.such.type"])))
        more = [api.create(self.uid, endpoint_in(url=self.receiver.url, channels=["nowhere"])) for _ in range(3)]
        listed = pages(lambda at: api.list(self.uid, EndpointListOptions(limit=2, iterator=at)))
        equal([one.id for one in listed][:3], [one.id for one in reversed(more)])
        for one in more:
            api.delete(self.uid, one.id)
        refused(404, lambda: api.get(self.uid, more[0].id))

    def messages(self):
        api = self.svix.message
        sent = models.MessageIn(event_type=self.type, event_id="e-1", payload={"n": 1}, channels=["eu"])
        made = api.create(self.uid, sent)
        headers, payload = self.receiver.verified(self.secret)
        equal((payload, headers["svix-id"], headers["x-one"]), ({"n": 1}, made.id, "1"))
        equal(refused(409, lambda: api.create(self.uid, sent)).code, "conflict")
        equal((api.get(self.uid, made.id).id, api.get(self.uid, "e-1").id), (made.id, made.id))
        whole = api.list(self.uid, MessageListOptions(with_content=True)).data[0]
        equal((whole.payload, whole.event_id, whole.channels), ({"n": 1}, "e-1", ["eu"]))
        for n in range(5):
            api.create(self.uid, models.MessageIn(event_type=self.type, payload={"n": n}))
            self.receiver.verified(self.secret)
        equal(len(pages(lambda at: api.list(self.uid, MessageListOptions(limit=2, iterator=at)))), 6)
        after = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(hours=1)
        equal(len(api.list(self.uid, MessageListOptions(after=after, event_types=[self.type])).data), 6)
        equal(len(api.list(self.uid, MessageListOptions(channel="eu")).data), 1)
        api.expunge_content(self.uid, "e-1")
        equal(api.list(self.uid, MessageListOptions(with_content=True, channel="eu")).data[0].payload, {"expired": True})

    def long_list(self):
        """A list of many pages has no gap and no repetition in either direction while messages arrive."""
        uid = f"{self.uid}-long"
        self.svix.application.create(models.ApplicationIn(name=uid, uid=uid))

        def send(count):
            api = Svix(TOKEN, SvixOptions(server_url=URL)).message
            sent = models.MessageIn(event_type=self.type, payload={})
            return [api.create(uid, sent).id for _ in range(count)]

        def walk(iterator, member):
            while True:
                page = self.svix.message.list(uid, MessageListOptions(limit=250, iterator=iterator))
                yield [message.id for message in page.data]
                if page.done:
                    return
                iterator = getattr(page, member)

        with concurrent.futures.ThreadPoolExecutor(SENDERS) as pool:
            made = [one for part in pool.map(send, [LISTED // SENDERS] * SENDERS) for one in part]
            arriving = pool.submit(send, LISTED // 20)
            forward = [one for page in walk(None, "iterator") for one in page]
            back = [one for page in walk("-" + forward[-1], "prev_iterator") for one in reversed(page)]
            arriving = arriving.result()
        equal(forward, sorted(set(forward), reverse=True))
        equal(set(made) - set(forward), set())
        equal(back, sorted(set(back)))
        equal(back[: len(forward) - 1], forward[-2::-1])
        equal(set(back) - set(made) - set(arriving), set())
        self.svix.application.delete(uid)

    def attempts(self):
        api = self.svix.message_attempt
        self.receiver.statuses.put(500)
        made = self.svix.message.create(self.uid, models.MessageIn(event_type=self.type, payload={"n": "fails"}))
        self.receiver.verified(self.secret)
        of_message = lambda: api.list_by_msg(self.uid, made.id, MessageAttemptListByMsgOptions()).data
        failed = eventually(of_message)[0]
        equal((failed.status, failed.response_status_code, failed.endpoint_id), (2, 500, self.endpoint))
        equal(api.get(self.uid, made.id, failed.id).id, failed.id)
        by_endpoint = api.list_by_endpoint(self.uid, self.endpoint, MessageAttemptListByEndpointOptions(status=2))
        equal([attempt.id for attempt in by_endpoint.data], [failed.id])
        row = next(row for row in api.list_attempted_messages(self.uid, self.endpoint).data if row.id == made.id)
        equal(row.status, 3)
        destination = api.list_attempted_destinations(self.uid, made.id).data[0]
        equal((destination.id, destination.status), (self.endpoint, 2))
        api.resend(self.uid, made.id, self.endpoint)
        _, payload = self.receiver.verified(self.secret)
        equal(payload, {"n": "fails"})
        resent = eventually(lambda: [attempt for attempt in of_message() if attempt.status == 0])[0]
        equal(resent.trigger_type, 1)
        api.expunge_content(self.uid, made.id, failed.id)
        seen = models.MessageAttemptOut
        whole = [a for a in api.list_by_msg(self.uid, made.id, MessageAttemptListByMsgOptions(with_content=True)).data]
        equal([a.response for a in whole if a.id == failed.id], ["EXPUNGED"])
        assert isinstance(whole[0], seen)
        stats = self.svix.endpoint.get_stats(self.uid, self.endpoint)
        assert stats.success >= 7 and stats.fail == 1, stats

    def acting(self):
        api = self.svix.endpoint
        example = api.send_example(self.uid, self.endpoint, models.EventExampleIn(event_type=self.type))
        headers, payload = self.receiver.verified(self.secret)
        equal((payload, headers["svix-id"]), ({"id": 7}, example.id))
        api.send_example(self.uid, self.endpoint, models.EventExampleIn(event_type="svix.ping"))
        equal(self.receiver.verified(self.secret)[1], {"success": True})
        since = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(hours=1)
        task = api.recover(self.uid, self.endpoint, models.RecoverIn(since=since))
        equal(str(getattr(task.status, "value", task.status)), "running")
        missing = api.replay_missing(self.uid, self.endpoint, models.ReplayIn(since=since))
        is_finished = lambda: str(getattr(tasks.get(missing.id).status, "value", "")) == "finished"
        tasks = self.svix.background_task
        eventually(is_finished)
        assert missing.id in [one.id for one in tasks.list().data]
        precheck = models.MessagePrecheckIn(event_type=self.type)
        equal(self.svix.message.precheck(self.uid, precheck).active, True)
        polled = self.svix.message.poller.poll(self.uid, self.endpoint)
        assert example.id in [one.id for one in polled.data] and polled.done, polled
        again = MessagePollerPollOptions(iterator=polled.iterator)
        equal(self.svix.message.poller.poll(self.uid, self.endpoint, again).data, [])
        self.consumer(example.id)
        self.all_erased()
        if IS_SECOND:
            erased = self.svix.message.bulk_expunge_content(self.uid, models.BulkExpungeContentsIn(ids=[example.id, "none"]))
            equal({name: str(state) for name, state in erased.results.items()}, {example.id: "expunged", "none": "not-found"})

    def consumer(self, example):
        poller = self.svix.message.poller
        poll = lambda at: poller.consumer_poll(self.uid, self.endpoint, "one", MessagePollerConsumerPollOptions(iterator=at))
        page = poll(None)
        assert example in [one.id for one in page.data], page
        equal([one.id for one in poll(None).data], [one.id for one in page.data])
        equal(poll(page.iterator).data, [])
        equal(poll(None).data, [])
        after = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(hours=1)
        sought = poller.consumer_seek(self.uid, self.endpoint, "one", models.PollingEndpointConsumerSeekIn(after=after))
        assert example in [one.id for one in poll(sought.iterator).data]
        equal(refused(400, lambda: poll(page.iterator)).code, "invalid_iterator")

    def all_erased(self):
        app = self.svix.application.create(models.ApplicationIn(name="erased")).id
        made = self.svix.message.create(app, models.MessageIn(event_type=self.type, payload={"n": 1}))
        task = self.svix.message.expunge_all_contents(app)
        equal(str(getattr(task.task, "value", task.task)), "application.purge_content")
        tasks = self.svix.background_task
        eventually(lambda: str(getattr(tasks.get(task.id).status, "value", "")) == "finished")
        equal(tasks.get(task.id).data["messagesPurged"], 1)
        equal(self.svix.message.get(app, made.id, MessageGetOptions(with_content=True)).payload, {"expired": True})
        self.svix.application.delete(app)

    def portal(self):
        access = self.svix.authentication.app_portal_access(self.uid, models.AppPortalAccessIn())
        portal = Svix(access.token, SvixOptions(server_url=URL))
        equal(portal.application.get(self.uid).uid, self.uid)
        equal(portal.endpoint.get(self.uid, self.endpoint).id, self.endpoint)
        for call in [
            lambda: portal.application.list(),
            lambda: portal.message.create(self.uid, models.MessageIn(event_type=self.type, payload={})),
        ]:
            equal(refused(403, call).code, "insufficient access")
        portal.authentication.logout()
        refused(401, lambda: portal.application.get(self.uid))
        access = self.svix.authentication.app_portal_access(self.uid, models.AppPortalAccessIn(read_only=True))
        reader = Svix(access.token, SvixOptions(server_url=URL))
        refused(403, lambda: reader.endpoint.get_secret(self.uid, self.endpoint))
        self.svix.authentication.expire_all(self.uid, models.ApplicationTokenExpireIn())
        refused(401, lambda: reader.application.get(self.uid))

    def operational(self):
        api = self.svix.operational_webhook.endpoint
        operator = Receiver()
        types = {"event_types" if IS_SECOND else "filter_types": ["endpoint.created", "message.attempt.exhausted"]}
        made = api.create(models.OperationalWebhookEndpointIn(url=operator.url, uid="ops", metadata={"a": "b"}, **types))
        equal((made.url, made.uid, made.metadata), (operator.url, "ops", {"a": "b"}))
        equal(made.event_types if IS_SECOND else made.filter_types, ["endpoint.created", "message.attempt.exhausted"])
        equal(api.get("ops").id, made.id)
        assert made.id in [one.id for one in pages(lambda at: api.list(OperationalListOptions(limit=1, iterator=at)))]
        set_headers = api.set_headers if IS_SECOND else api.update_headers
        set_headers(made.id, models.OperationalWebhookEndpointHeadersIn(headers={"X-One": "1"}))
        equal(api.get_headers(made.id).headers, {"X-One": "1"})
        api.rotate_secret(made.id, models.OperationalWebhookEndpointSecretIn())
        secret = api.get_secret(made.id).key
        told = self.svix.endpoint.create(self.uid, endpoint_in(url=self.receiver.url, channels=["nowhere"]))
        headers, notice = operator.verified(secret)
        data = {"appId": self.svix.application.get(self.uid).id, "appUid": self.uid, "endpointId": told.id, "endpointUid": None}
        equal((notice, headers["x-one"]), ({"type": "endpoint.created", "data": data}, "1"))
        if not IS_SECOND:
            equal(models.EndpointCreatedEvent.model_validate(notice).data.endpoint_id, told.id)
        self.svix.endpoint.delete(self.uid, told.id)
        replace = api.upsert if IS_SECOND else api.update
        body = models.OperationalWebhookEndpointUpsertIn if IS_SECOND else models.OperationalWebhookEndpointUpdate
        equal(replace(made.id, body(url=operator.url, description="d")).description, "d")
        refused(422, lambda: api.create(models.OperationalWebhookEndpointIn(url="ftp://example.com")))
        api.delete(made.id)
        refused(404, lambda: api.get(made.id))

    def end(self):
        self.svix.health.get()
        refused(404, lambda: self.svix.connector.get("none"))
        self.svix.application.delete(self.uid)
        refused(404, lambda: self.svix.endpoint.list(self.uid))


walk, failed = Walk(), False
for step in ["applications", "event_types", "endpoints", "messages", "attempts", "acting", "portal", "operational", "long_list", "end"]:
    try:
        getattr(walk, step)()
        print(f"ok      {step}")
    except Exception:
        failed = True
        print(f"FAILED  {step}")
        traceback.print_exc()
sys.exit(failed)
