//! Who goes first when memory runs out: what runs inside, and not the shim, which has to tell of it.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

/// The score of bubblewrap and all below it, the most that the kernel takes (proc(5), oom_score_adj). It counts
/// as if a process held so many thousandths more of the memory that there is: all of it. So the shim is not the
/// largest while anything is there inside, however much it holds for what the inside sends it.
const INSIDE: i32 = 1000;

/// The shim's own score.
#[derive(Debug)]
pub struct OomScore {
    file: File,
    own: i32,
}

impl OomScore {
    /// Opens it, while the process is dumpable.
    pub fn open() -> io::Result<Self> {
        let mut file = OpenOptions::new().read(true).write(true).open("/proc/self/oom_score_adj")?;
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        let own = text.trim().parse().map_err(io::Error::other)?;
        Ok(Self { file, own })
    }

    /// Raises it while `start` runs, so that a process which is started there inherits more. Everybody
    /// may raise a score and take it back to what it was.
    pub fn raised<T>(&self, start: impl FnOnce() -> T) -> T {
        self.set(INSIDE);
        let started = start();
        self.set(self.own);
        started
    }

    fn set(&self, score: i32) {
        if let Err(error) = self.file.write_all_at(score.to_string().as_bytes(), 0) {
            tracing::warn!(score, %error, "the kernel does not take a score for want of memory, ignoring");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_started_has_a_higher_score_and_the_own_one_stays() {
        let oom = OomScore::open().expect("opens");
        let score =
            || std::fs::read_to_string("/proc/self/oom_score_adj").expect("reads").trim().parse::<i32>().expect("a number");
        let before = score();
        assert_eq!((oom.raised(score), score()), (INSIDE, before));
    }
}
