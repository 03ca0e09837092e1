//! Every statement, named. `$n` first appear in the order of their numbers in each statement,
//! since SQLite numbers them by appearance and PostgreSQL by name; a test below checks it.

pub const DEPLOY_AGENT: &str = "insert into agents (tenant, name, id, deploys, digest, env, config, created_at, updated_at) \
     values ($1, $2, $3, 1, $4, coalesce($5, '{}'), '{}', $6, $6) \
     on conflict (tenant, name) do update set deploys = agents.deploys + 1, digest = $4, env = coalesce($5, agents.env), updated_at = $6";
pub const GET_AGENT: &str = "select tenant, name, id, deploys, digest, env, config, created_at, updated_at from agents \
     where tenant = $1 and name = $2";
pub const LIST_AGENTS: &str = "select tenant, name, id, deploys, digest, env, config, created_at, updated_at from agents \
     where tenant = $1 order by name";
pub const PATCH_AGENT: &str = "update agents set env = $1, config = $2, updated_at = $3 where tenant = $4 and name = $5";
pub const DELETE_AGENT: &str = "delete from agents where tenant = $1 and name = $2";
pub const FORGET_DEPLOYS: &str = "delete from deploys where tenant = $1 and agent = $2";
pub const NOTE_DEPLOY: &str = "insert into deploys (tenant, agent, digest, at) values ($1, $2, $3, $4) \
     on conflict (tenant, agent, digest) do update set at = $4";
pub const DEPLOYS: &str = "select tenant, agent, digest, at from deploys";
pub const CURRENT_VERSIONS: &str = "select distinct digest from agents";
pub const VERSION_IN_USE: &str = "select exists (select 1 from agents where digest = $1) \
     or exists (select 1 from sessions where digest = $1 and tenant <> '')";

pub const CREATE_SESSION: &str = "insert into sessions (id, tenant, agent, digest, status, sandbox, model, system_prompt, extra_env, config, parent, \
     created_at, last_active_at) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $12)";
pub const SESSION_COLUMNS: &str = "id, tenant, agent, digest, status, sandbox, model, system_prompt, extra_env, config, parent, conversed, tail, \
     created_at, last_active_at, granted, sandbox_boot, incarnation, stored_through";
pub const SESSION_IS: &str = "id = $1 and tenant = $2";
pub const SESSION_MATCHES: &str = "tenant = $1 and ($2 is null or agent = $2) and ($3 is null or status = $3)";
pub const SESSION_OF_SANDBOX: &str = "sandbox = $1 and tenant <> ''";
pub const SESSION_LIVES: &str = "status <> 'ended' order by created_at";
// The ids come as a JSON array.
pub const MISSING_SESSIONS: &str =
    "select value from json_each($1) where not exists (select 1 from sessions where sessions.id = value)";
pub const COUNT_SESSIONS: &str = "select count(*) from sessions";
// The moment in which it was made, to the nanosecond, as the tool for migrations wrote it down.
pub const IDENTITY: &str = "select applied_on from refinery_schema_history where version = 1";
pub const SESSION_PAGE: &str = " order by created_at desc, id desc limit $4 offset $5";
pub const FORGET_SESSION: [&str; 5] = [
    "delete from permissions where session = $1",
    "delete from messages where session = $1",
    "delete from events where session = $1",
    "delete from turns where session = $1",
    "delete from sessions where id = $1",
];

// A session without a tenant belongs to nobody: it is being removed.
pub const SESSION_USES: &str = "select id, digest, status, tenant = '', last_active_at from sessions";
pub const SESSION_IS_KNOWN: &str = "select exists (select 1 from sessions where id = $1)";
pub const SESSION_IS_OF: &str = "select exists (select 1 from sessions where id = $1 and tenant = $2)";
pub const DISOWN_SESSION: &str = "update sessions set tenant = '' where id = $1 and status = 'ended'";
// The places of rows, and their bytes, in the order in which they are removed; and what removes them up
// to a place.
pub const REMOVE_SOME: [(&str, &str); 4] = [
    (
        "select event, octet_length(request) + coalesce(octet_length(resolved), 0) from permissions \
         where session = $1 order by event limit $2",
        "delete from permissions where session = $1 and event <= $2",
    ),
    (
        "select sequence, 0 from messages where session = $1 order by sequence limit $2",
        "delete from messages where session = $1 and sequence <= $2",
    ),
    (
        "select id, octet_length(data) from events where session = $1 order by id limit $2",
        "delete from events where session = $1 and id <= $2",
    ),
    (
        "select first_event, coalesce(octet_length(content), 0) from turns where session = $1 order by first_event limit $2",
        "delete from turns where session = $1 and first_event <= $2",
    ),
];
pub const REMOVE_DISOWNED: &str = "delete from sessions where id = $1 and tenant = ''";

