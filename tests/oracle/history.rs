//! Write requests that follow from a seed: requests of producers, operators, the sender and the janitor, sensible or
//! not.
//!
//! Invariant: every request that makes an object puts a number of its own into it (a name, metadata, a rate). So a
//! found object identifies its request.

use std::collections::BTreeMap;

use bytes::Bytes;
use postrider::model::attempt::{AttemptMade, AttemptOutcome, Timings, Trigger};
use postrider::model::event::EventAttributes;
use postrider::model::id::{AppId, AttemptId, DeliveryId, EventId, Id, OrganizationId, PortalLinkId, WebhookId};
use postrider::model::job::{JobSpec, JobStatus};
use postrider::model::webhook::{DeliveryOrder, SigningSecret, Webhook, WebhookStatus};
use postrider::model::{DeliveryStatus, LastDeliveryFilter, Scope, StatusCodes, Time};
use postrider::store::{
    AppChange, AppSettings, AttemptReport, Caller, Command, Dispatch, EventInput, IdempotencyKey, NewKey,
    PartitionCommand, StateCommand, TenantScope, WriteRequest,
};

use super::Rng;
use super::oracle::{Made, Oracle};

const TYPES: [&str; 4] = ["invoice.paid", "invoice.sent", "order.made.twice", "a"];
const PATTERNS: [&str; 4] = ["invoice.*", "order.**", "a", "postrider.**"];
const LINES: [&str; 2] = ["blue", "green"];
/// Maximum webhooks, so that a fan-out stays small.
const WEBHOOKS_MAX: usize = 8;
const APPS_MAX: usize = 5;
const ORGANIZATIONS_MAX: usize = 2;
/// Maximum stored requests with a key that may be repeated.
const PAST_ORDERS_MAX: usize = 40;

#[derive(Debug, Clone)]
pub struct History {
    rng: Rng,
    number: u64,
    past: Vec<WriteRequest>,
    /// Whether publishes outnumber changes of the configuration.
    pub is_calm: bool,
}

impl History {
    pub fn new(rng: Rng) -> History {
        History { rng, number: 0, past: Vec::new(), is_calm: false }
    }

    /// The requests of one batch.
    pub fn batch(&mut self, oracle: &Oracle, now: Time) -> Vec<WriteRequest> {
        if oracle.organizations.is_empty() {
            return vec![WriteRequest::internal(self.organization())];
        }
        let count = 1 + self.rng.below(8);
        let mut requests: Vec<WriteRequest> = Vec::new();
        for _ in 0..count {
            let request = if self.rng.chance(8) { self.repeated() } else { None };
            let request =
                request.or_else(|| self.request(oracle, now)).filter(|request| !oracle.is_doubtful(request, now));
            // An object that was removed with its app looks like an object that never existed.
            let comes_first =
                matches!(request.as_ref().map(|o| &o.command), Some(Command::State(StateCommand::RemoveApp { .. })));
            match request {
                Some(request) if comes_first => requests.insert(0, request),
                request => requests.extend(request),
            }
        }
        requests
    }

    /// Stores a request, which may be repeated like that of a client without an answer.
    pub fn remember(&mut self, request: &WriteRequest) {
        // An organization's first key is drawn for each request, so the same request never occurs twice.
        if request.idempotency.is_some()
            && !matches!(request.command, Command::State(StateCommand::CreateOrganization { .. }))
        {
            self.past.push(request.clone());
            if self.past.len() > PAST_ORDERS_MAX {
                self.past.remove(0);
            }
        }
    }

    fn repeated(&mut self) -> Option<WriteRequest> {
        let mut request = self.rng.pick(&self.past)?;
        if let (Some(keep), Command::Partition(PartitionCommand::Publish(events))) =
            (&mut request.idempotency, &mut request.command)
            && self.rng.chance(10)
        {
            keep.request[0] ^= 1;
            events[0].data = Bytes::from_static(b"{\"other\":true}");
        }
        Some(request)
    }

    fn next_number(&mut self) -> u64 {
        self.number += 1;
        self.number
    }

