-- Runs and their cases are counted without a look at their rows, which hold prompts and answers.
create index eval_results_over on eval_results (run, completed_at);
create index eval_runs_open_of_tenant on eval_runs (tenant, agent, place) where completed_at is null;
create index eval_runs_of_status on eval_runs (tenant, status);
