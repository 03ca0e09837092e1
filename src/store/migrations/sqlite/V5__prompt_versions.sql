-- Prompts of an agent that sessions can be made with in the place of its CLAUDE.md.
create table prompt_versions (
    id              text    not null primary key,
    tenant          text    not null,
    agent           text    not null,
    number          integer not null,
    name            text    not null,
    -- Null: the agent's CLAUDE.md.
    system_prompt   text,
    release_notes   text,
    knowledge_files text,
    is_active       integer not null default 0,
    created_by      text    not null,
    created_at      integer not null,
    updated_at      integer not null
) strict;

create unique index prompt_versions_by_number on prompt_versions (tenant, agent, number);
create unique index prompt_versions_active on prompt_versions (tenant, agent) where is_active = 1;

-- Number of the version that was active when the session was made, if it has none of its own.
alter table sessions add column prompt_version integer;
