//! Waiting for what goes on in the daemon while nobody looks.

use std::time::Duration;

use tokio::time::Instant;

use crate::client::ClientError;

/// How long a daemon may be away while somebody waits: its restart takes far less.
const AWAY: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_secs(1);

/// Bears a daemon that restarts, for whoever asks the same again and again.
#[derive(Debug, Default)]
pub(super) struct Patience {
    away_since: Option<Instant>,
}

impl Patience {
    /// The answer, or `None` if it is to be asked once more, after a pause.
    ///
    /// # Errors
    ///
    /// A failure that does not pass, or that has not for a minute.
    pub(super) async fn bear<T>(&mut self, answer: Result<T, ClientError>) -> Result<Option<T>, ClientError> {
        let since = *self.away_since.get_or_insert_with(Instant::now);
        match answer {
            Err(error) if error.is_passing() && since.elapsed() < AWAY => {
                tokio::time::sleep(PAUSE).await;
                Ok(None)
            }
            answer => {
                self.away_since = None;
                answer.map(Some)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::connect::Server;

    fn silent<T>() -> Result<T, ClientError> {
        Err(ClientError::Silent { server: Server::Unix("/run/ash/ash.sock".into()), secs: 60 })
    }

    #[tokio::test(start_paused = true)]
    async fn what_passes_is_borne_for_a_minute_after_each_answer() {
        let mut patience = Patience::default();
        for _ in 0..2 {
            let begun = Instant::now();
            let error = loop {
                match patience.bear(silent::<()>()).await {
                    Ok(answer) => assert_eq!(answer, None),
                    Err(error) => break error,
                }
            };
            assert!(error.is_passing());
            assert_eq!(begun.elapsed(), AWAY);
        }
        assert_eq!(patience.bear(silent::<i32>()).await.expect("borne"), None);
        assert_eq!(patience.bear(Ok(7)).await.expect("an answer"), Some(7));
        assert_eq!(patience.away_since, None);
    }
}
