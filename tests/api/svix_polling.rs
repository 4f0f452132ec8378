//! The shape of the Svix server for clients that fetch messages, and for those that erase several at once.

use http::Method;
use serde_json::{Value, json};

use super::svix::{app, call, endpoint, get, ids, message, post};
use crate::support::daemon::text;
use crate::support::{Receiver, TestDaemon, eventually};

#[tokio::test]
async fn a_poller_gets_every_message_of_an_endpoint_once_and_goes_on_from_an_empty_page() {
    let daemon = TestDaemon::start().await;
    let receiver = Receiver::start().await;
    for uid in ["acme", "other"] {
        app(&daemon, uid).await;
        endpoint(&daemon, uid, &receiver).await;
    }
    let sink = ids(&get(&daemon, "/app/acme/endpoint").await).remove(0);
    let at = format!("/app/acme/poller/{sink}");
    let empty = get(&daemon, &at).await;
    assert_eq!((&empty["data"], &empty["done"]), (&json!([]), &json!(true)));
    let mut sent = Vec::new();
    for n in 0..5 {
        sent.push(text(&message(&daemon, "acme", n).await, "id").to_owned());
        message(&daemon, "other", n).await;
    }
    let body = json!({ "eventType": "c.d", "payload": { "n": 5 }, "channels": ["eu"] });
    sent.push(text(&post(&daemon, "/app/acme/msg", body, 202).await, "id").to_owned());
    let (mut seen, mut iterator) = (Vec::new(), text(&empty, "iterator").to_owned());
    loop {
        let page = get(&daemon, &format!("{at}?limit=2&iterator={iterator}")).await;
        iterator = text(&page, "iterator").to_owned();
        seen.extend(ids(&page));
        if page["done"] == true {
            break;
        }
    }
    assert_eq!(seen, sent, "in the order of acceptance");
    assert_eq!(get(&daemon, &format!("{at}?iterator={iterator}")).await["iterator"], iterator);
    let typed = get(&daemon, &format!("{at}?event_type=c.d&channel=eu")).await;
    assert_eq!((ids(&typed), &typed["data"][0]["payload"]), (vec![sent[5].clone()], &json!({ "n": 5 })));
    daemon.advance_s(60);
    let late = text(&message(&daemon, "acme", 6).await, "id").to_owned();
    let after = get(&daemon, &format!("/app/acme/msg/{late}")).await["timestamp"].clone();
    let page = get(&daemon, &format!("{at}?after={}", after.as_str().unwrap())).await;
    assert_eq!(ids(&page), [late], "of this time or later");
    assert_eq!(call(&daemon, Method::GET, &format!("{at}?iterator={sink}"), Value::Null).await.status, 422);
    for (path, status) in [("/app/other/poller/", 404), ("/app/none/poller/", 404)] {
        assert_eq!(call(&daemon, Method::GET, &format!("{path}{sink}"), Value::Null).await.status, status);
    }
    let access = post(&daemon, "/auth/app-portal-access/other", json!({}), 200).await;
    let stranger = daemon.with_key(text(&access, "token"));
    assert_eq!(call(&stranger, Method::GET, &at, Value::Null).await.status, 404);
}

#[tokio::test]
async fn several_messages_are_erased_at_once_and_those_of_others_are_not_found() {
    let daemon = TestDaemon::start().await;
    app(&daemon, "acme").await;
    app(&daemon, "other").await;
    let foreign = text(&message(&daemon, "other", 0).await, "id").to_owned();
    let one = text(&message(&daemon, "acme", 1).await, "id").to_owned();
    let body = json!({ "eventType": "a.b", "payload": { "n": 2 }, "eventId": "two" });
    post(&daemon, "/app/acme/msg", body, 202).await;
    let kept = text(&message(&daemon, "acme", 3).await, "id").to_owned();
    let at = "/app/acme/msg/bulk-expunge";
    let names = json!({ "ids": [one, "two", foreign, "none"] });
    let erased = post(&daemon, at, names, 200).await;
    let expected =
        json!({ one.clone(): "expunged", "two": "expunged", foreign.clone(): "not-found", "none": "not-found" });
    assert_eq!(erased["results"], expected);
    let gone = json!({ "expired": true });
    for name in [one.as_str(), "two"] {
        assert_eq!(get(&daemon, &format!("/app/acme/msg/{name}")).await["payload"], gone);
    }
    assert_eq!(get(&daemon, &format!("/app/acme/msg/{kept}")).await["payload"], json!({ "n": 3 }));
    assert_eq!(get(&daemon, &format!("/app/other/msg/{foreign}")).await["payload"], json!({ "n": 0 }));
    assert_eq!(post(&daemon, at, json!({}), 200).await["results"], json!({}));
    let access = post(&daemon, "/auth/app-portal-access/acme", json!({}), 200).await;
    let portal = daemon.with_key(text(&access, "token"));
    assert_eq!(call(&portal, Method::POST, at, json!({ "ids": [kept] })).await.status, 403);
}

