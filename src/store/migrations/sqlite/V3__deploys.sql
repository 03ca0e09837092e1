-- Which versions were deployed for an agent, and when for the last time: those that are kept.
create table deploys (
    tenant text    not null,
    agent  text    not null,
    digest text    not null,
    at     integer not null,
    primary key (tenant, agent, digest)
) strict, without rowid;

insert into deploys (tenant, agent, digest, at) select tenant, name, digest, updated_at from agents;
