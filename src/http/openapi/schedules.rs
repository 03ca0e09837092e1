//! Operations on schedules.

use serde_json::json;

use super::host::done;
use super::operation::{Operation, delete, get, limit, patch, post, text};
use super::queue::item;
use crate::wire::queue::{QueueItemBody, QueueList};
use crate::wire::schedule::{ChangeSchedule, CreateSchedule, ScheduleBody, ScheduleList, SchedulePreview};

pub fn operations() -> Vec<Operation> {
    let schedule = || {
        json!({
            "id": "019ad5b3-4e2a-7c91-a7f5-1b0d9e8c6a32", "name": "morning report", "agentName": "helper",
            "prompt": "Summarise what happened since yesterday", "calendar": "Mon..Fri 09:00", "timezone": "Europe/Berlin", "sessionId": null,
            "keepSession": false, "priority": 0, "maxRetries": 3, "catchUp": "once", "jitterSeconds": 0, "overlap": "skip", "enabled": true,
            "createdAt": "2026-01-31T12:00:00.000Z", "updatedAt": "2026-01-31T12:00:00.000Z", "nextAt": "2026-02-02T08:00:00.000Z",
            "lastAt": null, "lastItemId": null, "lastError": null, "failuresInRow": 0,
            "counts": {"queued": 0, "skipped": 0, "completed": 0, "failed": 0},
        })
    };
    let one = || json!({"schedule": schedule()});
    vec![
        get("/api/schedules", "listSchedules", "List schedules")
            .query("before", json!({"$ref": "#/components/schemas/ScheduleId"}), "Only those older than this one, to read in pages")
            .query("limit", limit(50, 500), "At most so many")
            .answers::<ScheduleList>(200, "The schedules, newest first", json!({"schedules": [schedule()]}))
            .fails(404, "There is no such schedule"),
        post("/api/schedules", "createSchedule", "Have a message queued at the times of a calendar")
            .about(
                "`calendar` is an expression of systemd (systemd.time(7), \"Calendar Events\") or of cron (crontab(5), five fields). Each \
                 firing is an item of the queue.",
            )
            .takes::<CreateSchedule>(json!({
                "name": "morning report", "agentName": "helper", "prompt": "Summarise what happened since yesterday",
                "calendar": "Mon..Fri 09:00", "timezone": "Europe/Berlin",
            }))
            .answers::<ScheduleBody>(201, "The schedule", one())
            .fails(404, "There is no such session")
            .fails(409, "The tenant has as many schedules as it may"),
        get("/api/schedules/preview", "previewSchedule", "Show the next times of an expression")
            .query_required("calendar", text(), "An expression of systemd or of cron")
            .query("timezone", text(), "The time zone of its times, unless it names one; default: UTC")
            .query("count", limit(5, 100), "So many of them")
            .answers::<SchedulePreview>(
                200,
                "The times, soonest first; none if it never comes again",
                json!({"times": ["2026-02-02T08:00:00.000Z", "2026-02-03T08:00:00.000Z"]}),
            ),
        get("/api/schedules/{id}", "getSchedule", "Show a schedule").answers::<ScheduleBody>(200, "The schedule", one()),
        patch("/api/schedules/{id}", "updateSchedule", "Change a schedule")
            .about("Other times, and those of one that was disabled, count from now on.")
            .takes::<ChangeSchedule>(json!({"enabled": false}))
            .or_nothing()
            .answers::<ScheduleBody>(200, "The schedule", one())
            .fails(404, "There is no such schedule, or no such session")
            .fails(409, "Somebody else changed it at the same time"),
        delete("/api/schedules/{id}", "deleteSchedule", "Delete a schedule")
            .about("Its items stay.")
            .answers_as(200, "It is deleted", "application/json", done()),
        post("/api/schedules/{id}/run", "runSchedule", "Queue an item of a schedule now")
            .about("Also of one that is disabled, or whose last item is not over.")
            .answers::<QueueItemBody>(201, "The item", item())
            .fails(429, "The tenant has as many items waiting as it may, or the caller asks too often"),
        get("/api/schedules/{id}/runs", "listRuns", "List the items of a schedule")
            .query("before", json!({"$ref": "#/components/schemas/QueueId"}), "Only those older than this item, to read in pages")
            .query("limit", limit(50, 500), "At most so many")
            .answers::<QueueList>(200, "The items, newest first", json!({"items": [item()["item"]]})),
    ]
}
