//! The stream between the daemon and a follower over the control socket, or a standby over the API's listener.
//!
//! The daemon sends commits as they become durable, a heartbeat every second, and the reason of the end. The follower
//! sends the number of the last commit that it has made durable.
//!
//! Invariant: a frame is read entirely or not at all. A follower whose queue overflows, or that confirms too late, is
//! disconnected.

use std::io::{self, Read as _, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::model::Time;
use crate::store::admin::{CommitPosition, DisconnectReason, Follower, ReplicaBatch, refuse};

/// First bytes of frames. The first frame names the commit before all that follow, and says whether a standby resumes
/// after its own last commit. A commit's frame has its length and bytes. A heartbeat has the number of the last commit. The
/// last frame has the reason of the end, as `refuse` writes it.
const FROM: u8 = b'F';
const RESUMED: u8 = b'R';
const COMMIT: u8 = b'C';
const ALIVE: u8 = b'A';
const OVER: u8 = b'X';
/// Interval of the heartbeat, which detects a socket without a reader.
const ALIVE_EVERY: Duration = Duration::from_secs(1);
/// Timeout of a read, after which the reader does its other work.
const READ_WAIT: Duration = Duration::from_millis(100);
/// Maximum bytes that are read at once.
const READ_BYTES: usize = 1 << 20;
const TOGETHER_BYTES_MAX: usize = 4 << 20;
/// Maximum length of a commit. A longer one was not written by Postrider.
const COMMIT_BYTES_MAX: usize = 1 << 30;

/// Sends commits to a follower until it is disconnected, and returns the reason. `is_resumed` says whether they follow the
/// last commit that it has.
///
/// # Errors
/// The follower is gone, or accepts no more bytes.
pub fn send(follower: &Follower, is_resumed: bool, out: &mut dyn Write) -> io::Result<DisconnectReason> {
    let from = follower.from();
    let first = if is_resumed { RESUMED } else { FROM };
    out.write_all(&[&[first], from.number.to_le_bytes().as_slice(), &from.at.0.to_le_bytes()].concat())?;
    out.flush()?;
    loop {
        match follower.take(ALIVE_EVERY) {
            ReplicaBatch::Records(records) if records.is_empty() => {
                out.write_all(&[&[ALIVE], follower.begun().to_le_bytes().as_slice()].concat())?;
            }
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

/// Reads a follower's confirmations until it disconnects.
pub fn read_confirmations(follower: &Follower, mut confirmations: UnixStream) {
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
    /// The commits after this one follow, which is the reader's own last one.
    Resumed(CommitPosition),
    Commit(Vec<u8>),
    /// The number of the last commit that began.
    Alive(u64),
    /// The stream ended for this reason.
    Over(String),
}

/// The follower's end of the socket.
#[derive(Debug)]
pub struct FrameReader {
    stream: UnixStream,
    buffer: Vec<u8>,
    /// Number of buffered bytes that were consumed.
    consumed: usize,
    confirmed: Option<u64>,
}

impl FrameReader {
    pub fn of(stream: UnixStream) -> io::Result<FrameReader> {
        stream.set_read_timeout(Some(READ_WAIT))?;
        Ok(FrameReader { stream, buffer: Vec::new(), consumed: 0, confirmed: None })
    }

    /// Confirms that the commit of this number and all before it are durable, once for each number.
    pub fn confirm(&mut self, number: u64) {
        if self.confirmed != Some(number) {
            self.confirmed = Some(number);
            // The daemon may be gone. Its earlier frames are still read to the end.
            let _ = self.stream.write_all(&number.to_le_bytes());
        }
    }

    /// The frames that have arrived. Empty if none arrives for a moment.
    ///
    /// # Errors
    /// The other side is gone without a reason, or a frame is invalid.
    pub fn frames(&mut self) -> io::Result<Vec<StreamFrame>> {
        self.buffer.drain(..self.consumed);
        self.consumed = 0;
        let ended = self.fill()?;
        let mut frames = Vec::new();
        while let Some((frame, bytes)) = frame(&self.buffer[self.consumed..])? {
            self.consumed += bytes;
            frames.push(frame);
        }
        match ended && frames.is_empty() {
            true => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the daemon has gone")),
            false => Ok(frames),
        }
    }

    /// Reads the available bytes and waits for the first. `true` if the other side is gone.
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
                // The other side is gone, and its earlier bytes were read.
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

/// The frame at the start of the bytes, and its length. `None` if it is incomplete.
fn frame(bytes: &[u8]) -> io::Result<Option<(StreamFrame, usize)>> {
    let Some((kind, rest)) = bytes.split_first() else { return Ok(None) };
    let senseless = || io::Error::new(io::ErrorKind::InvalidData, "the daemon's stream is invalid");
    Ok(match *kind {
        ALIVE => rest.first_chunk::<8>().map(|number| (StreamFrame::Alive(u64::from_le_bytes(*number)), 9)),
        FROM | RESUMED => rest.first_chunk::<16>().map(|point| {
            let half = |from: usize| std::array::from_fn(|n| point[from + n]);
            let point = CommitPosition { number: u64::from_le_bytes(half(0)), at: Time(i64::from_le_bytes(half(8))) };
            (if *kind == FROM { StreamFrame::From(point) } else { StreamFrame::Resumed(point) }, 17)
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
    fn frames_are_read_whole_however_they_arrive() {
        let (mut near, far) = UnixStream::pair().expect("a pair");
        let mut inlet = FrameReader::of(far).expect("an inlet");
        let mut bytes = vec![FROM];
        bytes.extend_from_slice(&7_u64.to_le_bytes());
        bytes.extend_from_slice(&9_i64.to_le_bytes());
        bytes.extend_from_slice(&[ALIVE, 8, 0, 0, 0, 0, 0, 0, 0, COMMIT, 3, 0, 0, 0, 1, 2, 3]);
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
            [from, StreamFrame::Alive(8), StreamFrame::Commit(vec![1, 2, 3]), StreamFrame::Over("enough".into())]
        );
        assert!(frame(&[COMMIT, 255, 255, 255, 255]).is_err() && frame(b"?").is_err());
    }
}
