-- A message that comes twice with one key is one turn.
alter table turns add column idempotency_key text;
-- SHA-256 of the message, to tell another message with the same key.
alter table turns add column message_hash blob;
-- What the turn took, once it is over.
alter table turns add column usage text;
-- Id of its first event where it goes before those that were queued earlier, else 0.
alter table turns add column jumps integer not null default 0;
-- Whether the deltas of a turn that is over were removed.
alter table turns add column compacted integer not null default 0;

create unique index turns_by_key on turns (session, idempotency_key) where idempotency_key is not null;
create index turns_to_compact on turns (ended_at) where compacted = 0 and ended_at is not null;

-- Rules that were granted for the session when the runtime asked.
alter table sessions add column granted text not null default '[]';
-- The boot of the host in which its sandbox came up; null while it has none.
alter table sessions add column sandbox_boot text;
-- Whether those that exist have one is not known; those that do were not started in this version.
update sessions set sandbox_boot = '' where status <> 'ended';

create table permissions (
    session  text    not null,
    id       text    not null,
    event    integer not null,
    turn     text,
    at       integer not null,
    request  text    not null,
    -- Null while it waits.
    resolved text,
    primary key (session, id)
) strict, without rowid;

create index permissions_by_event on permissions (session, event);
