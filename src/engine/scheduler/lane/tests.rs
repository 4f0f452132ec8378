//! Tests of a single lane against an index that changes while it is read.

use crate::engine::scheduler::fixture::{delivery_id, dispatch, webhook};
use crate::engine::scheduler::lane::*;

const NOW: Time = Time(1_000_000);

fn lane() -> Lane {
    Lane::new(Arc::new(webhook(|_| {})), WebhookState::default(), RequestGroups::default())
}

fn slice(ids: &[(u128, i64)], next: Option<Time>) -> DueSlice {
    let ready: Vec<Dispatch> = ids.iter().map(|(id, due)| dispatch(*id, Time(*due))).collect();
    let last = ready.last().map(|dispatch| (dispatch.due, dispatch.delivery_id));
    DueSlice { ready, last, next, damaged: Vec::new() }
}

/// All deliveries that the lane would send now.
fn sent(lane: &mut Lane) -> Vec<u128> {
    std::iter::from_fn(|| if lane.may_send(NOW) { lane.take(NOW) } else { None })
        .map(|d| d.delivery_id.as_u128())
        .collect()
}

fn reading(lane: &mut Lane) -> Option<DueKey> {
    match lane.need(NOW) {
        LaneNeed::Read(after) => after,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_entry_noted_while_reading_before_the_end_of_the_slice_is_read_again() {
    let mut lane = lane();
    lane.note_due(Time(1_000));
    assert_eq!(reading(&mut lane), None);
    // Committed after the slice was read, and due before its last entry.
    lane.note_due(Time(2_000));
    lane.fill(slice(&[(1, 1_000), (3, 3_000)], None));
    let after = reading(&mut lane);
    assert!(after < Some((Time(2_000), DeliveryId::MIN)), "{after:?}");
    lane.fill(slice(&[(2, 2_000), (3, 3_000)], None));
    assert_eq!(sent(&mut lane), [1, 3, 2], "each once");
    assert_eq!(lane.need(NOW), LaneNeed::Rest);
}

#[test]
fn a_delivery_that_ended_while_reading_is_not_sent_again() {
    let mut lane = lane();
    lane.note_due(Time(1_000));
    reading(&mut lane);
    lane.fill(slice(&[(1, 1_000), (2, 1_000)], None));
    assert_eq!(sent(&mut lane), [1, 2]);
    // An earlier entry appears, so the index is read from there. Both are still in it.
    lane.note_due(Time(500));
    reading(&mut lane);
    lane.finished();
    lane.recorded(delivery_id(1));
    lane.withdraw(delivery_id(4));
    lane.fill(slice(&[(3, 500), (1, 1_000), (2, 1_000), (4, 1_500)], None));
    assert_eq!(sent(&mut lane), [3]);
}

#[test]
fn due_deliveries_in_memory_stand_behind_those_in_the_index() {
    let mut lane = lane();
    lane.note_due(Time(1_000));
    lane.offer(dispatch(9, Time(5_000)), false);
    assert_eq!(reading(&mut lane), None);
    lane.fill(slice(&[(1, 1_000), (9, 5_000)], None));
    assert_eq!(sent(&mut lane), [1, 9]);
}

#[test]
fn a_backlog_stays_in_the_index() {
    let mut lane = lane();
    for id in 0..2 * LANE_DELIVERIES_MAX as u128 {
        lane.offer(dispatch(id, Time(1_000 + id as i64)), false);
    }
    assert_eq!(lane.queue.len(), LANE_DELIVERIES_MAX);
    lane.take(NOW);
    assert_eq!(lane.queue.len(), LANE_DELIVERIES_MAX - 1);
    lane.offer(dispatch(5_000, Time(6_000)), false);
    assert_eq!(lane.queue.len(), LANE_DELIVERIES_MAX - 1, "it stands behind the others");
}

#[test]
fn where_there_is_room_a_backlog_waits_in_memory_until_some_of_it_is_in_the_index() {
    let mut lane = lane();
    for id in 0..2 * LANE_DELIVERIES_MAX as u128 {
        lane.offer(dispatch(id, Time(1_000 + id as i64)), true);
    }
    assert_eq!(lane.queue.len(), 2 * LANE_DELIVERIES_MAX);
    lane.offer(dispatch(5_000, Time(5_000)), false);
    lane.offer(dispatch(5_001, Time(5_001)), true);
    assert_eq!(lane.queue.len(), 2 * LANE_DELIVERIES_MAX, "it stands behind one that is not in memory");
}

#[test]
fn a_delivery_that_was_given_up_is_read_again() {
    let mut lane = lane();
    lane.offer(dispatch(1, Time(1_000)), false);
    assert_eq!(sent(&mut lane), [1]);
    lane.finished();
    lane.given_up(delivery_id(1), Time(1_005_000));
    assert_eq!(lane.need(NOW), LaneNeed::Wait(Time(1_005_000)));
    assert!(
        matches!(lane.need(Time(1_005_000)), LaneNeed::Read(after) if after < Some((Time(1_000), DeliveryId::MIN)))
    );
}

#[test]
fn withheld_deliveries_are_read_again_and_go_one_at_a_time_until_a_request_is_made() {
    let until = NOW.plus_ms(5_000);
    let taken = |lane: &mut Lane, now| lane.take(now).map(|dispatch| dispatch.delivery_id.as_u128());
    let mut lane = lane();
    (1..=3).for_each(|id| lane.offer(dispatch(id, Time(1_000)), false));
    assert_eq!(taken(&mut lane, NOW), Some(1));
    lane.withhold(delivery_id(1), until);
    assert_eq!((lane.need(NOW), lane.may_send(NOW)), (LaneNeed::Wait(until), false));
    assert!(matches!(lane.need(until), LaneNeed::Read(_)));
    lane.fill(slice(&[(1, 1_000), (2, 1_000), (3, 1_000)], None));
    assert_eq!(taken(&mut lane, until), Some(2));
    assert!(!lane.may_send(until), "one probe");
    lane.withhold(delivery_id(2), until.plus_ms(9_000));
    assert!(!lane.may_send(until));
    lane.release();
    assert!(lane.may_send(NOW), "the cause may be gone");
    assert_eq!(taken(&mut lane, NOW), Some(3));
    lane.finished();
    assert_eq!(sent(&mut lane), [1], "the other is in the index");
}

#[test]
fn a_delivery_offered_meanwhile_hides_nothing_that_waits_in_the_index() {
    const UNTIL: Time = NOW.plus_ms(5_000);
    let all = || slice(&[(1, 1_000), (2, 2_000)], None);
    fn withheld(lane: &mut Lane) {
        lane.withhold(delivery_id(1), UNTIL);
    }
    fn given_up(lane: &mut Lane) {
        lane.finished();
        lane.given_up(delivery_id(1), UNTIL);
    }
    for drop_request in [withheld, given_up as fn(&mut Lane)] {
        let mut lane = lane();
        lane.offer(dispatch(1, Time(1_000)), false);
        assert!(lane.take(NOW).is_some());
        drop_request(&mut lane);
        lane.offer(dispatch(2, Time(2_000)), false);
        let LaneNeed::Read(after) = lane.need(UNTIL) else { panic!("the index is read again") };
        assert!(after < Some((Time(1_000), DeliveryId::MIN)), "{after:?}");
        lane.fill(all());
        assert_eq!(lane.take(UNTIL).map(|dispatch| dispatch.delivery_id), Some(delivery_id(1)));
    }
    let mut lane = lane();
    lane.note_due(Time(1_000));
    assert_eq!(reading(&mut lane), None);
    lane.read_failed(UNTIL);
    lane.offer(dispatch(2, Time(2_000)), false);
    assert_eq!(lane.need(UNTIL), LaneNeed::Read(None));
    lane.fill(all());
    assert_eq!(sent(&mut lane), [1, 2]);
}

#[test]
fn a_rate_in_force_is_not_forgotten() {
    let mut lane = Lane::new(
        Arc::new(webhook(|w| w.rate_limit_per_s = Some(0.01))),
        WebhookState::default(),
        RequestGroups::default(),
    );
    lane.offer(dispatch(1, NOW), false);
    assert_eq!(sent(&mut lane), [1]);
    lane.finished();
    lane.recorded(delivery_id(1));
    assert!(!lane.is_idle(NOW.plus_ms(60_000)));
    assert!(lane.is_idle(NOW.plus_ms(100_000)));
}

#[test]
fn a_rate_delays_by_one_interval_at_the_most_also_when_it_is_raised_or_the_clock_is_set_back() {
    let slow = Arc::new(webhook(|w| w.rate_limit_per_s = Some(0.01)));
    let mut lane = Lane::new(slow.clone(), WebhookState::default(), RequestGroups::default());
    for id in 1..=3 {
        lane.offer(dispatch(id, Time(1_000)), false);
    }
    assert_eq!(lane.need(NOW), LaneNeed::Send);
    lane.take(NOW).unwrap();
    assert!(matches!(lane.need(NOW), LaneNeed::Wait(until) if until > NOW.plus_ms(90_000)));
    let earlier = NOW.minus_ms(86_400_000);
    assert_eq!(lane.need(earlier), LaneNeed::Wait(earlier.plus_ms(100_000)));
    assert_eq!(lane.need(earlier.plus_ms(100_000)), LaneNeed::Send);
    lane.take(earlier.plus_ms(100_000)).unwrap();
    lane.webhook = Arc::new(webhook(|w| w.rate_limit_per_s = Some(10.0)));
    let raised = earlier.plus_ms(100_001);
    assert_eq!(lane.need(raised), LaneNeed::Wait(raised.plus_ms(100)));
    assert_eq!(lane.need(raised.plus_ms(100)), LaneNeed::Send);
}

#[test]
fn a_rate_is_smooth_whatever_its_interval() {
    for rate in [0.5, 7.0, 333.0, 2_000.0] {
        let mut lane = Lane::new(
            Arc::new(webhook(|w| w.rate_limit_per_s = Some(rate))),
            WebhookState::default(),
            RequestGroups::default(),
        );
        let mut times = Vec::new();
        let mut id = 0;
        for ms in 0..20_000 {
            let now = NOW.plus_ms(ms);
            while lane.queue.len() < 10 {
                id += 1;
                lane.offer(dispatch(id, Time(1_000)), false);
            }
            while lane.may_send(now) {
                let sent = lane.take(now).unwrap();
                lane.finished();
                lane.recorded(sent.delivery_id);
                times.push(ms);
            }
        }
        let expected = 20.0 * rate;
        assert!((times.len() as f64 - expected).abs() <= expected * 0.02 + 1.0, "{rate}: {}", times.len());
        let in_one_second = |from: i64| times.iter().filter(|ms| (from..from + 1_000).contains(ms)).count() as f64;
        let most = (0..19_000).step_by(250).map(in_one_second).fold(0.0, f64::max);
        assert!(most <= rate * 1.02 + 1.0, "{rate}: {most}");
    }
}
