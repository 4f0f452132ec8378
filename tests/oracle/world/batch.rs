//! A batch of requests after a fault: which of its unanswered requests are in the store.

use postrider::model::Time;
use postrider::store::{Applied, Rejection, Store, WriteRequest};

use crate::oracle::drawn_values::Found;
use crate::oracle::oracle::{Answer, Asked, Oracle, Place, Verdict, word};
use crate::oracle::{Check, check, ensure};

pub type Answered = Result<Applied, Rejection>;

/// Whether a request was not answered, so that it may be in the store.
pub fn is_unknown(result: &Answered) -> bool {
    matches!(result, Err(Rejection::Failed(_) | Rejection::TenureEnded | Rejection::DiskFull))
}

/// The requests of one batch, by the file that they change.
pub struct Batch<'a> {
    pub parts: Vec<(Place, Vec<usize>)>,
    pub requests: &'a [WriteRequest],
    pub results: &'a [Answered],
    pub now: Time,
}

impl Batch<'_> {
    /// The oracle after the batch, and the part of `found` that it does not explain. `unknown` files are those whose
    /// requests were not answered: all requests of such a file are there, or none is. The files are decided together,
    /// because each shows the hold of a webhook that a record in another one has set.
    pub fn decide(&self, oracle: &Oracle, found: &Found, unknown: &[Place], store: &Store) -> Check<(Oracle, Found)> {
        let mut sets: Vec<Vec<Place>> = vec![Vec::new()];
        for place in unknown {
            let with: Vec<_> = sets.iter().map(|set| [set.as_slice(), &[*place]].concat()).collect();
            sets.extend(with);
        }
        sets.sort_by_key(Vec::len);
        let guess = |there: &[Place]| self.guess(oracle, found, unknown, there, store);
        let mut problems = String::new();
        for set in &sets {
            let (mut after, left) = match guess(set) {
                Ok(guessed) => guessed,
                Err(problem) => {
                    problems += &format!("\n  as if {set:?} were there: {problem}");
                    continue;
                }
            };
            for more in unknown.iter().filter(|place| !set.contains(place)) {
                // Both results look the same, except for the answers that may have been stored.
                let Ok((other, _)) = guess(&[set.as_slice(), &[*more]].concat()) else { continue };
                for (key, answer) in other.answers {
                    if after.answers.get(&key) != Some(&answer) {
                        after.answers.insert(key, Answer { is_doubtful: true, ..answer });
                    }
                }
            }
            return Ok((after, left));
        }
        Err(format!("{unknown:?} are half there.{problems}"))
    }

    /// The oracle as if exactly the unknown files of `there` had their requests, compared with these files.
    fn guess(
        &self,
        oracle: &Oracle,
        found: &Found,
        unknown: &[Place],
        there: &[Place],
        store: &Store,
    ) -> Check<(Oracle, Found)> {
        let (mut oracle, mut left) = (oracle.clone(), found.clone());
        self.play(&mut oracle, &mut left, there)?;
        for place in unknown {
            match *place {
                Place::State => check::settings(&oracle, store, false)?,
                Place::Partition(first) => {
                    left.is_explained_in(&oracle, first)?;
                    check::partition(&oracle, store, first)?;
                }
                Place::Nowhere(_) => {}
            }
        }
        Ok((oracle, left))
    }

    /// Applies the answered requests, and those of the files that are `there`.
    pub fn play(&self, oracle: &mut Oracle, found: &mut Found, there: &[Place]) -> Check {
        for (place, slot) in self.parts.iter().flat_map(|(place, slots)| slots.iter().map(move |slot| (*place, *slot)))
        {
            let (request, result) = (&self.requests[slot], &self.results[slot]);
            let is_unknown = is_unknown(result);
            if is_unknown && !there.contains(&place) {
                continue;
            }
            let pending_audit = oracle.pending_audit.clone();
            let verdict = oracle.apply(place, &Asked { request, now: self.now }, found);
            let verdict =
                verdict.map_err(|error| format!("{:?} was answered {result:?}, but {error}", request.command))?;
            if is_unknown {
                // A rejected request has no audit line.
                oracle.pending_audit = pending_audit;
            } else {
                agree(request, &verdict, result)?;
            }
        }
        Ok(())
    }
}

/// Whether a request has the expected answer.
fn agree(request: &WriteRequest, wanted: &Verdict, found: &Answered) -> Check {
    let same = match (wanted, found) {
        (Ok(wanted), Ok(found)) => wanted == found,
        (Err(wanted), Err(found)) => *wanted == word(found),
        _ => false,
    };
    ensure!(same, "{:?} was answered {found:?}:\n  {}", request.command, check::difference(found, wanted));
    Ok(())
}
