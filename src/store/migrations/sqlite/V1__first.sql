-- Times are milliseconds since 1970, ids are UUIDs as text, JSON is text.

create table agents (
    tenant      text    not null,
    name        text    not null,
    id          text    not null,
    deploys     integer not null,
    digest      text    not null,
    env         text    not null,
    config      text    not null,
    created_at  integer not null,
    updated_at  integer not null,
    primary key (tenant, name)
) strict, without rowid;

create table sessions (
    id             text    not null primary key,
    tenant         text    not null,
    agent          text    not null,
    digest         text    not null,
    status         text    not null,
    sandbox        text    not null,
    model          text,
    system_prompt  text,
    extra_env      text    not null,
    config         text    not null,
    parent         text,
    -- Whether the runtime has begun a conversation that can be resumed.
    conversed      integer not null default 0,
    -- Newest event id, and newest message sequence.
    tail           integer not null default 0,
    messages       integer not null default 0,
    -- The shim's life whose events were stored last, and its newest stored number.
    incarnation    text,
    stored_through integer not null default 0,
    created_at     integer not null,
    last_active_at integer not null
) strict;

create index sessions_by_tenant on sessions (tenant, created_at desc, id desc);
create index sessions_by_status on sessions (status);

create table turns (
    id              text    not null primary key,
    session         text    not null,
    state           text    not null,
    kind            text    not null,
    content         text,
    options         text    not null,
    cause           text,
    -- Its first event, and its last once it is over.
    first_event     integer not null,
    last_event      integer,
    created_at      integer not null,
    started_at      integer,
    ended_at        integer
) strict;

create index turns_by_session on turns (session, first_event);
create index turns_open on turns (session, first_event) where state in ('queued', 'running');

create table events (
    session text    not null,
    id      integer not null,
    turn    text,
    kind    text    not null,
    at      integer not null,
    data    text    not null,
    primary key (session, id)
) strict, without rowid;

-- A view of the log in which every message has its own count.
create table messages (
    session  text    not null,
    sequence integer not null,
    event    integer not null,
    role     text    not null,
    primary key (session, sequence)
) strict, without rowid;

create table api_keys (
    id         text    not null primary key,
    tenant     text    not null,
    label      text    not null,
    prefix     text    not null,
    hash       blob    not null unique,
    created_at integer not null
) strict;