    fn request(&mut self, oracle: &Oracle, now: Time) -> Option<WriteRequest> {
        let choice = self.rng.below(if self.is_calm { 92 } else { 100 });
        // Without webhooks nothing is delivered, however much is published.
        let lacks_webhooks = self.is_calm && oracle.webhooks.len() < WEBHOOKS_MAX / 2;
        let command: Command = match choice {
            _ if lacks_webhooks && self.rng.chance(30) => {
                StateCommand::CreateWebhook { webhook: Box::new(self.webhook(oracle, now)), of_app_max: None }.into()
            }
            0..20 => PartitionCommand::Publish(vec![self.event(oracle, now)]).into(),
            20..26 => {
                let count = 1 + self.rng.below(4);
                PartitionCommand::Publish((0..count).map(|_| self.event(oracle, now)).collect()).into()
            }
            26..66 => return self.outcome(oracle, now).map(WriteRequest::internal),
            66..69 => return self.expiry(oracle).map(WriteRequest::internal),
            69..70 => {
                PartitionCommand::Resend { event: self.event_id(oracle)?, webhook: self.webhook_id(oracle)? }.into()
            }
            70..74 => PartitionCommand::Retry { id: self.delivery(oracle)? }.into(),
            74..78 => PartitionCommand::CancelDelivery { id: self.delivery(oracle)? }.into(),
            78..80 => PartitionCommand::CancelEvent { id: self.event_id(oracle)? }.into(),
            80..82 => PartitionCommand::EraseEvent { id: self.event_id(oracle)? }.into(),
            82..83 => StateCommand::CreateJob { spec: self.job(oracle, now)? }.into(),
            83..89 => return self.slice(oracle, now).map(WriteRequest::internal),
            89..92 => StateCommand::SetStatus { id: self.webhook_id(oracle)?, status: self.status_wish() }.into(),
            _ => self.change(oracle, now)?,
        };
        let by = self.caller(oracle)?;
        let number = self.next_number();
        let keep = self.rng.chance(25).then(|| IdempotencyKey {
            key: marked(1, number),
            request: marked(2, number),
            extra: self.rng.chance(30).then(|| Bytes::from(format!("extra {number}"))),
            secret: self.rng.chance(20),
        });
        Some(WriteRequest { caller: Some(by), idempotency: keep, command })
    }

    /// A change of the configuration.
    fn change(&mut self, oracle: &Oracle, now: Time) -> Option<Command> {
        let number = self.next_number();
        Some(match self.rng.below(15) {
            0..3 if oracle.webhooks.len() < WEBHOOKS_MAX => Command::State(StateCommand::CreateWebhook {
                webhook: Box::new(self.webhook(oracle, now)),
                of_app_max: None,
            }),
            0..6 => Command::State(StateCommand::UpdateWebhook { webhook: Box::new(self.changed(oracle)?) }),
            6 => Command::State(StateCommand::RemoveWebhook { id: self.webhook_id(oracle)? }),
            7 => Command::State(StateCommand::RotateSecret {
                id: self.webhook_id(oracle)?,
                secret: SigningSecret { text: format!("whsec_{number}"), created_at: now, expires_at: None },
                overlap_s: self.rng.below(3) as u32 * 40_000,
            }),
            8 => Command::State(StateCommand::ReadSecret { id: self.webhook_id(oracle)? }),
            9 if oracle.apps.len() < APPS_MAX => Command::State(StateCommand::CreateApp {
                app: AppSettings { name: format!("app-{number}"), uid: self.uid(), ..AppSettings::default() },
            }),
            9 | 10 => {
                let uid = self.rng.chance(50).then(|| self.uid());
                let name = self.rng.chance(50).then(|| format!("app-{number}"));
                Command::State(StateCommand::UpdateApp {
                    id: self.app(oracle)?,
                    change: AppChange { name, uid, ..AppChange::default() },
                })
            }
            11 if self.rng.chance(40) => Command::State(StateCommand::RemoveApp { id: self.app(oracle)? }),
            11 | 12 if oracle.keys.len() < 6 => {
                let app = if self.rng.chance(60) { None } else { self.app(oracle) };
                Command::State(StateCommand::CreateKey { key: NewKey { app, ..key(number) } })
            }
            12 => Command::State(StateCommand::RevokeKey {
                id: self.rng.pick(&oracle.keys.keys().skip(1).copied().collect::<Vec<_>>())?,
            }),
            13 if oracle.organizations.len() < ORGANIZATIONS_MAX => self.organization(),
            13 => {
                let running: Vec<_> = oracle.jobs.keys().copied().collect();
                Command::State(StateCommand::CancelJob { id: self.rng.pick(&running)? })
            }
            14 if self.rng.chance(60) => {
                // Now and then a link that was revoked before.
                let made = now.minus_ms(self.rng.below(4) as i64 * 1_000);
                let id = PortalLinkId::from_u128(u128::from(made.0 as u64) << 80 | u128::from(self.rng.below(3)));
                let until = made.plus_ms(1 + self.rng.below(86_400_000) as i64);
                Command::State(StateCommand::RevokePortalLink { id, app: self.app(oracle)?, until })
            }
            _ => Command::State(StateCommand::StoreAnswer { body: Bytes::from(format!("answer {number}")) }),
        })
    }

