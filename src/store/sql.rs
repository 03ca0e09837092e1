//! Every statement, named. `$n` first appear in the order of their numbers in each statement,
//! since SQLite numbers them by appearance and PostgreSQL by name; a test below checks it.

pub const DEPLOY_AGENT: &str = "insert into agents (tenant, name, id, deploys, digest, env, config, created_at, updated_at) \
     values ($1, $2, $3, 1, $4, coalesce($5, '{}'), '{}', $6, $6) \
     on conflict (tenant, name) do update set deploys = agents.deploys + 1, digest = $4, env = coalesce($5, agents.env), updated_at = $6";
pub const GET_AGENT: &str = "select tenant, name, id, deploys, digest, env, config, created_at, updated_at from agents \
     where tenant = $1 and name = $2";
// Without their configuration, which no list shows.
pub const LIST_AGENTS: &str = "select tenant, name, id, deploys, digest, env, '{}', created_at, updated_at from agents \
     where tenant = $1 and name > $2 order by name limit $3";
pub const PATCH_AGENT: &str = "update agents set env = $1, config = $2, updated_at = $3 where tenant = $4 and name = $5";
pub const DELETE_AGENT: &str = "delete from agents where tenant = $1 and name = $2";
pub const FORGET_DEPLOYS: &str = "delete from deploys where tenant = $1 and agent = $2";
pub const NOTE_DEPLOY: &str = "insert into deploys (tenant, agent, digest, at) values ($1, $2, $3, $4) \
     on conflict (tenant, agent, digest) do update set at = $4";
pub const DEPLOYS: &str = "select tenant, agent, digest, at from deploys";
// Those of agents, and those that runs of evals still ask.
pub const CURRENT_VERSIONS: &str = "select digest from agents \
     union select digest from eval_runs where completed_at is null \
     union select judge_digest from eval_runs where completed_at is null and judge_digest is not null";
pub const VERSION_IN_USE: &str = "select exists (select 1 from agents where digest = $1) \
     or exists (select 1 from sessions where digest = $1 and tenant <> '') \
     or exists (select 1 from eval_runs where completed_at is null and (digest = $1 or judge_digest = $1))";

pub const PROMPT_VERSION_COLUMNS: &str = "id, tenant, agent, number, name, system_prompt, release_notes, knowledge_files, is_active, \
     created_by, created_at, updated_at";
pub const NEXT_PROMPT_VERSION: &str =
    "select coalesce(max(number), 0) + 1, count(*) from prompt_versions where tenant = $1 and agent = $2";
pub const CREATE_PROMPT_VERSION: &str = "insert into prompt_versions (id, tenant, agent, number, name, system_prompt, release_notes, \
     knowledge_files, created_by, created_at, updated_at) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $10)";
pub const PROMPT_VERSION_WITH_NUMBER: &str = "tenant = $1 and agent = $2 and number = $3";
pub const PROMPT_VERSION_WITH_ID: &str = "tenant = $1 and agent = $2 and id = $3";
pub const PROMPT_VERSION_IN_USE: &str = "tenant = $1 and agent = $2 and is_active = 1";
pub const PROMPT_VERSIONS: &str = "tenant = $1 and agent = $2 and number < $3 order by number desc limit $4";
pub const CHANGE_PROMPT_VERSION: &str = "update prompt_versions set name = $1, system_prompt = $2, release_notes = $3, \
     knowledge_files = $4, updated_at = $5 where tenant = $6 and id = $7";
pub const DELETE_PROMPT_VERSION: &str = "delete from prompt_versions where tenant = $1 and id = $2";
pub const ACTIVATE_PROMPT_VERSION: &str = "update prompt_versions set is_active = 1 where tenant = $1 and id = $2";
pub const DEACTIVATE_PROMPT_VERSION: &str = "update prompt_versions set is_active = 0 where tenant = $1 and id = $2";
pub const FORGET_PROMPT_VERSIONS: &str = "delete from prompt_versions where tenant = $1 and agent = $2";

pub const CREATE_SESSION: &str = "insert into sessions (id, tenant, agent, digest, status, sandbox, model, system_prompt, extra_env, config, parent, \
     created_at, last_active_at, prompt_version) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $12, $13)";
pub const SESSION_COLUMNS: &str = "id, tenant, agent, digest, status, sandbox, model, system_prompt, extra_env, config, parent, conversed, tail, \
     created_at, last_active_at, granted, sandbox_boot, incarnation, stored_through, prompt_version";
// Without what may be large and no list shows. The configuration is column 9, as above.
pub const SESSION_IN_LIST: &str = "id, tenant, agent, digest, status, sandbox, model, null, '{}', config, parent, conversed, tail, \
     created_at, last_active_at, '[]', sandbox_boot, incarnation, stored_through, prompt_version";
