"""Receivers that check signatures as each vendor publishes it, before, during and after a change of the secret.

Usage: receivers.py URL KEY. Exits with 1 if anything was not as it should be.

Each recipe is the vendor's rule in our words: which headers it reads, which text is signed, which key signs it, and how
it compares. A recipe that takes one signature only is given the newest secret's, because that vendor's receivers have one
secret at a time.
"""

import base64
import hashlib
import hmac
import json
import queue
import re
import sys
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

URL, KEY = sys.argv[1:3]
PATIENCE_S = 60
TOLERANCE_S = 300
passed, failed = 0, 0


class Receiver(BaseHTTPRequestHandler):
    inbox: dict = {}

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()
        self.inbox[self.path].put(({name.lower(): value for name, value in self.headers.items()}, body))

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
threading.Thread(target=server.serve_forever, daemon=True).start()


def call(method, path, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(URL + path, data=data, method=method)
    request.add_header("authorization", f"Bearer {KEY}")
    request.add_header("content-type", "application/json")
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
        return json.loads(answer.read() or b"null")


def check(what, ok):
    global passed, failed
    if ok:
        passed += 1
    else:
        failed += 1
        print(f"NOT OK: {what}", file=sys.stderr)


def is_fresh(seconds):
    return abs(time.time() - int(seconds)) <= TOLERANCE_S


def standard(secret, headers, body):
    """Standard Webhooks, specification: any of the space-separated signatures may be the right one."""
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    key = base64.b64decode(secret.removeprefix("whsec_"))
    expected = "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    given = headers["webhook-signature"].split(" ")
    return is_fresh(headers["webhook-timestamp"]) and any(hmac.compare_digest(one, expected) for one in given)


def sent(secret, headers, body):
    """sent.dm, receiver recipes: the whole header is compared."""
    signed = f"{headers['x-webhook-id']}.{headers['x-webhook-timestamp']}.".encode() + body
    key = base64.b64decode(secret.removeprefix("whsec_"))
    expected = "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    return is_fresh(headers["x-webhook-timestamp"]) and hmac.compare_digest(headers["x-webhook-signature"], expected)


def sent_node(secret, headers, body):
    """sent.dm, automation node: the header must be one `v1,` and base64, else the request is refused."""
    is_one = re.fullmatch(r"v1,[A-Za-z0-9+/]+={0,2}", headers["x-webhook-signature"])
    return bool(is_one) and sent(secret, headers, body)


def dfns(secret, headers, body):
    """Dfns: the text of the secret is the key, and the body is parsed and written again before it is signed."""
    parsed = json.loads(body)
    text = json.dumps(parsed, separators=(",", ":"), ensure_ascii=False).encode()
    expected = "sha256=" + hmac.new(secret.encode(), text, hashlib.sha256).hexdigest()
    return is_fresh(parsed["timestampSent"]) and hmac.compare_digest(headers["x-dfns-webhook-signature"], expected)


def ed25519(public_key, headers, body):
    """Standard Webhooks, asymmetric: a public key of the endpoint's list opens one of the `v1a` signatures."""
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    key = Ed25519PublicKey.from_public_bytes(base64.b64decode(public_key.removeprefix("whpk_")))
    for version, signature in (one.split(",", 1) for one in headers["webhook-signature"].split(" ")):
        try:
            if version == "v1a":
                key.verify(base64.b64decode(signature), signed)
                return is_fresh(headers["webhook-timestamp"])
        except InvalidSignature:
            pass
    return False


class Hook:
    """A webhook that points here, for events of its own type."""

    made = 0

    def __init__(self, **fields):
        Hook.made += 1
        self.path, self.type = f"/{Hook.made}", f"receivers.n{Hook.made}"
        Receiver.inbox[self.path] = queue.Queue()
        place = f"http://127.0.0.1:{server.server_port}{self.path}"
        webhook = call("POST", "/v1/webhooks", {"url": place, "event_types": [self.type], **fields})
        self.secret, self.api = webhook["secret"], f"/v1/webhooks/{webhook['id']}"

    def send(self):
        call("POST", "/v1/events", {"type": self.type, "data": {"id": 42, "text": "zażółć 🦆"}})
        return Receiver.inbox[self.path].get(timeout=PATIENCE_S)

    def rotate(self, **fields):
        self.secret = call("POST", f"{self.api}/rotate-secret", fields)["secret"]
        return self.secret

    def public_keys(self):
        """As the endpoint's list has them: the JWKs' `x`, in the other alphabet of base64."""
        keys = call("GET", f"{self.api}/public-keys")["keys"]
        return [base64.b64encode(base64.urlsafe_b64decode(key["x"] + "==")).decode() for key in keys]


#: The scheme, its fields, its recipes, and whether a request in the overlap has the old secret's signature, too.
SCHEMES = [
    ("standard", {}, [standard], True),
    ("sent", {"field_set": "sent"}, [sent, sent_node], False),
    ("dfns", {"field_set": "dfns"}, [dfns], False),
]


def rotation(scheme, fields, recipe, overlaps):
    what = f"{scheme} by {recipe.__name__}"
    hook = Hook(signature=[scheme], **fields)
    first = hook.secret
    headers, body = hook.send()
    check(f"{what}: before", recipe(first, headers, body))
    check(f"{what}: a changed body is refused", not recipe(first, headers, body.replace(b"42", b"43")))
    second = hook.rotate(overlap_s=3600)
    headers, body = hook.send()
    check(f"{what}: during, the new secret", recipe(second, headers, body))
    check(f"{what}: during, the old secret", recipe(first, headers, body) == overlaps)
    third = hook.rotate(overlap_s=0)
    headers, body = hook.send()
    check(f"{what}: after, the new secret", recipe(third, headers, body))
    check(f"{what}: after, the old secrets", not any(recipe(old, headers, body) for old in (first, second)))


def public_keys():
    hook = Hook(signature=["ed25519"])
    before = hook.public_keys()
    check("ed25519: one key before", len(before) == 1 and ed25519(before[0], *hook.send()))
    hook.rotate(overlap_s=3600)
    during, request = hook.public_keys(), hook.send()
    check("ed25519: both keys during", len(during) == 2 and all(ed25519(key, *request) for key in during))
    hook.rotate(overlap_s=0)
    after, request = hook.public_keys(), hook.send()
    check("ed25519: the new key after", len(after) == 1 and ed25519(after[0], *request))
    check("ed25519: no old key after", not any(ed25519(key, *request) for key in during))


for scheme, fields, recipes, overlaps in SCHEMES:
    for recipe in recipes:
        rotation(scheme, fields, recipe, overlaps)
public_keys()
print(f"vendors' recipes: {passed} passed, {failed} failed")
sys.exit(1 if failed or not passed else 0)