    fn organization(&mut self) -> Command {
        let number = self.next_number();
        Command::State(StateCommand::CreateOrganization { name: format!("org-{number}"), key: key(number) })
    }

    fn uid(&mut self) -> Option<String> {
        self.rng.chance(60).then(|| format!("uid-{}", self.rng.below(4)))
    }

    fn caller(&mut self, oracle: &Oracle) -> Option<Caller> {
        let key = self.rng.pick(&oracle.keys.values().collect::<Vec<_>>())?;
        let tenant = TenantScope { org: key.org_id, app: key.app_id };
        let request_id = format!("r{}", self.next_number());
        Some(Caller { key: key.id, tenant, remote_addr: None, request_id, portal_link: None })
    }

    fn app(&mut self, oracle: &Oracle) -> Option<AppId> {
        self.rng.pick(&oracle.apps.keys().copied().collect::<Vec<_>>())
    }

    fn webhook_id(&mut self, oracle: &Oracle) -> Option<WebhookId> {
        self.rng.pick(&oracle.webhooks.keys().copied().collect::<Vec<_>>())
    }

    /// A delivery, more often an open one, and rarely an id that does not exist.
    fn delivery(&mut self, oracle: &Oracle) -> Option<DeliveryId> {
        if self.rng.chance(3) {
            return Some(Id::from_u128(u128::from(self.rng.draw()) << 60));
        }
        let all: Vec<&Made> = oracle.deliveries.values().collect();
        let open: Vec<&Made> = all.iter().filter(|made| !made.row.status.is_final()).copied().collect();
        let among = if self.rng.chance(60) && !open.is_empty() { open } else { all };
        self.rng.pick(&among).map(|made| made.row.id)
    }

    fn event_id(&mut self, oracle: &Oracle) -> Option<EventId> {
        self.rng.pick(&oracle.events.keys().copied().collect::<Vec<_>>())
    }

    fn event(&mut self, oracle: &Oracle, now: Time) -> EventInput {
        let number = self.next_number();
        let name = self.rng.chance(30).then(|| format!("name-{}", self.rng.below(12)));
        // The same name mostly has the same content.
        let data = match &name {
            Some(name) if self.rng.chance(85) => format!("{{\"name\":{name:?},\"n\":3}}"),
            _ if self.rng.chance(4) => {
                format!("{{\"n\":{number},\"long\":{:?}}}", "x".repeat(8_000 + self.rng.below(12_000) as usize))
            }
            _ => format!("{{\"n\":{}, \"number\":{number}}}", self.rng.below(10)),
        };
        let event_type = if name.is_some() { TYPES[0] } else { TYPES[self.rng.below(4) as usize] };
        EventInput {
            app: if self.rng.chance(70) { None } else { self.app(oracle) },
            data: data.into(),
            occurred_at: self.rng.chance(10).then(|| now.minus_ms(60_000)),
            only: None,
            attributes: EventAttributes {
                event_type: event_type.into(),
                event_id: name,
                subject: self.rng.chance(10).then(|| "lead@example.com".into()),
                channels: if self.rng.chance(20) { vec!["eu".into()] } else { vec![] },
                ordering_key: self.rng.chance(50).then(|| LINES[self.rng.below(2) as usize].into()),
                deliver_at: self.rng.chance(8).then(|| now.plus_ms(self.rng.within(-5_000, 4 * 86_400_000))),
                expires_at: self.rng.chance(8).then(|| now.plus_ms(self.rng.within(-5_000, 600_000))),
                metadata: BTreeMap::from([("number".to_owned(), number.to_string())]),
                traceparent: None,
            },
        }
    }

    fn webhook(&mut self, oracle: &Oracle, now: Time) -> Webhook {
        let number = self.next_number();
        let mut webhook = plain_webhook(&format!("hook-{number}"), now);
        if self.rng.chance(30) {
            webhook.app_id = self.app(oracle).unwrap_or(AppId::MIN);
        }
        self.vary(&mut webhook);
        webhook
    }

