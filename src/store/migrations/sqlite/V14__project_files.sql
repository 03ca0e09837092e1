-- Files of a tenant that are of no session. Their bytes are beside the database, under their id.
create table project_files (
    place      integer primary key,
    id         text    not null unique,
    tenant     text    not null,
    filename   text    not null,
    mime_type  text    not null,
    size       integer not null,
    ttl        text    not null,
    -- With this, links to it are signed; none outlives the row.
    secret     blob    not null,
    created_at integer not null,
    expires_at integer
) strict;

create index project_files_of_tenant on project_files (tenant, place);
create index project_files_that_expire on project_files (expires_at) where expires_at is not null;