#[tokio::test]
async fn the_server_remembers_the_pages_that_a_consumer_took() {
    let daemon = TestDaemon::start().await;
    let receiver = Receiver::start().await;
    app(&daemon, "acme").await;
    let sink = text(&endpoint(&daemon, "acme", &receiver).await, "id").to_owned();
    let mut sent = Vec::new();
    for n in 0..5 {
        sent.push(message(&daemon, "acme", n).await);
        daemon.advance_s(1);
    }
    let named: Vec<String> = sent.iter().map(|one| text(one, "id").to_owned()).collect();
    let at = format!("/app/acme/poller/{sink}/consumer/one");
    let first = get(&daemon, &format!("{at}?limit=2")).await;
    assert_eq!(ids(&first), named[..2]);
    assert_eq!(get(&daemon, &format!("{at}?limit=2")).await, first, "a page is taken only once its iterator comes");
    let taken = format!("{at}?limit=2&iterator={}", text(&first, "iterator"));
    let second = get(&daemon, &taken).await;
    assert_eq!((ids(&second), &second["done"]), (named[2..4].to_vec(), &json!(false)));
    assert_eq!(
        get(&daemon, &format!("{at}?limit=2")).await,
        second,
        "without an iterator the consumer goes on after the taken page"
    );
    let other = get(&daemon, &at.replace("/one", "/two")).await;
    assert_eq!(ids(&other), named, "each consumer has a position of its own");
    let sought = post(&daemon, &format!("{at}/seek"), json!({ "after": sent[1]["timestamp"] }), 200).await;
    let late = call(&daemon, Method::GET, &taken, Value::Null).await.expect(400);
    assert_eq!(late["code"], "invalid_iterator", "an iterator from before the seek does not undo it");
    for path in [at.clone(), format!("{at}?iterator={}", text(&sought, "iterator"))] {
        assert_eq!(ids(&get(&daemon, &path).await), named[1..], "of this time or later");
    }
    assert_eq!(
        call(&daemon, Method::GET, &format!("{at}?iterator=x"), Value::Null).await.expect(400)["code"],
        late["code"]
    );
    call(&daemon, Method::POST, &format!("{at}/seek"), json!({})).await.expect(422);
    for n in 0..99 {
        let after = json!({ "after": sent[1]["timestamp"] });
        post(&daemon, &format!("/app/acme/poller/{sink}/consumer/c{n}/seek"), after, 200).await;
    }
    let after = json!({ "after": sent[1]["timestamp"] });
    call(&daemon, Method::POST, &at.replace("/one", "/more/seek"), after).await.expect(409);
    call(&daemon, Method::HEAD, &at, Value::Null).await.expect(405);
}

#[tokio::test]
async fn all_messages_of_an_app_are_erased_by_a_task() {
    let daemon = TestDaemon::start().await;
    let receiver = Receiver::start().await;
    for uid in ["acme", "other"] {
        app(&daemon, uid).await;
        endpoint(&daemon, uid, &receiver).await;
    }
    for n in 0..120 {
        message(&daemon, "acme", n).await;
    }
    message(&daemon, "other", 0).await;
    receiver.take(121).await;
    let task = post(&daemon, "/app/acme/msg/expunge-all-contents", Value::Null, 202).await;
    assert_eq!((&task["task"], &task["status"]), (&json!("application.purge_content"), &json!("running")));
    let at = format!("/background-task/{}", text(&task, "id"));
    eventually("the end of the task", async || {
        daemon.advance_s(1);
        (get(&daemon, &at).await["status"] == "finished").then_some(())
    })
    .await;
    let done = get(&daemon, &at).await["data"].clone();
    assert_eq!((&done["messagesPurged"], &done["sent"]), (&json!(120), &json!(0)), "{done}");
    let page = get(&daemon, "/app/acme/msg?limit=250").await;
    let rows = page["data"].as_array().unwrap();
    assert_eq!(rows.len(), 120);
    assert!(rows.iter().all(|row| row["payload"] == json!({ "expired": true })));
    assert_eq!(get(&daemon, "/app/other/msg").await["data"][0]["payload"], json!({ "n": 0 }));
    assert_eq!(receiver.count(), 121, "nothing is sent");
    message(&daemon, "acme", 121).await;
    assert_eq!(
        get(&daemon, "/app/acme/msg?limit=1").await["data"][0]["payload"],
        json!({ "n": 121 }),
        "the payload of a later message stays"
    );
    let audit = daemon.get("/v1/audit?action=app.erase_events").await;
    assert_eq!(audit["data"].as_array().unwrap().len(), 1, "one audit line for all messages");
    let replays = daemon.get("/v1/replays").await;
    assert_eq!(replays["data"][0]["request"]["erasing"], true);
    let access = post(&daemon, "/auth/app-portal-access/acme", json!({}), 200).await;
    let portal = daemon.with_key(text(&access, "token"));
    assert_eq!(call(&portal, Method::POST, "/app/acme/msg/expunge-all-contents", Value::Null).await.status, 403);
}
