//! Schedules.

use hyper::Method;

use super::{Answer, Client, ClientError, Done, Path};
use crate::wire::queue::{QueueItemBody, QueueList};
use crate::wire::schedule::{ChangeSchedule, CreateSchedule, ScheduleBody, ScheduleList, SchedulePreview};
use crate::wire::{QueueId, ScheduleId};

impl Client {
    /// `POST /api/schedules`.
    ///
    /// # Errors
    /// See [`Self::health`].
    pub async fn create_schedule(&self, body: &CreateSchedule) -> Result<Answer<ScheduleBody>, ClientError> {
        self.send(Method::POST, "/api/schedules", body).await
    }

    /// `GET /api/schedules`: the newest before one.
    ///
    /// # Errors
    /// See [`Self::health`].
    pub async fn schedules(&self, before: Option<ScheduleId>, limit: u32) -> Result<Answer<ScheduleList>, ClientError> {
        self.get(&Path::new("/api/schedules").with("before", before).with("limit", Some(limit)).0).await
    }

    /// `GET /api/schedules/{id}`.
    ///
    /// # Errors
    /// See [`Self::health`].
    pub async fn schedule(&self, id: ScheduleId) -> Result<Answer<ScheduleBody>, ClientError> {
        self.get(&format!("/api/schedules/{id}")).await
    }

    /// `PATCH /api/schedules/{id}`.
    ///
    /// # Errors
    /// See [`Self::health`].
    pub async fn change_schedule(&self, id: ScheduleId, body: &ChangeSchedule) -> Result<Answer<ScheduleBody>, ClientError> {
        self.send(Method::PATCH, &format!("/api/schedules/{id}"), body).await
    }

    /// `DELETE /api/schedules/{id}`.
    ///
    /// # Errors
    /// See [`Self::health`].
    pub async fn delete_schedule(&self, id: ScheduleId) -> Result<Answer<Done>, ClientError> {
        self.call(Method::DELETE, &format!("/api/schedules/{id}"), None).await
    }

    /// `POST /api/schedules/{id}/run`: queues an item of it now.
    ///
    /// # Errors
    /// See [`Self::health`].
    pub async fn run_schedule(&self, id: ScheduleId) -> Result<Answer<QueueItemBody>, ClientError> {
        self.call(Method::POST, &format!("/api/schedules/{id}/run"), None).await
    }

    /// `GET /api/schedules/{id}/runs`: its newest items before one.
    ///
    /// # Errors
    /// See [`Self::health`].
    pub async fn runs(
        &self,
        id: ScheduleId,
        before: Option<QueueId>,
        limit: Option<u32>,
    ) -> Result<Answer<QueueList>, ClientError> {
        let path = Path::new(format!("/api/schedules/{id}/runs")).with("before", before).with("limit", limit);
        self.get(&path.0).await
    }

    /// `GET /api/schedules/preview`: the next times of an expression.
    ///
    /// # Errors
    /// See [`Self::health`].
    pub async fn preview(
        &self,
        calendar: &str,
        timezone: Option<&str>,
        count: u32,
    ) -> Result<Answer<SchedulePreview>, ClientError> {
        let path = Path::new("/api/schedules/preview").with("calendar", Some(calendar)).with("timezone", timezone);
        self.get(&path.with("count", Some(count)).0).await
    }
}
