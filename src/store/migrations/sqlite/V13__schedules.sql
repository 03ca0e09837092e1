-- Messages that are queued at the times of a calendar.
create table schedules (
    id           text    not null primary key,
    tenant       text    not null,
    name         text    not null,
    agent        text    not null,
    prompt       text    not null,
    calendar     text    not null,
    timezone     text    not null,
    -- The session that the messages go into; null for one of its own each.
    given        text,
    keeps        integer not null,
    priority     integer not null,
    max_retries  integer not null,
    catch_up     text    not null,
    jitter       integer not null,
    overlap      text    not null,
    enabled      integer not null,
    created_at   integer not null,
    updated_at   integer not null,
    -- The time of the calendar that is next, and when it fires, which is later by its jitter.
    next_of      integer,
    next_at      integer,
    -- The newest time of the calendar that is done with. No earlier one comes any more.
    last_of      integer,
    last_at      integer,
    last_item    text,
    last_error   text,
    -- Items that failed since one was completed.
    failing      integer not null default 0,
    queued       integer not null default 0,
    skipped      integer not null default 0,
    completed    integer not null default 0,
    failed       integer not null default 0
) strict, without rowid;

create index schedules_of_tenant on schedules (tenant, created_at, id);
create index schedules_next on schedules (next_at, id) where enabled and next_at is not null;

-- Of which schedule an item is, and of which of its times; null for one that somebody asked for.
alter table queue add column schedule text;
alter table queue add column scheduled_for integer;
-- By what a second try to add the same item is known, and SHA-256 of what it said.
alter table queue add column idempotency_key text;
alter table queue add column body_hash blob;

create index queue_of_schedule on queue (schedule, place) where schedule is not null;
create unique index queue_keys on queue (tenant, idempotency_key) where idempotency_key is not null;
