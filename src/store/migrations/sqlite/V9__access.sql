-- What a key allows: words with commas between. Keys that exist keep all rights.
alter table api_keys add column scopes text not null default 'admin';
-- The one agent that it knows; null: all of its tenant.
alter table api_keys add column agent text;
alter table api_keys add column expires_at integer;
-- To the minute.
alter table api_keys add column last_used_at integer;

-- Who did what; times and numbers grow together.
create table audit (
    id        integer primary key autoincrement,
    at        integer not null,
    tenant    text    not null,
    principal text    not null,
    action    text    not null,
    object    text,
    request   text,
    peer      text,
    outcome   text    not null
) strict;

create index audit_by_tenant on audit (tenant, id);
create index audit_by_time on audit (at);
