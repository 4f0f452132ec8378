"""The steps of a user of the generated client: publish, list, read, look at mistakes. Called by python_client.sh with the
daemon's address and a key.
"""

import sys
import threading
import time
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from uuid import UUID

from postrider_client import AuthenticatedClient, Client
from postrider_client.api.daemon import get_alive, get_ready
from postrider_client.api.deliveries import list_deliveries, list_webhook_attempts, retry_delivery
from postrider_client.api.events import get_event, list_events, publish_event, publish_events
from postrider_client.api.figures import get_webhook_stats
from postrider_client.api.instantly import list_instantly_webhook_events
from postrider_client.api.sentdm import list_sent_webhook_events
from postrider_client.api.webhooks import create_webhook, list_webhooks, update_webhook
from postrider_client.models import (
    CloudEvent,
    DeliveryStatus,
    Filter,
    InstantlyError,
    NewEvent,
    NewEvents,
    NewWebhook,
    Nothing,
    Outcome,
    Problem,
    WebhookPatch,
)

DEADLINE_S = 60


class Receiver(BaseHTTPRequestHandler):
    """Refuses the first request, takes the others."""

    answers = iter([500])

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(next(self.answers, 200))
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def until(look, wanted):
    """The result of `look`, as soon as `wanted` accepts it."""
    end = time.monotonic() + DEADLINE_S
    while time.monotonic() < end:
        seen = look()
        if wanted(seen):
            return seen
        time.sleep(0.05)
    raise SystemExit(f"never came true: {seen}")


def main():
    url, key = sys.argv[1:]
    receiver = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=receiver.serve_forever, daemon=True).start()
    target = f"http://127.0.0.1:{receiver.server_port}/in"

    # A status that the description does not have is an exception.
    client = AuthenticatedClient(base_url=url, token=key, raise_on_unexpected_status=True)
    nobody = Client(base_url=url, raise_on_unexpected_status=True)
    assert get_alive.sync(client=nobody).status == "ok"
    assert get_ready.sync(client=nobody).status == "ready"

    wanted = Filter(all_=[Filter(path="/total", gte=100), Filter(not_=Filter(path="/country", eq="NO"))])
    made = create_webhook.sync(
        client=client,
        body=NewWebhook(url=target, name="client", event_types=["invoice.*"], retry_schedule_s=[1, 60], filter_=wanted),
    )
    assert isinstance(made.id, UUID) and made.secret.startswith("whsec_"), made
    assert made.filter_.all_[0].gte == 100 and made.auth is None, made

    published = publish_event.sync(
        client=client,
        body=NewEvent(type_="invoice.paid", data={"total": 120, "lines": [1, None, "x"]}, event_id="inv-1"),
        idempotency_key="first",
    )
    assert published.deliveries == 1 and not published.duplicate, published
    assert abs((published.received_at - datetime.now(timezone.utc)).total_seconds()) < 3_600, published
    again = publish_event.sync_detailed(
        client=client,
        body=NewEvent(type_="invoice.paid", data={"total": 120, "lines": [1, None, "x"]}, event_id="inv-1"),
        idempotency_key="first",
    )
    assert again.headers["Idempotent-Replayed"] == "true" and again.parsed == published, again
    cloud = publish_event.sync(
        client=client,
        body=CloudEvent(specversion="1.0", id="7", source="/billing", type_="invoice.small", data={"total": 7}),
    )
    assert cloud.deliveries == 0, cloud
    many = publish_events.sync(
        client=client, body=NewEvents(events=[NewEvent(type_="invoice.sent", data={"total": n}) for n in (99, 100)])
    )
    assert [one.deliveries for one in many.data] == [0, 1], many

    attempts = until(
        lambda: list_webhook_attempts.sync(made.id, client=client),
        lambda page: len(page.data) == 3 and any(one.number == 2 for one in page.data),
    )
    retried = next(one for one in attempts.data if one.number == 2)
    first = next(one for one in attempts.data if one.id == retried.retry_of)
    assert (first.status_code, first.outcome, retried.success) == (500, Outcome.HTTP_STATUS, True), attempts
    assert retried.request_headers["postrider-attempt"] == "2" and retried.timings_ms.total >= 0, retried

    events = list_events.sync(client=client, limit=2)
    rest = list_events.sync(client=client, limit=2, cursor=events.next_cursor)
    assert len(events.data) == len(rest.data) == 2 and rest.next_cursor is None, (events, rest)
    read = get_event.sync(published.id, client=client)
    assert read.data == {"total": 120, "lines": [1, None, "x"]} and read.webhooks[0].decision == "delivered_to", read
    webhooks = list_webhooks.sync(client=client, search="client")
    assert [one.id for one in webhooks.data] == [made.id] and webhooks.data[0].consecutive_failures == 0, webhooks
    deliveries = list_deliveries.sync(client=client, status=DeliveryStatus.DELIVERED, webhook_id=made.id)
    assert len(deliveries.data) == 2, deliveries
    once_more = retry_delivery.sync(deliveries.data[0].id, client=client, body=Nothing())
    assert once_more.replay_of == deliveries.data[0].id, once_more
    stats = get_webhook_stats.sync(made.id, client=client)
    assert stats.failed_deliveries == 1 and len(stats.hours) == 24, stats
    changed = update_webhook.sync(made.id, client=client, body=WebhookPatch(filter_=None, name="renamed"))
    assert changed.name == "renamed" and changed.filter_ is None, changed

    wrong = publish_event.sync(client=client, body=NewEvent(type_="a b", data=1))
    assert isinstance(wrong, Problem) and (wrong.status, wrong.errors[0].pointer) == (422, "/type"), wrong
    refused = list_events.sync(client=AuthenticatedClient(base_url=url, token="pr_nobody"))
    assert isinstance(refused, Problem) and refused.status == 401, refused

    # The dialects are in the same client, each with its own credentials and errors.
    page = list_instantly_webhook_events.sync(client=client, limit=1, success=False)
    assert page.items[0].id == first.id and page.items[0].will_retry, page
    refused = list_instantly_webhook_events.sync(client=AuthenticatedClient(base_url=url, token="pr_nobody"))
    assert isinstance(refused, InstantlyError) and refused.status_code == 401, refused
    by_header = AuthenticatedClient(base_url=url, token=key, prefix="", auth_header_name="x-api-key")
    page = list_sent_webhook_events.sync(made.id, client=by_header, page=1, page_size=10)
    assert page.data.pagination.total_count == 3 and page.meta.version == "v3", page
    refused = list_sent_webhook_events.sync_detailed(
        made.id, client=AuthenticatedClient(base_url=url, token="x", prefix="", auth_header_name="x-api-key"),
        page=1, page_size=10,
    )
    assert refused.status_code == 401 and refused.content == b"", refused

    print("the generated client published, listed, read and understood every answer")


main()
