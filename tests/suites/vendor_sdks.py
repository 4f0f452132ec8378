"""Walks the webhook methods of Devdraft's, sent.dm's and Instantly's Python SDKs. Called by vendor_sdks.sh with the daemon's
URL, a key and the key's id."""

import base64
import hashlib
import hmac
import http.server
import json
import queue
import sys
import threading
import time
import traceback
import urllib.request
import uuid

import devdraft
import devdraft_sdk
from instantlyai import Instantly
from sent_dm import Sent

URL, KEY, KEY_ID = sys.argv[1:4]
PLAIN_SECRET = "a-shared_secret-of-32-characters"


def equal(found, expected):
    if found != expected:
        raise AssertionError(f"{found!r} is not {expected!r}")


def devdraft_client(sdk, with_key_id=True):
    configuration = sdk.Configuration()
    configuration.host = URL
    configuration.api_key["x-client-secret"] = KEY
    if with_key_id:
        configuration.api_key["x-client-key"] = KEY_ID
    return sdk.WebhooksApi(sdk.ApiClient(configuration))


def new_webhook(sdk):
    return sdk.CreateWebhookDto(
        name="Payments", url="https://example.com/in", is_active=True, encrypted=False, signing_secret=PLAIN_SECRET
    )


def uuid_of(webhook):
    """The UUID in an id: the SDK 1.0.0 takes no other form in a path."""
    return str(uuid.UUID(webhook.id[3:]))


def devdraft_1_0_0():
    api = devdraft_client(devdraft)
    made = api.webhook_controller_create(new_webhook(devdraft))
    equal((made.name, made.is_active), ("Payments", True))
    equal([row.id for row in api.webhook_controller_find_all()], [made.id])
    equal([row.id for row in api.webhook_controller_find_all(skip=0.0, take=10.0)], [made.id])
    equal(api.webhook_controller_find_all(skip=1.0), [])
    equal(api.webhook_controller_find_one(uuid_of(made)).id, made.id)
    changed = api.webhook_controller_update(uuid_of(made), devdraft.UpdateWebhookDto(name="Refunds"))
    equal(changed.name, "Refunds")
    equal(devdraft_client(devdraft, with_key_id=False).webhook_controller_find_one(uuid_of(made)).name, "Refunds")
    removed = api.webhook_controller_remove(uuid_of(made))
    equal((removed.id, removed.name), (made.id, "Refunds"))
    equal(api.webhook_controller_find_all(), [])


def devdraft_sdk_1_0_9():
    api = devdraft_client(devdraft_sdk)
    made = api.webhook_controller_create(new_webhook(devdraft_sdk))
    equal([row.id for row in api.webhook_controller_find_all()], [made.id])
    equal([row.id for row in api.webhook_controller_find_all(skip=0.0, take=10.0)], [made.id])
    equal(api.webhook_controller_find_one(made.id).name, "Payments")
    equal(api.webhook_controller_update({"name": "Refunds"}, made.id).name, "Refunds")
    equal(api.webhook_controller_remove(made.id).name, "Refunds")
    equal(api.webhook_controller_find_all(), [])


class Receiver(http.server.BaseHTTPRequestHandler):
    """Takes every POST and keeps its headers and its body."""

    came = queue.Queue()

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        Receiver.came.put((self.headers, body))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def start_receiver():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}/in"


def next_request():
    return Receiver.came.get(timeout=30)


def publish(event_type, data, **attributes):
    body = json.dumps({"type": event_type, "data": data, **attributes}).encode()
    headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
    urllib.request.urlopen(urllib.request.Request(f"{URL}/v1/events", body, headers)).close()


def sent_accepts(secret, headers, body):
    """The rule of sent.dm's receivers: the whole header is one value, and the type in a header is the body's."""
    event_id, timestamp = headers["x-webhook-id"], headers["x-webhook-timestamp"]
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = f"{event_id}.{timestamp}.".encode() + body
    right = "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    event = json.loads(body)
    kind = event.get("sub_type") or event.get("event") or event["field"]
    return (
        hmac.compare_digest(headers["x-webhook-signature"], right)
        and abs(time.time() - int(timestamp)) <= 300
        and headers["x-webhook-event-type"] == kind
        and bool(headers["x-webhook-event-id"])
    )