// What the parent spent is not the child's.
pub const FORK_EVENTS: &str = "insert into events (session, id, turn, kind, at, data) \
     select $1, id, null, kind, at, data from events where session = $2 and id <= $3 \
     and kind not in ('partial_message', 'text_delta', 'thinking_delta') and kind not like 'delta/%' \
     and not (kind = 'lifecycle' and data like '%\"action\":\"usage\"%')";
pub const FORK_MESSAGES: &str = "insert into messages (session, sequence, event, role) \
     select $1, sequence, event, role from messages where session = $2 and event <= $3";
pub const FORK_HEAD: &str = "update sessions set tail = $1, conversed = $2, granted = $3, \
     messages = (select coalesce(max(sequence), 0) from messages where session = $4) where id = $4";

pub const HEAD_OF_SESSION: &str = "select status, tail, messages, incarnation, stored_through from sessions where id = $1";
pub const ADVANCE_SESSION: &str = "update sessions set status = $1, tail = $2, messages = $3, incarnation = $4, stored_through = $5, \
     conversed = max(conversed, $6), last_active_at = max(last_active_at, $7) where id = $8";
pub const CONFIGURE_SESSION: &str = "update sessions set model = $1, config = $2 where id = $3";
pub const GRANT: &str = "update sessions set granted = $1 where id = $2";
pub const SET_SANDBOX: &str = "update sessions set sandbox_boot = $1 where id = $2";
pub const APPEND_EVENT: &str = "insert into events (session, id, turn, kind, at, data) values ($1, $2, $3, $4, $5, $6)";
pub const APPEND_MESSAGE: &str = "insert into messages (session, sequence, event, role) values ($1, $2, $3, $4)";

pub const QUEUE_TURN: &str = "insert into turns (id, session, state, kind, content, options, first_event, created_at, \
     idempotency_key, message_hash, jumps) values ($1, $2, 'queued', 'user', $3, $4, $5, $6, $7, $8, $9)";
pub const ADD_RUNTIME_TURN: &str = "insert into turns (id, session, state, kind, options, first_event, created_at, started_at) \
     values ($1, $2, 'running', 'runtime', '{}', $3, $4, $4)";
pub const START_TURN: &str =
    "update turns set state = 'running', started_at = $1 where id = $2 and session = $3 and state = 'queued'";
pub const END_TURN: &str = "update turns set state = $1, cause = $2, last_event = $3, ended_at = $4, usage = $5 \
     where id = $6 and session = $7 and state in ('queued', 'running')";
pub const TURN_COLUMNS: &str = "id, state, kind, content, options, cause, first_event, last_event, created_at, started_at, ended_at, \
     idempotency_key, message_hash, usage, jumps > 0";
// Without the message, which may be large.
pub const TURN_WITHOUT_MESSAGE: &str = "id, state, kind, null, options, cause, first_event, last_event, created_at, started_at, ended_at, \
     idempotency_key, message_hash, usage, jumps > 0";
pub const OPEN_TURNS: &str = "session = $1 and state in ('queued', 'running') order by state = 'queued', jumps desc, first_event";
pub const TURN_IS: &str = "session = $1 and id = $2";
pub const TURN_IS_OVER: &str = "select ended_at is not null from turns where session = $1 and id = $2";
pub const QUEUE: &str = "select id from turns where session = $1 and state in ('queued', 'running') \
     order by state = 'queued', jumps desc, first_event";
pub const TURN_WITH_KEY: &str = "session = $1 and idempotency_key = $2";
pub const TURNS_OF_SESSION: &str =
    "session = $1 and first_event > $2 and ($3 is null or state = $3) order by first_event limit $4";
pub const LAST_BILL: &str = "select id, usage from turns where session = $1 and ended_at is not null \
     order by usage is not null desc, first_event desc limit 1";