    fn vary(&mut self, webhook: &mut Webhook) {
        let rng = &mut self.rng;
        webhook.ordered =
            [DeliveryOrder::No, DeliveryOrder::No, DeliveryOrder::Webhook, DeliveryOrder::Key][rng.below(4) as usize];
        webhook.event_types = (0..rng.below(3)).map(|_| PATTERNS[rng.below(4) as usize].to_owned()).collect();
        webhook.channels = if rng.chance(10) { vec!["eu".into()] } else { vec![] };
        webhook.filter = rng.chance(20).then(|| "{\"all\":[{\"path\":\"/n\",\"gte\":3}]}".to_owned());
        webhook.retry_schedule_s = [vec![], vec![5], vec![5, 300], vec![60, 60, 60]][rng.below(4) as usize].clone();
        webhook.disable_after_s = [0, 3_600, 432_000][rng.below(3) as usize];
        webhook.status = [
            WebhookStatus::Enabled,
            WebhookStatus::Enabled,
            WebhookStatus::Enabled,
            WebhookStatus::Paused,
            WebhookStatus::Disabled,
        ][rng.below(5) as usize];
    }

    /// A known webhook with other settings, mostly from its latest reading.
    fn changed(&mut self, oracle: &Oracle) -> Option<Webhook> {
        let mut webhook = oracle.webhooks[&self.webhook_id(oracle)?].clone();
        self.vary(&mut webhook);
        if self.rng.chance(20) {
            webhook.url = format!("https://hooks.example.com/{}", self.next_number());
        }
        if self.rng.chance(10) {
            webhook.version = webhook.version.saturating_sub(1);
        }
        Some(webhook)
    }

    fn status_wish(&mut self) -> WebhookStatus {
        if self.rng.chance(50) { WebhookStatus::Paused } else { WebhookStatus::Enabled }
    }

    /// The outcome of a due delivery, sometimes late, and sometimes repeated.
    fn outcome(&mut self, oracle: &Oracle, now: Time) -> Option<Command> {
        let stray = self.rng.chance(6);
        let among: Vec<&Made> = oracle.deliveries.values().filter(|made| stray || made.due).collect();
        let made = self.rng.pick(&among)?;
        let offset = if self.rng.chance(5) { self.rng.below(3) as u32 } else { 1 };
        let started_at = now.minus_ms(self.rng.within(0, 20_000));
        let took_ms = self.rng.within(1, 15_000);
        let code = match self.rng.below(100) {
            0..50 => Some(200),
            50..53 => Some(410),
            53..60 => None,
            _ => Some(503),
        };
        let success = code == Some(200);
        let number = self.next_number();
        let drawn = self.rng.chance(5).then(|| AttemptId::from_u128(own_id(now, number, &mut self.rng)));
        let request = AttemptMade {
            number: made.row.attempts + offset,
            trigger: match (made.row.manual, made.row.attempts) {
                (true, _) => Trigger::Manual,
                (false, 0) => Trigger::Event,
                (false, _) => Trigger::Retry,
            },
            signed_at: started_at.seconds(),
            started_at,
            finished_at: started_at.plus_ms(took_ms),
            success,
            outcome: match code {
                Some(200) => AttemptOutcome::Success,
                Some(_) => AttemptOutcome::HttpStatus,
                None => AttemptOutcome::Timeout,
            },
            status_code: code,
            error: (!success).then(|| format!("failed, outcome {number}")),
            response_time_ms: code.map(|_| took_ms as u32),
            remote_addr: Some(format!("192.0.2.{}", number % 200)),
            request_headers: [("webhook-id", made.row.event_id.to_string())].into_iter().collect(),
            response_body: code.map(|_| "x".repeat(self.rng.below(40) as usize)),
            timings: Timings { total: took_ms as u32, ..Timings::default() },
            ..plain_outcome(now)
        };
        Some(Command::Partition(PartitionCommand::Record(Box::new(AttemptReport {
            attempt_id: drawn,
            hold_until: (code == Some(503) && self.rng.chance(10)).then(|| now.plus_ms(60_000)),
            ..AttemptReport::new(made.row.event_id, made.row.id, request)
        }))))
    }

    fn expiry(&mut self, oracle: &Oracle) -> Option<Command> {
        let delivery = self.delivery(oracle)?;
        let event = oracle.deliveries.get(&delivery).map_or(EventId::MAX, |made| made.row.event_id);
        Some(Command::Partition(PartitionCommand::Expire { event, delivery }))
    }

    fn job(&mut self, oracle: &Oracle, now: Time) -> Option<JobSpec> {
        let webhook = if self.rng.chance(60) { self.webhook_id(oracle) } else { None };
        let app = if webhook.is_some() { None } else { Some(self.app(oracle)?) };
        let status = [DeliveryStatus::Failed, DeliveryStatus::Delivered, DeliveryStatus::Pending];
        Some(JobSpec {
            webhook,
            app,
            from: self.rng.chance(30).then(|| now.minus_ms(self.rng.within(0, 3 * 86_400_000))),
            to: self.rng.chance(20).then(|| now.minus_ms(self.rng.within(0, 86_400_000))),
            types: if self.rng.chance(30) { vec!["invoice.*".into()] } else { vec![] },
            status: self.rng.chance(40).then(|| status[self.rng.below(3) as usize]),
            missing: self.rng.chance(40),
            rate_per_s: Some(self.next_number() as f64),
            last: self.last_filter(now),
            waiting: self.rng.chance(30),
            retrying: false,
            erasing: false,
        })
    }

