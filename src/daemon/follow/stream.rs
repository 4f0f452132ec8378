//! What goes over the control socket while somebody follows: commits as they become durable, a sign of life every second,
//! and why it ends; the other way the number of the last commit that is safe.
//!
//! Invariant: a frame is taken as a whole or not at all. Nothing is ever asked for: what is not taken waits in the daemon,
//! which cuts off whoever lets too much wait or confirms too late.

use std::io::{self, Read as _, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::model::Time;
use crate::store::backup::refuse;
use crate::store::replication::{CommitPosition, DisconnectReason, Follower, ReplicaBatch};

/// What a frame begins with. The first one has the commit that all that follow come after; a commit's its length and bytes;
/// the last one why there is nothing more, as `refuse` writes it.
const FROM: u8 = b'F';
const COMMIT: u8 = b'C';
const ALIVE: u8 = b'A';
const OVER: u8 = b'X';
/// A follower that is told nothing for so long gets a sign of life, by which a socket that nobody reads is found out.
const ALIVE_EVERY: Duration = Duration::from_secs(1);
/// How long a read waits before whoever reads looks at what else there is to do.
const READ_WAIT: Duration = Duration::from_millis(100);
/// What is read at once, and taken together at most, in bytes.
const READ_BYTES: usize = 1 << 20;
const TOGETHER_BYTES_MAX: usize = 4 << 20;
/// A longer commit is none of ours.
const COMMIT_BYTES_MAX: usize = 1 << 30;

/// Tells a follower everything until it is over, and why it is.
///
/// # Errors
/// The other side has gone, or takes nothing any more.
pub fn send(follower: &Follower, out: &mut dyn Write) -> io::Result<DisconnectReason> {
    let from = follower.from();
    out.write_all(&[&[FROM], from.number.to_le_bytes().as_slice(), &from.at.0.to_le_bytes()].concat())?;
    out.flush()?;
    loop {
        match follower.take(ALIVE_EVERY) {
            ReplicaBatch::Records(records) if records.is_empty() => out.write_all(&[ALIVE])?,
            ReplicaBatch::Records(records) => {
                for record in records {
                    out.write_all(&[COMMIT])?;
                    out.write_all(&(record.len() as u32).to_le_bytes())?;
                    out.write_all(&record)?;
                }
            }
            ReplicaBatch::Over(cut) => {
                refuse(out, cut.as_str())?;
                return Ok(cut);
            }
        }
        out.flush()?;
    }
}

/// Takes what a follower confirms, until it goes.
pub fn hear(follower: &Follower, mut confirmations: UnixStream) {
    let mut number = [0; 8];
    while confirmations.read_exact(&mut number).is_ok() {
        follower.confirm(u64::from_le_bytes(number));
    }
    follower.leave();
}

/// One frame.
#[derive(Debug, PartialEq, Eq)]
pub enum StreamFrame {
    From(CommitPosition),
    Commit(Vec<u8>),
    Alive,
    /// In words.
    Over(String),
}

/// The follower's end of the socket.
#[derive(Debug)]
pub struct FrameReader {
    stream: UnixStream,
    buffer: Vec<u8>,
    /// Up to where the buffer was taken.
    taken: usize,
    confirmed: Option<u64>,
}

impl FrameReader {
    pub fn of(stream: UnixStream) -> io::Result<FrameReader> {
        stream.set_read_timeout(Some(READ_WAIT))?;
        Ok(FrameReader { stream, buffer: Vec::new(), taken: 0, confirmed: None })
    }

    /// Says that the commit of this number, and all before it, are safe; once for each.
    pub fn confirm(&mut self, number: u64) {
        if self.confirmed != Some(number) {
            self.confirmed = Some(number);
            // Whoever has gone hears nothing; what it sent before is read to the end all the same.
            let _ = self.stream.write_all(&number.to_le_bytes());
        }
    }

    /// What has come together; nothing if nothing comes for a moment.
    ///
    /// # Errors
    /// The other side has gone without a word, or what it says makes no sense.
    pub fn frames(&mut self) -> io::Result<Vec<StreamFrame>> {
        self.buffer.drain(..self.taken);
        self.taken = 0;
        let ended = self.fill()?;
        let mut frames = Vec::new();
        while let Some((frame, bytes)) = frame(&self.buffer[self.taken..])? {
            self.taken += bytes;
            frames.push(frame);
        }
        match ended && frames.is_empty() {
            true => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the daemon has gone")),
            false => Ok(frames),
        }
    }

    /// Reads what is there, waiting for the first of it; true: the other side has gone.
    fn fill(&mut self) -> io::Result<bool> {
        let mut is_first = true;
        let filled = loop {
            let old = self.buffer.len();
            self.buffer.resize(old + READ_BYTES, 0);
            let read = self.stream.read(&mut self.buffer[old..]);
            self.buffer.truncate(old + *read.as_ref().unwrap_or(&0));
            match read {
                Ok(0) => break Ok(true),
                Ok(_) if self.buffer.len() >= TOGETHER_BYTES_MAX => break Ok(false),
                Ok(_) => {}
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                    break Ok(false);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                // The other side has gone, and what it wrote before was read.
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => break Ok(true),
                Err(error) => break Err(error),
            }
            if is_first {
                self.stream.set_nonblocking(true)?;
                is_first = false;
            }
        };
        self.stream.set_nonblocking(false)?;
        filled
    }
}

/// The frame that the bytes begin with, and how many it has; none: not all of it is there.
fn frame(bytes: &[u8]) -> io::Result<Option<(StreamFrame, usize)>> {
    let Some((kind, rest)) = bytes.split_first() else { return Ok(None) };
    let senseless = || io::Error::new(io::ErrorKind::InvalidData, "what the daemon says makes no sense");
    Ok(match *kind {
        ALIVE => Some((StreamFrame::Alive, 1)),
        FROM => rest.first_chunk::<16>().map(|point| {
            let half = |from: usize| std::array::from_fn(|n| point[from + n]);
            let point = CommitPosition { number: u64::from_le_bytes(half(0)), at: Time(i64::from_le_bytes(half(8))) };
            (StreamFrame::From(point), 17)
        }),
        COMMIT => {
            let Some((length, rest)) = rest.split_first_chunk::<4>() else { return Ok(None) };
            let length = u32::from_le_bytes(*length) as usize;
            if length > COMMIT_BYTES_MAX {
                return Err(senseless());
            }
            rest.get(..length).map(|record| (StreamFrame::Commit(record.to_vec()), 5 + length))
        }
        OVER => {
            let Some((length, rest)) = rest.split_first_chunk::<2>() else { return Ok(None) };
            let length = usize::from(u16::from_le_bytes(*length));
            rest.get(..length).map(|words| (StreamFrame::Over(String::from_utf8_lossy(words).into_owned()), 3 + length))
        }
        _ => return Err(senseless()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_taken_whole_however_they_come() {
        let (mut near, far) = UnixStream::pair().expect("a pair");
        let mut inlet = FrameReader::of(far).expect("an inlet");
        let mut bytes = vec![FROM];
        bytes.extend_from_slice(&7_u64.to_le_bytes());
        bytes.extend_from_slice(&9_i64.to_le_bytes());
        bytes.extend_from_slice(&[ALIVE, COMMIT, 3, 0, 0, 0, 1, 2, 3]);
        let mut frames = Vec::new();
        for byte in &bytes {
            near.write_all(&[*byte]).expect("written");
            frames.extend(inlet.frames().expect("frames"));
        }
        refuse(&mut near, "enough").expect("written");
        drop(near);
        while let Ok(more) = inlet.frames() {
            frames.extend(more);
        }
        let from = StreamFrame::From(CommitPosition { number: 7, at: Time(9) });
        assert_eq!(
            frames,
            [from, StreamFrame::Alive, StreamFrame::Commit(vec![1, 2, 3]), StreamFrame::Over("enough".into())]
        );
        assert!(frame(&[COMMIT, 255, 255, 255, 255]).is_err() && frame(b"?").is_err());
    }
}