pub const SESSION_IS: &str = "id = $1 and tenant = $2";
pub const SESSION_MATCHES: &str = "tenant = $1 and ($2 is null or agent = $2) and ($3 is null or status = $3)";
pub const SESSION_OF_SANDBOX: &str = "sandbox = $1 and tenant <> ''";
pub const LIVING_SESSIONS: &str = "select id, tenant, status, sandbox, tail, sandbox_boot is not null from sessions \
     where status <> 'ended' order by created_at";
// The ids come as a JSON array.
pub const MISSING_SESSIONS: &str =
    "select value from json_each($1) where not exists (select 1 from sessions where sessions.id = value)";
pub const COUNT_ACTIVE: &str = "select count(*) from sessions where status = 'active'";
pub const COUNT_SESSIONS: &str = "select count(*) from sessions";
// The moment in which it was made, to the nanosecond, as the tool for migrations wrote it down.
pub const IDENTITY: &str = "select applied_on from refinery_schema_history where version = 1";
// Two texts, as of one with "or" the index is not sought for the place.
pub const SESSION_PAGE: &str = " and $4 is null and $5 is null order by created_at desc, id desc limit $6 offset $7";
pub const SESSION_PAGE_AFTER: &str = " and (created_at, id) < ($4, $5) order by created_at desc, id desc limit $6 offset $7";
pub const FORGET_SESSION: [&str; 8] = [
    FORGET_WEBHOOK_CURSORS,
    FORGET_WEBHOOK_DELIVERIES,
    "delete from attachments where session = $1",
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
pub const REMOVE_SOME: [(&str, &str); 5] = [
    (
        "select place, 0 from attachments where session = $1 order by place limit $2",
        "delete from attachments where session = $1 and place <= $2",
    ),
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
     idempotency_key, message_hash, jumps, trace) values ($1, $2, 'queued', 'user', $3, $4, $5, $6, $7, $8, $9, $10)";
pub const ADD_RUNTIME_TURN: &str = "insert into turns (id, session, state, kind, options, first_event, created_at, started_at) \
     values ($1, $2, 'running', 'runtime', '{}', $3, $4, $4)";
pub const START_TURN: &str =
    "update turns set state = 'running', started_at = $1 where id = $2 and session = $3 and state = 'queued'";
pub const END_TURN: &str = "update turns set state = $1, cause = $2, last_event = $3, ended_at = $4, usage = $5 \
     where id = $6 and session = $7 and state in ('queued', 'running')";
pub const TURN_COLUMNS: &str = "id, state, kind, content, options, cause, first_event, last_event, created_at, started_at, ended_at, \
     idempotency_key, message_hash, usage, jumps > 0, trace";
// Without the message, which may be large.
pub const TURN_WITHOUT_MESSAGE: &str = "id, state, kind, null, options, cause, first_event, last_event, created_at, started_at, ended_at, \
     idempotency_key, message_hash, usage, jumps > 0, trace";
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

pub const ATTACHMENT_COLUMNS: &str = "id, session, filename, path, mime_type, size, message, added, placed, created_at";
pub const ADD_ATTACHMENT: &str = "insert into attachments (id, session, filename, path, mime_type, size, message, added, placed, \
     created_at) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
pub const TAIL_OF_SESSION: &str = "select tail from sessions where id = $1 and tenant = $2 and status <> 'ended'";
pub const ATTACHMENTS_OF_SESSION: &str = "session = $1 order by place";
// That of a copy whose session is not made yet is nobody's.
pub const ATTACHMENT_IS: &str =
    "id = $1 and exists (select 1 from sessions where sessions.id = attachments.session and sessions.tenant = $2)";
pub const FORGET_ATTACHMENT: &str = "delete from attachments where id = $1";
pub const PLACE_ATTACHMENT: &str = "update attachments set placed = (select tail + 1 from sessions where sessions.id = $1) \
     where session = $1 and id = $2";
pub const ATTACHMENT_IDS: &str = "select session, id from attachments order by place";

// Nothing is inserted where the tenant has as many as it may; those that have expired do not count.
pub const ADD_FILE: &str = "insert into project_files (id, tenant, filename, mime_type, size, ttl, secret, created_at, expires_at) \
     select $1, $2, $3, $4, $5, $6, $7, $8, $9 where (select count(*) from project_files \
     where tenant = $2 and (expires_at is null or expires_at > $8)) < $10 and (select coalesce(sum(size), 0) from project_files \
     where tenant = $2 and (expires_at is null or expires_at > $8)) + $5 <= $11";
pub const FILE_COLUMNS: &str = "place, id, tenant, filename, mime_type, size, ttl, secret, created_at, expires_at";
pub const FILE_OF_TENANT: &str = "tenant = $1 and id = $2 and (expires_at is null or expires_at > $3)";
pub const FILE_IS: &str = "id = $1 and (expires_at is null or expires_at > $2)";
pub const FILES_OF_TENANT: &str =
    "tenant = $1 and place < $2 and (expires_at is null or expires_at > $3) order by place desc limit $4";
pub const HAS_FILE: &str = "select 1 from project_files where id = $1";
pub const FORGET_FILE: &str = "delete from project_files where id = $1";
pub const OLD_FILES: &str = "select id from project_files where expires_at <= $1 order by expires_at";
pub const FILE_IDS: &str = "select id, size from project_files order by place";

pub const KEY_COLUMNS: &str = "id, tenant, label, prefix, hash, created_at, scopes, agent, expires_at, last_used_at";
// Nothing is inserted where the tenant has as many as it may.
pub const CREATE_KEY: &str = "insert into api_keys (id, tenant, label, prefix, hash, created_at, scopes, agent, expires_at) \
     select $1, $2, $3, $4, $5, $6, $7, $8, $9 where (select count(*) from api_keys where tenant = $2) < $10";
pub const KEYS_OF_TENANT: &str = "tenant = $1 order by created_at, id";
pub const KEY_WITH_HASH: &str = "hash = $1";
pub const USE_KEY: &str = "update api_keys set last_used_at = $1 where id = $2 and coalesce(last_used_at, 0) <= $3";
pub const KEY_IS_THERE: &str = "select exists (select 1 from api_keys where id = $1)";
pub const DELETE_KEY: &str = "delete from api_keys where tenant = $1 and id = $2";

pub const CREDENTIAL_COLUMNS: &str = "id, tenant, type, label, master, sealed, created_at, last_used_at";
// Nothing is inserted where the tenant has as many as it may.
pub const CREATE_CREDENTIAL: &str = "insert into credentials (id, tenant, type, label, master, sealed, created_at) \
     select $1, $2, $3, $4, $5, $6, $7 where (select count(*) from credentials where tenant = $2) < $8";
pub const CREDENTIALS_OF_TENANT: &str = "tenant = $1 order by created_at, id";
pub const CREDENTIAL_IS: &str = "tenant = $1 and id = $2";
pub const CREDENTIALS_OF_OTHER_MASTERS: &str = "master <> $1 order by id limit $2";
pub const CHANGE_CREDENTIAL: &str = "update credentials set label = coalesce($1, label), master = coalesce($2, master), \
     sealed = coalesce($3, sealed) where tenant = $4 and id = $5";
// Somebody may have changed the secret since it was read.
pub const RESEAL_CREDENTIAL: &str = "update credentials set master = $1, sealed = $2 where id = $3 and sealed = $4";
// `$1` is how the text of one begins that is sealed under the newest key.
pub const ENVS_OF_OTHER_MASTERS: &str = "select 'agent', tenant, name, env from agents \
     where env <> '{}' and substr(env, 1, length($1)) <> $1 \
     union all select 'session', tenant, id, extra_env from sessions \
     where extra_env <> '{}' and tenant <> '' and substr(extra_env, 1, length($1)) <> $1 order by 1, 2, 3 limit $2 offset $3";
// Somebody may have changed them since they were read.
pub const RESEAL_AGENT_ENV: &str = "update agents set env = $1 where tenant = $2 and name = $3 and env = $4";
pub const RESEAL_SESSION_ENV: &str = "update sessions set extra_env = $1 where tenant = $2 and id = $3 and extra_env = $4";
pub const USE_CREDENTIAL: &str = "update credentials set last_used_at = $1 where id = $2";
pub const DELETE_CREDENTIAL: &str = "delete from credentials where tenant = $1 and id = $2";

pub const RECORD_AUDIT: &str = "insert into audit (at, tenant, principal, action, object, request, peer, outcome, unwritten) \
     values ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
pub const AUDIT: &str = "select id, at, tenant, principal, action, object, request, peer, outcome, unwritten from audit \
     where tenant = $1 and id < $2 and ($3 is null or action = $3) and ($4 is null or principal = $4) \
     and ($5 is null or object = $5) and at >= $6 and at < $7 order by id desc limit $8";
pub const COUNT_AUDIT: &str = "select count(*) from audit where at <= $1";
pub const REMOVE_AUDIT: &str = "delete from audit where id in (select id from audit where at <= $1 order by at limit $2)";
// A bill with nothing on it is none.
pub const ADD_BILL: &str = "insert into bills (session, event, tenant, agent, at, input_tokens, output_tokens, cache_creation_tokens, \
     cache_read_tokens, tool_calls, messages, compute_ms, cost_usd) \
     select $1, $2, s.tenant, s.agent, $3, $4, $5, $6, $7, $8, t.messages, $9, $10 from sessions s, \
     (select count(*) as messages from turns where id = $11 and session = $1 and kind = 'user' and started_at is not null) t \
     where s.id = $1 and s.tenant <> '' and ($4 + $5 + $6 + $7 + $8 + t.messages > 0 or $9 > 0)";
pub const BILL_COLUMNS: &str = "session, event, agent, at, input_tokens, output_tokens, cache_creation_tokens, cache_read_tokens, \
     tool_calls, messages, coalesce(compute_ms, 0), coalesce(cost_usd, 0.0), \
     case when cost_usd is null and input_tokens + output_tokens + cache_creation_tokens + cache_read_tokens > 0 then 1 else 0 end";
pub const BILL_SUMS: &str = "coalesce(sum(input_tokens), 0), coalesce(sum(output_tokens), 0), \
     coalesce(sum(cache_creation_tokens), 0), coalesce(sum(cache_read_tokens), 0), coalesce(sum(tool_calls), 0), \
     coalesce(sum(messages), 0), coalesce(sum(compute_ms), 0), coalesce(sum(cost_usd), 0.0), count(*) filter \
     (where cost_usd is null and input_tokens + output_tokens + cache_creation_tokens + cache_read_tokens > 0)";
pub const BILL_OF_TENANT: &str = "tenant = $1 and ($2 is null or agent = $2) and at between $3 and $4";
// By the session's own key: the index of the tenant would lead through the bills of all sessions.
pub const BILL_OF_SESSION: &str = "+tenant = $1 and ($2 is null or agent = $2) and +at between $3 and $4 and session = $5";
pub const BILL_ORDER: &str = " order by at desc, session desc, event desc";
pub const BILL_GROUP_ORDER: &str = " order by coalesce(sum(cost_usd), 0.0) desc, sum(input_tokens + output_tokens) desc, agent";
pub const COUNT_AGENTS: &str = "select count(*) from agents where tenant = $1";
pub const SESSIONS_BY_STATUS: &str = "select status, count(*) from sessions where tenant = $1 group by status order by status";

pub const ITEM_COLUMNS: &str = "place, id, tenant, agent, prompt, given, priority, max_retries, keeps, status, retries, retry_at, session, \
     turn, cancelling, leaves, error, cut, cost_usd, created_at, started_at, completed_at, schedule, scheduled_for, trace";
pub const ITEM_IS: &str = "tenant = $1 and id = $2";
pub const ITEMS_OF_TENANT: &str = "tenant = $1 and ($2 is null or status = $2) and place < $3 order by place desc limit $4";
pub const ITEMS_OF_SCHEDULE: &str = "tenant = $1 and schedule = $2 and place < $3 order by place desc limit $4";
pub const ITEM_WITH_KEY: &str = "select id, body_hash from queue where tenant = $1 and idempotency_key = $2";
pub const COUNT_ITEMS: &str = "select status, count(*) from queue where tenant = $1 group by status order by status";
// By the indexes of what waits and of what is open.
pub const QUEUE_DEPTH: &str = "select (select count(*) from queue where status = 'pending' and leaves is null) \
     + (select count(*) from queue where (status = 'processing' or leaves is not null) and status = 'pending'), \
     (select count(*) from queue where (status = 'processing' or leaves is not null) and status = 'processing')";
// By two indexes: one for all that waits would be taken for the heads, too, which need the order of the first.
pub const PENDING_ITEMS: &str = "select count(*), coalesce(sum(bytes), 0) from ( \
     select octet_length(prompt) as bytes from queue where tenant = $1 and status = 'pending' and leaves is null union all \
     select octet_length(prompt) as bytes from queue where tenant = $1 and status = 'pending' and leaves is not null) waiting";
pub const ADD_ITEM: &str = "insert into queue (id, tenant, agent, prompt, given, session, priority, max_retries, keeps, status, created_at, \
     schedule, scheduled_for, idempotency_key, body_hash, trace) \
     values ($1, $2, $3, $4, $5, $5, $6, $7, $8, 'pending', $9, $10, $11, $12, $13, $14)";
// A session of its last try goes first, so that there is never more than one to be ended.
pub const QUEUE_HEADS: &str = "select tenant, id, priority, place, is_given from (select tenant, id, priority, place, \
     given is not null as is_given, \
     row_number() over (partition by tenant, given is not null order by priority desc, place) as number \
     from queue where status = 'pending' and leaves is null and (retry_at is null or retry_at <= $1)) heads \
     where number = 1 order by place";
pub const NEXT_RETRY: &str =
    "select min(retry_at) from queue where status = 'pending' and retry_at is not null and retry_at > $1";
pub const ITEM_IS_OPEN: &str = "status = 'processing' or leaves is not null order by place";
pub const CLAIM_ITEM: &str = "update queue set status = 'processing', session = coalesce(given, $1), turn = null, retry_at = null, \
     started_at = coalesce(started_at, $2) where id = $3 and status = 'pending' and leaves is null";
pub const ITEM_POSTED: &str = "update queue set turn = $1 where id = $2 and status = 'processing'";
// An item that is to be cancelled is not tried again.
pub const RETRY_ITEM: &str = "update queue set status = 'pending', retries = retries + 1, error = $1, retry_at = $2, \
     cost_usd = cost_usd + $3, leaves = $4 where id = $5 and status = 'processing' and cancelling = 0";
pub const FINISH_ITEM: &str = "update queue set status = $1, error = $2, result = $3, cut = $4, cost_usd = cost_usd + $5, leaves = $6, \
     completed_at = $7, cancelling = 0 where id = $8 and status = 'processing'";
pub const ITEM_LEFT: &str = "update queue set leaves = null where id = $1";
pub const CANCEL_ITEM: &str = "update queue set status = 'cancelled', completed_at = $1, retry_at = null \
     where tenant = $2 and id = $3 and status = 'pending'";
pub const CANCEL_ITEM_LATER: &str = "update queue set cancelling = 1 where tenant = $1 and id = $2 and status = 'processing'";
pub const FORGET_ITEMS: &str = "delete from queue where place in (select place from queue \
     where completed_at < $1 and leaves is null order by completed_at limit $2)";

pub const WEBHOOK_COLUMNS: &str = "id, tenant, url, events, agent, description, enabled, disabled_reason, failing_since, master, sealed, \
     created_at, updated_at";
// Nothing is inserted where the tenant has as many as it may.
pub const CREATE_WEBHOOK: &str = "insert into webhooks (id, tenant, url, events, agent, description, enabled, master, sealed, created_at, updated_at) \
     select $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $10 where (select count(*) from webhooks where tenant = $2) < $11";
// But in the sessions of `$3`, a JSON array.
pub const BEGIN_WEBHOOK: &str = "insert into webhook_cursors (webhook, session, through) \
     select $1, id, tail from sessions where tenant = $2 and tail > 0 and id not in (select value from json_each($3)) \
     on conflict (session, webhook) do update set through = excluded.through";
pub const WEBHOOKS_OF_TENANT: &str = "tenant = $1 order by created_at, id";
pub const WEBHOOKS_ENABLED: &str = "enabled order by id";
pub const WEBHOOK_IS: &str = "tenant = $1 and id = $2";
pub const WEBHOOKS_OF_OTHER_MASTERS: &str = "master <> $1 order by id limit $2";
// Somebody may have changed it since it was read.
pub const CHANGE_WEBHOOK: &str = "update webhooks set url = $1, events = $2, agent = $3, description = $4, enabled = $5, \
     disabled_reason = $6, failing_since = $7, master = $8, sealed = $9, updated_at = $10 \
     where id = $11 and updated_at = $12 and enabled = $13 and sealed = $14";
pub const RETRY_WEBHOOK: &str = "delete from webhook_deliveries where webhook = $1 and state = 'pending'";
pub const RESEAL_WEBHOOK: &str = "update webhooks set master = $1, sealed = $2 where id = $3 and sealed = $4";
pub const DELETE_WEBHOOK: &str = "delete from webhooks where tenant = $1 and id = $2";
pub const DELETE_WEBHOOK_REST: [&str; 2] =
    ["delete from webhook_cursors where webhook = $1", "delete from webhook_deliveries where webhook = $1"];
pub const FORGET_WEBHOOK_CURSORS: &str = "delete from webhook_cursors where session = $1";
pub const FORGET_WEBHOOK_DELIVERIES: &str = "delete from webhook_deliveries where session = $1";
// What was copied from the parent was told already.
pub const FORK_WEBHOOKS: &str =
    "insert into webhook_cursors (session, webhook, through) select $1, id, $2 from webhooks where tenant = $3";
pub const WAITING_FOR_WEBHOOK: &str = "select s.id, s.agent, (select max(d.next_at) from webhook_deliveries d \
         where d.webhook = $1 and d.session = s.id and d.state = 'pending') \
     from sessions s left join webhook_cursors c on c.session = s.id and c.webhook = $1 \
     where s.tenant = $2 and ($3 is null or s.agent = $3) and s.id > $4 and s.tail > coalesce(c.through, 0) \
     and exists (select 1 from events e where e.session = s.id and e.id > coalesce(c.through, 0) \
         and e.kind in (select value from json_each($5))) \
     order by s.id limit $6";
pub const WEBHOOK_PLACE: &str = "select coalesce(c.through, 0), s.tail, w.failing_since, d.event, d.attempts, d.created_at \
     from webhooks w join sessions s on s.tenant = w.tenant \
     left join webhook_cursors c on c.session = s.id and c.webhook = w.id \
     left join webhook_deliveries d on d.webhook = w.id and d.session = s.id and d.state = 'pending' \
     where w.id = $1 and s.id = $2";
pub const MOVE_WEBHOOK: &str = "insert into webhook_cursors (webhook, session, through) \
     select $1, id, $2 from sessions where id = $3 \
     on conflict (session, webhook) do update set through = max(through, excluded.through)";
pub const WEBHOOK_EXISTS: &str = "select exists (select 1 from webhooks where id = $1)";
pub const WEBHOOK_SUCCEEDS: &str = "update webhooks set failing_since = null where id = $1 and url = $2";
pub const WEBHOOK_FAILS: &str = "update webhooks set failing_since = coalesce(failing_since, $1) where id = $2";
pub const DISABLE_WEBHOOK: &str =
    "update webhooks set enabled = 0, disabled_reason = $1, updated_at = $2 where id = $3 and url = $4";
pub const NOTE_DELIVERY: &str = "insert into webhook_deliveries \
     (webhook, session, event, type, state, attempts, created_at, tried_at, next_at, status, error) \
     values ($1, $2, $3, $4, $5, 1, $6, $6, $7, $8, $9) \
     on conflict (webhook, session, event) do update set state = $5, attempts = attempts + 1, tried_at = $6, next_at = $7, \
     status = $8, error = $9 returning id";
// Of one session, what was tried before the list of events was changed.
pub const DROP_PENDING: &str =
    "delete from webhook_deliveries where webhook = $1 and session = $2 and event <> $3 and state = 'pending'";
pub const TRIM_DELIVERIES: &str = "delete from webhook_deliveries where webhook = $1 and state <> 'pending' \
     and id <= (select id from webhook_deliveries where webhook = $1 and state <> 'pending' order by id desc limit 1 offset $2)";
pub const DELIVERIES: &str = "select id, webhook, session, event, type, state, attempts, created_at, tried_at, next_at, status, error \
     from webhook_deliveries where webhook = $1 and id >= $2 and id < $3 order by id desc limit $4";

pub const SCHEDULE_COLUMNS: &str = "id, tenant, name, agent, prompt, calendar, timezone, given, keeps, priority, max_retries, catch_up, \
     jitter, overlap, enabled, created_at, updated_at, next_of, next_at, last_of, last_at, last_item, last_error, failing, queued, \
     skipped, completed, failed, place";
// Nothing is inserted where the tenant has as many as it may.
pub const CREATE_SCHEDULE: &str = "insert into schedules (id, tenant, name, agent, prompt, calendar, timezone, given, keeps, priority, \
     max_retries, catch_up, jitter, overlap, enabled, created_at, updated_at, next_of, next_at, place) \
     select $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $16, $17, $18, \
     (select coalesce(max(place), 0) + 1 from schedules where tenant = $2) \
     where (select count(*) from schedules where tenant = $2) < $19";
pub const SCHEDULES_OF_TENANT: &str = "tenant = $1 and place < $2 order by place desc limit $3";
pub const SCHEDULE_IS: &str = "tenant = $1 and id = $2";
pub const SCHEDULES_DUE: &str = "enabled and next_at is not null and next_at <= $1 order by next_at, id limit $2";
pub const NEXT_SCHEDULE: &str = "select min(next_at) from schedules where enabled and next_at is not null";
// Somebody may have changed it since it was read, or it has fired.
pub const CHANGE_SCHEDULE: &str = "update schedules set name = $1, agent = $2, prompt = $3, calendar = $4, timezone = $5, given = $6, \
     keeps = $7, priority = $8, max_retries = $9, catch_up = $10, jitter = $11, overlap = $12, enabled = $13, updated_at = $14, \
     next_of = $15, next_at = $16 where id = $17 and updated_at = $18 and next_of is not distinct from $19";
pub const DELETE_SCHEDULE: &str = "delete from schedules where tenant = $1 and id = $2";
pub const SCHEDULE_STANDS: &str = "id = $1 and updated_at = $2 and next_of is not distinct from $3 and enabled";
pub const MOVE_SCHEDULE: &str = "update schedules set next_of = $1, next_at = $2, last_of = coalesce(max(last_of, $3), $3, last_of), \
     skipped = skipped + $4, last_error = coalesce($5, last_error) where id = $6";
pub const SCHEDULE_QUEUED: &str =
    "update schedules set last_item = $1, last_at = $2, queued = queued + 1 where tenant = $3 and id = $4";
pub const SCHEDULE_HAS_OPEN_ITEMS: &str =
    "select exists (select 1 from queue where schedule = $1 and status in ('pending', 'processing'))";
pub const SCHEDULE_SUCCEEDS: &str = "update schedules set completed = completed + 1, failing = 0, last_error = null \
     where id = (select schedule from queue where queue.id = $1)";
pub const SCHEDULE_FAILS: &str = "update schedules set failed = failed + 1, failing = failing + 1, last_error = $1 \
     where id = (select schedule from queue where queue.id = $2)";
pub const CASE_COLUMNS: &str = "place, id, tenant, agent, content, active, created_at, updated_at";
pub const CASE_IS: &str = "tenant = $1 and agent = $2 and id = $3";
pub const CASES_OF_AGENT: &str = "tenant = $1 and agent = $2 and ($3 is null or category = $3) and ($4 is null or active = $4) \
     and place > $5 order by place limit $6";
pub const ACTIVE_CASES: &str = "tenant = $1 and agent = $2 and active = 1 order by place";
pub const COUNT_CASES: &str =
    "select count(*), coalesce(sum(octet_length(content)), 0) from eval_cases where tenant = $1 and agent = $2";
pub const ADD_CASE: &str = "insert into eval_cases (id, tenant, agent, content, category, active, created_at, updated_at) \
     values ($1, $2, $3, $4, $5, $6, $7, $7)";
pub const CHANGE_CASE: &str = "update eval_cases set content = $1, category = $2, active = $3, updated_at = $4 where id = $5";
pub const DELETE_CASE: &str = "delete from eval_cases where id = $1";
pub const RUN_COLUMNS: &str = "place, id, tenant, agent, digest, version, judge, concurrency, threshold, status, cancelling, summary, \
     created_at, started_at, completed_at, (select count(*) from eval_results x where x.run = r.place), \
     (select count(*) from eval_results x where x.run = r.place and x.completed_at is not null)";
pub const RUN_IS: &str = "tenant = $1 and agent = $2 and id = $3";
pub const RUNS_OF_AGENT: &str = "tenant = $1 and agent = $2 and place < $3 order by place desc limit $4";
pub const RUN_IS_FINISHED: &str = "completed_at is null and not exists (select 1 from eval_results x \
     where x.run = r.place and x.completed_at is null) order by place";
pub const COUNT_OPEN_RUNS: &str = "select count(*) from eval_runs where tenant = $1 and completed_at is null";
pub const COUNT_RUNS: &str = "select status, count(*) from eval_runs where tenant = $1 group by status order by status";
pub const OPEN_RUNS: &str = "select id from eval_runs where tenant = $1 and agent = $2 and completed_at is null order by place";
pub const ADD_RUN: &str = "insert into eval_runs (id, tenant, agent, digest, version, prompt, judge, judge_digest, judge_version, \
     judge_prompt, concurrency, threshold, status, created_at) \
     values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, 'pending', $13)";
pub const RUN_FROZEN: &str =
    "select digest, version, prompt, judge_digest, judge_version, judge_prompt from eval_runs where place = $1";
pub const RUN_HEADS: &str = "select place, tenant, concurrency, (select count(*) from eval_results x \
         where x.run = r.place and x.status = 'running' and x.completed_at is null) \
     from eval_runs r where completed_at is null and exists (select 1 from eval_results x \
         where x.run = r.place and x.status = 'pending' and x.completed_at is null) order by place";
pub const BEGIN_RUN: &str =
    "update eval_runs set status = 'running', started_at = coalesce(started_at, $1) where place = $2 and completed_at is null";
pub const FINISH_RUN: &str = "update eval_runs set status = $1, summary = $2, completed_at = $3, cancelling = 0 \
     where place = $4 and completed_at is null \
     and not exists (select 1 from eval_results x where x.run = eval_runs.place and x.completed_at is null)";
pub const CANCEL_RUN: &str = "update eval_runs set cancelling = 1 where place = $1 and completed_at is null";
pub const SELECT_RESULTS: &str = "select x.place, x.id, x.run, r.id, r.tenant, r.agent, x.case_id, x.content, x.status, x.tries, \
     x.session, x.turn, x.judge_session, x.response, x.cut, x.topic_score, x.safety_score, x.judge_score, x.judge_reason, \
     x.judge_error, x.passed, x.latency_ms, x.cost_usd, x.error, x.human_score, x.human_notes, x.created_at, x.started_at, \
     x.completed_at from eval_results x join eval_runs r on r.place = x.run";
pub const RESULTS_OF_RUN: &str = "x.run = $1 and x.place > $2 order by x.place limit $3";
pub const RESULTS_RUNNING: &str = "x.run = $1 and x.status = 'running' and x.completed_at is null order by x.place";
pub const RESULT_OF_AGENT: &str = "r.tenant = $1 and r.agent = $2 and x.id = $3";
pub const RESULT_OF_SESSION: &str = "x.session = $1";
// By the runs that are open, as there may be a great many results.
pub const RESULT_IS_RUNNING: &str = "x.run in (select place from eval_runs where completed_at is null) and x.status = 'running' \
     and x.completed_at is null order by x.place";
pub const RESULT_CANCELLED: &str =
    "select r.cancelling from eval_results x join eval_runs r on r.place = x.run where x.id = $1 and r.tenant <> ''";
pub const ADD_RESULT: &str =
    "insert into eval_results (id, run, case_id, content, status, created_at) values ($1, $2, $3, $4, 'pending', $5)";
pub const CLAIM_RESULT: &str = "update eval_results set status = 'running', session = $1, turn = null, error = null, \
     started_at = coalesce(started_at, $2) where place = (select place from eval_results \
     where run = $3 and status = 'pending' and completed_at is null order by place limit 1)";
pub const RESULT_POSTED: &str = "update eval_results set turn = $1 where id = $2 and status = 'running'";
pub const ANSWER_RESULT: &str = "update eval_results set response = $1, cut = $2, topic_score = $3, safety_score = $4, latency_ms = $5, \
     passed = $6, judge_session = $7, status = $8, completed_at = $9, cost_usd = cost_usd + $10 \
     where id = $11 and status = 'running' and judge_session is null";
// A case of a run that is being cancelled is not tried again.
pub const RETRY_RESULT: &str = "update eval_results set status = 'pending', tries = tries + 1, error = $1, cost_usd = cost_usd + $2 \
     where id = $3 and status = 'running' and judge_session is null \
     and (select cancelling from eval_runs r where r.place = run) = 0";
pub const FAIL_RESULT: &str = "update eval_results set status = 'error', passed = 0, error = $1, cost_usd = cost_usd + $2, completed_at = $3 \
     where id = $4 and status = 'running' and judge_session is null";
pub const JUDGE_RESULT: &str = "update eval_results set judge_score = $1, judge_reason = $2, judge_error = $3, passed = $4, \
     cost_usd = cost_usd + $5, status = 'completed', completed_at = $6 where id = $7 and status = 'running'";
pub const CANCEL_RESULTS: &str = "update eval_results set status = 'error', passed = 0, error = $1, completed_at = $2 \
     where run = $3 and status = 'pending' and completed_at is null";
pub const SCORE_RESULTS: &str = "update eval_results set human_score = case when $1 then $2 else human_score end, \
     human_notes = case when $3 then $4 else human_notes end where run = $5 and ($6 is null or id = $6)";
pub const SCORES: &str = "select status = 'completed', topic_score, safety_score, judge_score, coalesce(passed, 0), latency_ms, cost_usd \
     from eval_results where run = $1 order by place";
// A session that is left twice is ended once.
pub const LEAVE_RESULT: &str = "insert into eval_leaves (session, tenant) select x.session, r.tenant from eval_results x \
     join eval_runs r on r.place = x.run where x.id = $1 and x.status = 'running' and x.judge_session is null \
     and x.session is not null on conflict (session) do nothing";
pub const LEAVE_JUDGE: &str = "insert into eval_leaves (session, tenant) select x.judge_session, r.tenant from eval_results x \
     join eval_runs r on r.place = x.run where x.id = $1 and x.status = 'running' and x.judge_session is not null \
     on conflict (session) do nothing";
pub const EVAL_LEAVES: &str = "select session, tenant from eval_leaves order by session";
pub const EVAL_LEFT: &str = "delete from eval_leaves where session = $1";
pub const FORGET_EVALS: [&str; 3] = [
    "insert into eval_leaves (session, tenant) select coalesce(x.judge_session, x.session), r.tenant from eval_results x \
     join eval_runs r on r.place = x.run where r.tenant = $1 and r.agent = $2 and x.status = 'running' and x.session is not null \
     on conflict (session) do nothing",
    "update eval_runs set tenant = '', completed_at = coalesce(completed_at, created_at) where tenant = $1 and agent = $2",
    "delete from eval_cases where tenant = $1 and agent = $2",
];
// A run that is nobody's is removed in parts, as its answers may have many megabytes.
pub const FORGET_RUNS: &str = "update eval_runs set tenant = '' where place in (select place from eval_runs \
     where completed_at < $1 and tenant <> '' order by completed_at, place limit $2)";
pub const REMOVE_RESULTS: &str = "delete from eval_results where place in (select x.place from eval_runs r \
     cross join eval_results x on x.run = r.place where r.tenant = '' limit $1)";
pub const REMOVE_RUNS: &str = "delete from eval_runs where tenant = '' \
     and not exists (select 1 from eval_results x where x.run = eval_runs.place)";

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