def sentdm_0_46_0():
    client = Sent(api_key=KEY, base_url=URL, max_retries=0)
    hooks = client.webhooks
    fields = {
        "display_name": "Payments",
        "endpoint_url": RECEIVER,
        "event_types": ["message", "contact"],
        "event_filters": {"contact": ["opt_in"]},
        "retry_count": 2,
        "timeout_seconds": 10,
    }
    tried = hooks.create(**fields, sandbox=True).data
    equal(tried.signing_secret.startswith("whsec_"), True)
    made = hooks.create(**fields, idempotency_key="payments-1").data
    equal(hooks.create(**fields, idempotency_key="payments-1").data.id, made.id)
    read = hooks.retrieve(made.id).data
    equal({name: getattr(read, name) for name in fields}, fields)
    rows = hooks.list(page=1, page_size=20, search=None, is_active=None)
    equal([row.display_name for row in rows], ["Payments"])

    publish("message.delivered", {"n": 1})
    equal(sent_accepts(made.signing_secret, *next_request()), True)
    secret = hooks.rotate_secret(made.id).data.signing_secret
    publish("contact.opt_in", {"n": 2})
    publish("contact.opt_out", {"n": 3})
    publish("message", {"n": 4})
    for _ in range(2):
        equal(sent_accepts(secret, *next_request()), True)
    tested = hooks.test(made.id, event_type="message.read").data
    equal((tested.success, tested.message), (True, "Test event delivered successfully"))
    equal(sent_accepts(secret, *next_request()), True)
    equal(Receiver.came.empty(), True)

    changed = hooks.update(made.id, display_name="Refunds", event_filters=None).data
    equal((changed.display_name, changed.event_filters, changed.retry_count), ("Refunds", None, 2))
    equal(hooks.toggle_status(made.id, is_active=False).data.is_active, False)
    equal(hooks.toggle_status(made.id, is_active=True).data.is_active, True)
    events = list(hooks.list_events(made.id, page=1, page_size=20, search=None))
    equal(len(events), 3)
    listed = hooks.list_event_types().data
    names = [row.event_type for row in listed.event_types]
    equal("postrider.webhook.failing" in names and listed.pagination.total_count == len(names), True)
    hooks.delete(made.id)
    equal(list(hooks.list(page=1, page_size=20)), [])


def instantlyai_0_7_0():
    hooks = Instantly(api_key=KEY, base_url=URL).webhooks
    campaign = str(uuid.uuid4())
    made = hooks.create(
        target_hook_url=RECEIVER,
        campaign=campaign,
        name="Replies",
        event_type="reply_received",
        headers={"authorization": "Bearer shared"},
    )
    equal((str(made.campaign), made.name, made.status), (campaign, "Replies", 1))
    path = str(made.id)
    equal(hooks.retrieve(path).id, made.id)
    equal([row.id for row in hooks.list(limit=1)], [made.id])
    equal([row.id for row in hooks.list(campaign=campaign, event_type="reply_received")], [made.id])
    equal(list(hooks.list(event_type="email_sent")), [])

    publish("reply_received", {"n": 1}, channels=[campaign], subject="a@x.example")
    headers, body = next_request()
    event = json.loads(body)
    equal((event["event_type"], event["lead_email"], event["n"]), ("reply_received", "a@x.example", 1))
    equal(headers["authorization"], "Bearer shared")
    equal(hooks.test(path)["success"], True)
    next_request()

    changed = hooks.update(path, name=None, campaign=None, event_type="all_events", headers=made.headers)
    equal((changed.name, changed.campaign, changed.event_type.value), ("127.0.0.1", None, "all_events"))
    publish("anything", {})
    equal(next_request()[0]["authorization"], "Bearer shared")
    equal("postrider.webhook.failing" in hooks.event_types()["items"], True)
    equal(hooks.resume(path).status, 1)
    equal(hooks.delete(path).id, made.id)
    equal(list(hooks.list()), [])


RECEIVER = start_receiver()
failed = False
for walk in (devdraft_1_0_0, devdraft_sdk_1_0_9, sentdm_0_46_0, instantlyai_0_7_0):
    try:
        walk()
        print(f"{walk.__name__}: good")
    except Exception:
        traceback.print_exc()
        print(f"{walk.__name__}: FAILED")
        failed = True
sys.exit(failed)
