-- Messages that wait for a session. An item is `pending`, then `processing`, and then over; one that is tried again is
-- `pending` in between.
create table queue (
    place        integer not null primary key autoincrement,
    id           text    not null unique,
    tenant       text    not null,
    agent        text    not null,
    prompt       text    not null,
    -- The session that it is to go into; null for one of its own.
    given        text,
    priority     integer not null,
    max_retries  integer not null,
    -- Whether a session of its own stays when it is over.
    keeps        integer not null,
    status       text    not null,
    retries      integer not null default 0,
    -- Not before this time, where it is tried again.
    retry_at     integer,
    -- The session and the turn of the present try, or of the last one.
    session      text,
    turn         text,
    -- Whether it is to be cancelled, though it is being processed.
    cancelling   integer not null default 0,
    -- A session of its own that is still to be ended.
    leaves       text,
    error        text,
    result       text,
    -- Whether the result was longer.
    cut          integer not null default 0,
    -- Of all tries; null where it is not known.
    cost_usd     real    default 0.0,
    created_at   integer not null,
    started_at   integer,
    completed_at integer
) strict;

create index queue_of_tenant on queue (tenant, place);
create index queue_pending on queue (tenant, priority desc, place, retry_at, id) where status = 'pending' and leaves is null;
create index queue_retries on queue (retry_at) where status = 'pending' and retry_at is not null;
create index queue_open on queue (place) where status = 'processing' or leaves is not null;
create index queue_over on queue (completed_at) where completed_at is not null;
