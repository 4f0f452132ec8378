"""Walks the webhook methods of Devdraft's and sent.dm's Python SDKs. Called by vendor_sdks.sh with the daemon's URL, a key
and the key's id."""

import sys
import traceback
import uuid

import devdraft
import devdraft_sdk
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


def sentdm_0_46_0():
    # sent.dm's SDK makes no webhook here: Devdraft's shape does.
    other = devdraft_client(devdraft)
    made = other.webhook_controller_create(new_webhook(devdraft))
    client = Sent(api_key=KEY, base_url=URL, max_retries=0)
    rows = client.webhooks.list(page=1, page_size=20, search=None, is_active=None)
    equal([row.display_name for row in rows], ["Payments"])
    equal(client.webhooks.retrieve(uuid_of(made)).data.endpoint_url, "https://example.com/in")
    equal(list(client.webhooks.list_events(uuid_of(made), page=1, page_size=20, search=None)), [])
    names = [row.name for row in client.webhooks.list_event_types().data.event_types]
    equal("postrider.webhook.failing" in names, True)
    other.webhook_controller_remove(uuid_of(made))


failed = False
for walk in (devdraft_1_0_0, devdraft_sdk_1_0_9, sentdm_0_46_0):
    try:
        walk()
        print(f"{walk.__name__}: good")
    except Exception:
        traceback.print_exc()
        print(f"{walk.__name__}: FAILED")
        failed = True
sys.exit(failed)
