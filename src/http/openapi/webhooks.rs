//! Operations on webhooks.

use serde_json::json;

use super::host::done;
use super::operation::{Operation, delete, get, limit, patch, post, whole};
use crate::wire::webhook::{ChangeWebhook, CreateWebhook, DeliveryBody, DeliveryList, WebhookBody, WebhookList};

const NO_MASTER: &str = "Ash has no master key to seal the secret with";

pub fn operations() -> Vec<Operation> {
    let id = "019ad5b3-4e2a-7c91-a7f5-1b0d9e8c6a32";
    let webhook = || {
        json!({
            "id": id, "url": "https://hooks.example.com/ash", "events": ["turn.ended"], "agent": null, "description": "", "enabled": true,
            "disabledReason": null, "failingSince": null, "createdAt": "2026-01-31T12:00:00.000Z", "updatedAt": "2026-01-31T12:00:00.000Z",
        })
    };
    let delivery = || {
        json!({
            "id": 7, "webhookId": id, "sessionId": "019ad5b1-7c40-7c3a-9f0e-3c1f4b6d2a10", "event": 42, "type": "turn.ended",
            "state": "delivered", "attempts": 1, "status": 204, "error": null, "createdAt": "2026-01-31T12:00:00.000Z",
            "triedAt": "2026-01-31T12:00:00.000Z", "nextAt": null,
        })
    };
    vec![
        get("/api/webhooks", "listWebhooks", "List webhooks").answers::<WebhookList>(
            200,
            "The webhooks, oldest first",
            json!({"webhooks": [webhook()]}),
        ),
        post("/api/webhooks", "createWebhook", "Have somebody told of events")
            .about(
                "Each event that comes from now on is sent to `url`, signed as Standard Webhooks say, in order for each session.",
            )
            .takes::<CreateWebhook>(json!({"url": "https://hooks.example.com/ash", "events": ["turn.ended"]}))
            .answers::<WebhookBody>(
                201,
                "The webhook; its secret is shown this once",
                json!({"webhook": webhook(), "secret": "whsec_…"}),
            )
            .fails(409, "The tenant has as many webhooks as it may")
            .fails(422, NO_MASTER),
        get("/api/webhooks/{id}", "getWebhook", "Show a webhook").answers::<WebhookBody>(
            200,
            "The webhook without its secret",
            json!({"webhook": webhook()}),
        ),
        patch("/api/webhooks/{id}", "updateWebhook", "Change a webhook")
            .takes::<ChangeWebhook>(json!({"enabled": false}))
            .or_nothing()
            .answers::<WebhookBody>(200, "The webhook; with `rotateSecret` also its new secret", json!({"webhook": webhook()}))
            .fails(409, "Somebody else changed it at the same time")
            .fails(422, NO_MASTER),
        delete("/api/webhooks/{id}", "deleteWebhook", "Delete a webhook").answers_as(
            200,
            "It is deleted",
            "application/json",
            done(),
        ),
        post("/api/webhooks/{id}/test", "testWebhook", "Send an event of the type `webhook.test`")
            .answers::<DeliveryBody>(200, "What came of it", json!({"delivery": delivery()}))
            .fails(422, NO_MASTER),
        get("/api/webhooks/{id}/deliveries", "listDeliveries", "List what a webhook sent")
            .query("before", whole(1), "Only those older than the one of this id, to read in pages")
            .query("limit", limit(50, 1000), "At most so many")
            .answers::<DeliveryList>(200, "The deliveries, newest first", json!({"deliveries": [delivery()]})),
        post("/api/webhooks/{id}/deliveries/{delivery}/redeliver", "redeliver", "Send an event again")
            .answers::<DeliveryBody>(200, "What came of it", json!({"delivery": delivery()}))
            .fails(409, "It is being tried")
            .fails(410, "The event is gone with its session")
            .fails(422, NO_MASTER),
    ]
}
