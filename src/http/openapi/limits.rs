//! Operations on what a session may use and reach.

use serde_json::json;

use super::examples;
use super::operation::{Operation, get, patch};
use crate::wire::egress::{Egress, EgressBody, EgressEvent};
use crate::wire::limits::{Limits, LimitsBody};
use crate::wire::resources::{ResourcesBody, ResourcesList};
use crate::wire::security::SecurityBody;

const OVER: &str = "The session has ended (code `conflict`), or the request is wrong";

pub fn operations() -> Vec<Operation> {
    let limits = || {
        json!({
            "limits": examples::limits(), "session": {"memoryMb": 1024}, "max": examples::limits(), "spent": examples::spent(), "pending": [],
        })
    };
    let mut pending = examples::egress();
    pending["applied"] = json!("pending");
    let mut now = examples::egress();
    now["applied"] = json!("now");
    vec![
        get("/api/sessions/{id}/limits", "getLimits", "Show the limits of a session").answers::<LimitsBody>(
            200,
            "What counts, and who said it",
            limits(),
        ),
        patch("/api/sessions/{id}/limits", "updateLimits", "Change the limits of a session")
            .about("Field by field; `null` takes back what the session said. Most count at once, also for processes that run.")
            .takes::<Limits>(json!({"memoryMb": 512, "maxCostUsd": 5}))
            .or_nothing()
            .answers::<LimitsBody>(200, "What counts, and who said it", limits())
            .fails(400, OVER),
        get("/api/sessions/{id}/egress", "getEgress", "Show what of the network a session may reach")
            .needs::<EgressEvent>()
            .answers::<EgressBody>(200, "The lists that count", examples::egress()),
        patch("/api/sessions/{id}/egress", "updateEgress", "Change what of the network a session may reach")
            .takes::<Egress>(json!({"allow": ["api.example.com", "pypi"]}))
            .answers::<EgressBody>(200, "It counts", now)
            .answers::<EgressBody>(202, "It counts from the next turn on", pending)
            .fails(400, OVER),
        get("/api/sessions/{id}/resources", "getResources", "Show what a session takes of the host").answers::<ResourcesBody>(
            200,
            "What it takes now",
            json!({"resources": examples::resources()}),
        ),
        get("/api/resources", "listResources", "List what all sessions take of the host").answers::<ResourcesList>(
            200,
            "Those of the tenant that have processes",
            json!({"resources": [examples::resources()]}),
        ),
        get("/api/sessions/{id}/security", "getSecurity", "Show what confines a session").answers::<SecurityBody>(
            200,
            "The walls, and how each stands",
            examples::security(),
        ),
    ]
}