pub const SET_BILL: &str = "update turns set usage = $1 where id = $2 and session = $3";
// Before a turn is over there is no bill to add it to.
pub const UNBILLED: &str = "select data from events where session = $1 and kind = 'lifecycle' and turn is null \
     and data like '%\"action\":\"usage\"%' \
     and id < coalesce((select min(last_event) from turns where session = $1 and ended_at is not null), 9223372036854775807)";
pub const USAGE_OF_SESSION: &str = "select usage from turns where session = $1 and usage is not null";
// Those without deltas are found as well, once each.
pub const TURN_TO_COMPACT: &str = "select id, session, first_event, last_event from turns \
     where compacted = 0 and ended_at is not null and ended_at < $1 order by ended_at limit 1";
pub const REMOVE_DELTAS: &str = "delete from events where session = $1 and id in (select id from events \
     where session = $1 and id between $2 and $3 and turn = $4 \
     and (kind in ('partial_message', 'text_delta', 'thinking_delta') or kind like 'delta/%') limit $5)";
pub const COMPACTED: &str = "update turns set compacted = 1 where id = $1";

pub const PERMISSION_COLUMNS: &str = "id, event, turn, at, request, resolved";
pub const ADD_PERMISSION: &str =
    "insert into permissions (session, id, event, turn, at, request) values ($1, $2, $3, $4, $5, $6)";
pub const RESOLVE_PERMISSION: &str = "update permissions set resolved = $1 where session = $2 and id = $3 and resolved is null";
pub const PERMISSION_IS: &str = "session = $1 and id = $2";
pub const PERMISSIONS_OF_SESSION: &str = "session = $1 and event > $2 and ($3 = 0 or resolved is null) order by event limit $4";

pub const EVENTS: &str = "select id, at, turn, kind, data from events where session = $1 and id > $2 and ($3 is null or turn = $3) \
     and ($4 is null or kind in (select value from json_each($4))) order by id limit $5";
pub const MESSAGES: &str = "select m.sequence, m.role, e.at, e.data, e.kind from messages m join events e on e.session = m.session and e.id = m.event \
     where m.session = $1 and m.sequence > $2 order by m.sequence limit $3";

pub const KEY_COLUMNS: &str = "id, tenant, label, prefix, hash, created_at";
pub const CREATE_KEY: &str = "insert into api_keys (id, tenant, label, prefix, hash, created_at) values ($1, $2, $3, $4, $5, $6)";
pub const KEYS_OF_TENANT: &str = "tenant = $1 order by created_at, id";
pub const KEY_WITH_HASH: &str = "hash = $1";
pub const DELETE_KEY: &str = "delete from api_keys where tenant = $1 and id = $2";

pub const CREDENTIAL_COLUMNS: &str = "id, tenant, type, label, master, sealed, created_at, last_used_at";
pub const CREATE_CREDENTIAL: &str = "insert into credentials (id, tenant, type, label, master, sealed, created_at) \
     values ($1, $2, $3, $4, $5, $6, $7)";
pub const CREDENTIALS_OF_TENANT: &str = "tenant = $1 order by created_at, id";
pub const CREDENTIAL_IS: &str = "tenant = $1 and id = $2";
pub const CREDENTIALS_OF_OTHER_MASTERS: &str = "master <> $1 order by id limit $2";
pub const CHANGE_CREDENTIAL: &str = "update credentials set label = coalesce($1, label), master = coalesce($2, master), \
     sealed = coalesce($3, sealed) where tenant = $4 and id = $5";
// Somebody may have changed the secret since it was read.
pub const RESEAL_CREDENTIAL: &str = "update credentials set master = $1, sealed = $2 where id = $3 and sealed = $4";
pub const USE_CREDENTIAL: &str = "update credentials set last_used_at = $1 where id = $2";
pub const DELETE_CREDENTIAL: &str = "delete from credentials where tenant = $1 and id = $2";

#[cfg(test)]
mod tests {
    #[test]
    fn placeholders_first_appear_in_order() {
        for (number, line) in include_str!("sql.rs").split(';').enumerate() {
            let mut highest = 0;
            for part in line.split('$').skip(1) {
                let digits: String = part.chars().take_while(char::is_ascii_digit).collect();
                let Ok(n) = digits.parse::<u32>() else { continue };
                // A statement that is appended to another (SESSION_PAGE) goes on counting.
                assert!(n <= highest + 1 || highest == 0, "statement {number}: ${n} after ${highest} in {line}");
                highest = highest.max(n);
            }
        }
    }
}
