"""Walks every webhook method of Dfns's Python SDK with its key signer. Called by vendor_sdks.sh with the daemon's URL and a
key."""

import sys

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from dfns_sdk import DfnsClient, DfnsClientConfig
from dfns_sdk.auth import KeySigner
from dfns_sdk.types import DfnsError

URL, KEY = sys.argv[1:3]


def equal(found, expected):
    if found != expected:
        raise AssertionError(f"{found!r} is not {expected!r}")


private_key = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
signer = KeySigner(credential_id="cr-postrider", private_key=private_key)
hooks = DfnsClient(DfnsClientConfig(base_url=URL, auth_token=KEY, signer=signer)).webhooks

made = hooks.create_webhook({"url": "https://example.com/in", "events": ["wallet.created"]})
equal(made["secret"].startswith("whsec_"), True)
changed = hooks.update_webhook(made["id"], {"description": "books", "events": ["*"]})
equal((changed["description"], changed["events"]), ("books", ["*"]))
equal(hooks.get_webhook(made["id"]), changed)
equal([row["id"] for row in hooks.list_webhooks({"limit": 10})["items"]][0], made["id"])
equal("status" in hooks.ping_webhook(made["id"]), True)
equal(hooks.list_webhook_events(made["id"])["items"], [])
try:
    hooks.get_webhook_event(made["id"], "whe-00000-00000-0000000000000000")
    raise AssertionError("there is no such event")
except DfnsError as error:
    equal((error.status_code, error.message), (404, "webhook event not found"))
equal(hooks.delete_webhook(made["id"]), {"deleted": True})
print("dfns_sdk_1_0_4: good")