    fn last_filter(&mut self, now: Time) -> LastDeliveryFilter {
        let (outcomes, codes) = ([AttemptOutcome::HttpStatus, AttemptOutcome::Expired], ["5xx", "200", "503"]);
        let code = codes[self.rng.below(3) as usize];
        LastDeliveryFilter {
            outcomes: if self.rng.chance(20) { vec![outcomes[self.rng.below(2) as usize]] } else { vec![] },
            status_codes: if self.rng.chance(20) { StatusCodes::parse(code).into_iter().collect() } else { vec![] },
            ended_from: self.rng.chance(15).then(|| now.minus_ms(self.rng.within(0, 2 * 86_400_000))),
            ended_to: self.rng.chance(15).then(|| now.minus_ms(self.rng.within(0, 86_400_000))),
        }
    }

    /// The next slice of a running job, or its end once all its deliveries have ended.
    fn slice(&mut self, oracle: &Oracle, now: Time) -> Option<Command> {
        let running: Vec<_> = oracle.jobs.values().filter(|job| job.status == JobStatus::Running).collect();
        let job = self.rng.pick(&running)?;
        if !job.exhausted {
            let (limit, make_max) = (1 + self.rng.below(6) as u32, 1 + self.rng.below(8) as u32);
            return Some(Command::Partition(PartitionCommand::AdvanceJob { id: job.id, limit, make_max }));
        }
        let shown = oracle.job_shown(job.id).filter(|job| job.ended() >= job.created)?;
        Some(Command::State(StateCommand::SaveJob(Box::new(postrider::model::job::Job {
            status: JobStatus::Done,
            finished_at: Some(now),
            ..shown
        }))))
    }
}

/// A webhook that receives all events.
pub fn plain_webhook(name: &str, now: Time) -> Webhook {
    Webhook {
        name: name.to_owned(),
        url: format!("https://hooks.example.com/{name}"),
        retry_schedule_s: vec![5, 300],
        secrets: vec![SigningSecret { text: format!("whsec_{name}"), created_at: now, expires_at: None }],
        created_at: now,
        updated_at: now,
        ..Webhook::new(OrganizationId::MIN, AppId::MIN)
    }
}

/// An event that every webhook wants.
pub fn plain_event(number: u64) -> EventInput {
    EventInput::new(TYPES[0], format!("{{\"number\":{number}}}"))
}

/// A first attempt that was answered with 200.
pub fn finished_well(dispatch: &Dispatch, now: Time) -> AttemptReport {
    let made = AttemptMade { number: dispatch.number, trigger: dispatch.trigger, ..plain_outcome(now) };
    AttemptReport::new(dispatch.event.id, dispatch.delivery_id, made)
}

fn plain_outcome(now: Time) -> AttemptMade {
    AttemptMade {
        number: 1,
        url: "https://hooks.example.com/".into(),
        signed_at: now.seconds(),
        started_at: now,
        finished_at: now.plus_ms(5),
        success: true,
        outcome: AttemptOutcome::Success,
        status_code: Some(200),
        response_time_ms: Some(5),
        ..AttemptMade::default()
    }
}

fn key(number: u64) -> NewKey {
    NewKey { name: format!("key-{number}"), scopes: vec![Scope::Admin], hash: marked(3, number), ..NewKey::default() }
}

/// 32 bytes that are unique to the number.
fn marked(kind: u8, number: u64) -> [u8; 32] {
    let mut rng = Rng::new(number ^ (u64::from(kind) << 56));
    let words: [[u8; 8]; 4] = std::array::from_fn(|_| rng.draw().to_be_bytes());
    let mut bytes = [0; 32];
    words.iter().enumerate().for_each(|(at, word)| bytes[at * 8..at * 8 + 8].copy_from_slice(word));
    bytes
}

/// An id that the sender drew. It has the time `now`, and the store draws none like it.
fn own_id(now: Time, number: u64, rng: &mut Rng) -> u128 {
    let low = (u128::from(number) << 20) | u128::from(rng.below(1 << 20));
    (u128::from(now.0 as u64) << 80) | (0x7 << 76) | (0b10 << 62) | (low & 0x3fff_ffff_ffff_ffff)
}
