-- Where tenants are told of events, each with a secret sealed under a master key that is not here.
create table webhooks (
    id              text    not null primary key,
    tenant          text    not null,
    url             text    not null,
    events          text    not null,
    -- The one agent whose sessions count; null: all.
    agent           text,
    description     text    not null,
    enabled         integer not null,
    -- Why it was disabled by itself.
    disabled_reason text,
    -- Since when nothing came through.
    failing_since   integer,
    -- Names the master key.
    master          text    not null,
    sealed          blob    not null,
    created_at      integer not null,
    updated_at      integer not null
) strict, without rowid;

create index webhooks_of_tenant on webhooks (tenant, created_at, id);

-- Up to which event a webhook is done with a session's log. Without a row: it begins at the first.
create table webhook_cursors (
    session text    not null,
    webhook text    not null,
    through integer not null,
    primary key (session, webhook)
) strict, without rowid;

create index webhook_cursors_of_webhook on webhook_cursors (webhook);

-- What was tried. Of a webhook and a session one is pending at most: the next behind the cursor.
create table webhook_deliveries (
    id         integer primary key autoincrement,
    webhook    text    not null,
    session    text,
    event      integer,
    type       text    not null,
    state      text    not null,
    attempts   integer not null,
    created_at integer not null,
    tried_at   integer not null,
    next_at    integer,
    status     integer,
    error      text,
    unique (webhook, session, event)
) strict;

create index webhook_deliveries_of_webhook on webhook_deliveries (webhook);
create index webhook_deliveries_of_session on webhook_deliveries (session);
