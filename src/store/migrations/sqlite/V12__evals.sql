-- Questions with which agents are evaluated, runs that ask them, and what came of each.
create table eval_cases (
    place      integer not null primary key autoincrement,
    id         text    not null unique,
    tenant     text    not null,
    agent      text    not null,
    -- What is asked and expected, as JSON; the category once more, to look for it.
    content    text    not null,
    category   text,
    active     integer not null,
    created_at integer not null,
    updated_at integer not null
) strict;

create index eval_cases_of_agent on eval_cases (tenant, agent, place);

-- What a run asks is what agent and judge were when it was started: the digest of their files, and the version of their
-- prompt with its text.
create table eval_runs (
    place         integer not null primary key autoincrement,
    id            text    not null unique,
    tenant        text    not null,
    agent         text    not null,
    digest        text    not null,
    version       integer,
    prompt        text,
    judge         text,
    judge_digest  text,
    judge_version integer,
    judge_prompt  text,
    concurrency   integer not null,
    threshold     real    not null,
    status        text    not null,
    cancelling    integer not null default 0,
    -- As JSON, when it is over.
    summary       text,
    created_at    integer not null,
    started_at    integer,
    completed_at  integer
) strict;

create index eval_runs_of_agent on eval_runs (tenant, agent, place);
create index eval_runs_open on eval_runs (place) where completed_at is null;
create index eval_runs_over on eval_runs (completed_at) where completed_at is not null;

-- A case in a run, with a copy of what is asked. It is `pending`, then `running`, and then over; one that is tried again
-- is `pending` in between.
create table eval_results (
    place         integer not null primary key autoincrement,
    id            text    not null unique,
    run           integer not null,
    case_id       text    not null,
    content       text    not null,
    status        text    not null,
    tries         integer not null default 0,
    -- Session and turn of the present try, or of the last one.
    session       text,
    turn          text,
    -- The session in which the judge is asked, once there is an answer.
    judge_session text,
    response      text,
    -- Whether the answer was longer.
    cut           integer not null default 0,
    topic_score   real,
    safety_score  real,
    judge_score   real,
    judge_reason  text,
    judge_error   text,
    passed        integer,
    latency_ms    integer,
    -- Of all tries and the judge; null where it is not known.
    cost_usd      real    default 0.0,
    error         text,
    human_score   integer,
    human_notes   text,
    created_at    integer not null,
    started_at    integer,
    completed_at  integer
) strict;

create index eval_results_of_run on eval_results (run, place);
create index eval_results_open on eval_results (run, status, place) where completed_at is null;
create index eval_results_of_session on eval_results (session) where session is not null;

-- Sessions that are still to be ended.
create table eval_leaves (
    session text not null primary key,
    tenant  text not null
) strict;
