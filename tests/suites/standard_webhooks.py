"""A receiver with the official Python library: every request that Postrider sends verifies, and encrypted ones open.

Usage: standard_webhooks.py URL KEY. Exits with 1 if anything was not as it should be.
"""

import base64
import hashlib
import hmac
import json
import queue
import sys
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from jwcrypto import jwe, jwk
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

URL, KEY = sys.argv[1:3]
PATIENCE_S = 60
passed, failed = 0, 0


class Receiver(BaseHTTPRequestHandler):
    """Puts each request into the queue of its path, and answers with the next status of that path's list."""

    protocol_version = "HTTP/1.1"
    inbox: dict = {}
    statuses: dict = {}

    def handle_any(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        path = self.path.split("?")[0]
        statuses = self.statuses.get(path, [])
        self.send_response(statuses.pop(0) if statuses else 200)
        self.send_header("content-length", "0")
        self.end_headers()
        self.inbox[path].put((dict(self.headers.items()), body))

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_any

    def log_message(self, *args):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
threading.Thread(target=server.serve_forever, daemon=True).start()


def call(method, path, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(URL + path, data=data, method=method)
    request.add_header("authorization", f"Bearer {KEY}")
    if data is not None:
        kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
        request.add_header("content-type", kind)
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
        return json.loads(answer.read() or b"null")


class Hook:
    """A webhook of the daemon that points here, for events of its own type."""

    made = 0

    def __init__(self, **fields):
        Hook.made += 1
        self.path = f"/python/{Hook.made}"
        self.type = f"python.n{Hook.made}"
        Receiver.inbox[self.path] = queue.Queue()
        Receiver.statuses[self.path] = fields.pop("statuses", [])
        fields["url"] = f"http://127.0.0.1:{server.server_port}{self.path}"
        fields["event_types"] = [self.type]
        self.webhook = call("POST", "/v1/webhooks", fields)
        self.secret = self.webhook["secret"]
        self.api = f"/v1/webhooks/{self.webhook['id']}"

    def send(self, data):
        call("POST", "/v1/events", {"type": self.type, "data": data})
        return self.next()

    def next(self):
        return Receiver.inbox[self.path].get(timeout=PATIENCE_S)


def check(what, ok):
    global passed, failed
    if ok:
        passed += 1
    else:
        failed += 1
        print(f"NOT OK: {what}", file=sys.stderr)


def verifies(secret, headers, body):
    try:
        Webhook(secret).verify(body, headers, json_parse=False)
        return True
    except WebhookVerificationError:
        return False


def payloads():
    hook = Hook()
    for data in [{"id": 42}, {}, [], None, "", "zażółć gęślą jaźń 🦆", {"n": 1.5, "deep": [[{"a": None}]]}, "x" * 200_000]:
        headers, body = hook.send(data)
        check(f"payload {str(data)[:40]}", Webhook(hook.secret).verify(body, headers)["data"] == data)
        check("a changed body does not verify", not verifies(hook.secret, headers, body + b" "))
        check("a changed id does not verify", not verifies(hook.secret, {**headers, "webhook-id": "other"}, body))


def shapes():
    for fields in [
        {"method": "put"},
        {"method": "patch"},
        {"method": "get"},
        {"method": "delete"},
        {"content_type": "application/x-www-form-urlencoded"},
        {"field_set": "raw"},
        {"field_set": "legacy"},
        {"field_set": "dfns"},
        {"field_set": "sent"},
        {"field_set": "flat"},
        {"signature": ["sent", "dfns", "ed25519", "standard"]},
    ]:
        hook = Hook(**fields)
        headers, body = hook.send({"id": 42, "to": "ann@example.com"})
        check(f"{fields}", verifies(hook.secret, headers, body))


def retries():
    hook = Hook(statuses=[500, 503], retry_schedule_s=[1, 1])
    first = hook.send({"id": 1})
    attempts = [first, hook.next(), hook.next()]
    check("every attempt verifies", all(verifies(hook.secret, headers, body) for headers, body in attempts))
    check("one id for all attempts", len({headers["webhook-id"] for headers, _ in attempts}) == 1)
    check("a timestamp of its own", len({headers["webhook-timestamp"] for headers, _ in attempts}) == 3)


def rotation():
    given = "whsec_" + base64.b64encode(bytes(range(64))).decode()
    hook = Hook(secret=given)
    check("a secret of 64 bytes", verifies(given, *hook.send(1)))
    second = call("POST", f"{hook.api}/rotate-secret", {})["secret"]
    headers, body = hook.send(2)
    check("old and new verify in the overlap", verifies(given, headers, body) and verifies(second, headers, body))
    third = call("POST", f"{hook.api}/rotate-secret", {"overlap_s": 3600})["secret"]
    headers, body = hook.send(3)
    check("three live secrets", len(headers["webhook-signature"].split(" ")) == 3)
    check("all of them verify", all(verifies(secret, headers, body) for secret in (given, second, third)))
    fourth = call("POST", f"{hook.api}/rotate-secret", {"overlap_s": 0})["secret"]
    headers, body = hook.send(4)
    check("the newest verifies", verifies(fourth, headers, body))
    check("without an overlap the others do not", not any(verifies(secret, headers, body) for secret in (given, second, third)))


def hkdf(secret, info):
    """RFC 5869 with SHA-256, no salt, one block."""
    extracted = hmac.new(bytes(32), base64.b64decode(secret.removeprefix("whsec_")), hashlib.sha256).digest()
    return hmac.new(extracted, info + b"\x01", hashlib.sha256).digest()


def encrypted():
    hook = Hook(encrypted=True)
    for data in [{"id": 42}, "🦆" * 1000]:
        headers, body = hook.send(data)
        check("the signature covers the JWE", verifies(hook.secret, headers, body))
        check("its content type", headers["content-type"] == "application/jose")
        key = hkdf(hook.secret, b"postrider jwe v1")
        key = jwk.JWK(kty="oct", k=base64.urlsafe_b64encode(key).decode().rstrip("="))
        opened = jwe.JWE(algs=["dir", "A256GCM"])
        opened.deserialize(body.decode(), key)
        check("jwcrypto opens it", json.loads(opened.payload)["data"] == data)


def public_keys():
    hook = Hook(signature=["ed25519"])
    call("POST", f"{hook.api}/rotate-secret", {})
    headers, body = hook.send({"id": 42})
    keys = call("GET", f"{hook.api}/public-keys")["keys"]
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    signatures = [part.removeprefix("v1a,") for part in headers["webhook-signature"].split(" ")]
    good = 0
    for key in keys:
        public = jwk.JWK(**key).get_op_key("verify")
        for signature in signatures:
            try:
                public.verify(base64.b64decode(signature), signed)
                good += 1
            except Exception:  # cryptography's InvalidSignature: of the other key
                pass
    check("each served key verifies one signature", (len(keys), good) == (2, 2))


for suite in (payloads, shapes, retries, rotation, encrypted, public_keys):
    suite()
print(f"python: {passed} passed, {failed} failed")
sys.exit(1 if failed or not passed else 0)
