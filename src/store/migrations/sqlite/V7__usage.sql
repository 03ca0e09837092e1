-- What was billed, for as long as the database lives: also when the session is removed. A row for each turn that is
-- over, and for each sandbox that called models behind its last turn; what they took in all, by the event that told.
create table bills (
    session               text    not null,
    event                 integer not null,
    tenant                text    not null,
    agent                 text    not null,
    at                    integer not null,
    input_tokens          integer not null,
    output_tokens         integer not null,
    cache_creation_tokens integer not null,
    cache_read_tokens     integer not null,
    tool_calls            integer not null,
    messages              integer not null,
    -- Of processor time; null where it was not measured.
    compute_ms            integer,
    -- By the prices of then; null where one of the models has none.
    cost_usd              real,
    -- In the order in which they are summed up.
    primary key (tenant, at, session, event)
) strict, without rowid;

create unique index bills_of_session on bills (session, event);

create temporary view bill (session, event, tenant, agent, at, tool_calls, messages, compute_ms, cost_usd, models) as
    select s.id, t.last_event, s.tenant, s.agent, t.ended_at, coalesce(t.usage ->> '$.toolCalls', 0),
        t.kind = 'user' and t.started_at is not null, t.usage ->> '$.cpuMs', t.usage ->> '$.costUsd', t.usage -> '$.models'
    from sessions s join turns t on t.session = s.id
    where t.ended_at is not null and t.last_event is not null
    union all
    -- What the bill of no turn has, since none was over.
    select s.id, e.id, s.tenant, s.agent, e.at, 0, 0, null, e.data ->> '$.costUsd', e.data -> '$.models'
    from sessions s join events e on e.session = s.id and e.id < coalesce(
        (select min(t.last_event) from turns t where t.session = s.id and t.ended_at is not null), 9223372036854775807)
    where e.kind = 'lifecycle' and e.turn is null and e.data like '%"action":"usage"%';

insert into bills
select session, event, tenant, agent, at,
    coalesce((select sum(value ->> '$.inputTokens') from json_each(models)), 0) as input,
    coalesce((select sum(value ->> '$.outputTokens') from json_each(models)), 0) as output,
    coalesce((select sum((value ->> '$.cacheWriteTokens') + coalesce(value ->> '$.cacheWrite1hTokens', 0)) from json_each(models)), 0)
        as written,
    coalesce((select sum(value ->> '$.cacheReadTokens') from json_each(models)), 0) as cached,
    tool_calls, messages, compute_ms, cost_usd
from bill
where tenant <> '' and (messages > 0 or tool_calls > 0 or compute_ms > 0 or input + output + written + cached > 0);

drop view bill;
