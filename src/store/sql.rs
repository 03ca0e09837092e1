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
pub const VERSION_IN_USE: &str = "select exists (select 1 from agents where digest = $1) \
     or exists (select 1 from sessions where digest = $1 and status <> 'ended')";

pub const CREATE_SESSION: &str = "insert into sessions (id, tenant, agent, digest, status, sandbox, model, system_prompt, extra_env, config, parent, \
     created_at, last_active_at) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $12)";
pub const SESSION_COLUMNS: &str = "id, tenant, agent, digest, status, sandbox, model, system_prompt, extra_env, config, parent, conversed, tail, \
     created_at, last_active_at";
pub const SESSION_IS: &str = "id = $1 and tenant = $2";
pub const SESSION_MATCHES: &str = "tenant = $1 and ($2 is null or agent = $2) and ($3 is null or status = $3)";
pub const SESSION_LIVES: &str = "status <> 'ended' order by created_at";
pub const SESSION_PAGE: &str = " order by created_at desc, id desc limit $4 offset $5";
pub const FORGET_SESSION: [&str; 4] = [
    "delete from messages where session = $1",
    "delete from events where session = $1",
    "delete from turns where session = $1",
    "delete from sessions where id = $1",
];

pub const HEAD_OF_SESSION: &str = "select status, tail, messages, incarnation, stored_through from sessions where id = $1";
pub const ADVANCE_SESSION: &str = "update sessions set status = $1, tail = $2, messages = $3, incarnation = $4, stored_through = $5, \
     conversed = max(conversed, $6), last_active_at = max(last_active_at, $7) where id = $8";
pub const CONFIGURE_SESSION: &str = "update sessions set model = $1, config = $2 where id = $3";
pub const APPEND_EVENT: &str = "insert into events (session, id, turn, kind, at, data) values ($1, $2, $3, $4, $5, $6)";
pub const APPEND_MESSAGE: &str = "insert into messages (session, sequence, event, role) values ($1, $2, $3, $4)";

pub const QUEUE_TURN: &str = "insert into turns (id, session, state, kind, content, options, first_event, created_at) \
     values ($1, $2, 'queued', 'user', $3, $4, $5, $6)";
pub const ADD_RUNTIME_TURN: &str = "insert into turns (id, session, state, kind, options, first_event, created_at, started_at) \
     values ($1, $2, 'running', 'runtime', '{}', $3, $4, $4)";
pub const START_TURN: &str =
    "update turns set state = 'running', started_at = $1 where id = $2 and session = $3 and state = 'queued'";
pub const END_TURN: &str = "update turns set state = $1, cause = $2, last_event = $3, ended_at = $4 \
     where id = $5 and session = $6 and state in ('queued', 'running')";
pub const TURN_COLUMNS: &str =
    "id, state, kind, content, options, cause, first_event, last_event, created_at, started_at, ended_at";
pub const OPEN_TURNS: &str = "session = $1 and state in ('queued', 'running') order by first_event";
pub const TURN_IS: &str = "session = $1 and id = $2";

pub const EVENTS: &str = "select id, at, turn, kind, data from events where session = $1 and id > $2 and ($3 is null or turn = $3) \
     and ($4 is null or kind in (select value from json_each($4))) order by id limit $5";
pub const MESSAGES: &str = "select m.sequence, m.role, e.at, e.data, e.kind from messages m join events e on e.session = m.session and e.id = m.event \
     where m.session = $1 and m.sequence > $2 order by m.sequence limit $3";

pub const KEY_COLUMNS: &str = "id, tenant, label, prefix, hash, created_at";
pub const CREATE_KEY: &str = "insert into api_keys (id, tenant, label, prefix, hash, created_at) values ($1, $2, $3, $4, $5, $6)";
pub const KEYS_OF_TENANT: &str = "tenant = $1 order by created_at, id";
pub const KEY_WITH_HASH: &str = "hash = $1";
pub const DELETE_KEY: &str = "delete from api_keys where tenant = $1 and id = $2";

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
