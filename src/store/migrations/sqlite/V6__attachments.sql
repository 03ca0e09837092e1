-- Files that callers gave to sessions. Their bytes are beside the database, under session and id.
create table attachments (
    place      integer primary key,
    id         text    not null unique,
    session    text    not null,
    filename   text    not null,
    -- In the workspace.
    path       text    not null,
    mime_type  text    not null,
    size       integer not null,
    message    text,
    -- The newest event of the session when it came.
    added      integer not null,
    -- Snapshots before this event do not have it; null: it was not put into the workspace yet.
    placed     integer,
    created_at integer not null
) strict;

create unique index attachments_of_session on attachments (session, path);
