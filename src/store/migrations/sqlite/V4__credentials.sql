-- Secrets that are kept for sessions, sealed under a master key that is not here.
create table credentials (
    id           text    not null primary key,
    tenant       text    not null,
    type         text    not null,
    label        text    not null,
    -- Names the master key.
    master       text    not null,
    sealed       blob    not null,
    created_at   integer not null,
    last_used_at integer
) strict, without rowid;

create index credentials_of_tenant on credentials (tenant, created_at, id);
